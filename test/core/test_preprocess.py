"""Sizes on the way in and out, against the table of the specification, and what moves pixels."""
from hypothesis import given
from hypothesis import strategies as st
import pytest
import torch

from zoe_ros.inference.preprocess import MULTIPLE, plan_sizes, to_depth, to_pixels
from zoe_ros.model.config import VARIANTS

TRAINING = (384, 512)
# Specification section 1.1: image, border, network with it, network without.
SIZES = [
    ((480, 640), (46, 53), (384, 512), (384, 512)),
    ((240, 320), (32, 37), (384, 512), (384, 512)),
    ((600, 800), (51, 60), (384, 512), (384, 512)),
    ((512, 512), (48, 48), (512, 512), (512, 512)),
    ((720, 1280), (56, 75), (384, 672), (384, 672)),
    ((1080, 1920), (69, 92), (384, 672), (384, 672)),
    ((640, 480), (53, 46), (672, 512), (672, 512)),
    ((1920, 1080), (92, 69), (896, 512), (896, 512)),
    ((376, 1241), (41, 74), (384, 1152), (384, 1280)),
    ((352, 1216), (39, 73), (384, 1216), (384, 1312))]
EXTREMES = [(1, 1), (1, 1000), (1000, 1), (2000, 10), (10, 2000), (2, 3), (3000, 4000)]


@pytest.mark.parametrize('image, border, padded_net, net', SIZES)
def test_sizes_of_the_specification(image, border, padded_net, net):
    padded = plan_sizes(image, TRAINING, 'keep', pad=True)
    assert padded.pad == border
    assert padded.padded == (image[0] + 2 * border[0], image[1] + 2 * border[1])
    assert padded.net == padded_net
    plain = plan_sizes(image, TRAINING, 'keep', pad=False)
    assert plain.pad == (0, 0)
    assert plain.padded == image
    assert plain.net == net


@pytest.mark.parametrize('variant, size', [('n', (384, 512)), ('k', (384, 768)),
                                           ('nk', (384, 512))])
@pytest.mark.parametrize('pad', [False, True])
def test_stretch_brings_every_image_to_the_training_size(variant, size, pad):
    for image, *_ in SIZES:
        plan = plan_sizes(image, VARIANTS[variant].image_size, 'stretch', pad)
        assert plan.net == size


def test_each_aspect_comes_back_as_the_authors_did():
    assert plan_sizes((480, 640), TRAINING, 'stretch', pad=False).upsampling == 'bilinear'
    assert plan_sizes((480, 640), TRAINING, 'keep', pad=False).upsampling == 'bicubic'


sides = st.integers(1, 5000)
trainings = st.tuples(*[st.integers(1, 40).map(lambda n: n * MULTIPLE)] * 2)


@given(sides, sides, trainings)
def test_network_size_is_a_positive_multiple(height, width, training):
    rows, columns = plan_sizes((height, width), training, 'keep', pad=False).net
    assert rows % MULTIPLE == 0
    assert columns % MULTIPLE == 0
    assert min(rows, columns) >= MULTIPLE


@given(sides, sides, trainings)
def test_both_axes_are_scaled_by_the_same_factor_up_to_rounding(height, width, training):
    rows, columns = plan_sizes((height, width), training, 'keep', pad=False).net
    nearest = min((training[0] / height, training[1] / width), key=lambda s: abs(1 - s))
    for side, net in ((height, rows), (width, columns)):
        assert net == MULTIPLE or abs(net - nearest * side) <= MULTIPLE / 2 + 1e-6


@given(sides, sides, trainings)
def test_turning_image_and_training_size_turns_the_plan(height, width, training):
    # Where both factors are equally near to 1 the height's is taken, whichever side that is.
    by_height, by_width = training[0] / height, training[1] / width
    plan = plan_sizes((height, width), training, 'keep', pad=False)
    turned = plan_sizes((width, height), training[::-1], 'keep', pad=False)
    if abs(1 - by_height) != abs(1 - by_width):
        assert turned.net == plan.net[::-1]


@given(st.integers(5, 5000), st.integers(5, 5000))
def test_border_is_mirrored_into_the_image(height, width):
    plan = plan_sizes((height, width), TRAINING, 'stretch', pad=True)
    assert 0 < plan.pad[0] < height
    assert 0 < plan.pad[1] < width


@pytest.mark.parametrize('aspect', ['stretch', 'keep'])
@pytest.mark.parametrize('image', [(1, 100), (100, 1), (4, 4), (3, 50)])
def test_image_too_small_for_a_border(image, aspect):
    with pytest.raises(ValueError) as error:
        plan_sizes(image, TRAINING, aspect, pad=True)
    assert str(error.value) == (f'a {image[1]} x {image[0]} image is too small to be padded: '
                                'use pad=False or a larger image')


