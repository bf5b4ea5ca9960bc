"""``zoe eval --temporal``: metrics of frames that follow each other, and the command."""
from importlib.util import find_spec
import json
import math

import bags
import numpy as np
import pytest
from robot_messages import odometry_of, transform_of

from zoe_ros.anchor.transform import IDENTITY, Transform
from zoe_ros.camera import Camera
from zoe_ros.cli import main
from zoe_ros.messages import depth_message
from zoe_ros.temporal import video_figures
from zoe_ros.temporal_metrics import alignment_error, scale_step, View, warp, warping_error

CAMERA = Camera(64, 48, 50, 50, 31.5, 23.5)
COUNT = 5


def wall(distance):
    """Return depth of a wall in front of the camera."""
    return np.full((48, 64), distance, np.float32)


def forward(metres):
    """Return the motion of points when the camera moves forward."""
    return Transform(np.eye(3), np.array([0, 0, -metres]))


def both(one, other, motion):
    """Return the warps of both depths into the other frame."""
    return warp(one, CAMERA, motion), warp(other, CAMERA, motion.inverse())


def test_depth_that_fits_the_motion_has_no_error():
    one, other = wall(3), wall(2.5)
    forth, back = both(one, other, forward(0.5))
    assert np.allclose(forth.depth, 2.5) and np.allclose(back.depth, 3)
    assert alignment_error(one, other, forth, back) == pytest.approx(0, abs=1e-6)
    assert scale_step(other, forth) == pytest.approx(0, abs=1e-6)
    # Without the motion, each sees the other's wall at the wrong distance.
    forth, back = both(one, other, IDENTITY)
    assert alignment_error(one, other, forth, back) == pytest.approx(
        (0.5 / 2.5 + 0.5 / 3) / 2, rel=1e-5)


def test_a_factor_is_an_error_both_ways_and_a_step_of_the_scale():
    one, other = wall(2), wall(2.2)
    forth, back = both(one, other, IDENTITY)
    assert alignment_error(one, other, forth, back) == pytest.approx(
        (0.2 / 2.2 + 0.2 / 2) / 2, rel=1e-5)
    assert scale_step(other, forth) == pytest.approx(math.log(1.1), rel=1e-5)


def test_near_things_hide_far_ones_and_pixels_without_depth_do_not_count():
    depth = wall(4)
    depth[10:20, 10:20] = 1
    moved = warp(depth, CAMERA, Transform(np.eye(3), np.array([0.2, 0, 0])))
    seen = np.full(48 * 64, np.nan)
    seen[moved.target] = moved.depth
    seen = seen.reshape(48, 64)
    assert (seen[10:20, 20:30] == 1).all()      # 10 pixels to the right
    assert len(np.unique(moved.target)) == len(moved.target)
    depth[:, :32] = np.nan
    depth[0, 40] = np.inf
    depth[1, 40] = 0
    assert len(warp(depth, CAMERA, IDENTITY).source) == 48 * 32 - 2
    nothing = both(np.full((48, 64), np.nan), wall(1), IDENTITY)
    assert math.isnan(scale_step(wall(1), nothing[0]))
    assert math.isnan(alignment_error(np.full((48, 64), np.nan), wall(1), *nothing))


def test_places_that_look_different_hardly_count_for_opw():
    image = np.full((48, 64, 3), 100, np.uint8)
    changed = image.copy()
    changed[:, 32:] += 51       # by 0.2 in each of three colours
    flow = warp(wall(3), CAMERA, IDENTITY)
    error = warping_error(View(wall(2), image), View(wall(2.5), changed), flow)
    assert error == pytest.approx(0.5 * (1 + math.exp(-50 * 3 * 0.2 ** 2)) / 2, rel=1e-4)


def video(path, poses=True, truth=True, **odometry):
    """
    Write a bag of a camera that drives to a scene whose light changes; return its path.

    :param poses: on /tf, 'late' of another time; :param odometry: topic -> speed [m/frame].
    """
    rng, messages = np.random.default_rng(0), []
    stamps, recorded = bags.stamps(COUNT), bags.recorded(COUNT)
    for topic, message, at in bags.camera_messages(COUNT):
        if topic == '/camera/image_raw':
            header = message.header
            noise = rng.normal(rng.normal(0, 15), 3, (48, 64, 3))
            message = bags.ROSBAGS.photo(
                np.clip(bags.picture() + noise, 0, 255).astype(np.uint8), 'rgb8')
            message.header = header
            if truth:
                messages.append(('/camera/depth', depth_message(
                    bags.ROSBAGS.types, header, wall(3 - 0.01 * len(messages))), at))
        messages.append((topic, message, at))
    for index in range(COUNT if poses else 0):
        pose = transform_of('odom', bags.FRAME, [0, 0, 0.01 * index, 0, 0, 0, 1])
        stamp = stamps[index] + (bags.SECOND * 1000 if poses == 'late' else 0)
        pose.transforms[0].header.stamp = bags.ROSBAGS.header(stamp=stamp).stamp
        messages.append(('/tf', pose, recorded[index]))
    for topic, speed in odometry.items():
        messages += [(topic, odometry_of(stamp / bags.SECOND, [0, 0, speed * index, 0, 0, 0, 1],
                                         child=bags.FRAME), at)
                     for index, (stamp, at) in enumerate(zip(stamps, recorded))]
    return bags.write_bag(path, sorted(messages, key=lambda item: item[2]))


