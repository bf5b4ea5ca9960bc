"""Anchor: from points of sensors to scaled depth; sources, heads, stamps and damaged input."""
import math
from time import process_time

import numpy as np
import pytest
from robot_messages import CAMERA, room

from zoe_ros.anchor.anchor import Anchor, Source
from zoe_ros.anchor.points import from_cloud, from_depth, from_scan, ImagePoints
from zoe_ros.anchor.transform import IDENTITY, Transform
from zoe_ros.camera import Camera

PERIOD = 0.1
NAN, INF = float('nan'), float('inf')


def seen(depth, count=300, seed=0):
    """Return points of a sensor with the place of the camera, which sees true depth."""
    rng = np.random.default_rng(seed)
    v, u = rng.integers(0, 120, count), rng.integers(0, 160, count)
    return from_cloud(np.concatenate([CAMERA.rays[v, u], np.ones((count, 1))], axis=1)
                      * depth[v, u, None])


def anchored(*sources, **options):
    """Return an anchor with the camera and some sources, by default one of points."""
    anchor = Anchor(**options)
    anchor.configure(CAMERA, *sources or [Source('points')])
    return anchor


def test_depth_comes_to_the_scale_of_the_points():
    truth = room()
    anchor = anchored()
    anchor.observe(seen(truth), 10.0, 'points')
    depth, scale = anchor.apply(truth / np.float32(1.4), 'indoor', 10.02)
    assert depth.dtype == np.float32 and np.allclose(depth, truth, rtol=1e-3)
    assert scale.value == pytest.approx(1.4, rel=1e-3)
    assert 0 < scale.deviation < 0.02 and scale.residual < 0.01 and scale.pairs > 200
    assert scale.source == 'points' and scale.age == 0 and scale.reason == ''


def test_how_much_of_the_image_the_points_cover():
    truth = np.full((120, 160), 3.0, np.float32)
    sparse = np.zeros_like(truth)
    for rows, coverage in ((slice(60, 62), 0.0), (slice(0, 80, 3), 0.5), (slice(0, 120, 3), 1.0)):
        anchor = anchored(Source('depth'))
        sparse[:], sparse[rows] = 0, 3.0
        anchor.observe(from_depth(sparse), 0.0, 'depth')
        found, held = (anchor.measure(truth, 'indoor', at) for at in (0.0, 0.5))
        assert found.coverage == held.coverage == coverage and held.reason
    assert anchored().measure(truth, 'indoor', 0.0).coverage == 0


def test_why_a_sensor_gives_no_points_is_told():
    truth = room()
    anchor = anchored()
    anchor.observe(seen(truth), 10.0, 'points')
    known = anchor.measure(truth / np.float32(1.4), 'indoor', 10.0)
    anchor.miss('points', 10.1, 'not rectified', 'the rotation')
    held = anchor.measure(truth, 'indoor', 10.1)
    assert held.reason == 'not rectified: the rotation' and held.value == known.value
    anchor.miss('points', NAN, 'not rectified', 'the rotation')
    assert anchor.counts['points: not rectified'] == 2
    assert anchor.counts['frames: not rectified'] == 1


def test_points_of_triangulation_beside_others():
    # The deviation of the first source's points does not fall on those of the second.
    truth = room()
    columns, rows = (w.ravel().astype(float) for w in np.meshgrid(range(8, 160, 8),
                                                                  range(8, 120, 8)))
    z = truth[rows.astype(int), columns.astype(int)].astype(float)
    points = ImagePoints(columns, rows, 1.1 * z, truth.shape, {}, 0.1)
    scales = []
    for sources in (('stereo',), ('points',), ('stereo', 'points')):
        anchor = anchored(*map(Source, sources))
        for name in sources:
            anchor.observe(points if name == 'stereo' else seen(truth), 1.0, name)
        scales.append(anchor.measure(truth, 'indoor', 1.0))
    stereo, exact, both = scales
    assert stereo.value == pytest.approx(1.1, rel=0.01) and stereo.deviation > 0.15
    assert both.value == pytest.approx(exact.value, rel=0.03)
    assert exact.deviation <= both.deviation < 0.1 * stereo.deviation


