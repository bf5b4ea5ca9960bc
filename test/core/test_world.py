"""The synthetic world: exact depth, the same bytes by seed, splits apart, one clear sentence."""
from dataclasses import replace
from importlib.util import find_spec
import json

import numpy as np
import pytest

from zoe_ros.camera import Camera
from zoe_ros.command_settings import DataSettings, WorldSettings
from zoe_ros.datasets import DatasetError
from zoe_ros.datasets.open import open_datasets
from zoe_ros.datasets.world import WorldDataset
from zoe_ros.world.make import make_world
from zoe_ros.world.mesh import Mesh
from zoe_ros.world.render import Light, Pose, Renderer, Response, Scene
from zoe_ros.world.rooms import corridor, room
from zoe_ros.world.streets import street
from zoe_ros.world.textures import paint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec('embreex') is None,
                       reason='the world is ray cast by Embree, an extra')]
CAMERA = Camera(64, 48, 60.0, 60.0, 31.5, 23.5)
SMALL = {'scenes': 2, 'held_out': 1, 'frames': 2, 'height': 48, 'width': 64, 'workers': 1}


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Return the folder of a very small world."""
    return make_world(WorldSettings(str(tmp_path_factory.mktemp('world') / 'w'), **SMALL))


def scene_of(mesh, domain='indoor'):
    """Return a scene with a lamp at the origin."""
    lamp = Light(np.zeros(3), np.zeros((2, 3)), (1.0, 1.0, 1.0))
    return Scene(domain, mesh.arrays, [lamp], (0.3, 0.3, 0.3), [])


def test_depth_is_exact_and_along_the_optical_axis():
    """A wall 3 m ahead has depth 3 everywhere, however oblique the ray; a floor by its height."""
    mesh = Mesh()
    mesh.quad((-9, 3, -9), (18, 0, 0), (0, 0, 18), paint((0.5, 0.5, 0.5)))
    depth = Renderer(scene_of(mesh)).depth(Pose((0, 0, 0), 0.0), CAMERA)
    assert depth == pytest.approx(np.full((48, 64), 3.0), rel=1e-5)

    mesh = Mesh()
    mesh.quad((-90, -90, -1.2), (180, 0, 0), (0, 180, 0), paint((0.5, 0.5, 0.5)))
    depth = Renderer(scene_of(mesh)).depth(Pose((0, 0, 0), 0.0), CAMERA)
    rows = (np.arange(48) - 23.5) / 60.0
    with np.errstate(divide='ignore'):
        expected = np.where((rows > 0) & (1.2 / rows <= 10), 1.2 / rows, np.nan)
    assert depth == pytest.approx(np.repeat(expected[:, None], 64, 1), rel=1e-4, nan_ok=True)


def test_poses_turn_the_camera_as_their_names_say():
    """A small box is seen right of the middle when the camera turns left, and so on."""
    mesh = Mesh()
    mesh.box((-0.2, 3, -0.2), (0.2, 3.2, 0.2), paint((0.5, 0.5, 0.5)))
    renderer = Renderer(scene_of(mesh))

    def middle(**turned):
        seen = np.argwhere(np.isfinite(renderer.depth(
            replace(Pose((0, 0, 0), 0.0), **turned), CAMERA)))
        return seen.mean(axis=0) - (23.5, 31.5)

    assert middle() == pytest.approx([0, 0], abs=0.6)
    assert middle(yaw=0.2)[1] > 8
    assert middle(pitch=0.2)[0] > 8
    assert middle(position=(0.5, 0, 0))[1] < -6
    assert middle(position=(0, 0, 0.5))[0] > 6


def test_the_sides_of_a_tapered_box_meet():
    """Every edge of a closed shape belongs to two triangles: nothing floats, nothing gapes."""
    mesh = Mesh()
    mesh.frustum((-2, -3, 0), (2, 3, 1.5), (0.3, 0.1, 1.2, 0.9), paint((0.5, 0.5, 0.5)))
    triangles = np.round(mesh.arrays.corners, 5)
    edges = {}
    for triangle in triangles:
        for a, b in ((0, 1), (1, 2), (2, 0)):
            key = frozenset((tuple(triangle[a]), tuple(triangle[b])))
            edges[key] = edges.get(key, 0) + 1
    assert set(edges.values()) == {2}


@pytest.mark.parametrize('build, far', [(room, 10), (corridor, 10), (street, 80)])
def test_scenes_have_depth_worth_learning(build, far):
    rng = np.random.default_rng(5)
    renderer = Renderer(build(rng, 12))
    poses = [pose for pose in renderer.scene.walk if renderer.clear(pose, CAMERA)]
    assert len(poses) >= 4
    for pose in poses[:4]:
        image, depth = renderer.frame(pose, CAMERA, Response.draw(rng), rng)
        assert image.dtype == np.uint8 and image.std() > 5
        valid = np.isfinite(depth)
        assert valid.mean() > 0.3
        assert depth[valid].min() >= 0.3 and depth[valid].max() <= far
        assert depth[valid].max() > 2 * depth[valid].min()
        if build is street:
            assert np.isnan(depth[:5]).any() or depth[:5].max() < 80


def test_a_world_is_the_same_by_seed_whatever_the_workers(world, tmp_path):
    again = make_world(WorldSettings(str(tmp_path / 'again'), **{**SMALL, 'workers': 2}))
    other = make_world(WorldSettings(str(tmp_path / 'other'), **SMALL, seed=1))
    for part in ('train/indoor', 'train/outdoor', 'test/indoor', 'test/outdoor'):
        for name in ('images.npy', 'depths.npy', 'cameras.npy'):
            content = (world / part / name).read_bytes()
            assert content == (again / part / name).read_bytes()
            assert content != (other / part / name).read_bytes()


def test_splits_share_no_frame(world):
    for domain in ('indoor', 'outdoor'):
        train, test = (WorldDataset(world, split, domain) for split in ('train', 'test'))
        seen = {train[i].image.tobytes() for i in range(len(train))}
        assert len(seen) == len(train) == 4 and len(test) == 2
        assert not seen & {test[i].image.tobytes() for i in range(len(test))}


def test_samples(world):
    datasets = open_datasets([str(world)], 'train')
    assert [(d.domain, len(d)) for d in datasets] == [('indoor', 4), ('outdoor', 4)]
    for dataset in datasets:
        sample = dataset[3]
        assert sample.image.shape == (48, 64, 3) and sample.depth.dtype == np.float32
        assert sample.domain == dataset.domain
        kinds = {'indoor': ('room', 'corridor'), 'outdoor': ('street',)}[dataset.domain]
        assert sample.name in [f'0001-01-{kind}' for kind in kinds]
        assert (sample.camera.width, sample.camera.height) == (64, 48)
        assert sample.valid.any() and sample.depth[sample.valid].min() >= 0.29
        with pytest.raises(IndexError):
            dataset[4]
    outdoors, = open_datasets([str(world)], 'test', DataSettings('outdoor'))
    assert outdoors.domain == 'outdoor'


def test_what_is_there_is_kept(world):
    before = (world / 'train' / 'indoor' / 'images.npy').stat().st_mtime_ns
    make_world(WorldSettings(str(world), **SMALL))
    assert (world / 'train' / 'indoor' / 'images.npy').stat().st_mtime_ns == before
    with pytest.raises(DatasetError, match='was made with other settings'):
        make_world(WorldSettings(str(world), **{**SMALL, 'frames': 1}))


def test_folders_that_hold_no_world(world, tmp_path):
    with pytest.raises(DatasetError, match=r'^nothing at .*nowhere'):
        open_datasets([str(tmp_path / 'nowhere')], 'train')
    with pytest.raises(DatasetError, match='no data of a known kind'):
        open_datasets([str(tmp_path)], 'train')
    half = tmp_path / 'half'
    (half / 'train').mkdir(parents=True)
    (half / 'train' / 'indoor').symlink_to(world / 'train' / 'indoor')
    with pytest.raises(DatasetError, match='outdoor holds no frames: make them with'):
        open_datasets([str(half)], 'train')
    old = tmp_path / 'old' / 'train' / 'indoor'
    old.mkdir(parents=True)
    about = json.loads((world / 'train' / 'indoor' / 'world.json').read_text())
    (old / 'world.json').write_text(json.dumps({**about, 'version': 0}))
    with pytest.raises(DatasetError, match='another version'):
        open_datasets([str(tmp_path / 'old')], 'train', DataSettings('indoor'))
    (old / 'world.json').write_text(json.dumps(about))
    with pytest.raises(DatasetError, match='damaged'):
        open_datasets([str(tmp_path / 'old')], 'train', DataSettings('indoor'))
