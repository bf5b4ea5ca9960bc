"""``zoe distill``: a student comes near its teacher, forgets little, and survives a SIGKILL."""
from dataclasses import replace
from importlib.util import find_spec
import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import time

import bags
import made_up
import pytest
from safetensors.torch import load_file
import torch

from zoe_ros import DepthEstimator
from zoe_ros.cli import main
from zoe_ros.command_settings import WorldSettings
from zoe_ros.datasets.open import open_datasets
from zoe_ros.distill.recipe import DistillSettings
from zoe_ros.distill.student import train_settings
from zoe_ros.model.config import VARIANTS
from zoe_ros.model.weights import save_model
from zoe_ros.model.zoedepth import ZoeDepth
from zoe_ros.training.recipe import make_recipe, TrainSettings
from zoe_ros.training.trainer import MODEL, parameter_groups, STATE, train
from zoe_ros.world.make import make_world
from zoe_ros.world.record import record_world

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec('embreex') is None,
                       reason='the world is ray cast by Embree, an extra')]
ROOT = Path(__file__).resolve().parents[2]
STUDENT = replace(VARIANTS['mobile-lite'], image_size=(64, 96))
TINY = replace(made_up.tiny_config(), canonical_focal=True)
TEACHER, WORLD = 'REL to the teacher', 'REL on the world'


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Return a small world of all kinds of scenes."""
    folder = tmp_path_factory.mktemp('world') / 'world'
    return make_world(WorldSettings(str(folder), recipe='varied', scenes=12, held_out=4, frames=2,
                                    height=96, width=128))


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    """Return a drive through one place."""
    folder = tmp_path_factory.mktemp('bag') / 'drive'
    return record_world(WorldSettings(str(folder), bag='indoor', recipe='varied', frames=30,
                                      height=96, width=128, seed=26))


@pytest.fixture(scope='module')
def begun(tmp_path_factory, world):
    """Return the small model of the package, after it has learnt to see at a ninth of its size."""
    run = TrainSettings(
        variant='mobile-lite', start='mobile-lite', encoder_norms='frozen', encoder_factor=0.3,
        steps=50, batch=8, workers=0, clip=1.0, learning_rate=1e-3, warm_share=0.3,
        mean_decay=0.9, device='cpu', checkpoint_steps=1000,
        output=str(tmp_path_factory.mktemp('run') / 'run'))
    return train(run, open_datasets([str(world)], 'train'), config=STUDENT)


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    """Return a file with the tiny model at a canonical focal length."""
    path = tmp_path_factory.mktemp('tiny') / 'tiny.safetensors'
    save_model(made_up.fill(ZoeDepth(TINY)), path)
    return path


def arguments(bag, world, start, output, **changes):
    """Return the arguments of a short distillation."""
    options = {
        'teacher': 'mobile-lite', 'from': start, 'world': world, 'output': output, 'steps': 50,
        'difference': 0.2, 'learning-rate': 5e-4, 'workers': 0, 'device': 'cpu',
        'precision': 'fp32', **changes}
    return ['distill', str(bag), *(str(text) for name, value in options.items()
                                   for text in (f'--{name}', value))]


def test_the_student_comes_near_the_teacher_and_forgets_little(bag, world, begun, tmp_path,
                                                               capsys):
    output = tmp_path / 'out'
    command = arguments(bag, world, begun, output)
    assert main(command) == 0
    summary = json.loads((output / 'summary.json').read_text())
    before, after = summary['before'], summary['after']
    assert after[TEACHER] < 0.6 * before[TEACHER]
    assert after[WORLD] < 1.1 * before[WORLD]
    assert summary['frames']['learnt'] > 10 and summary['frames'][WORLD] == 16
    out = capsys.readouterr().out
    assert f'{TEACHER:20} {before[TEACHER]:6.3f}  {after[TEACHER]:6.3f}' in out
    assert f'the model is {output / MODEL}' in out
    # The figures are those of zoe eval, and the model is one that every command takes.
    model = DepthEstimator.load(weights=output / MODEL, device='cpu', precision='fp32')
    assert model.model.config == STUDENT
    held_out, = open_datasets([str(output / 'labels')], 'test')
    errors = []
    for index in range(len(held_out)):
        sample = held_out[index]
        depth, known = model.predict(sample.image, sample.camera).depth, sample.valid
        errors.append((abs(depth - sample.depth) / sample.depth)[known].mean())
    assert after[TEACHER] == pytest.approx(sum(errors) / len(errors), rel=1e-3)
    # Again: the run is done.
    made = (output / MODEL).stat().st_mtime_ns
    assert main(command) == 0
    assert (output / MODEL).stat().st_mtime_ns == made
    assert f'the model is {output / MODEL}' in capsys.readouterr().out


def test_a_killed_run_goes_on_exactly(bag, world, tiny, tmp_path):
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    short = {'steps': 10, 'batch': 2, 'difference': 0.6}
    assert main(arguments(bag, world, tiny, whole, **short)) == 0
    command = arguments(bag, world, tiny, killed, **short)
    process = subprocess.Popen(
        [sys.executable, '-m', 'zoe_ros.cli', *command], stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'})
    try:
        end = time.monotonic() + 90
        while not (killed / 'training' / STATE).is_file():
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    state = torch.load(killed / 'training' / STATE, weights_only=True)
    assert 0 < state['step'] < 10
    assert main(command) == 0
    first, second = load_file(whole / MODEL), load_file(killed / MODEL)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (whole / 'summary.json').read_text() == (killed / 'summary.json').read_text()


def test_a_new_nano_learns_without_the_world(bag, tmp_path):
    output = tmp_path / 'out'
    assert main(arguments(bag, '', 'nano', output, **{
        'steps': 1, 'batch': 2, 'difference': 0.8, 'world-share': 0})) == 0
    summary = json.loads((output / 'summary.json').read_text())
    assert summary['after'].keys() == {TEACHER}
    model = DepthEstimator.load(weights=output / MODEL, device='cpu')
    assert model.model.config == VARIANTS['nano']


@pytest.mark.parametrize('start, weights, rates', [
    ('nano', 'lite0.pth', (1e-4, 1e-3)), ('nano', '', (1e-3, 1e-3)),
    ('mobile-lite', '', (9e-5, 3e-4))])
def test_an_encoder_with_weights_learns_slowly(start, weights, rates):
    config = VARIANTS[start]
    run = train_settings(DistillSettings(start=start, encoder_weights=weights, device='cpu'),
                         config, Path('run'))
    encoder, *others = parameter_groups(ZoeDepth(config), make_recipe(start, run))
    assert encoder['lr'] == pytest.approx(rates[0])
    assert {group['lr'] for group in others} == {rates[1]}


# --- bad input ------------------------------------------------------------------------------


@pytest.fixture
def refused(capsys):
    """Return a function: arguments -> the one line on stderr."""
    def said(command):
        capsys.readouterr()
        assert main(command) == 2
        err = capsys.readouterr().err
        line = err.splitlines()[-1]     # behind the progress of training
        assert line.startswith('zoe: ') and err.endswith(f'{line}\n') and 'Traceback' not in err
        return line

    return said


def test_a_teacher_without_a_router(bag, world, tiny, tmp_path, refused):
    teacher = tmp_path / 'one.safetensors'
    save_model(made_up.fill(ZoeDepth(made_up.tiny_config(('indoor',)))), teacher)
    line = refused(arguments(bag, world, tiny, tmp_path / 'out', teacher=teacher))
    assert 'the teacher ZoeD-tiny has no router, but the student ZoeD-tiny has one' in line
    assert not (tmp_path / 'out').exists()


def test_bags_that_cannot_be_used(world, tiny, tmp_path, refused):
    empty = bags.write_bag(tmp_path / 'empty', [
        ('/camera/camera_info', bags.ROSBAGS.info(48, 64), bags.START)])
    assert f'{empty} has no image' in refused(arguments(empty, world, tiny, tmp_path / 'out'))
    (tmp_path / 'photos').mkdir()
    line = refused(arguments(tmp_path / 'photos', world, tiny, tmp_path / 'out'))
    assert 'photos is no bag' in line
    one = bags.write_bag(tmp_path / 'one', bags.camera_messages(1))
    line = refused(arguments(one, world, tiny, tmp_path / 'out'))
    assert 'has no frame that is held out: label more or longer bags' in line


def test_missing_weights_are_told_before_anything_is_labelled(bag, tmp_path, refused):
    line = refused(arguments(bag, '', 'nano', tmp_path / 'out', **{
        'world-share': 0, 'encoder-weights': '/nowhere.pth'}))
    assert '/nowhere.pth' in line
    assert not (tmp_path / 'out').exists()
    line = refused(arguments(tmp_path / 'no.mcap', '', 'nano', tmp_path / 'out'))
    assert line == f'zoe: nothing at {tmp_path / "no.mcap"}'


@pytest.mark.parametrize('workers', [0, 1])
def test_damaged_labels_are_told_in_one_line(bag, tmp_path, refused, workers):
    output = tmp_path / 'out'
    short = {'steps': 4, 'batch': 2, 'difference': 0.8, 'world-share': 0, 'workers': workers}
    command = arguments(bag, '', 'nano', output, **short)
    assert main(command) == 0
    # The run is finished, but its model and its summary are lost.
    (output / MODEL).unlink()
    assert main(command) == 0
    assert (output / MODEL).is_file()
    (output / 'summary.json').write_text('{}')
    assert 'summary.json is damaged: remove it, and the same command' in refused(command)
    (output / 'summary.json').unlink()
    shutil.rmtree(output / 'training')
    file, *_ = sorted((output / 'labels').rglob('*.npy'))
    file.write_bytes(file.read_bytes()[:500])
    assert f'{file} cannot be read (' in refused(command)


def test_a_folder_of_another_run(bag, world, tiny, tmp_path, refused):
    first = {'steps': 1, 'batch': 2, 'difference': 0.8}
    output = tmp_path / 'out'
    assert main(arguments(bag, world, tiny, output, **first)) == 0
    line = refused(arguments(bag, world, tiny, output, **{**first, 'steps': 2, 'seed': 1}))
    assert f'{output} holds a run with another steps and seed: choose another --output' in line
    other = bags.write_bag(tmp_path / 'other', bags.camera_messages(3))
    assert 'another bags' in refused(arguments(other, world, tiny, output, **first))
    about = json.loads((output / 'distill.json').read_text())
    bags_then = about['inputs'].pop(str(bag))
    about['inputs'] |= {str(bag): '0' * 64}     # it was recorded again since
    del about['difference'], about['labels']    # the second has its default: a newer setting
    (output / 'distill.json').write_text(json.dumps(about))
    assert 'with another difference: choose' in refused(arguments(
        bag, world, tiny, output, **first))
    about |= {'difference': 0.8}
    (output / 'distill.json').write_text(json.dumps(about))
    line = refused(arguments(bag, world, tiny, output, **first))
    assert line == (f'zoe: {bag} changed since the run in {output} began: choose another '
                    '--output')
    about['inputs'] |= {str(bag): bags_then, 'the teacher mobile-lite': 'other'}
    (output / 'distill.json').write_text(json.dumps(about))
    assert 'the teacher mobile-lite changed since' in refused(arguments(
        bag, world, tiny, output, **first))
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'notes.txt').touch()
    line = refused(arguments(bag, world, tiny, tmp_path / 'mine', **first))
    assert 'holds something else than a run of zoe distill' in line


@pytest.mark.parametrize('changes, words', [
    ({'from': '/nowhere.safetensors'}, 'no weights file at /nowhere.safetensors'),
    ({'world-share': 1.5}, "parameter 'world_share' is 1.5, not within 0 ... 0.9"),
    ({'anchor': 'sonar'}, "parameter 'anchor' is 'sonar', not none or one of"),
    ({'encoder-weights': 'x.pth'}, '--from and --encoder-weights both contain')])
def test_settings_that_cannot_be(changes, words, bag, world, tiny, tmp_path, refused):
    assert words in refused(arguments(bag, world, tiny, tmp_path / 'out', **changes))
    assert not (tmp_path / 'out').exists()
