"""The network as a whole: sizes, heads, precision, independence of images and threads."""
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, replace
import json

import made_up
import pytest
import torch

from zoe_ros.model.config import VARIANTS, ZoeConfig
from zoe_ros.model.zoedepth import ZoeDepth

# Specification section 3.7; what only the official files hold: BEiT's classifier with its norm,
# and the first unit of the coarsest fusion block.
COUNTS = {'n': (344_816_746, 478_145, 0), 'k': (344_820_487, 481_886, 0),
          'nk': (346_100_355, 1_761_754, 1_369_090)}
BEIT, REASSEMBLE, SCRATCH = 304_998_888, 22_815_232, 16_524_481
CLASSIFIER, FIRST_UNIT = 1_027_048, 1_180_160


def count(module):
    """Return the number of parameters."""
    return sum(p.numel() for p in module.parameters())


def pixels_of(*names, size=(64, 96)):
    """Return smooth made-up pixels (b, 3, H, W) in [-1, 1], one image for each name."""
    coarse = torch.stack([made_up.tensor_for(f'pixels {name}', (3, 5, 7)) for name in names])
    return torch.nn.functional.interpolate(coarse, size, mode='bicubic').clamp(-1, 1)


@pytest.fixture(scope='module')
def model():
    """Return the tiny model with two heads and a router."""
    return made_up.tiny_model()


@pytest.fixture(scope='module')
def bounded():
    """Return the tiny model with a single, bounded head."""
    return made_up.tiny_model(('outdoor',), bounded=True)


@pytest.fixture(scope='module')
def mixed(model):
    """Return pixels of several images and their heads by the router, which are not all one."""
    pixels = pixels_of(*'abcdefgh')
    with torch.inference_mode():
        heads = model.choose(model.forward_features(pixels).logits, len(pixels))
    assert set(heads) == {'indoor', 'outdoor'}
    return pixels, heads


def assert_near(a, b):
    """Compare depth that was summed in another order; see test_golden on conditioning."""
    assert a.shape == b.shape
    assert (a - b).norm() < 1e-4 * b.norm()


# Size.

@pytest.mark.parametrize('variant', COUNTS)
def test_number_of_parameters(variant):
    with torch.device('meta'):
        model = ZoeDepth(VARIANTS[variant])
    total, heads, router = COUNTS[variant]
    assert count(model) + CLASSIFIER + FIRST_UNIT == total
    assert count(model.backbone) + CLASSIFIER == BEIT + REASSEMBLE
    assert count(model.decoder) + FIRST_UNIT == SCRATCH
    ours = count(model.router) if model.router is not None else 0
    assert count(model.metric) + ours == heads
    assert ours == router


def test_sizes_of_the_stages():
    """Specification section 2, at 384 x 512: shapes alone need no weights."""
    with torch.device('meta'):
        model = ZoeDepth(VARIANTS['nk']).eval()
        shared = model.forward_features(torch.zeros(1, 3, 384, 512))
        depth = model.predict_depth(shared, ['outdoor'])[0]
    features = shared.features
    assert features.bottleneck.shape == (1, 256, 12, 16)
    assert [tuple(level.shape[1:]) for level in features.pyramid] == [
        (256, 24, 32), (256, 48, 64), (256, 96, 128), (256, 192, 256)]
    assert features.fine.shape == (1, 32, 384, 512)
    assert features.relative.shape == (1, 1, 384, 512)
    assert shared.logits.shape == (1, 2)
    assert depth.shape == (1, 384, 512)


@pytest.mark.parametrize('name', ['indoor', 'outdoor'])
def test_distribution_of_a_head(model, name):
    with torch.inference_mode():
        shared = model.forward_features(pixels_of('a'))
        bins = model.metric(name, shared.features, shared.embeddings)
        depth = model.predict_depth(shared, [name])[0]
    assert bins.centers.shape == bins.probabilities.shape == (1, 16, 64, 96)
    assert torch.allclose(bins.probabilities.sum(dim=1), torch.ones(1, 64, 96), atol=1e-5)
    assert (bins.probabilities >= 0).all()
    assert (bins.centers > 0).all()
    assert torch.allclose(bins.mean(), depth)
    assert (depth >= bins.centers.amin(dim=1) - 1e-4).all()
    assert (depth <= bins.centers.amax(dim=1) + 1e-4).all()


