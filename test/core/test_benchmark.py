"""The benchmark: that it runs, that its figures fit together, and that rivals get our weights."""
from dataclasses import replace
import json

import made_up
import pytest
import torch

from zoe_ros import benchmark
from zoe_ros.benchmark import bench, network_flops, transformers_model
from zoe_ros.cli import main
from zoe_ros.command_settings import BenchSettings
from zoe_ros.inference.defaults import default_precision, describe
from zoe_ros.model.config import VARIANTS

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def figures(tiny_weights):
    """Return the lines of a short run on the tiny model, and the last one's facts."""
    lines = bench(BenchSettings('tiny', str(tiny_weights), 'fp32', 'cpu', batch=2, frames=3))
    return lines, json.loads(lines[-1])


def test_figures_fit_together(figures):
    _, facts = figures
    assert facts['p50_ms'] <= facts['p95_ms']
    assert facts['frames_per_s'] == pytest.approx(2e3 / facts['p50_ms'], rel=0.01)
    assert set(facts['stages_ms']) == {
        'preprocess', 'backbone', 'decoder', 'head', 'back to the image'}
    assert all(value > 0 for value in facts['stages_ms'].values())
    assert 0 < facts['share_of_peak'] < 1
    assert facts['memory_mb']['host'] > 100
    assert (facts['batch'], facts['size'], facts['made_up_weights']) == (2, [64, 96], False)


def test_the_table_names_machine_and_choices(figures):
    lines, facts = figures
    assert lines[0].startswith('tiny fp32, 2 x 96 x 64, ')
    assert facts['device'] in lines[0]
    assert not any('made up' in line for line in lines)
    assert any(line.split()[:2] == ['stages_ms', 'backbone'] for line in lines)


def test_without_weights_it_says_so(monkeypatch, capsys):
    monkeypatch.setitem(VARIANTS, 'nk', replace(made_up.tiny_config(), variant='nk'))
    assert main(['bench', '--frames', '1', '--device', 'cpu', '--size', '64x128']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert 'the weights are random: times are valid, depths are not' in lines[1]
    facts = json.loads(lines[-1])
    assert facts['made_up_weights']
    assert facts['precision'] == default_precision(describe(torch.device('cpu'))).name
    assert facts['size'] == [64, 128]


@pytest.mark.parametrize('arguments, complaint', [
    (['--size', '100x64'], "size '100x64' is not HEIGHTxWIDTH in multiples of 32"),
    (['--batch', '0'], "parameter 'batch' is 0, not within 1 ... 4096"),
    (['--device', 'tpu'], "no device 'tpu'")])
def test_wrong_choices(arguments, complaint, capsys):
    assert main(['bench', *arguments]) == 2
    assert complaint in capsys.readouterr().err


def test_operations_of_the_released_model():
    """712e9 by torch's counter of the official code, whose 1 x 1 convolutions cost more."""
    assert 0.95 * 712e9 < network_flops(VARIANTS['nk'], 1) < 712e9
    assert network_flops(VARIANTS['nk'], 3) == pytest.approx(
        3 * network_flops(VARIANTS['nk'], 1), rel=0.01)


def test_depth_anything(monkeypatch, capsys):
    """Sizes are multiples of 14."""
    monkeypatch.setitem(VARIANTS, 'da-n', made_up.depth_anything_config())
    arguments = ['bench', '--variant', 'da-n', '--frames', '1', '--device', 'cpu', '--size']
    assert main([*arguments, '42x70']) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert facts['size'] == [42, 70] and facts['gflop'] > 0
    assert main([*arguments, '64x96']) == 2
    assert "size '64x96' is not HEIGHTxWIDTH in multiples of 14" in capsys.readouterr().err


@pytest.mark.parametrize('config', [made_up.tiny_config(), made_up.depth_anything_config()],
                         ids=['beit', 'dinov2'])
def test_made_up_weights_make_a_lively_model(config):
    model, again = benchmark.made_up_model(config), benchmark.made_up_model(config)
    height, width = config.image_size
    pixels = torch.linspace(-1, 1, 3 * height * width).reshape(1, 3, height, width)
    with torch.inference_mode():
        depth = model(pixels)
        assert torch.equal(depth, again(pixels))
    assert torch.isfinite(depth).all()
    assert depth.std() > 0


def test_transformers_gets_the_same_weights():
    pytest.importorskip('transformers')
    config = made_up.tiny_config()
    # What transformers fixes in its code: see test_hugging_face.
    config = replace(config, metric=replace(
        config.metric, seed_hidden=12, embedding_hidden=12, embedding_dim=24,
        bottleneck_factor=4, heads=tuple(
            replace(head, attractors=(16, 16, 16, 16)) for head in config.metric.heads)),
        router=replace(config.router, dim=128, heads=4, layers=4))
    model = made_up.fill(benchmark.made_up_model(config))
    theirs = transformers_model(model, torch.float32)
    pixels = torch.linspace(-1, 1, 3 * 64 * 96).sin().reshape(1, 3, 64, 96)
    with torch.inference_mode():
        ours, other = model(pixels), theirs(pixel_values=pixels).predicted_depth
    assert (ours - other).norm() < 1e-4 * other.norm()


def test_transformers_has_no_zoedepth_over_dinov2():
    pytest.importorskip('transformers')
    with pytest.raises(ValueError, match=r'^transformers has no ZoeDepth over dinov2$'):
        transformers_model(made_up.tiny_depth_anything(), torch.float32)


@pytest.mark.parametrize('variant', ['mobile', 'mobile-lite', 'nk-swin2-t'])
def test_flops_of_other_encoders_are_counted(variant):
    assert 1e9 < network_flops(VARIANTS[variant], 1) < 500e9


def test_flops_at_the_smallest_size():
    """One value per channel is too few for normalisations that train."""
    config = VARIANTS['mobile']
    smallest = network_flops(replace(config, image_size=(32, 32)), 1)
    assert 0 < smallest < network_flops(config, 1) / 24
