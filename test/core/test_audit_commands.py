"""What the commands measure and learn from: split, head, gradient, augmentation, order."""
import json

import numpy as np
import pytest
from scenes import Planes, SIZE
from short_training import CONFIG, DATA, settings
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from zoe_ros import DepthEstimator
from zoe_ros.cli import main
from zoe_ros.datasets.world import VERSION, WorldDataset
from zoe_ros.evaluate import evaluate, TABLE
from zoe_ros.training.batches import Batches
from zoe_ros.training.trainer import LOG, train


def write_world(folder, split, count):
    """Write one split of a made world by hand: planes indoor, ``count`` frames."""
    part = folder / split / 'indoor'
    part.mkdir(parents=True)
    samples = [Planes('indoor', count, seed=len(split))[i] for i in range(count)]
    np.save(part / 'images.npy', np.stack([sample.image for sample in samples]))
    np.save(part / 'depths.npy', np.stack([sample.depth for sample in samples]))
    np.save(part / 'cameras.npy', np.tile([90.0, 90.0, 48.0, 32.0], (count, 1)))
    (part / 'world.json').write_text(json.dumps({'version': VERSION, 'frames': 1}))
    return folder


def figures(folder):
    """Return what ``zoe eval`` wrote of its one dataset."""
    result, = json.loads((folder / 'latest' / TABLE).read_text())['results']
    return result


# --- zoe eval -------------------------------------------------------------------------------


@pytest.fixture
def measured(tiny_weights, tmp_path, capsys):
    """Return a function that runs ``zoe eval`` on the tiny model and returns its result."""
    def run(world, *options):
        assert main(['eval', str(world), '--domain', 'indoor', '--variant', 'tiny', '--weights',
                     str(tiny_weights), '--device', 'cpu', '--precision', 'fp32', '--output',
                     str(tmp_path / 'results'), *options]) == 0
        capsys.readouterr()
        return figures(tmp_path / 'results')

    return run


@pytest.fixture
def world(tmp_path):
    """Return a world with two frames to measure on and five to learn from."""
    write_world(tmp_path / 'w', 'train', 5)
    return write_world(tmp_path / 'w', 'test', 2)


def test_eval_measures_the_held_out_split(measured, world, tiny_estimator):
    result = measured(world, '--no-flip')
    dataset = WorldDataset(world, 'test', 'indoor')
    assert len(result['images']) == len(dataset) == 2
    assert result['figures'] == pytest.approx(evaluate(tiny_estimator, dataset).figures)


def test_flip_and_router_reach_the_evaluation(measured, world, tiny_estimator):
    dataset = WorldDataset(world, 'test', 'indoor')
    found = {}
    for options, choices in ((('--no-flip',), {}), ((), {'flip': True}),
                             (('--no-flip', '--router', 'outdoor'), {'router': 'outdoor'}),
                             (('--flip', '--router', 'outdoor'),
                              {'router': 'outdoor', 'flip': True})):
        estimator = DepthEstimator(tiny_estimator.model, **choices)
        result = measured(world, *options)['figures']
        assert result == pytest.approx(evaluate(estimator, dataset).figures)
        found[options] = result['REL']
    assert len(set(found.values())) == 4


# --- zoe train ------------------------------------------------------------------------------


@pytest.mark.slow
def test_train_learns_from_one_split_and_measures_the_other(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Each world lacks the split that must not be read.
    write_world(tmp_path / 'learn', 'train', 2)
    write_world(tmp_path / 'measure', 'test', 2)
    assert main(['train', '--data', 'learn', '--held-out', 'measure', '--domain', 'indoor',
                 '--steps', '1', '--batch', '2', '--size', '64x96', '--workers', '0', '--device',
                 'cpu', '--output', 'run']) == 0
    capsys.readouterr()
    row, = (json.loads(line) for line in (tmp_path / 'run' / LOG).read_text().splitlines())
    assert 'REL' in row


@pytest.fixture
def gradients():
    """Return a list that gets the norm of the gradient of every step of any optimiser."""
    norms = []

    def note(optimizer, arguments, options):
        own = [p.grad.norm() for group in optimizer.param_groups for p in group['params']
               if p.grad is not None]
        norms.append(float(torch.stack(own).norm()))

    handle = register_optimizer_step_pre_hook(note)
    yield norms
    handle.remove()


@pytest.mark.slow
def test_gradients_are_clipped(gradients, tmp_path):
    train(settings(tmp_path / 'free', clip=1e6, steps=2), DATA, config=CONFIG)
    free, gradients[:] = gradients[:], []
    train(settings(tmp_path / 'clipped', clip=0.01, steps=2), DATA, config=CONFIG)
    assert min(free) > 0.02
    assert gradients == pytest.approx([0.01, 0.01], rel=1e-3)


def test_each_step_augments_a_sample_in_another_way():
    batches = Batches([Planes('indoor', 1)], SIZE, 1, seed=1)
    steps = [batches[step] for step in range(6)]
    assert {name for batch in steps for name in batch.names} == {'planes-indoor/000'}
    # Half of all steps change no colour, but every one rotates.
    assert len({batch.pixels.numpy().tobytes() for batch in steps}) == 6


def test_each_slot_of_a_batch_augments_in_another_way():
    pixels = Batches([Planes('indoor', 1)], SIZE, 4, seed=1)[0].pixels
    assert len({image.numpy().tobytes() for image in pixels}) == 4


def test_each_epoch_has_an_order_of_its_own():
    batches = Batches([Planes('indoor', 12)], SIZE, 4, seed=1)
    epochs = [[name for step in range(start, start + 3) for name in batches[step].names]
              for start in (0, 3, 6)]
    assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 3
