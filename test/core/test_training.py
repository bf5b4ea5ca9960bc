"""Training for a few steps with a tiny real model: it learns, resumes exactly, and refuses."""
from dataclasses import replace
import json
import os
from pathlib import Path
import random
import signal
import subprocess
import sys
import textwrap
import time

import made_up
import numpy as np
from PIL import Image
import pytest
from safetensors.torch import load_file
from scenes import Planes
from short_training import CONFIG, DATA, losses, settings
import torch
import yaml

from zoe_ros import DepthEstimator
from zoe_ros.evaluate import evaluate
from zoe_ros.model.config import VARIANTS
from zoe_ros.model.weights import load_model, save_model, WeightsError
from zoe_ros.model.zoedepth import ZoeDepth
from zoe_ros.training.recipe import make_recipe, TrainSettings
from zoe_ros.training.trainer import (
    LOG,
    MODEL,
    parameter_groups,
    SETTINGS,
    STATE,
    train,
    TrainingError,
)

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
PATHS = [str(ROOT), str(ROOT / 'test' / 'support')]


def with_metric(**changes):
    """Return the tiny configuration with other choices for its heads."""
    return replace(CONFIG, metric=replace(CONFIG.metric, **changes))


# --- it learns ------------------------------------------------------------------------------


@pytest.mark.parametrize('stage', ['relative', 'metric'])
def test_the_loss_falls(stage, tmp_path):
    train(settings(tmp_path / 'run', stage=stage, steps=60), DATA, config=CONFIG)
    values = losses(tmp_path / 'run')
    assert len(values) == 60
    assert np.mean(values[-8:]) < 0.75 * np.mean(values[:8])


def test_both_stages_give_a_model_that_measures(tmp_path):
    first = train(settings(tmp_path / 'first', stage='relative', steps=20), DATA, config=CONFIG)
    # After 200 steps a rounding here or there moves the error of an image from 0.1 to
    # 0.9; after 300 the mean is 0.05.
    second = train(settings(tmp_path / 'second', start=str(first), steps=300), DATA,
                   config=CONFIG)
    estimator = DepthEstimator.load('tiny', second, device='cpu', precision='fp32')
    for domain in ('indoor', 'outdoor'):
        errors = []
        for sample in (Planes(domain, 4, seed=1)[i] for i in range(4)):
            prediction = estimator.predict(sample.image)
            assert prediction.head == domain
            valid = sample.valid
            errors.append(np.mean(np.abs(prediction.depth - sample.depth)[valid]
                                  / sample.depth[valid]))
        assert np.mean(errors) < 0.25
    names = {path.name for path in (tmp_path / 'second').iterdir()}
    assert names == {MODEL, STATE, SETTINGS, LOG, 'curves.png'}
    assert Image.open(tmp_path / 'second' / 'curves.png').size[0] > 300


@pytest.mark.parametrize('routing', ['trained', 'labeled', 'auto'])
def test_routers(routing, tmp_path):
    path = train(settings(tmp_path / 'run', routing=routing, steps=6), DATA, config=CONFIG)
    trained = load_file(path)
    torch.manual_seed(settings(tmp_path).seed)
    begun = ZoeDepth(CONFIG).state_dict()
    moved = any((trained[name] != begun[name]).any() for name in begun
                if name.startswith('router.classifier'))
    # A router without labels in its loss learns only where the depth depends on it. Decay moves
    # what has no gradient not at all: AdamW passes over it.
    assert moved == (routing != 'labeled')
    DepthEstimator.load('tiny', path, device='cpu').predict(DATA[0][0].image)


@pytest.mark.parametrize('change', [
    {'attraction': 'exponential'}, {'reduction': 'sum'}, {'kind': 'splitter'},
    {'kind': 'global'}, {'kind': 'convolution'}, {'distribution': 'softmax'}, {'bounded': True},
    {'relative_input': True}], ids=str)
def test_heads_of_the_ablations(change, tmp_path):
    config = with_metric(**change)
    path = train(settings(tmp_path / 'run', steps=60), DATA, config=config)
    values = losses(tmp_path / 'run')
    # Losses of batches scatter by a factor of several.
    assert np.median(values[-20:]) < np.median(values[:20])
    estimator = DepthEstimator.load('tiny', path, device='cpu')
    assert estimator.model.config == config
    assert np.isfinite(estimator.predict(DATA[0][0].image).depth).all()


