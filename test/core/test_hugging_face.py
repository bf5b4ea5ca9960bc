"""
Stage by stage against the other implementation, transformers' ZoeDepth, at a tiny size.

The weights go the users' way: transformers writes a model.safetensors, ours loads that very file.
"""
import re

import made_up
import pytest
from safetensors.torch import load_file, save_file
import torch

from zoe_ros.model.config import (
    BackboneConfig,
    DecoderConfig,
    HeadConfig,
    MetricConfig,
    RouterConfig,
    ZoeConfig,
)
from zoe_ros.model.weights import load_model, WeightsError

pytestmark = pytest.mark.slow

transformers = pytest.importorskip('transformers')

SIZES = [(64, 64), (96, 160)]       # the grid of the position tables, and another
# transformers fixes in its code: NK's 16 attractors (T3), widths of the heads, the router's 128.
ATTRACTORS = {'n': (4, 3, 2, 1), 'k': (4, 3, 2, 1), 'nk': (16, 16, 16, 16)}
BINS, EMBEDDING, FEATURES, FINE = 16, 24, 32, 8
RANGES = {'nyu': (1e-3, 10.0), 'kitti': (1e-3, 80.0)}
DOMAINS = {'n': ['nyu'], 'k': ['kitti'], 'nk': ['nyu', 'kitti']}
HEADS = {'nyu': 'indoor', 'kitti': 'outdoor'}


def our_config(variant):
    """Describe the tiny model in our words."""
    nk = variant == 'nk'
    return ZoeConfig(
        variant, f'tiny {variant}', (64, 64),
        MetricConfig(
            heads=tuple(HeadConfig(HEADS[domain], ATTRACTORS[variant], RANGES[domain])
                        for domain in DOMAINS[variant]),
            bounded=variant == 'k', relative_input=not nk,
            seed_hidden=EMBEDDING // 2 if nk else 256,
            embedding_hidden=EMBEDDING // 2 if nk else 128,
            bottleneck_factor=4 if nk else 2, bins=BINS, embedding_dim=EMBEDDING),
        BackboneConfig(embed_dim=32, depth=5, heads=2, table_grid=4, taps=(0, 1, 3, 4),
                       channels=(16, 24, 32, 40)),
        DecoderConfig(features=FEATURES, relative_channels=FINE),
        RouterConfig(feedforward=64) if nk else None)


def their_model(variant):
    """Build the same in transformers, with made-up weights."""
    backbone = transformers.BeitConfig(
        hidden_size=32, num_hidden_layers=5, num_attention_heads=2, intermediate_size=128,
        image_size=64, patch_size=16, use_relative_position_bias=True,
        reshape_hidden_states=False, out_features=['stage1', 'stage2', 'stage4', 'stage5'],
        # Their default is 1e-12; the weights were trained with 1e-6.
        layer_norm_eps=1e-6)
    model = transformers.ZoeDepthForDepthEstimation(transformers.ZoeDepthConfig(
        backbone_config=backbone, neck_hidden_sizes=[16, 24, 32, 40],
        fusion_hidden_size=FEATURES, bottleneck_features=FEATURES, num_relative_features=FINE,
        num_attractors=list(ATTRACTORS[variant]), bin_embedding_dim=EMBEDDING,
        bin_centers_type='normed' if variant == 'k' else 'softplus',
        bin_configurations=[
            {'name': name, 'n_bins': BINS, 'min_depth': RANGES[name][0],
             'max_depth': RANGES[name][1]} for name in DOMAINS[variant]],
        num_patch_transformer_layers=4, patch_transformer_hidden_size=128,
        patch_transformer_intermediate_size=64, patch_transformer_num_attention_heads=4))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(made_up.tensor_for(name, parameter.shape))
    return model.eval()


class Pair:
    """Their model, the file it wrote, and our model from that file."""

    def __init__(self, variant, folder):
        self.variant = variant
        self.theirs = their_model(variant)
        self.theirs.save_pretrained(folder)
        self.file = folder / 'model.safetensors'
        self.ours = load_model(our_config(variant), self.file)


@pytest.fixture(scope='module', params=DOMAINS)
def pair(request, tmp_path_factory):
    """Return a :class:`Pair` of each variant."""
    return Pair(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope='module')