def test_bounded_bins_are_sorted_and_within_the_range(bounded):
    with torch.inference_mode():
        shared = bounded.forward_features(pixels_of('a', 'b'))
        bins = bounded.metric('outdoor', shared.features, shared.embeddings)
    assert (bins.centers.diff(dim=1) >= 0).all()
    assert bins.centers.min() >= 1e-3
    assert bins.centers.max() <= 80
    assert bins.centers.max() - bins.centers.min() > 20
    assert torch.allclose(bins.probabilities.sum(dim=1), torch.ones(2, 64, 96), atol=1e-5)


def outdoor(model, **changes):
    """Return a model of other ``changes`` to the configuration of its head, same weights."""
    head = replace(model.config.metric.heads[0], **changes)
    other = ZoeDepth(replace(model.config, metric=replace(model.config.metric, heads=(head,))))
    other.load_state_dict(model.state_dict())
    return other.eval()


def test_bounded_depth_is_linear_in_the_range(bounded):
    """Trap T1: the released K is trained for 80 m; built for 10 m it returns an eighth."""
    pixels = pixels_of('a', 'b')
    # In float64: two models of the same weights may already round differently in float32.
    long, short = (outdoor(bounded, depth_range=(1e-3, most)).double() for most in (80.0, 10.0))
    with torch.inference_mode():
        far, near = long(pixels), short(pixels)
    assert torch.allclose(
        (far - 1e-3) / (80 - 1e-3), (near - 1e-3) / (10 - 1e-3), rtol=0, atol=1e-12)
    assert (far / near).median() == pytest.approx(8, rel=1e-3)


def test_unbounded_depth_does_not_know_the_range():
    model = made_up.tiny_model(('outdoor',))
    pixels = pixels_of('a')
    with torch.inference_mode():
        assert torch.equal(outdoor(model, depth_range=(1.0, 2.0))(pixels), model(pixels))


def test_second_channel_of_bounded_attractors_has_no_effect(bounded):
    """Trap T4, which the weights of K depend on."""
    pixels = pixels_of('a')
    with torch.inference_mode():
        expected = bounded(pixels)
        for first, same in ((1, True), (0, False)):
            other = outdoor(bounded)
            for net in other.metric.heads['outdoor'].attractors:
                net[2].weight[first::2] += 1
                net[2].bias[first::2] -= 1
            assert torch.equal(other(pixels), expected) is same


@pytest.mark.parametrize('heads, matters', [(('indoor',), True), (('indoor', 'outdoor'), False)])
def test_relative_depth_reaches_the_heads_of_n_and_k_alone(heads, matters):
    """Trap T5."""
    model, pixels = made_up.tiny_model(heads), pixels_of('a')
    with torch.inference_mode():
        before = model(pixels)
        model.decoder.relative.conv3.bias += 5
        assert torch.equal(model(pixels), before) is not matters


# Independence.

def test_images_of_a_batch_do_not_know_of_each_other(model, mixed):
    pixels, _ = mixed
    with torch.inference_mode():
        together = model(pixels)
        for image, depth in zip(pixels, together):
            assert_near(depth, model(image[None])[0])


def test_each_image_gets_the_head_that_is_named(model):
    pixels, names = pixels_of(*'abcde'), ['outdoor', 'indoor', 'indoor', 'outdoor', 'indoor']
    with torch.inference_mode():
        shared = model.forward_features(pixels)
        depth = model.predict_depth(shared, names)[0]
        of = {name: model.predict_depth(shared, [name] * 5)[0] for name in ('indoor', 'outdoor')}
    for i, name in enumerate(names):
        other = 'outdoor' if name == 'indoor' else 'indoor'
        assert_near(depth[i], of[name][i])
        assert (depth[i] - of[other][i]).norm() > 0.1 * depth[i].norm()


def test_forward_is_trunk_choice_and_measure(model, mixed):
    pixels, heads = mixed
    with torch.inference_mode():
        shared = model.forward_features(pixels)
        assert torch.equal(model(pixels), model.predict_depth(shared, heads)[0])


def test_choice_without_a_router():
    model = made_up.tiny_model(('outdoor',))
    assert model.router is None
    assert model.forward_features(pixels_of('a')).logits is None
    assert model.choose(None, 3) == ['outdoor'] * 3


def test_eval_repeats_itself(model):
    pixels = pixels_of('a', 'b')
    with torch.inference_mode():
        assert torch.equal(model(pixels), model(pixels))


def test_threads_in_one_model(model):
    """The official code keeps features in a table of the module, so threads mix images (T13)."""
    inputs = [pixels_of(name, size=size) for name in 'abcd' for size in ((64, 96), (96, 64))]
    with torch.inference_mode():
        expected = [model(pixels) for pixels in inputs]

    @torch.inference_mode()
    def run(i):
        return model(inputs[i % len(inputs)])

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(run, range(4 * len(inputs))))
    for i, depth in enumerate(results):
        assert_near(depth, expected[i % len(inputs)])


