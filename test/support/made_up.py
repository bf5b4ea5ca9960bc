"""
Made-up weights: deterministic, well spread, the same on every machine.

The rule is the one behind the golden files (test/golden): each tensor depends on its name only
(normal numbers of MT19937, seeded by the CRC-32 of the name), scaled by its place in the network
so that features and depth stay well spread through all layers.
"""
import functools
import json
from math import prod
from pathlib import Path
import re
import zlib

import numpy as np
import torch

from zoe_ros.model.config import (
    BackboneConfig,
    DecoderConfig,
    HeadConfig,
    MetricConfig,
    RouterConfig,
    ZoeConfig,
)
from zoe_ros.model.weights import save_model
from zoe_ros.model.zoedepth import ZoeDepth

GOLDEN = Path(__file__).resolve().parents[1] / 'golden'
PHOTOS = {'nk_astronaut': 'nk', 'nk_camera': 'nk', 'n_coffee': 'n', 'k_rocket': 'k'}
# Golden files of Depth Anything: variant, and the golden file that holds their picture.
DEPTH_ANYTHING = {'da-n_coffee': ('da-n', 'n_coffee'), 'da-n_astronaut': ('da-n', 'nk_astronaut'),
                  'da-k_rocket': ('da-k', 'k_rocket'), 'da-k_camera': ('da-k', 'nk_camera')}

DEPTH_RANGES = {'indoor': (1e-3, 10.0), 'outdoor': (1e-3, 80.0)}
# fx, fy, cx, cy in widths and heights. They differ, so that a test sees which head's was taken.
TRAINING_CAMERAS = {'indoor': (0.8, 1.1, 0.51, 0.53), 'outdoor': (0.6, 2.0, 0.49, 0.43)}
# (centre, spread) of vectors and free parameters by the last part of their name; matrices and
# kernels get He's spread times GAIN instead.
GAIN = 1.4
SPREADS = {
    'cls_token': (0.0, 0.1), 'weight': (1.0, 0.05),
    'relative_position_bias_table': (0.0, 0.3), 'pos_embed': (0.0, 0.3), 'positions': (0.0, 0.3)}
VECTOR = (0.0, 0.05)
LAYER_SCALES = ('gamma', 'gamma_1', 'gamma_2', 'lambda_1', 'lambda_2')
# Added to the first logit of a router, which otherwise sends all photos to one head.
ROUTER_BIAS = {'mlp_classifier.2.bias': 3.8, 'router.classifier.2.bias': -3.0}
# Depth Anything: factors that keep its features near 1 and its outputs well conditioned; a shift
# that keeps the relative depth above its ReLU; and a factor on the bins of the outdoor model.
DECODER_SCALES = {'conv2.weight': 0.3, 'refinenet1.out_conv.weight': 0.1}
RELATIVE_SHIFT = ('depth_head.scratch.output_conv2.2.weight', 0.8)
OUTDOOR_BINS = re.compile(r'(seed_bin_regressor|attractors\.\d)\._net\.2\.'), 8


def normal(name, shape):
    """Return float32 normal numbers that depend on ``name`` alone; NumPy froze this stream."""
    stream = np.random.RandomState(zlib.crc32(name.encode()))
    return stream.standard_normal(prod(shape)).astype(np.float32).reshape(shape)


def tensor_for(name, shape, salt=''):
    """Return the made-up tensor of a parameter or buffer, by its official name or by ours."""
    shape = tuple(shape)
    leaf = name.rpartition('.')[2]
    if leaf == 'relative_position_index':
        return token_pairs()
    if leaf == 'k_idx':
        return torch.arange(shape[1]).reshape(shape)
    if leaf == 'K_minus_1':
        return torch.full(shape, 63.0)
    if name.startswith('backbone.position_tables.'):
        leaf = 'relative_position_bias_table'
    values = normal(salt + name, shape)
    if len(shape) > 1 and (leaf == 'weight' or leaf not in SPREADS):
        # Only the two transposed convolutions have kernels of 4 or 2; their inputs come first.
        inputs = shape[0] if shape[2:] in ((4, 4), (2, 2)) else prod(shape[1:])
        values = values * np.float32(GAIN / np.sqrt(inputs))
        if name.endswith(RELATIVE_SHIFT[0]):
            values = values + np.float32(RELATIVE_SHIFT[1] / np.sqrt(inputs))
        if '.depth_head.' in name:
            values = values * np.float32(next(
                (scale for end, scale in DECODER_SCALES.items() if name.endswith(end)), 1))
    elif leaf in LAYER_SCALES:
        values = 0.1 * (1 + 0.2 * values)       # in this order: the golden files know each bit
    else:
        centre, spread = SPREADS.get(leaf, VECTOR)
        values = centre + spread * values
    if name in ROUTER_BIAS:
        values[0] += ROUTER_BIAS[name]
    return torch.from_numpy(values)