def test_bf16(tmp_path):
    train(settings(tmp_path / 'run', precision='bf16', steps=40), DATA, config=CONFIG)
    values = losses(tmp_path / 'run')
    assert np.mean(values[-8:]) < 0.9 * np.mean(values[:8])


def test_only_the_asked_part_learns(tmp_path):
    start = train(settings(tmp_path / 'first', steps=2), DATA, config=CONFIG)
    before = load_file(start)
    for parts, prefixes in (('heads', ('metric.', 'router.')),
                            ('outdoor', ('metric.heads.outdoor.',))):
        path = train(settings(tmp_path / parts, parts=parts, start=str(start), steps=4),
                     DATA[1:], config=CONFIG)
        after = load_file(path)
        changed = {name for name in after if (after[name] != before[name]).any()}
        assert changed and all(name.startswith(prefixes) for name in changed)


def test_learning_rates_of_the_published_configurations():
    for variant, rates in (('n', (1.61e-4, 1.61e-5, 1.61e-4, 1.61e-4)),
                           ('nk', (2.512e-4, 2.512e-5, 2.512e-5, 2.512e-4))):
        recipe = make_recipe(variant, TrainSettings(variant=variant))
        with torch.device('meta'):
            groups = parameter_groups(ZoeDepth(VARIANTS[variant]), recipe)
        assert [group['lr'] for group in groups] == pytest.approx(
            [*rates[1:], rates[0]][:len(groups)])


# --- it resumes -----------------------------------------------------------------------------


@pytest.mark.parametrize('mean_decay', [0.0, 0.9])
def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path, mean_decay):
    choices = {'steps': 8, 'checkpoint_steps': 4, 'mean_decay': mean_decay}
    whole = train(settings(tmp_path / 'whole', **choices), DATA, config=CONFIG)

    class KilledError(Exception):
        pass

    class Deadly(Planes):
        """Ends the run in its sixth step."""

        reads = 0

        def __getitem__(self, index):
            self.reads += 1
            if self.reads > 10:
                raise KilledError
            return super().__getitem__(index)

    broken = settings(tmp_path / 'broken', **choices)
    with pytest.raises(KilledError):
        train(broken, [Deadly('indoor', 12), DATA[1]], config=CONFIG)
    state = torch.load(tmp_path / 'broken' / STATE, weights_only=True)
    assert state['step'] == 4
    resumed = train(broken, DATA, config=CONFIG)
    assert losses(tmp_path / 'broken') == losses(tmp_path / 'whole')
    first, second = load_file(whole), load_file(resumed)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_model_is_the_running_mean_of_the_weights(tmp_path):
    class Short(Planes):
        """Ends the run in its second step."""

        def __getitem__(self, index):
            if (tmp_path / 'run' / STATE).is_file():
                raise KeyboardInterrupt
            return super().__getitem__(index)

    def state():
        return torch.load(tmp_path / 'run' / STATE, weights_only=True)

    run = settings(tmp_path / 'run', steps=2, checkpoint_steps=1, mean_decay=0.25)
    with pytest.raises(KeyboardInterrupt):
        train(run, [Short('indoor', 12), Short('outdoor', 20)], config=CONFIG)
    first = state()['model']
    mean = load_file(train(run, DATA, config=CONFIG))
    last = state()['model']
    name = max((name for name in last if name.startswith('decoder.')),
               key=lambda name: last[name].numel())
    assert not torch.equal(first[name], last[name])
    torch.testing.assert_close(mean[name], 0.25 * first[name] + 0.75 * last[name])


