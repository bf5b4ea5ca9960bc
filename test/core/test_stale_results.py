"""Results of a bag that was recorded again, of other weights, or of another version's settings."""
import json
import os
import shutil

import bags
import made_up
import pytest
from test_run_many import content, states, table
import yaml

from zoe_ros.model.calibration import Calibration, save_calibration
from zoe_ros.provenance import changed_inputs, data_digest, other_settings
from zoe_ros.run_many import results_folder
from zoe_ros.settings import RunSettings


@pytest.fixture
def two(tmp_path):
    """Return two bags."""
    return [bags.write_bag(tmp_path / name, bags.camera_messages(2)) for name in ('hall', 'yard')]


def record_again(path, count):
    """Replace a bag by another recording under the same path."""
    shutil.rmtree(path)
    bags.write_bag(path, bags.camera_messages(count))


# --- the data -------------------------------------------------------------------------------


def test_a_bag_that_was_recorded_again_is_told(zoe, two, tmp_path):
    many = tmp_path / 'many'
    zoe(*two, to=many)
    record_again(two[0], 3)
    ran = zoe(*two, to=many)
    assert ran.code == 2
    assert states(many) == {two[0]: 'failed', two[1]: 'done earlier'}
    folder = results_folder(many, two[0])
    assert table(many)[two[0]]['error'] == (
        f'{two[0]} has changed since {folder} was made: choose another --output or remove that '
        'folder')
    shutil.rmtree(folder)
    assert zoe(*two, to=many).code == 0
    assert states(many) == {two[0]: 'done', two[1]: 'done earlier'}
    assert table(many)[two[0]]['frames'] == '3'


def test_a_copy_is_the_same_bag(zoe, two, tmp_path):
    many = tmp_path / 'many'
    zoe(*two, to=many)
    shutil.move(two[0], tmp_path / 'moved')
    shutil.copytree(tmp_path / 'moved', two[0], copy_function=shutil.copyfile)
    for file in two[1].iterdir():
        os.utime(file, (0, 0))
    (two[1] / 'notes.txt').touch()      # is no part of the recording
    zoe(*two, to=many)
    assert set(states(many).values()) == {'done earlier'}


def test_results_outlive_their_bag(zoe, two, tmp_path):
    many = tmp_path / 'many'
    zoe(*two, to=many)
    shutil.rmtree(two[0])
    zoe(*two, to=many)
    assert set(states(many).values()) == {'done earlier'}