@pytest.fixture
def zoe_eval(tiny_weights, tmp_path):
    """Return a function that runs ``zoe eval --temporal`` on the tiny model."""
    def ran(*arguments):
        return main(['eval', '--temporal', '--variant', 'tiny', '--weights', str(tiny_weights),
                     '--device', 'cpu', '--precision', 'fp32', '--output',
                     str(tmp_path / 'results'), *map(str, arguments)])

    return ran


def found(tmp_path):
    """Return the results."""
    return json.loads((tmp_path / 'results/latest/temporal.json').read_text())['results']


def test_a_video_with_true_depth(zoe_eval, tmp_path, capsys):
    path = video(tmp_path / 'drive')
    assert zoe_eval(path, '--scale-time-constant', '2') == 0
    result, = found(tmp_path)
    figures = result['figures']
    assert set(figures) == {'network', 'steadied'}
    for name, share in (('TAE', 1), ('OPW', 1), ('step', 0.7), ('scale', 0.7)):
        assert figures['steadied'][name] < share * figures['network'][name]
    assert figures['network']['heads'] == 0 and figures['network']['REL'] > 0
    first, *others = result['frames']
    assert [frame['time'] for frame in result['frames']] == pytest.approx(np.arange(COUNT) / 10)
    assert first['steadying'] == 1 and 'TAE' not in first['network']
    for frame in others:
        network, steadied = frame['network'], frame['steadied']
        assert frame['steadying'] != 1
        assert steadied['scale'] - network['scale'] == pytest.approx(
            math.log(frame['steadying']), abs=1e-5)
    steps = [frame['network']['step'] for frame in others]
    assert figures['network']['step'] == pytest.approx(np.std(steps))
    assert figures['network']['TAE'] == pytest.approx(
        np.mean([frame['network']['TAE'] for frame in others]))
    out = capsys.readouterr().out
    assert f'drive {COUNT:6} steadied' in out and 'changes per minute' in out
    pictures = list((tmp_path / 'results/latest').glob('*.png'))
    assert len(pictures) == (find_spec('matplotlib') is not None)


def test_a_video_without_true_depth(zoe_eval, tmp_path):
    assert zoe_eval(video(tmp_path / 'drive', truth=False)) == 0
    result, = found(tmp_path)
    assert set(result['figures']) == {'network'}
    assert set(result['figures']['network']) == {'TAE', 'OPW', 'step', 'heads'}


def test_changes_of_the_head_are_counted_for_each_minute():
    frames = [{'time': 2 * k, 'head': head, 'network': {}} for k, head in enumerate('iioiiiooooo')]
    assert video_figures(frames, 'network') == {'heads': pytest.approx(3 * 60 / 20)}


def test_what_is_no_video_is_refused(zoe_eval, tmp_path, capsys):
    assert zoe_eval(tmp_path) == 2
    assert '--temporal needs videos' in capsys.readouterr().err
    assert zoe_eval(video(tmp_path / 'bag', poses=False)) == 2
    assert 'bag has no motion of the camera: record its pose on /tf' in capsys.readouterr().err
    assert zoe_eval(video(tmp_path / 'far', poses='late')) == 2
    assert 'the motion of the camera is not known' in capsys.readouterr().err
    assert main(['eval', str(tmp_path), '--scale-time-constant', '1']) == 2
    assert 'needs --temporal' in capsys.readouterr().err
    assert not (tmp_path / 'results').exists()


def test_one_of_two_topics_of_odometry_is_chosen(zoe_eval, tmp_path, capsys):
    path = video(tmp_path / 'drive', poses=False, **{'/wheels': 0.01, '/visual': 0.2})
    assert zoe_eval(path) == 2
    assert capsys.readouterr().err.endswith(
        'drive has odometry on /visual, /wheels: choose one by --odometry-topic\n')
    assert zoe_eval(path, '--odometry-topic', '/gps') == 2
    assert capsys.readouterr().err.endswith(
        'has no nav_msgs/msg/Odometry on /gps; it has /visual, /wheels\n')
    errors = {}
    for topic in ('/wheels', '/visual'):
        assert zoe_eval(path, '--odometry-topic', topic) == 0
        errors[topic] = found(tmp_path)[0]['figures']['network']['TAE']
    lone = video(tmp_path / 'lone', poses=False, **{'/wheels': 0.01})
    assert zoe_eval(lone) == 0
    assert found(tmp_path)[0]['figures']['network']['TAE'] == errors['/wheels']
    assert errors['/visual'] != errors['/wheels']
    assert main(['eval', str(path), '--odometry-topic', '/wheels']) == 2
    assert "parameter 'odometry_topic' needs --temporal" in capsys.readouterr().err


@pytest.mark.parametrize('options, names', [
    (('--against', 'evaluation.json'), '--against'),
    (('--domain', 'indoor', '--no-intrinsics'), '--domain and --no-intrinsics')])
def test_options_without_effect_are_refused(tmp_path, capsys, options, names):
    assert main(['eval', str(tmp_path), '--temporal', *options]) == 2
    assert capsys.readouterr().err.startswith(f'zoe: {names} cannot be given with --temporal')