def test_a_killed_process_leaves_whole_files(tmp_path):
    script = textwrap.dedent(f"""
        import sys
        sys.path[:0] = {PATHS!r}
        import torch
        torch.set_num_threads(1)
        from short_training import CONFIG, DATA, settings
        from zoe_ros.training.trainer import train
        endless = settings({str(tmp_path / 'run')!r}, steps=100000, checkpoint_steps=1)
        train(endless, DATA, config=CONFIG)
        """)
    process = subprocess.Popen([sys.executable, '-c', script], stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 90
        while not (tmp_path / 'run' / STATE).is_file():
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        # Stop it at any moment, until one is in the middle of a write.
        part = tmp_path / 'run' / f'{STATE}.part'
        while True:
            assert time.monotonic() < end
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            if part.is_file():
                break
            process.send_signal(signal.SIGCONT)
            time.sleep(random.uniform(0, 0.02))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert part.is_file(), 'the process was not killed while it wrote'
    state = torch.load(tmp_path / 'run' / STATE, weights_only=True)
    assert state['step'] >= 1
    load_model(CONFIG, tmp_path / 'run' / MODEL)


def test_two_processes_share_a_batch(tmp_path):
    script = tmp_path / 'run.py'
    script.write_text(textwrap.dedent(f"""
        import sys
        sys.path[:0] = {PATHS!r}
        from short_training import CONFIG, DATA, settings
        from zoe_ros.training.trainer import train
        train(settings({str(tmp_path / 'run')!r}, steps=40), DATA, config=CONFIG)
        """))
    subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2',
         str(script)], check=True, capture_output=True, timeout=300,
        env={**os.environ, 'OMP_NUM_THREADS': '1'})
    values = losses(tmp_path / 'run')
    assert np.mean(values[-8:]) < np.mean(values[:8])


# --- what it begins with --------------------------------------------------------------------


def test_midas_weights_are_a_start(tmp_path):
    """A MiDaS file holds what the official one holds under core.core, and nothing else."""
    from zoe_ros.model.layouts import MIDAS
    from zoe_ros.training.start import begin_with
    model = made_up.tiny_model()
    own = model.state_dict()
    state = {}
    for name, tensor in own.items():
        for source in MIDAS.sources(name, 2):
            state[source] = tensor.clone()
    assert all(name.startswith(('pretrained.', 'scratch.')) for name in state)
    torch.save(state, tmp_path / 'midas.pt')
    fresh = ZoeDepth(CONFIG)
    metric = {k: v.clone() for k, v in fresh.state_dict().items() if k.startswith('metric.')}
    begin_with(fresh, str(tmp_path / 'midas.pt'))
    for name, tensor in fresh.state_dict().items():
        if name.startswith(('backbone.', 'decoder.')):
            assert torch.equal(tensor, own[name]), name
        elif name.startswith('metric.'):
            assert torch.equal(tensor, metric[name])
    with pytest.raises(WeightsError, match='relative model of MiDaS'):
        load_model(CONFIG, tmp_path / 'midas.pt')


def test_a_start_of_another_architecture(tmp_path):
    other = ZoeDepth(replace(CONFIG, decoder=replace(CONFIG.decoder, features=16)))
    save_model(other, tmp_path / 'other.safetensors')
    with pytest.raises(WeightsError, match='another encoder or decoder than ZoeD-tiny'):
        train(settings(tmp_path / 'run', start=str(tmp_path / 'other.safetensors')), DATA,
              config=CONFIG)


@pytest.mark.parametrize('variant', ['nk-beit-b', 'nk-swin2-t', 'mobile'])
def test_backbones_learn(variant, tmp_path):
    """One step at a small size, and the file loads; SwinV2 has buffers that no file holds."""
    path = train(settings(tmp_path / 'run', variant=variant, size='64x64', batch=2, steps=1,
                          learning_rate=1e-4), DATA)
    for precision in ('fp32', 'bf16'):
        estimator = DepthEstimator.load(variant, path, device='cpu', precision=precision)
        assert estimator.model.config.image_size == (64, 64)
        assert np.isfinite(estimator.predict(DATA[0][0].image).depth).all()


# --- bad input ------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_names_its_batch(tmp_path):
    with pytest.raises(TrainingError) as error:
        train(settings(tmp_path / 'run', learning_rate=1.0, clip=1e6, steps=200), DATA,
              config=with_metric(kind='convolution'))
    assert 'planes-' in str(error.value) and 'learning rate' in str(error.value)


