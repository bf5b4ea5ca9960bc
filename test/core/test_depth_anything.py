"""Depth Anything: what differs from ZoeDepth, on a tiny model of the same structure."""
from dataclasses import replace

from checkpoints import assert_equal_models, refusal, saved
from checkpoints import depth_anything_state as state_of
import made_up
import numpy as np
from PIL import Image
from plain import assert_close, choose_by, pixels_of, plain_depth
import pytest
from runs import PUBLISHED
from short_training import DATA, losses, settings
import torch

from zoe_ros import DepthEstimator
from zoe_ros.files import file_sha256
from zoe_ros.inference.preprocess import plan_sizes
from zoe_ros.inference.runner import ModelRunner, PositionBiases
from zoe_ros.model import fused, kernels, releases, tiling
from zoe_ros.model.config import VARIANTS
from zoe_ros.model.fuse import fuse
from zoe_ros.model.weights import load_model, save_model
from zoe_ros.model.zoedepth import ZoeDepth
from zoe_ros.training.recipe import make_recipe, TrainSettings
from zoe_ros.training.start import begin_with
from zoe_ros.training.trainer import train

CONFIG = made_up.depth_anything_config()
# Grids of tokens that are odd both ways, and the one of the table.
SIZES = [(70, 98), (42, 126), (56, 56)]


@pytest.fixture(scope='module')
def model():
    """Return the tiny model."""
    return made_up.tiny_depth_anything()


def test_sizes_of_the_stages():
    """At 392 x 518: shapes alone need no weights."""
    with torch.device('meta'):
        whole = ZoeDepth(VARIANTS['da-n']).eval()
        shared = whole.forward_features(torch.zeros(1, 3, 392, 518))
        depth = whole.predict_depth(shared, ['indoor'])[0]
    features = shared.features
    assert features.bottleneck.shape == (1, 256, 14, 19)
    assert [tuple(level.shape[1:]) for level in features.pyramid] == [
        (256, 28, 37), (256, 56, 74), (256, 112, 148), (256, 224, 296)]
    assert features.fine.shape == (1, 32, 392, 518)
    assert features.relative.shape == (1, 1, 392, 518)
    assert depth.shape == (1, 392, 518)
    # Without the token of masked patches and the first unit of the coarsest fusion block, which
    # no computation uses, and without the constants of the log-binomial.
    assert sum(p.numel() for p in whole.parameters()) == 335_793_794 - 1024 - 1_180_160


def test_variants():
    n, k = VARIANTS['da-n'], VARIANTS['da-k']
    assert n.image_size == k.image_size == (392, 518)
    assert n.backbone == k.backbone and n.backbone.size_multiple == 14
    assert [config.head_names for config in (n, k)] == [('indoor',), ('outdoor',)]
    assert not n.metric.bounded and not k.metric.bounded
    assert k.metric.heads[0].depth_range == (1e-3, 80.0)
    assert k.metric.heads[0].training_camera == VARIANTS['k'].metric.heads[0].training_camera


# Sizes of images: specification of the official code, with and without a border.

@pytest.mark.parametrize('image, padded_net, net', [
    ((480, 640), (392, 518), (392, 518)), ((240, 320), (392, 504), (392, 518)),
    ((512, 512), (518, 518), (518, 518)), ((720, 1280), (392, 672), (392, 700)),
    ((1080, 1920), (392, 672), (392, 700)), ((640, 480), (672, 518), (686, 518)),
    ((352, 1216), (392, 1246), (392, 1358)), ((128, 416), (182, 518), (154, 518))])
def test_sizes_when_the_aspect_is_kept(image, padded_net, net):
    for pad, expected in ((True, padded_net), (False, net)):
        assert plan_sizes(image, (392, 518), 'keep', pad, multiple=14).net == expected


def test_an_estimator_asks_the_encoder_for_the_multiple(model):
    estimator = DepthEstimator(model, aspect='keep')
    net, = estimator.infer([np.zeros((100, 90, 3), np.uint8)])
    assert net.plan.net == (112, 98)        # multiples of 32 would be 96 x 96
    assert estimator.predict(np.zeros((100, 90, 3), np.uint8)).depth.shape == (100, 90)


# Everything that runs ZoeDepth.