def test_two_models_in_one_process():
    models, pixels = [made_up.tiny_model(seed=seed) for seed in (0, 1)], pixels_of('a')
    with torch.inference_mode():
        alone = [model(pixels) for model in models]
        assert (alone[0] - alone[1]).norm() > 0.1 * alone[0].norm()
        # One in the middle of the other.
        shared = [model.forward_features(pixels) for model in models]
        heads = [model.choose(one.logits, 1) for model, one in zip(models, shared)]
        nested = [model.predict_depth(*rest)[0] for model, *rest in zip(models, shared, heads)]
    with ThreadPoolExecutor(2) as pool:
        parallel = list(pool.map(torch.inference_mode()(lambda model: model(pixels)), models * 4))
    for i in range(2):
        assert torch.equal(nested[i], alone[i])
        for depth in parallel[i::2]:
            assert_near(depth, alone[i])


# Precision.

@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_leaves_the_heads_alone(dtype):
    model = made_up.tiny_model()
    exact = made_up.tiny_model()
    assert model.set_precision(dtype) is model
    for name, parameter in model.named_parameters():
        half = made_up.is_halved(name, dtype)
        assert parameter.dtype == (dtype if half else torch.float32), name
    pixels = pixels_of('a', 'b')
    with torch.inference_mode():
        shared, precise = model.forward_features(pixels), exact.forward_features(pixels)
        assert {shared.features.relative.dtype, shared.logits.dtype,
                shared.embeddings.bottleneck.dtype} == {torch.float32}
        fine = precise.features.fine
        assert 0 < (shared.features.fine - fine).norm() < 0.05 * fine.norm()
        depth = model.predict_depth(shared, ['indoor', 'outdoor'])[0]
        expected = exact.predict_depth(precise, ['indoor', 'outdoor'])[0]
    assert depth.dtype == torch.float32
    assert torch.isfinite(depth).all()
    assert (depth - expected).abs().median() < 0.05 * expected.median()


def test_full_precision_comes_back():
    model, pixels = made_up.tiny_model(), pixels_of('a')
    expected = model.set_precision(torch.float32)(pixels)
    model.set_precision(torch.bfloat16).set_precision(torch.float32)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    depth = model(pixels)
    assert (depth - expected).abs().median() < 0.05 * expected.median()


# Descriptions.

@pytest.mark.parametrize('config', [*VARIANTS.values(), made_up.tiny_config(),
                                    made_up.tiny_config(('outdoor',), bounded=True)],
                         ids=lambda config: config.title)
def test_description_comes_back(config):
    assert ZoeConfig.from_dict(config.as_dict()) == config
    again = ZoeConfig.from_dict(json.loads(json.dumps(config.as_dict())))
    assert again == config
    assert hash(again) == hash(config)


def test_description_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        VARIANTS['n'].variant = 'm'


@pytest.mark.parametrize('spoil', [
    lambda values: values.clear(),
    lambda values: values.pop('title'),
    lambda values: values.pop('metric'),
    lambda values: values.pop('backbone'),
    lambda values: values.update(colour='red'),
    lambda values: values.update(metric=None),
    lambda values: values.update(backbone=[1, 2]),
    lambda values: values['metric'].update(heads=None),
    lambda values: values['metric'].update(heads=['indoor']),
    lambda values: values['metric'].update(bin=64),
    lambda values: values['router'].update(depth=3)])
def test_description_that_is_none(spoil):
    values = json.loads(json.dumps(VARIANTS['nk'].as_dict()))
    spoil(values)
    with pytest.raises(ValueError, match=r'^not a model description: '):
        ZoeConfig.from_dict(values)


def test_released_variants():
    """Specification sections 1.1 and 3.7, traps T1, T3 and T5."""
    n, k, nk = VARIANTS['n'], VARIANTS['k'], VARIANTS['nk']
    assert [config.image_size for config in (n, k, nk)] == [(384, 512), (384, 768), (384, 512)]
    assert [config.head_names for config in (n, k, nk)] == [
        ('indoor',), ('outdoor',), ('indoor', 'outdoor')]
    assert k.metric.heads[0].depth_range == (1e-3, 80.0)
    assert [config.metric.bounded for config in (n, k, nk)] == [False, True, False]
    assert [config.metric.relative_input for config in (n, k, nk)] == [True, True, False]
    assert n.metric.heads[0].attractors == k.metric.heads[0].attractors == (16, 8, 4, 1)
    assert {head.attractors for head in nk.metric.heads} == {(16, 16, 16, 16)}