def test_a_folder_of_another_run(tmp_path):
    train(settings(tmp_path / 'run', steps=1), DATA, config=CONFIG)
    with pytest.raises(TrainingError, match='holds a run with another batch'):
        train(settings(tmp_path / 'run', steps=1, batch=2), DATA, config=CONFIG)
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos' / 'a.png').touch()
    with pytest.raises(TrainingError, match='something else than a training run'):
        train(settings(tmp_path / 'photos'), DATA, config=CONFIG)


def test_a_run_with_other_initial_weights(tmp_path):
    start = made_up.write_tiny(tmp_path / 'start.safetensors')
    run = settings(tmp_path / 'run', steps=1, start=str(start))
    made = train(run, DATA, config=made_up.tiny_config())
    assert train(run, DATA, config=made_up.tiny_config()) == made
    made_up.write_tiny(start, seed=1)
    with pytest.raises(TrainingError, match=f'{start} has changed since the run in .* began with'):
        train(run, DATA, config=made_up.tiny_config())


def test_a_run_that_an_earlier_version_began(tmp_path):
    train(settings(tmp_path / 'run', steps=1), DATA, config=CONFIG)
    path = tmp_path / 'run' / SETTINGS
    then = yaml.safe_load(path.read_text())
    del then['faults'], then['repeat'], then['start_sha256']    # were not known then
    path.write_text(yaml.safe_dump(then))
    train(settings(tmp_path / 'run', steps=1), DATA, config=CONFIG)
    with pytest.raises(TrainingError, match=r'another faults \(faults: the default\): choose'):
        train(settings(tmp_path / 'run', steps=1, faults=0.5), DATA, config=CONFIG)


def test_a_full_disk(tmp_path):
    """The size of files is limited, as a full disk would: what stood there stays whole."""
    script = textwrap.dedent(f"""
        import resource, signal, sys
        sys.path[:0] = {PATHS!r}
        from short_training import CONFIG, DATA, settings
        from zoe_ros.training.trainer import train, TrainingError
        first = settings({str(tmp_path / 'run')!r}, steps=4, checkpoint_steps=2)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        try:
            train(first, DATA, config=CONFIG)
        except TrainingError as error:
            print(error)
        """)
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True,
                          timeout=120)
    path = str(tmp_path / 'run' / MODEL)
    assert done.stdout.startswith(f'{path} cannot be written: '), done.stderr
    assert done.stdout.count(path) == 1 and 'make room' in done.stdout
    assert {path.name for path in (tmp_path / 'run').iterdir()} == {SETTINGS}


@pytest.mark.parametrize('changes, words', [
    ({'variant': 'vast'}, "variant 'vast' is not one of"),
    ({'size': '100x64'}, "size '100x64' is not HEIGHTxWIDTH in multiples of 32"),
    ({'parts': 'indoor', 'variant': 'k'}, 'ZoeD-M12-K has no indoor head to train, only outdoor'),
    ({'start': '/nowhere.pt'}, 'no weights file at /nowhere.pt')])
def test_settings_that_cannot_be(changes, words, tmp_path):
    config = None if 'variant' in changes and changes['variant'] == 'vast' else CONFIG
    if changes.get('parts'):
        config = replace(made_up.tiny_config(heads=('outdoor',)), title='ZoeD-M12-K')
    with pytest.raises((ValueError, OSError), match=words):
        train(settings(tmp_path / 'run', **changes), DATA, config=config)


def test_nothing_to_learn_from(tmp_path):
    with pytest.raises(ValueError, match='nothing to learn from'):
        train(settings(tmp_path / 'run'), [Planes('indoor', 0)], config=CONFIG)


def test_held_out_datasets_count_alike(tmp_path):
    held_out = [Planes('indoor', 2, seed=5), Planes('outdoor', 3, seed=6)]
    path = train(settings(tmp_path / 'run', steps=1), DATA, held_out, CONFIG)
    row = json.loads((tmp_path / 'run' / LOG).read_text())
    estimator = DepthEstimator.load('tiny', path, device='cpu', precision='fp32')
    expected = [evaluate(estimator, dataset).figures['REL'] for dataset in held_out]
    assert row['REL'] == pytest.approx(np.mean(expected), rel=1e-3)
    assert expected[0] != pytest.approx(expected[1], rel=0.01)