@pytest.mark.parametrize('aspect', ['stretch', 'keep'])
@pytest.mark.parametrize('image', EXTREMES)
def test_extreme_images_go_in_and_come_out(image, aspect):
    plan = plan_sizes(image, (64, 96), aspect, pad=False)
    pixels = to_pixels(torch.full((1, *image, 3), 51, dtype=torch.uint8), plan)
    assert pixels.shape == (1, 3, *plan.net)
    assert torch.allclose(pixels, torch.full_like(pixels, 2 * 0.2 - 1), atol=1e-6)
    depth = to_depth(torch.full((1, *plan.net), 2.5), plan)
    assert depth.shape == (1, *image)
    assert torch.allclose(depth, torch.full_like(depth, 2.5), atol=1e-5)


@pytest.mark.parametrize('pad', [False, True])
@pytest.mark.parametrize('aspect', ['stretch', 'keep'])
def test_shapes_and_types(aspect, pad):
    plan = plan_sizes((120, 161), (64, 96), aspect, pad)
    pixels = to_pixels(torch.zeros(3, 120, 161, 3, dtype=torch.uint8), plan)
    assert pixels.shape == (3, 3, *plan.net)
    assert pixels.dtype == torch.float32
    depth = to_depth(torch.zeros(3, *plan.net), plan)
    assert depth.shape == (3, 120, 161)
    assert depth.dtype == torch.float32


def test_range_of_the_pixels():
    plan = plan_sizes((64, 96), (64, 96), 'stretch', pad=False)
    images = torch.zeros(1, 64, 96, 3, dtype=torch.uint8)
    images[..., 1], images[..., 2] = 255, 51
    red, green, blue = to_pixels(images, plan)[0]
    assert (red == -1).all()
    assert (green == 1).all()
    assert torch.allclose(blue, torch.tensor(-0.6), atol=1e-6)


def test_at_the_size_of_the_network_nothing_is_resampled():
    plan = plan_sizes((64, 96), (64, 96), 'stretch', pad=False)
    images = torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8,
                           generator=torch.Generator().manual_seed(0))
    pixels = to_pixels(images, plan)
    assert torch.equal(((pixels + 1) * 127.5).round().byte(), images.permute(0, 3, 1, 2))
    depth = torch.rand(2, 64, 96)
    assert torch.equal(to_depth(depth, plan), depth)


def test_corners_stay_corners_when_stretched():
    """Aligned corners, both ways: a ramp from corner to corner stays exactly that."""
    image = (120, 200)
    plan = plan_sizes(image, (64, 96), 'stretch', pad=False)
    y, x = (torch.linspace(0, 1, side) for side in image)
    ramp = (100 * y[:, None] + 150 * x[None]).round().to(torch.uint8)
    pixels = to_pixels(ramp[None, :, :, None].expand(-1, -1, -1, 3), plan)
    y, x = (torch.linspace(0, 1, side) for side in plan.net)
    expected = 2 * (100 * y[:, None] + 150 * x[None]) / 255 - 1
    assert torch.allclose(pixels[0, 0], expected, atol=2 * 0.6 / 255)

    y, x = (torch.linspace(0, 1, side) for side in plan.net)
    back = to_depth((1 + 3 * y[:, None] + 5 * x[None])[None], plan)
    y, x = (torch.linspace(0, 1, side) for side in image)
    assert torch.allclose(back[0], 1 + 3 * y[:, None] + 5 * x[None], atol=1e-5)


def test_pixel_centres_stay_centres_when_the_aspect_is_kept():
    """Bicubic without aligned corners keeps a ramp over pixel centres, away from the edges.

    Up to a tenth of a step: torch's cubic (a = -0.75) bends ramps a little. Aligned corners would
    be off by a third of a step.
    """
    plan = plan_sizes((200, 300), (64, 96), 'keep', pad=False)
    assert plan.net == (64, 96)
    x = (torch.arange(96) + 0.5) / 96
    back = to_depth((1 + 5 * x).expand(1, 64, 96), plan)[0]
    x = (torch.arange(300) + 0.5) / 300
    assert torch.allclose(back[:, 12:-12], (1 + 5 * x)[12:-12].expand(200, -1), atol=0.5 / 96)


@pytest.mark.parametrize('aspect', ['stretch', 'keep'])
def test_border_goes_on_and_comes_off_at_the_same_place(aspect):
    plan = plan_sizes((120, 160), (64, 96), aspect, pad=True)
    images = torch.zeros(1, 120, 160, 3, dtype=torch.uint8)
    images[:, 50:60, 100:110] = 255
    depth = to_depth(to_pixels(images, plan)[:, 0], plan)[0]
    y, x = torch.nonzero(depth > 0, as_tuple=True)
    assert abs(y.float().mean() - 54.5) < 1
    assert abs(x.float().mean() - 104.5) < 1


def test_border_is_a_mirror():
    """Without the pixel at the edge twice, as the official code does."""
    plan = plan_sizes((20, 30), (32, 32), 'keep', pad=True)
    image = torch.arange(30, dtype=torch.uint8)[None, :, None].expand(20, 30, 3)
    # A plan that goes through no resize shows the border as it is.
    shown = type(plan)(plan.image, plan.pad, plan.padded, plan.upsampling)
    row = ((to_pixels(image[None], shown)[0, 0, 0] + 1) * 127.5).round().int().tolist()
    pad = plan.pad[1]
    assert row == [*range(pad, 0, -1), *range(30), *range(28, 28 - pad, -1)]
