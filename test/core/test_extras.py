"""Packages that are not installed: one sentence that names them, before any work is done."""
import sys

import bags
import pytest

from zoe_ros.cli import main
from zoe_ros.extras import PackageError, require

WORLD = "the synthetic world needs {}: pip install 'zoe_ros[train]' (embreex has wheels "
TRAINING = "a training needs {}: pip install 'zoe_ros[train]'"


def test_packages_that_are_there_are_imported():
    assert require('a test', 'test', 'json', 'os.path') is sys.modules['os.path']


def test_a_package_that_is_broken_is_not_called_missing(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'broken_package.py').write_text('raise ImportError("libGL.so.1: not found\\n...")')
    with pytest.raises(PackageError) as caught:
        require('a test', 'test', 'broken_package')
    assert str(caught.value) == ('a test needs broken_package, which is installed but cannot be '
                                 'imported: libGL.so.1: not found')


@pytest.mark.parametrize('missing, command, complaint', [
    ('embreex', ['world', 'OUT'], WORLD),
    ('scipy', ['world', 'OUT', '--bag', 'indoor', '--frames', '2'], WORLD),
    ('matplotlib', ['distill', 'BAG', '--output', 'OUT', '--from', 'mobile-lite',
                    '--teacher', 'mobile-lite'], TRAINING),
    ('av', ['run', 'BAG', '--output', 'OUT', '--format', 'lerobot'],
     "format lerobot needs {}: pip install 'zoe_ros[lerobot]'"),
    ('ray', ['fleet', 'BAG', '--output', 'OUT'], "a fleet needs {}: pip install 'zoe_ros[fleet]'"),
    ('upath', ['run', 's3://bucket/kitchen.mcap', '--output', 'OUT'],
     "s3://bucket/kitchen.mcap needs {}: pip install 'zoe_ros[fleet]'"),
    ('cv2', ['run', 'BAG', '--output', 'OUT', '--anchor', 'odometry'],
     "anchor 'odometry' needs {}: pip install 'zoe_ros[opencv]', or apt install python3-opencv")])
def test_a_missing_package_is_told_before_any_work(missing, command, complaint, tmp_path, capsys,
                                                   monkeypatch):
    for name in [name for name in sys.modules if name.startswith('zoe_ros.world.')]:
        monkeypatch.delitem(sys.modules, name)      # as in a new process
    monkeypatch.setitem(sys.modules, missing, None)     # as if it were not installed
    places = {'OUT': tmp_path / 'out', 'BAG': tmp_path / 'bag'}
    bags.write_bag(places['BAG'], bags.camera_messages(3))
    assert main([str(places.get(word, word)) for word in command]) == 2
    said = capsys.readouterr().err
    assert said.startswith('zoe: ' + complaint.format(missing)) and said.count('\n') == 1
    assert not places['OUT'].exists()