@functools.cache
def token_pairs(side=24):
    """Return the index buffer that files of older timm hold: pairs of tokens to table rows."""
    y, x = np.indices((side, side)).reshape(2, -1)
    width = 2 * side - 1
    rows = width ** 2 + 3
    index = np.full((side * side + 1,) * 2, rows - 1, np.int64)
    index[0, 1:] = rows - 3
    index[1:, 0] = rows - 2
    index[1:, 1:] = (np.subtract.outer(y, y) + side - 1) * width + np.subtract.outer(x, x)
    index[1:, 1:] += side - 1
    return torch.from_numpy(index)


def layout_of(variant):
    """Return the names and shapes of the tensors in a released file."""
    # Both files of Depth Anything have the same.
    file = GOLDEN / f'state_dict_{"da" if variant.startswith("da-") else variant}.json'
    return {name: tuple(shape) for name, (shape, _) in json.loads(file.read_text()).items()}


def golden_fields(name):
    """Return the fields of a golden file, the picture as 'image'."""
    with np.load(GOLDEN / f'{name}.npz') as file:
        fields = dict(file)
    if name in DEPTH_ANYTHING:
        fields['image'] = photo(DEPTH_ANYTHING[name][1])
    return fields


def write_official(variant, path):
    """Write a full-size checkpoint in the layout of the released .pt files (1.4 GB)."""
    salt = 'outdoor-' if variant == 'da-k' else ''
    state = {name: tensor_for(name, shape, salt) for name, shape in layout_of(variant).items()}
    for name in state:
        if variant == 'da-k' and OUTDOOR_BINS[0].match(name):
            state[name] *= OUTDOOR_BINS[1]
    torch.save({'model': state, 'optimizer': None, 'epoch': 0}, path)


def photo(name):
    """Return the image of a golden file, (h, w, 3) uint8 RGB."""
    with np.load(GOLDEN / f'{name}.npz') as golden:
        return golden['image']


def depth_anything_config(head='indoor'):
    """Describe a Depth Anything of the released structure and the smallest useful size."""
    return ZoeConfig(
        variant='tiny-da', title='DA-tiny', image_size=(70, 98),
        backbone=BackboneConfig(embed_dim=32, depth=5, heads=2, patch=14, table_grid=4,
                                taps=(1, 2, 3, 4), channels=(16, 24, 32, 32), kind='dinov2'),
        decoder=DecoderConfig(features=32, relative_channels=16),
        metric=MetricConfig(
            heads=(HeadConfig(head, (4, 4, 2, 1), DEPTH_RANGES[head], TRAINING_CAMERAS[head]),),
            seed_hidden=16, embedding_hidden=16, embedding_dim=16, bins=16))


def tiny_config(heads=('indoor', 'outdoor'), bounded=False, image_size=(64, 96)):
    """Describe a ZoeDepth of the released structure and the smallest useful size."""
    return ZoeConfig(
        variant='tiny', title='ZoeD-tiny', image_size=image_size,
        backbone=BackboneConfig(embed_dim=32, depth=4, heads=2, table_grid=4, taps=(0, 1, 2, 3),
                                channels=(16, 24, 32, 32)),
        decoder=DecoderConfig(features=32, relative_channels=16),
        metric=MetricConfig(
            heads=tuple(HeadConfig(name, (4, 4, 2, 1), DEPTH_RANGES[name], TRAINING_CAMERAS[name])
                        for name in heads),
            bounded=bounded, relative_input=len(heads) == 1, seed_hidden=16,
            embedding_hidden=16, embedding_dim=16, bins=16),
        router=RouterConfig(dim=16, layers=1, heads=2, feedforward=32) if len(heads) > 1 else None)


def fill(model, salt=''):
    """Give a model of ours its made-up weights, in place; return it ready for inference."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            tensor.copy_(tensor_for(name, tensor.shape, salt))
    return model.requires_grad_(False).eval()


def is_halved(name, dtype):
    """Tell whether a parameter of ours is kept in half precision ``dtype``."""
    if name.startswith('decoder.relative.conv'):
        return dtype == torch.bfloat16 and not name.startswith('decoder.relative.conv3')
    if re.search(r'\.blocks\.\d+\.(norm\d|gamma_)|^backbone\.(positions|norm\.)', name):
        return False
    return name.startswith(('backbone.', 'decoder.project.', 'decoder.fusion.'))


def tiny_model(heads=('indoor', 'outdoor'), seed=0, **choices):
    """Return a small model that is real in every part; see :func:`tiny_config`."""
    return fill(ZoeDepth(tiny_config(heads, **choices)), f'{seed}:')


def tiny_depth_anything(head='indoor'):
    """Return a small Depth Anything; see :func:`depth_anything_config`."""
    return fill(ZoeDepth(depth_anything_config(head)), 'da:')


def write_tiny(path, **choices):
    """Write the tiny model as a file of our own; return the path."""
    save_model(tiny_model(**choices), path)
    return path
