"""Faults of cameras in training: image and depth move alike, by seed, each fault is seen."""
import numpy as np
import pytest
import torch

from zoe_ros.training import faults
from zoe_ros.training.faults import add_faults, distort

NAMES = ('HAZE', 'DISTORTION', 'VIGNETTE', 'MOTION', 'EXPOSURE', 'WHITE', 'NOISE', 'JPEG')


def scene(height=96, width=128):
    """Return a smooth image whose red follows the depth, and the depth."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    depth = (2 + 20 * (x + y)).astype(np.float32)
    grey = 40 + 90 * x + 60 * y
    return np.stack([grey, grey * 0.9, grey * 0.8], axis=-1).astype(np.uint8), depth


def only(monkeypatch, name, strength):
    """Let each image have one fault, of one strength."""
    for other in NAMES:
        monkeypatch.setattr(faults, other, (0.0, (0.0, 0.0)))
    monkeypatch.setattr(faults, name, (1.0, (strength, strength)))


def test_faults_are_drawn_by_the_seed():
    image, depth = scene()
    one, same, other = (add_faults(image, depth, 'outdoor', np.random.default_rng(seed))
                        for seed in (3, 3, 4))
    assert np.array_equal(one[0], same[0]) and np.array_equal(one[1], same[1], equal_nan=True)
    assert not np.array_equal(one[0], other[0])
    assert one[0].dtype == np.uint8 and one[0].shape == image.shape
    assert one[1].dtype == np.float32


def test_no_fault_changes_nothing(monkeypatch):
    only(monkeypatch, 'EXPOSURE', 0.0)
    image, depth = scene()
    shown, same = add_faults(image, depth, 'indoor', np.random.default_rng(0))
    assert np.abs(shown.astype(int) - image).max() <= 1 and same is depth


@pytest.mark.parametrize('strength', [-0.12, 0.12])
def test_the_lens_moves_image_and_depth_alike(strength):
    """The image of a depth, bent as an image, is the bent depth."""
    _, depth = scene()
    light = torch.from_numpy(depth)[..., None].repeat(1, 1, 3)
    bent, moved = distort(light, depth, strength)
    valid = np.isfinite(moved)
    assert bent[..., 0].numpy()[valid] == pytest.approx(moved[valid], abs=0.3)
    assert np.abs(moved - depth)[valid].max() > 1       # a corner has moved
    middle = (slice(46, 50), slice(62, 66))
    assert moved[middle] == pytest.approx(depth[middle], abs=0.05)
    # A barrel shows places outside of the image, which have no depth; a pincushion has none.
    assert valid.all() == (strength < 0)


def test_haze_hides_far_places_outdoors_and_needs_dense_depth(monkeypatch):
    only(monkeypatch, 'HAZE', 0.05)
    image, depth = scene()
    image[:] = image // 8       # dark, so that the air is brighter
    hazy = add_faults(image, depth, 'outdoor', np.random.default_rng(0))[0].mean(axis=-1)
    gain = hazy - image.mean(axis=-1)
    assert gain[-5:, -5:].min() > gain[:5, :5].max() + 20
    for sparse, domain in ((np.where(np.arange(128) % 4, np.nan, depth), 'outdoor'),
                           (depth, 'indoor')):
        same = add_faults(image, sparse.astype(np.float32), domain, np.random.default_rng(0))[0]
        assert np.abs(same.astype(int) - image).max() <= 1


def test_each_fault_does_what_its_name_says(monkeypatch):
    image, depth = scene()

    def shown(name, strength, picture=image):
        only(monkeypatch, name, strength)
        return add_faults(picture, depth, 'indoor', np.random.default_rng(0))[0].astype(float)

    assert shown('EXPOSURE', 1.0).mean() > 1.3 * image.mean()
    assert shown('EXPOSURE', -1.0).mean() < 0.8 * image.mean()
    warm = shown('WHITE', 0.25)
    assert warm[..., 0].mean() > 1.05 * image[..., 0].mean()
    assert warm[..., 1] == pytest.approx(image[..., 1], abs=1)
    dim = shown('VIGNETTE', 0.6) / image
    assert dim[48, 64].max() > 0.98 and dim[0, 0].max() < 0.75
    assert np.std(shown('NOISE', 0.05) - image) > 3
    assert 0 < np.abs(shown('JPEG', 20) - image).mean() < 10
    lines = np.zeros_like(image)
    lines[:, ::2] = lines[::2] = 255
    assert shown('MOTION', 0.03, lines).std() < 0.6 * lines.std()


def test_every_image_is_changed_within_bounds():
    """Over many seeds: no black image, no NaN where depth was, no wild border."""
    image, depth = scene(48, 64)
    for seed in range(60):
        new, moved = add_faults(image, depth, 'outdoor', np.random.default_rng(seed))
        assert 8 < new.mean() < 250
        assert np.isfinite(moved).mean() > 0.85


def test_batches_put_faults_on_a_fraction_of_the_images():
    """With the same seed, about half of the images differ from those without faults."""
    from zoe_ros.camera import Camera
    from zoe_ros.datasets import EvalProtocol, Sample
    from zoe_ros.training.batches import Batches

    class Smooth:
        name, domain, protocol = 'smooth', 'indoor', EvalProtocol(0.1, 100.0)

        def __len__(self):
            return 40

        def __getitem__(self, index):
            return Sample(*scene(), Camera(128, 96, 100, 100, 63.5, 47.5), 'indoor', f'{index}')

    plain, some, every = (Batches([Smooth()], (64, 96), 40, 0, faults=part)[0].pixels
                          for part in (0.0, 0.5, 1.0))
    differ = [(batch - plain).abs().mean(dim=(1, 2, 3)) > 1e-3 for batch in (some, every)]
    assert 10 <= int(differ[0].sum()) <= 30 and int(differ[1].sum()) >= 35