def test_each_part_of_a_bag_counts(tmp_path):
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(2))
    seen = {data_digest(path)}
    file = bags.storage_file(path)
    assert data_digest(path / 'metadata.yaml') in seen
    data = bytearray(file.read_bytes())
    for at in (0, len(data) // 2, len(data) - 1):
        data[at] ^= 1
        file.write_bytes(data)
        seen.add(data_digest(path))
        seen.add(data_digest(file))
    file.rename(file.with_name('other.mcap'))
    seen.add(data_digest(path))
    (path / 'metadata.yaml').unlink()
    seen.add(data_digest(path))
    assert len(seen) == 1 + 2 * 3 + 2 and None not in seen
    assert data_digest(tmp_path / 'nothing') is None


def test_of_a_long_file_beginning_and_end_count_and_little_is_read(tmp_path):
    path, size = tmp_path / 'long.mcap', 300_000_000_000
    with path.open('wb') as file:
        file.truncate(size)     # sparse
    seen = {data_digest(path)}
    for at in (0, size - 1):
        with path.open('r+b') as file:
            file.seek(at)
            file.write(b'\1')
        seen.add(data_digest(path))
    os.truncate(path, size + 1)
    seen.add(data_digest(path))
    assert len(seen) == 4


def test_images_of_a_folder_count(tmp_path):
    for name in ('a.png', 'b.png'):
        (tmp_path / name).write_bytes(name.encode())
    before = data_digest(tmp_path)
    (tmp_path / 'notes.txt').touch()
    assert data_digest(tmp_path) == before
    (tmp_path / 'b.png').write_bytes(b'c.png')
    after = data_digest(tmp_path)
    (tmp_path / 'b.png').rename(tmp_path / 'c.png')
    assert len({before, after, data_digest(tmp_path)}) == 3


# --- the weights ----------------------------------------------------------------------------


def test_other_weights_under_the_same_path_are_told(zoe, two, tmp_path):
    many, weights = tmp_path / 'many', made_up.write_tiny(tmp_path / 'own.safetensors')
    zoe(*two, to=many, weights=weights)
    before = content(results_folder(many, two[0]))
    shutil.copy(made_up.write_tiny(tmp_path / 'same.safetensors'), weights)
    zoe(*two, to=many, weights=weights)
    assert set(states(many).values()) == {'done earlier'}
    made_up.write_tiny(weights, seed=1)
    ran = zoe(*two, to=many, weights=weights)
    assert ran.code == 2 and set(states(many).values()) == {'failed'}
    assert f'the content of {weights} has changed since' in table(many)[two[0]]['error']
    zoe(*two, to=tmp_path / 'new', weights=weights)
    assert content(results_folder(tmp_path / 'new', two[0])) != before


def test_a_new_calibration_is_told(zoe, two, tmp_path):
    many, weights = tmp_path / 'many', made_up.write_tiny(tmp_path / 'own.safetensors')
    zoe(*two, to=many, weights=weights)
    save_calibration(weights, {'indoor': Calibration(2.0, 1.0, 0.01)}, [])
    zoe(*two, to=many, weights=weights)
    assert 'the calibration of the weights has changed' in table(many)[two[0]]['error']


def test_weights_of_the_package_are_known_without_a_name(zoe, two, tmp_path, monkeypatch):
    many = tmp_path / 'many'
    choice = ['--variant', 'mobile-lite', '--weights', '']
    zoe(*two, *choice, to=many)
    path = results_folder(many, two[0]) / 'inputs.json'
    inputs = json.loads(path.read_text())
    path.write_text(json.dumps({**inputs, 'weights': '0' * 64}))   # of an earlier release
    zoe(*two, '--variant', '', '--weights', '', to=many)
    assert states(many) == {two[0]: 'failed', two[1]: 'done earlier'}
    assert 'mobile-lite.safetensors has changed since' in table(many)[two[0]]['error']


# --- other versions -------------------------------------------------------------------------


def edit(folder, **changes):
    """Change the settings of results; None removes one."""
    path = folder / 'config.yaml'
    config = {**yaml.safe_load(path.read_text()), **changes}
    path.write_text(yaml.safe_dump({k: v for k, v in config.items() if v is not None}))


def test_settings_that_are_newer_than_the_results_count_as_their_default(zoe, two, tmp_path):
    many = tmp_path / 'many'
    zoe(*two, to=many)
    for path in two:
        edit(results_folder(many, path), sky=None, anchor_topic=None, file_format=None)
        (results_folder(many, path) / 'inputs.json').unlink()
    assert zoe(*two, to=many).code == 0
    assert set(states(many).values()) == {'done earlier'}
    assert zoe(*two, '--sky', 'inf', to=many).code == 2
    assert 'was made with another sky: choose' in table(many)[two[0]]['error']


def test_settings_that_are_gone_are_told(two, caplog, tmp_path):
    then = {'variant': 'tiny', 'haze': 0.5, 'rectified': True}
    now = RunSettings(variant='tiny')
    assert other_settings(tmp_path, now, then, beside=('rectified',)) == []
    assert f'{tmp_path} was made with settings that this version does not have and ignores: ' \
           'haze: 0.5' in caplog.text
    assert 'rectified' not in caplog.text
    assert other_settings(tmp_path, now, {'variant': 'nk', 'pad': True}) == ['variant', 'pad']
    assert other_settings(tmp_path, now, {'pad': True}, free=('pad',)) == ['variant']


def test_inputs_that_are_not_known_count_as_unchanged():
    then = {'data': 'a', 'weights': None, 'calibration': ''}
    assert changed_inputs(then, {'data': None, 'weights': 'w', 'calibration': '', 'x': 'y'}) == []
    assert changed_inputs(then, {'data': 'b', 'weights': 'w', 'calibration': 'c'}) == [
        'data', 'calibration']


@pytest.mark.parametrize('text', ['', '[]x', '3'])
def test_damaged_inputs_are_told(zoe, two, tmp_path, text):
    many = tmp_path / 'many'
    zoe(*two, to=many)
    path = results_folder(many, two[0]) / 'inputs.json'
    path.write_text(text)
    zoe(*two, to=many)
    assert table(many)[two[0]]['error'].startswith(f'{path} is damaged (')
