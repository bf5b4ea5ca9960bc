"""The losses against cases computed by hand, and what must not change them."""
import math

import pytest
import torch

from zoe_ros.training.losses import imitation_loss, relative_loss, routing_loss, scale_loss, silog


@pytest.fixture
def depth():
    """Return (2, 16, 24) depths [m] with a step and a slope, some without a value."""
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(24.0), indexing='ij')
    depth = torch.stack([2 + 0.1 * x, 3 + 0.2 * y + 4 * (x > 11)])
    depth[0, :2] = torch.nan
    return depth


def disparity(depth):
    return torch.nan_to_num(depth, nan=1.0).reciprocal()


def test_silog_by_hand():
    # g = ln 2, 0, -ln 2: variance 2 / 3 ln 2 ^ 2, mean 0.
    value = silog([torch.tensor([2.0, 2.0, 2.0])], [torch.tensor([1.0, 2.0, 4.0])])
    assert value.item() == pytest.approx(10 * math.sqrt(2 / 3) * math.log(2), rel=1e-5)
    # A wrong scale alone: variance 0, mean ln 3.
    value = silog([torch.tensor([3.0, 6.0, 9.0])], [torch.tensor([1.0, 2.0, 3.0])])
    assert value.item() == pytest.approx(10 * math.sqrt(0.15) * math.log(3), rel=1e-4)


def test_a_sparse_image_counts_as_much_as_a_dense_one():
    # g = ln 2 in one pixel of one image, -ln 2 in all nine of the other: the mean is 0.
    targets = [torch.ones(1), torch.ones(9)]
    value = silog([2 * targets[0], targets[1] / 2], targets)
    assert value.item() == pytest.approx(10 * math.log(2), rel=1e-5)


def test_imitation_by_hand():
    # A wrong scale alone: the absolute error is ln 2, and there are no edges.
    target = torch.full((8, 8), 3.0)
    target[0] = torch.nan
    parts = imitation_loss([2 * target.nan_to_num(1.0)], [target])
    assert parts['absolute'].item() == pytest.approx(math.log(2), rel=1e-5)
    assert parts['silog'].item() == pytest.approx(10 * math.sqrt(0.15) * math.log(2), rel=1e-4)
    assert parts['edges'].item() == pytest.approx(0.0, abs=1e-6)
    assert parts['loss'].item() == pytest.approx(
        5 * math.log(2) + 10 * math.sqrt(0.15) * math.log(2), rel=1e-4)
    # One row of 40 is twice as far: 8 of 320 pixels, of which the worst 32 are left out.
    depth = torch.full((40, 8), 3.0)
    depth[20] *= 2
    assert imitation_loss([depth], [torch.full((40, 8), 3.0)])['loss'].item() < 0.01
    # A step between the halves: 8 pairs of pixels, at each of four scales, over the pixels left.
    target = torch.full((40, 8), 3.0)
    depth = target.clone()
    depth[20:] *= 2
    edges = imitation_loss([depth], [target])['edges'].item()
    assert edges > 3 * 8 * math.log(2) / 320


def test_the_worst_tenth_of_an_image_teaches_nothing():
    generator = torch.Generator().manual_seed(0)
    target = 1 + torch.rand(2, 10, 10, generator=generator)
    depth = (target * 1.1).requires_grad_()
    wrong = torch.zeros(10, 10, dtype=torch.bool)
    wrong[3] = True
    spoilt = torch.stack([torch.where(wrong, 50 * depth[0], depth[0]), depth[1]])
    parts = imitation_loss(list(spoilt), list(target))
    assert parts['absolute'].item() == pytest.approx(math.log(1.1), rel=1e-3)
    parts['loss'].backward()
    assert not depth.grad[0][wrong].any() and depth.grad[0][~wrong].all()
    # The mean over images, not over pixels: pixels without a label do not count.
    target[1, 1:] = torch.nan
    halved = imitation_loss([target[0], 2 * target[1].nan_to_num(1.0)], list(target))
    assert halved['absolute'].item() == pytest.approx(math.log(2) / 2, rel=1e-4)


def test_silog_is_in_float32_whatever_comes():
    narrow = torch.tensor([2.0, 2.0, 2.1], dtype=torch.bfloat16)
    assert silog([narrow], [torch.tensor([1.0, 2.0, 4.0])]).dtype == torch.float32


def test_scale_loss_by_hand():
    depth = torch.ones(2, 2, 2)
    depth[1, 0, 0] = torch.nan
    # Medians 1 and 3, mean deviations 1 and 10: the pixel without a value does not count.
    relative = torch.tensor([[[1.0, 3.0], [1.0, 3.0]], [[1e6, 3.0], [18.0, -12.0]]])
    assert scale_loss(relative[1:], depth[1:]).item() == pytest.approx(math.log(10) ** 2, rel=1e-5)
    assert scale_loss(relative[:1] * math.e, depth[:1]).item() == pytest.approx(1.0, rel=1e-5)
    assert scale_loss(relative[:1] + 5, depth[:1]).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize('scale, shift', [(1, 0), (7, 0), (0.01, 0), (1, 3), (20, -2)])
def test_relative_loss_does_not_know_scale_and_shift(depth, scale, shift):
    assert relative_loss(scale * disparity(depth) + shift, depth).item() < 1e-4


def test_relative_loss_knows_order(depth):
    right = relative_loss(disparity(depth), depth).item()
    turned = relative_loss(-disparity(depth), depth).item()
    assert turned > right + 0.5


def test_relative_loss_forgives_outliers_but_not_their_edges(depth):
    """A tenth of wrong pixels is trimmed from the data term; the gradient term sees them."""
    wrong = disparity(depth).clone()
    wrong[1, :2, :12] += 5.0
    smooth = relative_loss(wrong, depth).item()
    scattered = disparity(depth).clone()
    scattered[1].view(-1)[::16] += 5.0      # as many pixels, each an edge of its own
    assert smooth < relative_loss(scattered, depth).item()


def test_relative_loss_ignores_what_has_no_depth(depth):
    predicted = disparity(depth) + 0.01 * torch.randn(
        depth.shape, generator=torch.Generator().manual_seed(0))
    before = relative_loss(predicted, depth)
    predicted[0, :2] = 1e3
    assert relative_loss(predicted, depth) == before


def test_relative_loss_without_any_depth_is_zero_and_has_a_gradient():
    predicted = torch.ones(1, 4, 4, requires_grad=True)
    value = relative_loss(predicted, torch.full((1, 4, 4), torch.nan))
    value.backward()
    assert value.item() == 0 and not predicted.grad.any()


def test_routing_loss():
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    right, wrong = (routing_loss(logits, torch.tensor(h)).item() for h in ([0, 1], [1, 0]))
    assert right == pytest.approx(math.log(1 + math.exp(-2)))
    assert wrong == pytest.approx(right + 2)
