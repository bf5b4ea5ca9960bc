"""The DINOv2 encoder against timm, and its positions against the official rule by hand."""
from dataclasses import replace
import math

import made_up
import numpy as np
from plain import pixels_of
import pytest
from timm.models.vision_transformer import VisionTransformer
import torch

from zoe_ros.model.config import BackboneConfig
from zoe_ros.model.dino import DinoBackbone, resampled_positions

CONFIG = made_up.depth_anything_config().backbone


def timm_pair():
    """Return an encoder of ours and timm's, with the same made-up weights, at a grid of 4 x 4."""
    config = replace(CONFIG, channels=(32, 32, 32, 32))
    ours = made_up.fill(DinoBackbone(config))
    theirs = VisionTransformer(
        img_size=56, patch_size=14, embed_dim=32, depth=5, num_heads=2, init_values=1.0,
        num_classes=0).eval()
    names = {'pos_embed': 'positions', 'patch_embed.proj.weight': 'patch_embed.weight',
             'patch_embed.proj.bias': 'patch_embed.bias'}
    state = ours.state_dict()
    theirs.load_state_dict({
        name: state[names.get(name, name.replace('ls1.gamma', 'gamma_1').replace(
            'ls2.gamma', 'gamma_2'))] for name in theirs.state_dict()})
    return ours, theirs


def test_an_encoder_computes_as_that_of_timm():
    """The taps are normed, without the class token, from pixels standardised over ImageNet."""
    ours, theirs = timm_pair()
    found = []
    for level in ours.reassemble:
        level.register_forward_pre_hook(lambda _, given: found.append(given[0][:, 1:]))
    pixels = pixels_of((56, 56), 2)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    with torch.inference_mode():
        ours(pixels)
        expected = theirs.get_intermediate_layers(
            ((pixels + 1) / 2 - mean) / deviation, n=4, norm=True)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def cubic(x):
    """Return the weight of Keys' kernel with a = -0.75 at a distance."""
    x, a = abs(x), -0.75
    if x <= 1:
        return (a + 2) * x ** 3 - (a + 3) * x ** 2 + 1
    return a * x ** 3 - 5 * a * x ** 2 + 8 * a * x - 4 * a if x < 2 else 0.0


def resampling(count, side):
    """Return the (count, side) matrix of the official rule for one axis."""
    matrix = np.zeros((count, side))
    for i in range(count):
        at = (i + 0.5) * side / (count + 0.1) - 0.5
        for j in range(math.floor(at) - 1, math.floor(at) + 3):
            matrix[i, min(max(j, 0), side - 1)] += cubic(at - j)
    return matrix


@pytest.mark.parametrize('grid', [(3, 5), (4, 7), (6, 4), (1, 9)])
def test_positions_follow_the_official_rule(grid):
    table = made_up.tensor_for('positions', (1, 1 + 4 * 4, 6))
    found = resampled_positions(table, 4, grid)[0].numpy()
    square = table[0, 1:].reshape(4, 4, 6).numpy()
    expected = np.einsum('iy,jx,yxc->ijc', *(resampling(side, 4) for side in grid), square)
    np.testing.assert_allclose(found[1:], expected.reshape(-1, 6), atol=1e-5)
    np.testing.assert_array_equal(found[0], table[0, 0].numpy())


def test_positions_at_the_size_of_the_table_are_the_table():
    table = made_up.tensor_for('positions', (1, 17, 6))
    assert torch.equal(resampled_positions(table, 4, (4, 4)), table)


@pytest.mark.parametrize('side', [11, 28, 37, 97, 399])
def test_every_grid_gets_as_many_positions_as_tokens(side):
    table = torch.zeros(1, 1 + 37 * 37, 1)
    assert resampled_positions(table, 37, (side, 2)).shape == (1, 1 + side * 2, 1)


def test_an_encoder_of_another_kind():
    with pytest.raises(ValueError, match="kind of an encoder is 'dinov3', not one of beit, "):
        BackboneConfig(kind='dinov3')
