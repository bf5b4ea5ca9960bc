"""The kinds of scenes, how cameras are carried, and light: near, far, tilted, dark, by seed."""
from importlib.util import find_spec
import time

import numpy as np
import pytest

from zoe_ros.command_settings import WorldSettings
from zoe_ros.datasets import DatasetError
from zoe_ros.datasets.world import RANGES, WorldDataset
from zoe_ros.world.cameras import camera_of, draw_camera, look_at, mount, MOUNTS
from zoe_ros.world.kinds import draw_scene, KINDS
from zoe_ros.world.make import make_world
from zoe_ros.world.mesh import Mesh
from zoe_ros.world.moods import draw_mood
from zoe_ros.world.render import Light, Renderer, Response, Scene
from zoe_ros.world.streets import street
from zoe_ros.world.textures import paint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec('embreex') is None,
                       reason='the world is ray cast by Embree, an extra')]
SIZE = (48, 64)
# Kind -> where the median depth of most frames lies [m].
MEDIANS = {'room': (0.8, 5), 'corridor': (0.8, 6), 'tabletop': (0.35, 1.6), 'shelf': (0.4, 2.2),
           'floor': (0.3, 3.5), 'people': (0.8, 5), 'foliage': (0.4, 5), 'street': (2, 20),
           'avenue': (2, 25), 'country': (1.5, 20), 'park': (2, 20), 'hall': (1.5, 15)}


