"""Where frames of the world show the sky: stored beside depth, and no photographed tree is one."""
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
from PIL import Image
import pytest

from zoe_ros.camera import Camera
from zoe_ros.command_settings import WorldSettings
from zoe_ros.datasets import DatasetError
from zoe_ros.datasets.world import SKIES_FILE, WorldDataset
from zoe_ros.world.make import make_world
from zoe_ros.world.mesh import Mesh
from zoe_ros.world.panorama import find_sky, sky_map
from zoe_ros.world.photos import Photo, read_pyramid
from zoe_ros.world.render import Pose, Renderer, Scene
from zoe_ros.world.textures import paint

needs_embree = pytest.mark.skipif(find_spec('embreex') is None,
                                  reason='the world is ray cast by Embree, an extra')
HEIGHT, WIDTH = 64, 128


def panorama():
    """Return square roots of light: blue, a cloud, a white tower and a brown floor."""
    root = np.empty((HEIGHT, WIDTH, 3))
    root[:] = (0.4, 0.6, 0.9)
    root[HEIGHT // 2:] = (0.5, 0.4, 0.3)
    root[10:16, 20:40] = (0.6, 0.59, 0.5)       # the cloud, yellowish
    root[18:HEIGHT // 2, 80:90] = (1, 1, 1)     # the tower
    return root


def test_sky_is_what_the_zenith_is_connected_with_and_encloses():
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[:HEIGHT // 2] = True
    expected[18:, 80:90] = False
    found = find_sky(panorama())
    wrong = found != expected
    assert wrong[:HEIGHT // 2 - 1].sum() == 0
    # The last row is beside the edge of the ground.
    assert not found[HEIGHT // 2:].any()


@pytest.mark.parametrize('ceiling', [(0.6, 0.55, 0.5), (0.3, 0.25, 0.2)])
def test_a_ceiling_is_no_sky(ceiling):
    root = panorama()
    root[:12] = ceiling
    assert not find_sky(root).any()


def test_a_gap_between_leaves_is_too_little():
    root = panorama()
    root[2:HEIGHT // 2] = (0.2, 0.4, 0.1)
    root[:24, 5:15] = (1, 1, 1)
    assert not find_sky(root).any()


def test_the_sky_goes_around():
    """A sky that is open only across the left and the right edge of the panorama is found."""
    root = panorama()
    root[:HEIGHT // 2] = (0.5, 0.4, 0.3)
    root[:HEIGHT // 2, :20] = root[:HEIGHT // 2, -20:] = (0.4, 0.6, 0.9)
    root[:20, -20:] = (0.5, 0.4, 0.3)       # reached only around the edge
    found = find_sky(root)
    assert found[25, -10] and found[25, 10] and not found[25, 64]


@pytest.fixture
def photo(tmp_path):
    """Return the panorama as a photo, its middle along y."""
    root = panorama()
    root = np.where(root <= 0.0031308 ** 0.5, 12.92 * root ** 2,
                    1.055 * root ** (2 / 2.4) - 0.055)
    path = tmp_path / 'sky.png'
    Image.fromarray(np.rint(255 * root).astype(np.uint8)).save(path)
    return Photo(read_pyramid(path), 2 * np.pi, np.full(3, 0.1, np.float32), shift=(0.5, 0.5))


def test_the_map_lies_as_the_panorama_does(photo):
    """The tower is 20 columns right of the middle, that is, 59 degrees."""
    sky = sky_map(photo)
    azimuth = np.radians([59.0, 59.0, 0.0, 0.0, -59.0])
    elevation = np.radians([10.0, 60.0, 10.0, -10.0, 10.0])
    found = sky.color(azimuth, elevation, np.zeros(5))[:, 0] > 0.5
    assert found.tolist() == [False, True, True, False, True]


@needs_embree
def test_a_pixel_shows_the_sky_if_nothing_is_before_it(photo):
    mesh = Mesh()       # a wall in the left half of the image
    mesh.quad((-90, 5, -90), (90, 0, 0), (0, 0, 180), paint((0.5, 0.5, 0.5)))
    white = (1.0, 1.0, 1.0)
    plain = Scene('outdoor', mesh.arrays, [], white, [], sky=(white, white))
    camera, pose = Camera(64, 48, 30.0, 30.0, 31.5, 23.5), Pose((0, 0, 0), 0.0)
    right = np.arange(64) > 31
    assert (Renderer(plain).sky(pose, camera) == right).all()
    assert not Renderer(replace(plain, sky=None)).sky(pose, camera).any()
    found = Renderer(replace(plain, panorama=photo)).sky(pose, camera)
    assert found[:20, 32:48].all() and not found[:, :32].any()
    assert not found[25:].any()         # the floor of the panorama
    column = round(31.5 + 30 * np.tan(np.radians(48)))      # the tower is left of its middle
    assert found[:20, column - 6].all() and not Renderer(replace(
        plain, panorama=photo)).sky(Pose((0, 0, 0), -np.radians(59)), camera)[10:20, 32].any()


@needs_embree
@pytest.mark.slow
def test_frames_of_a_world_tell_where_their_sky_is(tmp_path):
    folder = make_world(WorldSettings(str(tmp_path / 'w'), scenes=1, held_out=2, frames=2,
                                      height=48, width=60, workers=1))
    indoor, outdoor = (WorldDataset(folder, 'test', domain) for domain in ('indoor', 'outdoor'))
    assert not any(indoor.sky(index).any() for index in range(4))
    skies = np.stack([outdoor.sky(index) for index in range(4)])
    depths = np.stack([outdoor[index].depth for index in range(4)])
    assert skies.shape == (4, 48, 60) and skies.any(axis=(1, 2)).all()
    assert np.isnan(depths[skies]).all()
    assert (skies[:, :10].mean() > skies[:, -10:].mean()) and not (skies[0] == skies[2]).all()
    (folder / 'test' / 'outdoor' / SKIES_FILE).unlink()
    old = WorldDataset(folder, 'test', 'outdoor')
    assert np.array_equal(old[0].depth, depths[0], equal_nan=True)
    with pytest.raises(DatasetError, match=r'outdoor does not tell .*: make it again'):
        old.sky(0)
