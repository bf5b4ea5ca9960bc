"""Where the commands read and write: odd paths, lists, results among the data, equal names."""
import json
import shutil
import sys

import bags
import pytest
import rgbd_folders
from short_training import CONFIG, DATA
from short_training import settings as training
from test_datasets_bags import rgbd_bag
from test_run_many import states
from test_temporal import video

from zoe_ros.cli import main
from zoe_ros.command_settings import EvalSettings, WorldSettings
from zoe_ros.distill.recipe import DistillSettings
from zoe_ros.evaluate import TABLE
from zoe_ros.run_many import find_data, results_folder
from zoe_ros.settings import RunSettings
from zoe_ros.training.recipe import TrainSettings
from zoe_ros.training.trainer import train, TrainingError


@pytest.fixture
def evaluated(tiny_weights, tmp_path, capsys):
    """Return a function that runs ``zoe eval`` and returns its exit code and stderr."""
    def run(*arguments):
        code = main(['eval', *map(str, arguments), '--variant', 'tiny', '--weights',
                     str(tiny_weights), '--device', 'cpu', '--precision', 'fp32'])
        return code, capsys.readouterr().err

    return run


# --- outputs --------------------------------------------------------------------------------


@pytest.mark.parametrize('kind', [RunSettings, EvalSettings, TrainSettings, DistillSettings])
def test_an_output_is_a_folder_that_is_named(kind, monkeypatch, tmp_path):
    monkeypatch.setenv('HOME', str(tmp_path))
    assert kind(output='~/out').output == str(tmp_path / 'out')
    with pytest.raises(ValueError, match="'output' is empty: name a folder"):
        kind(output='')


@pytest.mark.parametrize('command', ['run', 'fleet', 'eval', 'calibrate', 'distill', 'world',
                                     'export'])
def test_an_empty_path_is_not_this_folder(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, ''])
    assert caught.value.code == 2
    assert "the path is empty: '.' is this folder" in capsys.readouterr().err


def test_an_output_that_cannot_be_is_told_before_the_work(tmp_path, capsys):
    file = tmp_path / 'file'
    file.write_text('mine')
    (tmp_path / 'nowhere').symlink_to('gone')
    for output in (file / 'below', tmp_path / 'nowhere'):
        for command in (['run', 'a.png', 'b.png'], ['eval', 'x'], ['eval', 'x', '--temporal'],
                        ['eval', 'x', '--fleet'], ['fleet', 'x'], ['train', '--data', 'x'],
                        ['distill', 'x']):
            assert main([*command, '--output', str(output)]) == 2
            assert capsys.readouterr().err == (
                f'zoe: {output} cannot be the folder of the results: it is a file, or below one\n')
    assert main(['world', str(file / 'bag'), '--bag', 'indoor', '--frames', '1', '--height', '32',
                 '--width', '32']) == 2
    assert 'cannot be the folder of the results' in capsys.readouterr().err


# --- data -----------------------------------------------------------------------------------


def test_a_bag_has_one_name(tmp_path, monkeypatch):
    bag = bags.write_bag(tmp_path / 'drives' / 'bag', bags.camera_messages(1))
    (tmp_path / 'link').symlink_to(tmp_path / 'drives')
    for folder, path in ((tmp_path, 'drives/bag'), (tmp_path / 'drives', '../drives/bag'),
                         (tmp_path, 'link/../drives/bag'), (tmp_path, 'drives/bag/metadata.yaml')):
        monkeypatch.chdir(folder)
        assert find_data([path], tmp_path / 'out') == [bag]
    monkeypatch.chdir(bag)
    assert find_data(['../../link/bag'], tmp_path / 'out') == [tmp_path / 'link' / 'bag']


def test_results_outlive_a_bag_that_is_a_file(zoe, tmp_path):
    files = [tmp_path / name for name in ('a.mcap', 'b.mcap')]
    source = bags.storage_file(bags.write_bag(tmp_path / 'bag', bags.camera_messages(1)))
    for file in files:
        shutil.copy(source, file)
    many = tmp_path / 'many'
    assert zoe(*files, to=many).code == 0
    files[0].unlink()
    assert zoe(*files, to=many).code == 0
    assert set(states(many).values()) == {'done earlier'}
    assert results_folder(many, files[0]).name.startswith('a-')


@pytest.mark.parametrize('output', ['.', 'depth', 'depth/deep'])
@pytest.mark.parametrize('pattern', ['*', '**/*.mcap'])
def test_results_among_the_data_are_no_data(zoe, tmp_path, output, pattern):
    drives = tmp_path / 'drives'
    for name in ('a', 'b'):
        bags.write_bag(drives / name, bags.camera_messages(1))
    many = drives / output
    assert zoe(drives / pattern, to=many).code == 0
    before = states(many)
    if output == 'depth/deep' and pattern == '*':
        return      # the folder above the output may hold anything
    ran = zoe(drives / pattern, to=many)
    assert (ran.code, ran.err) == (0, '')
    assert states(many) == dict.fromkeys(before, 'done earlier')
    assert zoe(f'{many}/*-????????', to=many).code == 2     # nothing but results


def test_photographs_beside_their_results_are_data(zoe, tmp_path):
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'photo.png').write_bytes(bags.encoded(bags.picture()))
    for state in ('done', 'done earlier'):
        assert zoe(tmp_path / 'a', tmp_path / 'b', to=tmp_path / 'a').code == 0
        assert states(tmp_path / 'a') == dict.fromkeys((tmp_path / 'a', tmp_path / 'b'), state)