def test_depth_that_is_no_number_stays_so():
    truth = room()
    holes = truth / np.float32(1.4)
    holes[:20, :3] = np.array([NAN, INF, -INF])
    before = holes.copy()
    anchor = anchored()
    anchor.observe(seen(truth), 0.0, 'points')
    depth, _ = anchor.apply(holes, 'indoor', 0.0)
    assert np.array_equal(depth[:20, :3], holes[:20, :3], equal_nan=True)
    assert np.array_equal(holes, before, equal_nan=True)    # it belongs to the caller


def test_without_points_depth_is_the_same_object():
    truth = room()
    anchor = anchored()
    depth, scale = anchor.apply(truth, 'indoor', 0.0)
    assert depth is truth
    assert scale.value == 1 and scale.deviation == pytest.approx(0.3) and scale.age == math.inf
    assert scale.reason == 'silent: nothing from points within 0.1 s of the image'


def test_a_report_leaves_depth_alone():
    truth = room()
    predicted = truth / np.float32(1.4)
    anchor = anchored(report_only=True)
    anchor.observe(seen(truth), 0.0, 'points')
    depth, scale = anchor.apply(predicted, 'indoor', 0.0)
    assert depth is predicted and scale.value == pytest.approx(1.4, rel=1e-3)


@pytest.mark.parametrize('gap, used', [(-0.11, False), (-0.09, True), (0.09, True), (0.11, False)])
def test_points_hold_for_images_of_their_time(gap, used):
    anchor = anchored()
    anchor.observe(seen(room()), 100.0, 'points')
    assert (anchor.apply(room(), 'indoor', 100.0 + gap)[1].reason == '') is used


def test_of_several_observations_the_nearest_in_time_counts():
    anchor = anchored()
    for stamp, factor in ((0.0, 1), (0.05, 2), (0.1, 3)):
        anchor.observe(seen(room() * factor), stamp, 'points')
    assert anchor.apply(room(), 'indoor', 0.06)[1].value == pytest.approx(2, rel=1e-3)


def test_a_slow_network_finds_the_points_of_its_image():
    # The depth of an image is there when two hundred later messages have been heard.
    anchor = anchored()
    for k in range(200):
        anchor.observe(seen(room() * (2 if k == 3 else 1)), 0.04 * k, 'points')
    assert anchor.apply(room(), 'indoor', 0.12)[1].value == pytest.approx(2, rel=1e-3)
    for k in range(200, 5000):
        anchor.observe(seen(room(), 9), 0.04 * k, 'points')
    assert len(anchor._seen['points']) <= 251


def test_sources_are_used_together_and_placed_each_by_its_transform():
    truth = room()
    aside = Transform.from_numbers([0.3, -0.1, 0.2, 0, 0.6, 0, 0.8])
    anchor = anchored(Source('lidar', aside), Source('tof'))
    lidar = seen(truth)
    anchor.observe(lidar._replace(xyz=aside.inverse()(lidar.xyz)), 0.0, 'lidar')
    sparse = np.zeros((120, 160), np.uint16)
    sparse[5::10, 5::10] = np.rint(truth[5::10, 5::10] * 1000)
    anchor.observe(from_depth(sparse), 0.0, 'tof')
    _, scale = anchor.apply(truth / 2, 'indoor', 0.0)
    assert scale.value == pytest.approx(2, rel=1e-3)
    assert scale.source == 'lidar+tof' and scale.pairs > 300
    with pytest.raises(ValueError, match=r"anchor source 'scan' is not one of lidar, tof"):
        anchor.observe(lidar, 0.0, 'scan')


def test_an_error_that_points_have_in_common_is_in_the_deviation():
    truth = room()
    deviations = []
    for common in (0.0, 0.1):
        anchor = anchored(Source('points', deviation=common))
        anchor.observe(seen(truth), 0.0, 'points')
        deviations.append(anchor.apply(truth, 'indoor', 0.0)[1].deviation)
    assert deviations[0] < 0.02 and deviations[1] == pytest.approx(0.1, rel=0.1)


