"""Photographs on surfaces: filtered, at their size, by seed; wrong files are named."""
from importlib.util import find_spec

import numpy as np
from PIL import Image
import pytest

from zoe_ros.camera import Camera
from zoe_ros.cli import main
from zoe_ros.command_settings import WorldSettings
from zoe_ros.datasets import DatasetError
from zoe_ros.world.mesh import Mesh
from zoe_ros.world.photos import Photo, Photos, read_pyramid
from zoe_ros.world.textures import albedo, Material

needs_embree = pytest.mark.skipif(find_spec('embreex') is None,
                                  reason='the world is ray cast by Embree, an extra')
SMALL = {'scenes': 1, 'held_out': 1, 'frames': 2, 'height': 48, 'width': 64, 'workers': 1}


def save(path, pixels, **options):
    """Store an image and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    """Return a folder with an image for floors, one for walls, one for any use and a panorama."""
    rng = np.random.default_rng(0)
    for use in ('floor', 'wall', '.', 'sky'):
        size = (64, 128, 3) if use == 'sky' else (64, 64, 3)
        save(tmp_path / 'textures' / use / 'one.png', rng.integers(0, 256, size))
    return tmp_path / 'textures'


def test_a_photo_has_its_size_on_the_surface_and_stands_upright(tmp_path):
    """A photo that is red above and blue below, and green on the right, is 2 m wide."""
    pixels = np.zeros((64, 64, 3))
    pixels[:32, :, 0] = pixels[32:, :, 2] = pixels[:, 32:, 1] = 255
    photo = Photo(read_pyramid(save(tmp_path / 'a.png', pixels)), 2.0, np.ones(3, np.float32),
                  shift=(0.0, 1.0))
    u, v = np.array([0.5, 1.5, 0.5, 1.5]), np.array([1.5, 1.5, 0.5, 0.5])
    color = photo.color(u, v, np.full(4, 0.01))
    expected = [[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 1]]
    assert np.array_equal(color > 0.5, np.array(expected, bool))


def test_a_photo_fades_to_its_mean_with_distance(tmp_path):
    """A board of black and white lines is neither black nor white where a pixel covers many."""
    pixels = np.zeros((256, 256, 3))
    pixels[:, ::8] = pixels[:, 1::8] = pixels[:, 2::8] = pixels[:, 3::8] = 255
    photo = Photo(read_pyramid(save(tmp_path / 'lines.png', pixels)), 1.0,
                  np.ones(3, np.float32))
    at = np.linspace(0, 3, 500)
    near = photo.color(at, at, np.full(500, 0.001))
    far = photo.color(at, at, np.full(500, 0.5))
    assert near.std() > 0.3
    assert far == pytest.approx(np.full((500, 3), 0.5), abs=0.02)


def test_only_a_seamless_photo_repeats_as_it_is(tmp_path):
    ramp = np.repeat(np.linspace(0, 255, 64)[None, :, None], 64, 0).repeat(3, 2)
    wave = 127 + 120 * np.sin(np.linspace(0, 2 * np.pi, 65)[:64])[None, :, None]
    wave = np.broadcast_to(wave, (64, 64, 3))
    one, other = (read_pyramid(save(tmp_path / f'{k}.png', pixels))
                  for k, pixels in enumerate((ramp, wave)))
    assert other.seamless and not one.seamless
    x, fine = np.linspace(0, 2, 1000), np.full(1000, 1e-3)
    for pyramid in (one, other):
        steps = np.abs(np.diff(np.sqrt(pyramid.at(x, 0 * x + 0.5, fine)[:, 0])))
        assert steps.max() < 0.02       # no edge


def test_a_transparent_part_takes_the_mean_colour(tmp_path):
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[:16] = (255, 0, 0, 255)
    pyramid = read_pyramid(save(tmp_path / 'leaf.png', pixels))
    assert pyramid.mean == pytest.approx([1, 0, 0])
    assert pyramid.at(*np.full((3, 1), 0.75)) == pytest.approx(np.array([[1, 0, 0]]), abs=0.02)


def test_images_serve_their_use_or_any(folder):
    photos, rng = Photos(folder), np.random.default_rng(0)
    floor, wall, loose = (read_pyramid(folder / use / 'one.png') for use in ('floor', 'wall', '.'))
    for use, expected in (('floor', floor), ('facade', wall), ('ground', loose)):
        assert np.array_equal(photos.draw(use, rng).values, expected.values)
    assert photos.draw('sky', rng).sizes[0] == (64, 128)
    (folder / 'sky' / 'one.png').unlink()
    assert Photos(folder).draw('sky', rng) is None      # a surface is no sky
    assert Photos(folder).fingerprint != photos.fingerprint


def test_a_material_with_a_photo_shows_the_photo(tmp_path):
    photo = Photo(read_pyramid(save(tmp_path / 'a.png', np.full((8, 8, 3), (255, 0, 0)))), 1.0,
                  np.ones(3, np.float32))
    materials = [Material(pattern, (0.1, 0.1, 0.1), (0.1, 0.1, 0.1), (2.0, 3.0), photo=photo)
                 for pattern in ('plain', 'bond', 'facade')]
    zero = np.zeros(3)
    color = albedo(materials, np.arange(3), zero, zero + 0.2, zero + 0.01)
    assert color == pytest.approx(np.array([[0.9, 0.005, 0.005]] * 3), abs=0.01)


def test_folders_without_textures_and_files_that_are_no_image(tmp_path, capsys):
    with pytest.raises(DatasetError, match=r'^\S+ holds no textures: no \.jpg'):
        Photos(tmp_path)
    (tmp_path / 'wall').mkdir()
    (tmp_path / 'wall' / 'broken.jpg').write_text('no image')
    assert main(['world', str(tmp_path / 'w'), '--textures', str(tmp_path)]) == 2
    assert 'broken.jpg is no image' in capsys.readouterr().err
    cut = save(tmp_path / 'wall' / 'broken.jpg', np.random.default_rng(0).integers(
        0, 256, (64, 64, 3)))
    cut.write_bytes(cut.read_bytes()[:800])
    with pytest.raises(DatasetError, match=r'broken\.jpg is no image'):
        read_pyramid(cut)


@needs_embree
@pytest.mark.slow
def test_a_world_with_textures_has_the_depth_of_one_without(folder, tmp_path):
    """Textures change the images, by seed, and nothing else."""
    from zoe_ros.datasets.world import WorldDataset
    from zoe_ros.world.make import make_world

    plain = make_world(WorldSettings(str(tmp_path / 'plain'), **SMALL))
    one, two = (make_world(WorldSettings(str(tmp_path / name), textures=str(folder), **SMALL))
                for name in ('one', 'two'))
    for domain in ('indoor', 'outdoor'):
        bare, dressed, again = (WorldDataset(path, 'train', domain)[0]
                                for path in (plain, one, two))
        assert np.array_equal(dressed.image, again.image)
        assert np.array_equal(dressed.depth, bare.depth, equal_nan=True)
        assert not np.array_equal(dressed.image, bare.image)
    with pytest.raises(DatasetError, match='was made with other settings'):
        make_world(WorldSettings(str(one), **SMALL))


@needs_embree
def test_rays_that_meet_nothing_show_the_panorama(tmp_path):
    """The camera looks along y: the middle of the panorama; right of it lies its right half."""
    from zoe_ros.world.render import Pose, Renderer, Response, Scene

    pixels = np.zeros((64, 128, 3))
    pixels[:, 64:, 0] = pixels[:, :64, 2] = 255
    mesh = Mesh()
    mesh.quad((-1, -5, -1), (2, 0, 0), (0, 0, 2), Material('plain', (0.5, 0.5, 0.5)))
    panorama = Photo(read_pyramid(save(tmp_path / 'sky.png', pixels)), 2 * np.pi,
                     np.ones(3, np.float32), shift=(0.5, 0.5))
    white = (1.0, 1.0, 1.0)
    scene = Scene('outdoor', mesh.arrays, [], white, [], sky=(white, white), panorama=panorama)
    camera = Camera(64, 48, 60.0, 60.0, 31.5, 23.5)
    image, depth = Renderer(scene).frame(Pose((0, 0, 0), 0.0), camera,
                                         Response(noise=0, blur=0, vignette=0),
                                         np.random.default_rng(0))
    assert np.isnan(depth).all()
    assert (image[:, :28, 2] > image[:, :28, 0]).all()
    assert (image[:, 36:, 0] > image[:, 36:, 2]).all()