def test_lists_that_are_none(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'binary').write_bytes(b'\xff\0')
    (tmp_path / 'itself').write_text('@other')
    (tmp_path / 'other').write_text('@itself')
    for name, reason in (('x', 'No such file or directory'), ('', 'Is a directory'),
                         ('binary', 'this is no text')):
        assert f"'@{name}' names no list ({reason}): give a text file" in refused(f'@{name}')
    assert 'the list itself names itself' in refused('@itself')


def test_a_name_may_look_like_a_list(zoe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / '@photo.png').write_bytes(bags.encoded(bags.picture()))
    assert zoe('@photo.png').code == 0


def test_the_topics_of_a_name_behind_two_dashes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    bags.write_bag(tmp_path / '-two', [
        *bags.camera_messages(1), *bags.camera_messages(1, name='/right', info='/info')])
    assert main(['run', '--', '-two']) == 2
    assert '\n  zoe run --topic /right -- -two\n' in capsys.readouterr().err


# --- data with true depth ---------------------------------------------------------------------


def test_data_may_be_a_pattern_or_a_list(evaluated, tmp_path, monkeypatch):
    for name in 'cfadbe':
        rgbd_bag(tmp_path / name, 1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'list').write_text('c\n[abdef]\n')
    for option in ((), ('--no-flip',)):
        assert evaluated('@list', '--domain', 'indoor', *option) == (0, '')
        found = json.loads((tmp_path / 'results' / 'latest' / TABLE).read_text())
        assert found['settings']['data'] == list('cabdef')
        assert [each['dataset'] for each in found['results']] == list('cabdef')


@pytest.mark.parametrize('command', [
    ('eval',), ('eval', '--fleet'), ('eval', '--temporal'), ('calibrate',),
    ('train', '--steps', '1', '--data'), ('train', '--data', 'a', '--held-out')],
    ids=lambda command: command[-1].strip('-'))
def test_data_that_is_not_named(command, tmp_path, monkeypatch, capsys):
    def refused(text):
        assert main([*command, text]) == 2
        return capsys.readouterr().err

    monkeypatch.chdir(tmp_path)
    (tmp_path / 'list').write_text('s3://robots/kitchen.mcap')
    assert refused('bags/*.mcap') == "zoe: nothing matches the pattern 'bags/*.mcap'\n"
    assert refused('@none').startswith("zoe: '@none' names no list (No such file")
    for text in ('@list', 's3://robots/kitchen.mcap'):
        assert refused(text).startswith("zoe: 's3://robots/kitchen.mcap' is on another machine: ")
    assert [path.name for path in tmp_path.iterdir()] == ['list']


# --- evaluation -----------------------------------------------------------------------------


def test_bags_of_one_name_are_told_apart(evaluated, tmp_path):
    paths = [rgbd_bag(tmp_path / name / 'drive', 1 + i) for i, name in enumerate('ab')]
    output = tmp_path / 'results'
    common = (*paths, '--domain', 'indoor', '--output', output)
    assert evaluated(*common) == (0, '')
    table = (output / 'latest').resolve() / TABLE
    found = {each['dataset']: len(each['images'])
             for each in json.loads(table.read_text())['results']}
    assert found == {'drive': 1, 'drive (2)': 2}
    assert {path.name for path in table.parent.glob('*.png')} == {'drive.png', 'drive (2).png'}
    assert evaluated(*common, '--against', table) == (0, '')
    assert (output / 'latest' / 'table.txt').read_text().count(' 0.0%') == 2


def test_videos_of_one_name_are_told_apart(evaluated, tmp_path):
    paths = [video(tmp_path / name / 'drive') for name in 'ab']
    assert evaluated(*paths, '--temporal', '--output', tmp_path / 'results') == (0, '')
    found = json.loads((tmp_path / 'results' / 'latest' / 'temporal.json').read_text())
    assert [each['name'] for each in found['results']] == ['drive', 'drive (2)']


def test_what_an_evaluation_cannot_use_is_told_first(evaluated, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)   # workers cannot be started
    common = (rgbd_bag(tmp_path / 'bag', 1), '--domain', 'indoor', '--output', tmp_path / 'out')
    for options in ((), ('--fleet',)):
        code, err = evaluated(*common, '--against', tmp_path, *options)
        assert (code, err) == (2, f'zoe: {tmp_path} is no {TABLE} of zoe eval\n')
    folder = rgbd_folders.write_folder(tmp_path / 'rgbd')
    assert evaluated(folder, '--topic', '/a', '--depth-topic', '/b') == (
        2, 'zoe: --topic and --depth-topic is for bags, and no bag is given: leave it out\n')
    assert evaluated(folder, *common, '--topic', '/camera/image_raw')[0] == 0


def test_a_depth_topic_that_a_video_lacks(evaluated, tmp_path):
    code, err = evaluated(video(tmp_path / 'video'), '--temporal', '--depth-topic', '/x')
    assert code == 2 and 'has no depth images of 32FC1, 16UC1 or mono16 on /x; it has ' in err


# --- world and training ---------------------------------------------------------------------


def test_a_bag_of_the_world_is_one_scene():
    WorldSettings(bag='indoor', frames=3)
    with pytest.raises(ValueError, match='--scenes and --workers cannot be given with --bag'):
        WorldSettings(bag='indoor', scenes=3, workers=1)


def test_parts_that_would_not_learn(tmp_path):
    for changes, said in (({'stage': 'relative', 'parts': 'heads'}, 'relative stage trains enc'),
                          ({'parts': 'outdoor'}, 'indoor images do not train --parts outdoor')):
        with pytest.raises(TrainingError, match=said):
            train(training(tmp_path / 'run', **changes), DATA, config=CONFIG)
    assert not (tmp_path / 'run').exists()