@pytest.mark.parametrize('size', SIZES)
def test_float32_is_that_of_the_plain_model(size):
    model, pixels = made_up.tiny_depth_anything(), pixels_of(size, 2)
    expected, _ = plain_depth(model, pixels)
    assert expected.shape == (2, *size)
    network = ModelRunner(model.pack(), 1.0)
    for _ in range(2):          # the second call finds the positions
        assert_close(network(pixels, choose_by(model, 2))[0], expected)
    assert_close(network(pixels[1:], choose_by(model))[0], expected[1:])


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('products', [False, True])
def test_half_precision_is_near_the_plain_model(dtype, products, monkeypatch):
    monkeypatch.setattr(kernels, '_prefers_products', lambda q: products)
    model, pixels = made_up.tiny_depth_anything(), pixels_of((70, 98), 2)
    expected, heads = plain_depth(model, pixels)
    model.set_precision(dtype)
    for name, tensor in model.state_dict().items():
        assert (tensor.dtype == dtype) == made_up.is_halved(name, dtype), name
    depth, _ = ModelRunner(model.pack(), 1.0)(pixels, lambda logits: heads)
    difference = (depth - expected).abs() / expected
    assert torch.isfinite(depth).all()
    assert 0 < difference.median() < 0.005


def test_positions_are_kept_between_frames_if_they_fit(model):
    one = (1 + 5 * 7) * 32 * 4
    biases, pixels = PositionBiases(model, 1.5 * one / 2 ** 30), pixels_of((70, 98))
    positions, = biases.get(pixels)
    assert biases.get(pixels)[0] is positions
    assert positions.shape == (1, 36, 32) and biases.size == one
    assert biases.get(pixels_of((140, 98))) == []
    with torch.inference_mode():
        for a, b in zip(model.encode(pixels, [positions]), model.encode(pixels)):
            assert torch.equal(a, b)
        for a, b in zip(model.encode(pixels, [positions + 1]), model.encode(pixels)):
            assert not torch.equal(a, b)


def test_tiles_of_rows_put_together_are_the_whole(model, monkeypatch):
    pixels = pixels_of((70, 98), 2)
    whole = ModelRunner(model, 1.0)(pixels, choose_by(model, 2), deviation=True)
    monkeypatch.setitem(tiling._NUMBERS, 'cpu', 16 * 98 * 3)
    for a, b in zip(ModelRunner(model, 1.0)(pixels, choose_by(model, 2), deviation=True), whole):
        assert_close(a, b, 1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not fused.DEFINED, reason='Triton comes with torch on Linux')
def test_fused_kernels_compute_the_same():
    model, pixels = made_up.tiny_depth_anything(), pixels_of((42, 70))
    expected, _ = plain_depth(model, pixels)
    assert fuse(model, probe=False) == '' and model.backbone.fused
    with torch.inference_mode():
        depth, _ = model.predict_depth(model.forward_features(pixels), ['indoor'])
    assert_close(depth, expected)


def test_zoe_run(zoe, model, tmp_path):
    save_model(model, tmp_path / 'own.safetensors')
    Image.fromarray(made_up.photo('n_coffee')).save(tmp_path / 'coffee.png')
    ran = zoe(tmp_path / 'coffee.png', '--variant', 'tiny-da', *PUBLISHED,
              weights=tmp_path / 'own.safetensors')
    assert ran.code == 0, ran.err
    depth, = ran.folder.rglob('*.depth.npy')
    expected = DepthEstimator(model).predict(made_up.photo('n_coffee')).depth
    found = np.load(depth)
    assert found.shape == expected.shape == (240, 320)
    assert np.nanmedian(np.abs(found - expected) / expected) < 1e-4


# Files.

@pytest.mark.parametrize('wrap', [
    lambda state: state,
    lambda state: {'model': state, 'optimizer': None, 'epoch': 4},
    lambda state: {'model': {f'module.{name}': t for name, t in state.items()}},
    lambda state: {'model': {**state, 'core.core.pretrained.mask_token': torch.zeros(1, 32)}}],
    ids=['plain', 'trainer', 'module', 'mask token'])
def test_official_file_in_all_its_forms(model, tmp_path, wrap):
    assert_equal_models(load_model(CONFIG, saved(wrap(state_of(model)), tmp_path)), model)


def test_own_file(model, tmp_path):
    save_model(model, tmp_path / 'own.safetensors')
    assert_equal_models(load_model(CONFIG, tmp_path / 'own.safetensors'), model)
    found = DepthEstimator.load(weights=tmp_path / 'own.safetensors', device='cpu')
    assert found.model.config == CONFIG and found.licence == ''


@pytest.mark.parametrize('name', [
    'core.core.pretrained.pos_embed', 'core.core.pretrained.norm.bias',
    'core.core.pretrained.blocks.2.ls1.gamma', 'core.core.depth_head.resize_layers.3.weight',
    'core.core.depth_head.scratch.output_conv2.0.bias', 'attractors.1._net.0.weight'])
def test_missing_tensor(model, tmp_path, name):
    state = state_of(model)
    del state[name]
    assert refusal(saved(state, tmp_path), replace(CONFIG, variant='da-n')) == (
        f'FILE does not fit DA-tiny; missing: {name}')