def nk(tmp_path_factory):
    """Return the :class:`Pair` of NK; tests may change its weights and have to restore them."""
    return Pair('nk', tmp_path_factory.mktemp('routing'))


def pixels_of(size, count=1):
    """Return smooth made-up pixels (count, 3, H, W) in [-1, 1]."""
    coarse = made_up.tensor_for(f'pixels{size}', (count, 3, 7, 9))
    return torch.nn.functional.interpolate(coarse, size, mode='bicubic').clamp(-1, 1)


def assert_same(ours, theirs, tolerance=1e-5):
    """Compare relative to the largest value, which must not be nothing."""
    scale = theirs.abs().max()
    assert ours.shape == theirs.shape
    assert scale > 1e-3
    assert theirs.std() > 0.01 * scale
    assert (ours - theirs).abs().max() < tolerance * scale


@pytest.fixture(scope='module', params=SIZES, ids=str)
@torch.inference_mode()
def stages(request, pair):
    """Return (ours, theirs): the output of every stage by name."""
    pixels = pixels_of(request.param)
    grid = [side // 16 for side in request.param]
    shared = pair.ours.forward_features(pixels)
    head = pair.ours.choose(shared.logits, 1)
    ours = {
        'backbone': pair.ours.backbone(pixels), 'bottleneck': shared.features.bottleneck,
        'pyramid': shared.features.pyramid, 'fine': shared.features.fine,
        'relative': shared.features.relative[:, 0], 'logits': shared.logits,
        'depth': pair.ours.predict_depth(shared, head)[0]}

    tokens = pair.theirs.backbone(pixels).feature_maps
    pyramid, bottleneck = pair.theirs.neck(tokens, *grid)
    relative, fine = pair.theirs.relative_head(pyramid)
    whole = pair.theirs(pixel_values=pixels)
    theirs = {
        'backbone': pair.theirs.neck.reassemble_stage(tokens, *grid), 'bottleneck': bottleneck,
        'pyramid': pyramid, 'fine': fine, 'relative': relative, 'logits': whole.domain_logits,
        'depth': whole.predicted_depth}
    return ours, theirs


@pytest.mark.parametrize('level', range(4))
def test_backbone(stages, level):
    ours, theirs = stages
    assert_same(ours['backbone'][level], theirs['backbone'][level])


@pytest.mark.parametrize('level', range(4))
def test_decoder_pyramid(stages, level):
    ours, theirs = stages
    assert_same(ours['pyramid'][level], theirs['pyramid'][level])


@pytest.mark.parametrize('stage', ['bottleneck', 'fine', 'relative'])
def test_decoder(stages, stage):
    ours, theirs = stages
    assert_same(ours[stage], theirs[stage])


def test_router(stages):
    ours, theirs = (outputs['logits'] for outputs in stages)
    if theirs is None:
        assert ours is None
    else:
        assert_same(ours, theirs)


def test_depth(stages):
    ours, theirs = stages
    assert_same(ours['depth'], theirs['depth'], tolerance=1e-4)


@pytest.mark.parametrize('head', ['indoor', 'outdoor'])
def test_each_head_of_nk(nk, head):
    """The router chooses one of the heads only; a bias on its logits brings out the other."""
    pixels = pixels_of((64, 96))
    bias = nk.theirs.metric_head.mlp_classifier.linear2.bias
    kept = bias.clone()
    with torch.inference_mode():
        bias.copy_(torch.tensor([99.0, 0.0] if head == 'indoor' else [0.0, 99.0]))
        theirs = nk.theirs(pixel_values=pixels).predicted_depth
        bias.copy_(kept)
        ours = nk.ours.predict_depth(nk.ours.forward_features(pixels), [head])[0]
        assert_same(ours, theirs, tolerance=1e-4)


def test_images_of_a_batch_are_routed_one_by_one(nk):
    """Theirs, like the official code, sends both to the head of the sum of their logits (T6)."""
    pixels = pixels_of((64, 96), count=2)
    with torch.inference_mode():
        # Put the decision between the two images, wherever the weights had it; nearer to the
        # second, so that the sum goes with the first.
        preference = nk.ours.forward_features(pixels).logits.diff(dim=1)[:, 0]
        shift = 0.3 * preference[0] + 0.7 * preference[1]
        for bias in (nk.theirs.metric_head.mlp_classifier.linear2.bias,
                     nk.ours.router.classifier[2].bias):
            bias[0] += shift
        assert len(set(nk.ours.choose(nk.ours.forward_features(pixels).logits, 2))) == 2
        ours = nk.ours(pixels)
        theirs = nk.theirs(pixel_values=pixels).predicted_depth
        alone = [nk.theirs(pixel_values=image[None]).predicted_depth[0] for image in pixels]
        for bias in (nk.theirs.metric_head.mlp_classifier.linear2.bias,
                     nk.ours.router.classifier[2].bias):
            bias[0] -= shift

    assert_same(ours[0], alone[0], tolerance=1e-4)
    assert_same(ours[1], alone[1], tolerance=1e-4)
    assert_same(theirs[0], alone[0], tolerance=1e-4)
    assert (theirs[1] - alone[1]).abs().max() > 0.01


def changed(pair, folder, change):
    """Write the file of ``pair`` again after ``change`` of its tensors; return the path."""
    tensors = load_file(pair.file)
    change(tensors)
    path = folder / 'changed.safetensors'
    save_file(tensors, path)
    return path


MISSING = {
    'n': 'metric_head.attractors.2.conv1.weight',
    'k': 'backbone.encoder.layer.1.attention.attention.key.weight',
    'nk': 'metric_head.patch_transformer.transformer_encoder.3.self_attn.value.bias'}


def test_missing_tensor_is_named(pair, tmp_path):
    name = MISSING[pair.variant]
    path = changed(pair, tmp_path, lambda tensors: tensors.pop(name))
    with pytest.raises(WeightsError) as error:
        load_model(our_config(pair.variant), path)
    assert str(error.value) == f'{path} does not fit tiny {pair.variant}; missing: {name}'


@pytest.mark.parametrize('name, shape', [
    ('neck.convs.0.weight', (FEATURES, 16, 3, 1)),
    ('backbone.encoder.layer.1.attention.attention.query.bias', (33,)),
    ('metric_head.conv2.bias', (1,))])
def test_tensor_of_another_shape_is_named(pair, tmp_path, name, shape):
    right = tuple(load_file(pair.file)[name].shape)
    path = changed(pair, tmp_path, lambda tensors: tensors.update({name: torch.zeros(shape)}))
    with pytest.raises(WeightsError) as error:
        load_model(our_config(pair.variant), path)
    assert str(error.value) == (f'{path} does not fit tiny {pair.variant}; '
                                f'of another shape: {name} is {shape}, not {right}')


@pytest.mark.parametrize('shapes', [
    {'value': (32, 31)}, {'query': (32,)}, {'key': ()}, {'query': (31, 32), 'key': (33, 32)}],
    ids=str)
def test_one_of_three_joined_tensors_of_another_shape(pair, tmp_path, shapes):
    """Also where the three make up for each other."""
    wrong = {f'backbone.encoder.layer.0.attention.attention.{part}.weight': torch.zeros(shape)
             for part, shape in shapes.items()}
    path = changed(pair, tmp_path, lambda tensors: tensors.update(wrong))
    with pytest.raises(WeightsError, match='of another shape: .*' + re.escape(min(wrong))):
        load_model(our_config(pair.variant), path)


def test_unknown_tensor_is_named(pair, tmp_path):
    path = changed(pair, tmp_path, lambda tensors: tensors.update({'neck.more': torch.ones(2)}))
    with pytest.raises(WeightsError, match=r'; unknown: neck\.more$'):
        load_model(our_config(pair.variant), path)


def test_the_unit_that_nothing_computes_may_be_missing_or_there(pair, tmp_path):
    unused = [name for name in load_file(pair.file)
              if name.startswith('neck.fusion_stage.layers.0.residual_layer1.')]
    assert unused

    def drop(tensors):
        for name in unused:
            del tensors[name]

    again = load_model(our_config(pair.variant), changed(pair, tmp_path, drop))
    pixels = pixels_of((64, 96))
    with torch.inference_mode():
        assert torch.equal(again(pixels), pair.ours(pixels))