def frames_of(kind, seeds):
    """Yield a frame of each seed, carried in each way in turn."""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        chosen = KINDS[kind]
        carried = chosen.mounts[seed % len(chosen.mounts)]
        scene = mount(chosen.build(rng, 24), carried, rng)
        camera = draw_camera(carried, SIZE, rng)
        renderer = Renderer(scene)
        poses = [pose for pose in scene.walk if renderer.clear(pose, camera)]
        if poses:
            pose = poses[len(poses) // 2]
            yield renderer, pose, camera, renderer.frame(
                pose, camera, Response.draw_any(rng, False), rng)


@pytest.mark.parametrize('kind', KINDS)
def test_a_kind_has_its_depths(kind):
    """Depth lies within the range of the kind's head, without NaN below the horizon's reach."""
    near, far = RANGES[KINDS[kind].domain]
    medians = []
    for renderer, pose, camera, (image, depth) in frames_of(kind, range(10)):
        assert image.dtype == np.uint8 and image.std() > 3
        valid = np.isfinite(depth)
        assert valid.mean() > 0.15
        assert depth[valid].min() >= near and depth[valid].max() <= far
        assert np.array_equal(renderer.depth(pose, camera), depth, equal_nan=True)
        medians.append(float(np.nanmedian(depth)))
    assert len(medians) >= 7        # most scenes have places for a camera
    low, high = MEDIANS[kind]
    assert low < np.median(medians) < high
    assert np.mean([low < m < high for m in medians]) >= 0.7


def test_shares_and_heads():
    """Each head has its kinds, and the shares of a head are a distribution."""
    for domain in RANGES:
        assert sum(k.share for k in KINDS.values() if k.domain == domain) == pytest.approx(1)
    assert all(name in MOUNTS for kind in KINDS.values() for name in kind.mounts)


def test_fields_of_view_reach_from_40_to_120_degrees():
    fields = []
    for name in MOUNTS:
        for seed in range(20):
            camera = draw_camera(name, SIZE, np.random.default_rng(seed))
            fields.append(np.degrees(2 * np.arctan(camera.width / 2 / camera.fx)))
    assert min(fields) == pytest.approx(40, abs=3) and max(fields) == pytest.approx(120, abs=5)
    assert camera_of(90, (48, 64)).fx == pytest.approx(32)


def test_a_mount_sets_height_and_tilt_of_the_same_path():
    rng = np.random.default_rng(0)
    scene = street(rng, 30)
    low, hand, same = (mount(scene, name, np.random.default_rng(1))
                       for name in ('low', 'handheld', 'robot'))
    heights = np.array([pose.position[2] for pose in low.walk])
    assert (heights >= 0.1).all() and (heights <= 0.4).all()
    assert low.clearance < scene.clearance      # the floor itself is close
    assert [p.position[:2] for p in low.walk] == [p.position[:2] for p in scene.walk]
    assert same.walk[0].position == scene.walk[0].position
    tilts = [np.std([getattr(mount(scene, 'handheld', np.random.default_rng(s)).walk[0], angle)
                     for s in range(40)]) for angle in ('roll', 'pitch')]
    assert min(tilts) > 0.08 and len(hand.walk) == 30


def test_a_camera_looks_at_its_target():
    """The target lies on the optical axis, at its distance."""
    mesh = Mesh()
    target, size = np.array([1.0, 2.0, 0.5]), 0.02
    mesh.box(target - size, target + size, paint((0.5, 0.5, 0.5)))
    lamp = Light(np.array([0.0, 0, 3]), np.zeros((2, 3)), (1.0, 1.0, 1.0))
    at = np.array([0.3, 0.4, 1.6])
    pose = look_at(at, target, 0.4)
    depth = Renderer(Scene('indoor', mesh.arrays, [lamp], (0.3, 0.3, 0.3), [])).depth(
        pose, camera_of(30, (49, 65)))
    assert depth[24, 32] == pytest.approx(np.linalg.norm(target - at), abs=0.04)


def test_moods_change_light_and_not_the_scene():
    scene = street(np.random.default_rng(3), 6)
    seen = [draw_mood(scene, np.random.default_rng(seed)) for seed in range(60)]
    assert all(new.mesh is scene.mesh and new.walk is scene.walk for new, _ in seen)
    nights = [new for new, dark in seen if dark]
    low_suns = [new for new, _ in seen if new.glare]
    assert 2 <= len(nights) <= 20 and 5 <= len(low_suns) <= 35
    assert max(scene.ambient) > 0.3
    assert all(max(night.ambient) < 0.1 for night in nights)
    ahead = np.array([-np.sin(scene.walk[3].yaw), np.cos(scene.walk[3].yaw)])
    assert max(float(new.lights[0].position[:2] @ ahead) for new in low_suns) > 0.7


def test_a_varied_world_by_seed(tmp_path):
    small = {'scenes': 5, 'held_out': 1, 'frames': 2, 'height': 48, 'width': 64, 'workers': 2,
             'recipe': 'varied'}
    one, two = (make_world(WorldSettings(str(tmp_path / name), **small)) for name in 'ab')
    for domain in RANGES:
        first, second = (WorldDataset(folder, 'train', domain) for folder in (one, two))
        assert len(first) == 10
        for index in range(10):
            assert np.array_equal(first[index].image, second[index].image)
            assert np.array_equal(first[index].depth, second[index].depth, equal_nan=True)
            kind = first[index].name.split('-')[2]
            assert KINDS[kind].domain == domain
        assert len({first[k].name.split('-')[2] for k in range(10)}) > 1
        assert len({first[k].camera.fx for k in range(10)}) > 2
    with pytest.raises(DatasetError, match='was made with other settings'):
        make_world(WorldSettings(str(one), **{**small, 'recipe': 'plain'}))


def test_a_varied_frame_takes_about_as_long_as_a_plain_one():
    """Measured in turns, so that other work on the machine disturbs both alike."""
    times = {'plain': 0.0, 'varied': 0.0}
    for seed in range(4):
        for domain in RANGES:
            for recipe in times:
                rng = np.random.default_rng(seed)
                _, scene, camera, response = draw_scene(rng, recipe, domain, 6, (96, 128))
                renderer = Renderer(scene)
                start = time.process_time()
                renderer.frame(scene.walk[2], camera, response, rng)
                times[recipe] += time.process_time() - start
    assert times['varied'] < 2 * times['plain']