def test_each_head_has_its_own_scale():
    truth = room()
    anchor = anchored()
    for k in range(20):
        anchor.observe(seen(truth, seed=k), k * PERIOD, 'points')
        head, factor = (('indoor', 1.4), ('outdoor', 0.7))[k // 5 % 2]
        depth, _ = anchor.apply(truth / np.float32(factor), head, k * PERIOD)
        assert np.allclose(depth, truth, rtol=1e-3)
    # Without points each is held; a third is unknown.
    values = [anchor.apply(truth, head, 3.0)[1].value for head in ('indoor', 'outdoor', 'third')]
    assert values == pytest.approx([1.4, 0.7, 1.0], rel=1e-3)


def test_the_motion_between_the_stamps_counts():
    # The camera drives 1 m/s towards the wall; the points are 0.1 s older than the image.
    truth = np.full((120, 160), 2.0, np.float32)

    def motion(start, stop):
        return Transform(np.eye(3), np.array([0, 0, start - stop]))

    scales = []
    for known in (None, motion):
        anchor = anchored(motion=known)
        anchor.observe(seen(truth + np.float32(0.1)), 5.0, 'points')
        scales.append(anchor.apply(truth, 'indoor', 5.1)[1])
    assert scales[0].value == pytest.approx(1.05, rel=1e-3)
    assert scales[1].value == pytest.approx(1.0, rel=1e-3)
    # And the way makes a held scale less certain.
    held = [anchored(motion=known) for known in (lambda start, stop: IDENTITY, motion)]
    for anchor in held:
        anchor.observe(seen(truth), 0.0, 'points')
        anchor.apply(truth, 'indoor', 0.0)
    still, moved = (anchor.apply(truth, 'indoor', 4.0)[1].deviation for anchor in held)
    assert moved > 1.05 * still


def test_a_flat_wall_gives_one_factor():
    truth = np.full((120, 160), 3.0, np.float32)
    rng = np.random.default_rng(0)
    anchor = anchored()
    values = []
    for k in range(100):
        noise = np.exp(rng.normal(0, 0.05, (12, 16))).repeat(10, 0).repeat(10, 1)
        predicted = (truth * noise / 1.2).astype(np.float32)
        anchor.observe(seen(truth, seed=k), k * PERIOD, 'points')
        depth, scale = anchor.apply(predicted, 'indoor', k * PERIOD)
        assert np.array_equal(depth, predicted * np.float32(scale.value))   # nothing affine
        values.append(scale.value)
    values = np.array(values[10:])
    assert abs(values.mean() / 1.2 - 1) < 0.01 and values.std() < 0.01 * values.mean()


def test_a_shift_is_corrected_within_the_range_of_the_points():
    truth = room()
    predicted = (1 / (1.3 * (1 / truth.astype(np.float64) - 0.04))).astype(np.float32)
    anchor = anchored()
    for k in range(10):
        anchor.observe(seen(truth, seed=k), k * PERIOD, 'points')
        depth, scale = anchor.apply(predicted, 'indoor', k * PERIOD)
    with_shift = np.mean(np.abs(depth / truth - 1))
    one_factor = np.mean(np.abs(predicted * scale.value / truth - 1))
    assert with_shift < 0.6 * one_factor


def test_a_shift_is_not_extrapolated():
    truth = room()
    truth[:10] = 60.0       # farther than the sensor sees
    predicted = (1 / (1 / truth.astype(np.float64) + 0.06)).astype(np.float32)
    anchor = anchored()
    for k in range(10):
        points = seen(truth, seed=k)
        anchor.observe(points._replace(xyz=points.xyz[points.xyz[:, 2] < 10]), k * PERIOD,
                       'points')
        depth, _ = anchor.apply(predicted, 'indoor', k * PERIOD)
    ratio = depth / predicted
    assert ratio[50, 120] > 1.05 * ratio[-1, 80]        # the shift is used
    assert ratio[0, 0] == pytest.approx(ratio[50, 120], rel=0.05)


@pytest.mark.parametrize('drift', [1.0, 1.1])
def test_a_lidar_that_is_lost_for_ten_seconds(drift):
    truth = room()
    anchor = anchored()
    scales = []
    for k in range(200):
        lost = 50 <= k < 150
        factor = 1.4 * (drift if k >= 100 else 1)
        if not lost:
            anchor.observe(seen(truth, seed=k), k * PERIOD, 'points')
        _, scale = anchor.apply(truth / np.float32(factor), 'indoor', k * PERIOD)
        scales.append(scale)
        assert bool(scale.reason) is (50 < k < 149) or k in (50, 149)
    values = np.array([scale.value for scale in scales])
    assert len(set(values[52:149])) == 1
    assert np.abs(values[52:] / values[51:-1] - 1).max() <= 0.02 + 1e-9
    assert values[-1] == pytest.approx(1.4 * drift, rel=2e-3)
    assert scales[148].age == pytest.approx(9.8, abs=0.11)
    assert scales[148].deviation > 5 * scales[49].deviation
    assert anchor.counts['frames: silent'] > 95


def test_two_groups_of_returns_do_not_flip():
    # A glass front at half of the depth of what is seen through it.
    truth = room()
    anchor = anchored()
    rng = np.random.default_rng(3)
    values = []
    for k in range(100):
        points = seen(truth, seed=k)
        share = 0.0 if k < 10 else rng.uniform(0.4, 0.6)
        near = rng.random(len(points.xyz)) < share
        points.xyz[near] *= 0.6
        anchor.observe(points, k * PERIOD, 'points')
        values.append(anchor.apply(truth, 'indoor', k * PERIOD)[1].value)
    assert np.allclose(values, 1, atol=0.03)


def test_equal_sequences_give_equal_bits():
    truth = room()
    found = []
    for _ in range(2):
        anchor, rng = anchored(), np.random.default_rng(5)
        for k in range(40):
            anchor.observe(seen(truth, seed=k), k * PERIOD, 'points')
            predicted = (truth * np.exp(rng.normal(0, 0.1))).astype(np.float32)
            depth, scale = anchor.apply(predicted, 'indoor', k * PERIOD)
            found.append((depth.tobytes(), scale))
    assert found[:40] == found[40:]


def test_time_that_goes_back_starts_again():
    truth = room()
    anchor = anchored()
    for begin, factor in ((100.0, 1.4), (20.0, 0.8)):
        for k in range(3):
            anchor.observe(seen(truth), begin + k * PERIOD, 'points')
            _, scale = anchor.apply(truth / np.float32(factor), 'indoor', begin + k * PERIOD)
        assert scale.value == pytest.approx(factor, rel=1e-3)
    assert anchor.counts['points: time went back'] == anchor.counts['frames: time went back'] == 1
    # Images a little out of order are no such thing.
    anchor.apply(truth, 'indoor', 20.15)
    assert anchor.counts['frames: time went back'] == 1


def test_reasons_are_counted():
    anchor = Anchor()
    _, scale = anchor.apply(room(), 'indoor', 0.0)
    assert scale.reason == 'no camera: there is no CameraInfo that fits the image'
    anchor.configure(CAMERA, Source('points'))
    anchor.apply(room()[1:], 'indoor', 0.0)
    anchor.apply(room(), 'indoor', NAN)
    anchor.observe(seen(room(), 5), 0.0, 'points')
    assert anchor.apply(room(), 'indoor', 0.0)[1].reason.startswith('too few pairs: ')
    anchor.observe(from_cloud([[1, 2]]), 0.0, 'points')
    anchor.observe(seen(room()), NAN, 'points')
    counts = anchor.counts
    assert {cause: n for cause, n in counts.items() if 'depth edge' not in cause} == {
        'frames: no camera': 1, 'frames: image size': 1, 'frames: no stamp': 1,
        'frames: too few pairs': 1, 'points: malformed': 1, 'points: stamp': 1}


def test_damaged_input_gives_no_error_and_no_wrong_scale():
    # 10,000 messages, of which most are damaged: the scale is 1.25 or unknown.
    truth = room()
    predicted = truth / np.float32(1.25)
    rng = np.random.default_rng(11)
    anchor = anchored(Source('points'), Source('scan', IDENTITY), Source('depth'))
    good = seen(truth, 60)
    bad_stamps = [NAN, INF, -INF, -5.0]
    bad_values = np.array([NAN, INF, -INF, 0, -1, 1e300, 65535, 1e-9])
    measured = 0
    for k in range(10_000):
        stamp = k * 0.02
        if rng.random() < 0.05:
            stamp = bad_stamps[rng.integers(4)]
        kind = rng.integers(8)
        if kind == 0:
            anchor.observe(good, stamp, 'points')
        elif kind == 1:
            points = rng.choice(bad_values, (int(rng.integers(0, 30)), int(rng.integers(1, 6))))
            anchor.observe(from_cloud(points), stamp, 'points')
        elif kind == 2:
            numbers = rng.choice([*bad_values, 0.01, 10], 4)
            anchor.observe(from_scan(rng.choice(bad_values, 50), *numbers), stamp, 'scan')
        elif kind == 3:
            anchor.observe(from_scan(rng.choice([None, 'x', 1.0]), 0, 0.1, 0, 9), stamp, 'scan')
        elif kind == 4:
            size = (120, 160) if rng.random() < 0.5 else tuple(rng.integers(0, 9, 2))
            values = bad_values[:5] if size == (120, 160) else [*bad_values[:5], 2.0]
            sparse = rng.choice(values, size).astype(np.float32)
            anchor.observe(from_depth(sparse), stamp, 'depth')
        elif kind == 5:
            sparse = rng.integers(0, 65536, (120, 160)) * (rng.random((120, 160)) < 0.001)
            anchor.observe(from_depth(sparse.astype(np.uint16)), stamp, 'depth')
        elif kind == 6:
            anchor.observe(ImagePoints(*rng.choice(bad_values, (3, 20)), (120, 160), {}), stamp,
                           'depth')
        else:
            with pytest.raises(ValueError):
                Transform.from_numbers(rng.choice(bad_values[bad_values != -1], 7))
        if k % 5 == 0:
            depth = predicted
            if rng.random() < 0.1:
                depth = rng.choice(bad_values, (120, 160))
            _, scale = anchor.apply(depth, 'indoor', stamp)
            assert scale.value == 1 or abs(scale.value / 1.25 - 1) < 0.02
            assert math.isfinite(scale.deviation)
            measured += scale.reason == ''
    assert measured > 300
    causes = {cause for cause in anchor.counts if anchor.counts[cause]}
    assert causes >= {
        'points: malformed', 'points: nan or infinite', 'points: out of range', 'points: stamp',
        'points: time went back', 'scan: malformed', 'scan: nan', 'scan: infinite',
        'scan: out of range', 'scan: angles', 'depth: image size', 'depth: outside',
        'frames: no stamp', 'frames: silent'}


def test_two_thousand_points_cost_about_as_much_as_six_logarithms_of_an_image():
    camera = Camera(640, 480, 500, 500, 320, 240, 'plumb_bob', (-0.2, 0.05, 0.001, 0.001, 0))
    rng = np.random.default_rng(0)
    depth = (2 + np.add.outer(np.linspace(0, 1, 480), np.linspace(0, 2, 640))).astype(np.float32)
    v, u = rng.integers(0, 480, 2000), rng.integers(0, 640, 2000)
    points = from_cloud(np.concatenate([camera.rays[v, u], np.ones((2000, 1))], axis=1)
                        * depth[v, u, None])
    anchor = Anchor()
    anchor.configure(camera, Source('points'))
    ours, logarithms = [], []
    for k in range(15):
        begin = process_time()
        anchor.observe(points, k * PERIOD, 'points')
        anchor.apply(depth, 'indoor', k * PERIOD)
        middle = process_time()
        np.log(depth.astype(np.float64))
        ours.append(middle - begin)
        logarithms.append(process_time() - middle)
    assert min(ours) < 18 * min(logarithms)