def test_the_sha256_tells_the_domain(model, tmp_path, monkeypatch):
    path = saved({'model': state_of(model)}, tmp_path)
    outdoor = replace(releases.RELEASES['da-k'], sha256=file_sha256(path))
    monkeypatch.setitem(releases.RELEASES, 'da-k', outdoor)
    assert refusal(path, replace(CONFIG, variant='da-n', title='Depth Anything N')) == (
        "FILE holds Depth Anything K, not Depth Anything N: ask for variant 'da-k' or give the "
        'weights of Depth Anything N')
    assert_equal_models(load_model(replace(CONFIG, variant='da-k'), path), model)
    monkeypatch.setitem(VARIANTS, 'da-k', replace(
        made_up.depth_anything_config('outdoor'), variant='da-k', title='Depth Anything K'))
    path = saved({'model': state_of(made_up.tiny_depth_anything('outdoor'))}, tmp_path)
    monkeypatch.setitem(releases.RELEASES, 'da-k', replace(
        outdoor, sha256=file_sha256(path)))
    found = DepthEstimator.load(weights=path, device='cpu')
    assert found.model.config.variant == 'da-k'
    assert found.licence.startswith('none stated with the file; its author names Apache-2.0')


def test_a_file_without_a_known_sha256_needs_a_variant(model, tmp_path):
    path = saved({'model': state_of(model)}, tmp_path)
    with pytest.raises(ValueError) as error:
        DepthEstimator.load(weights=path)
    assert str(error.value) == (
        f'{path} does not tell which model it holds: name the variant da-n or da-k')
    assert refusal(path, VARIANTS['n']) == (
        "FILE holds Depth Anything N or Depth Anything K, not ZoeD-M12-N: ask for variant 'da-n' "
        "or 'da-k' or give the weights of ZoeD-M12-N")


ADVICE = ', which has no metric bins: use the files depth_anything_metric_depth_*.pt of version 1'
RELATIVE = ('FILE holds a relative model of Depth Anything, or one of its version 2, which has no '
            'metric bins: use the file as initial weights of zoe train')


@pytest.mark.parametrize('names, words', [
    (('pretrained.cls_token', 'depth_head.projects.0.weight'), RELATIVE),
    (('backbone.encoder.layer.0.layer_scale1.lambda1', 'head.conv1.weight'),
     f'FILE holds Depth Anything in the layout of transformers{ADVICE}'),
    (('model.backbone.pretrained.cls_token', 'model.head.projects.0.weight'),
     f'FILE holds Depth Anything 3{ADVICE}'),
    (('model.da3.backbone.pretrained.cls_token', 'model.da3.head.projects.0.weight'),
     f'FILE holds Depth Anything 3{ADVICE}')])
def test_other_models_of_that_name(tmp_path, names, words):
    path = saved({name: torch.zeros(3) for name in names}, tmp_path)
    assert refusal(path, VARIANTS['da-n']) == words


# Training.

def test_the_relative_model_is_a_start(model, tmp_path):
    """It holds what the metric file holds under core.core, and nothing else."""
    state = {name.removeprefix('core.core.'): tensor for name, tensor in state_of(model).items()
             if name.startswith('core.core.')}
    path = saved(state, tmp_path, 'relative.pt')
    fresh = ZoeDepth(CONFIG)
    begin_with(fresh, str(path))
    for name, tensor in fresh.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]) == (
            not name.startswith('metric.') or not tensor.any()), name


def test_the_rates_are_the_published_ones():
    recipe = make_recipe('da-k', TrainSettings())
    assert (recipe.learning_rate, recipe.encoder_factor, recipe.decoder_factor) == (
        1.61e-4, 0.02, 0.02)


@pytest.mark.slow
@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_it_learns(model, tmp_path, monkeypatch, precision):
    """From a released file, by the command's settings; the result is evaluated and runs."""
    monkeypatch.setitem(VARIANTS, 'da-n', replace(CONFIG, variant='da-n'))
    start = saved({'model': state_of(model)}, tmp_path)
    path = train(settings(tmp_path / 'run', variant='da-n', start=str(start), steps=12, batch=2,
                          precision=precision), DATA[:1], DATA[:1])
    values = losses(tmp_path / 'run')
    assert np.mean(values[-4:]) < np.mean(values[:4])
    estimator = DepthEstimator.load(weights=path, device='cpu', precision='fp32')
    assert estimator.model.config.backbone == CONFIG.backbone
    old, new = model.state_dict(), estimator.model.state_dict()
    for name in ('backbone.positions', 'backbone.blocks.0.gamma_1', 'decoder.project.0.weight'):
        assert not torch.equal(old[name], new[name]), name
