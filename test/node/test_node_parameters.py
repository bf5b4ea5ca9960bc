"""Parameters of the running node: the effect of each, what is refused, and what they hold."""
from dataclasses import fields

from bags import cloud_points
from node_messages import array_of, DEFAULTS, info_for, JUMP, raw_image
import numpy as np
from rcl_interfaces.srv import DescribeParameters, GetParameters
from rclpy.parameter import parameter_value_to_python
from ros_support import (
    Client,
    good_image,
    good_info,
    KEEP_ALL,
    OUTPUTS,
    read_values,
    READY,
    running_node,
    seconds_of,
    tiny,
)

from zoe_ros.ros.parameters import DepthParameters


class Look:
    """
    What has come of one image, for a look at the effect of a parameter.

    :ivar base: the same with the parameters as they are by default.
    """

    def __init__(self, client, base=None, middle=None):
        """Take the last message of each output."""
        last = {name: messages[-1] for name, messages in client.received.items()}
        self.base, self.middle = base, np.float32(middle or 0)
        self.depth = array_of(last['depth/image'])
        self.deviation = array_of(last['depth/uncertainty'])
        self.colors = array_of(last['depth/image_colored'])
        self.info, self.cloud, self.head = (
            last[name] for name in ('depth/camera_info', 'depth/points', 'depth/head'))

    @property
    def trust(self):
        """Return an uncertainty that half of the pixels exceed."""
        return float(np.nanmedian(self.deviation / self.depth))

    def follows(self, height, width):
        """Tell whether depth has this size and CameraInfo follows."""
        info, old = self.info, self.base.info
        sy, sx = height / old.height, width / old.width
        return (self.depth.shape == (info.height, info.width) == (height, width)
                and np.allclose(info.k, np.multiply(old.k, (sx, 1, sx, 1, sy, sy, 1, 1, 1)))
                and np.allclose(info.p, np.multiply(
                    old.p, (sx, 1, sx, sx, 1, sy, sy, sy, 1, 1, 1, 1))))


MIDDLE = 'the median of depth'      # stands for it, because that is not known before
TRUST = 'the median of the relative uncertainty'


def changed(look):
    """Tell whether depth differs and is as complete as before."""
    return look.depth.shape == look.base.depth.shape and not np.array_equal(
        look.depth, look.base.depth, equal_nan=True)


def thinned(look):
    """Tell whether depth lost pixels and no more."""
    kept = ~np.isnan(look.depth)
    return kept.sum() < (~np.isnan(look.base.depth)).sum() and np.mean(
        look.depth[kept] == look.base.depth[kept]) > 0.5


EFFECTS = [
    ({'router': 'indoor'}, lambda look: look.head.data == 'indoor 1.000'),
    ({'router': 'outdoor'}, lambda look: look.head.data == 'outdoor 1.000'),
    ({'min_depth': MIDDLE}, lambda look: np.array_equal(look.depth, np.where(
        look.base.depth < look.middle, -np.inf, look.base.depth), equal_nan=True)
        and np.isneginf(look.depth).any() and np.isfinite(look.depth).any()),
    ({'max_depth': MIDDLE}, lambda look: np.array_equal(look.depth, np.where(
        look.base.depth > look.middle, np.inf, look.base.depth), equal_nan=True)
        and np.isposinf(look.depth).any() and np.isfinite(look.depth).any()),
    ({'max_depth': MIDDLE, 'far_value': 50.0}, lambda look: np.array_equal(look.depth, np.where(
        look.base.depth > look.middle, 50, look.base.depth), equal_nan=True)
        and np.nanmax(cloud_points(look.cloud)[..., 2]) == 50),
    ({'depth_scale': 2.0}, lambda look: np.allclose(
        look.depth, 2 * look.base.depth, rtol=1e-4, equal_nan=True)),
    ({'depth_scale': 2}, lambda look: np.allclose(
        look.depth, 2 * look.base.depth, rtol=1e-4, equal_nan=True)),
    ({'focal_correction': True}, lambda look: changed(look) and np.nanstd(
        look.depth / look.base.depth) < 1e-4),
    ({'camera_view': 'training'}, changed),
    ({'edge_threshold': JUMP}, thinned),
    ({'max_relative_uncertainty': TRUST}, thinned),
    ({'sky': 'inf', 'router': 'outdoor', 'depth_scale': 100.0}, lambda look: np.isposinf(
        look.depth).any() and np.isfinite(look.depth).any()),
    ({'interpolation': 'linear'}, changed),
    ({'interpolation': 'nearest'}, lambda look: changed(look) and len(
        np.unique(look.depth)) <= 64 * 96),
    ({'output_size': 'network'}, lambda look: look.follows(64, 96)),
    ({'output_decimation': 2}, lambda look: np.array_equal(
        look.depth, look.base.depth[::2, ::2], equal_nan=True)
        and look.follows(*look.depth.shape)),
    ({'color_min_depth': MIDDLE}, lambda look: not np.array_equal(look.colors, look.base.colors)),
    ({'color_max_depth': MIDDLE}, lambda look: not np.array_equal(look.colors, look.base.colors)),
    ({'point_cloud_downsample': 1}, lambda look: (
        look.cloud.height, look.cloud.width) == look.depth.shape),
    ({'point_cloud_max_range': MIDDLE}, lambda look: np.nanmax(
        cloud_points(look.cloud)[..., 2]) <= look.middle
        and np.array_equal(look.depth, look.base.depth, equal_nan=True)),
    ({'point_cloud_color': False}, lambda look: look.cloud.point_step == 12
        and [field.name for field in look.cloud.fields] == ['x', 'y', 'z']),
]
# These two are about time and have tests of their own.
OF_TIME = {'router_time_constant', 'point_cloud_max_rate'}


def test_every_parameter_of_the_running_node_has_an_effect(full, photos):
    assert {name for values, _ in EFFECTS for name in values} | OF_TIME == set(DEFAULTS)
    image, info = raw_image(photos[0], stamp=3), info_for(photos[0], stamp=3, focal=500.0)
    full.ask(image, info, tuple(OUTPUTS))
    base = Look(full)
    middle = round(float(np.nanmedian(base.depth)), 2)

    def change_until(values, condition):
        # Frames are under way while the parameters change.
        for _ in range(3):
            full.images.publish(image)
        assert full.change_at_once(**values) == ''
        full.clear()

        def effective():
            return all(full.received.values()) and condition(Look(full, base, middle))

        full.ask_until(image, effective, info, 0.5, str(values))

    for values, condition in EFFECTS:
        values = {name: {MIDDLE: middle, TRUST: base.trust}.get(value, value)
                  for name, value in values.items()}
        change_until(values, condition)
        change_until(DEFAULTS, lambda look: np.array_equal(
            look.depth, base.depth, equal_nan=True) and look.cloud == base.cloud)


BAD = [
    ({'router': 'kitchen'}, "parameter 'router' is 'kitchen', not one of auto, indoor, outdoor"),
    ({'router': 1}, "parameter 'router' is 1, not of type str"),
    ({'min_depth': 5.0, 'max_depth': 4.0}, "not less than 'max_depth' = 4"),
    ({'min_depth': 2000.0}, 'min_depth'),
    ({'max_depth': float('nan')}, 'max_depth'),
    ({'far_value': 10.0}, 'far objects would seem near'),
    ({'depth_scale': 0.0}, 'depth_scale'),
    ({'depth_scale': 'two'}, "parameter 'depth_scale' is 'two', not of type float"),
    ({'depth_scale': True}, "parameter 'depth_scale' is True, not of type float"),
    ({'depth_scale': [2.0]}, "'depth_scale'"),
    ({'depth_scale': None}, "'depth_scale'"),
    ({'output_decimation': 2.5}, "parameter 'output_decimation' is 2.5, not of type int"),
    ({'output_decimation': 65}, 'output_decimation'),
    ({'point_cloud_color': 'yes'}, "parameter 'point_cloud_color' is 'yes', not of type bool"),
    ({'no_such_parameter': 1}, 'undeclared'),
    ({'use_sim_time': 'sometimes'}, ''),
]


def test_a_bad_set_changes_nothing_and_says_why(raw, photos):
    image, info = raw_image(photos[0], stamp=3), info_for(photos[0], stamp=3)
    before = bytes(raw.ask(image, info).data), bytes(raw.points[-1].data)
    for values, reason in BAD:
        # A good change beside the bad one must not be taken, either.
        good = {'point_cloud_downsample': 9, 'depth_scale': 3.0}
        text = raw.change_at_once(**{**good, **values})
        assert text and reason in text, (values, text)
        if len(values) == 1:
            text, = raw.change(**values)
            assert text and reason in text, (values, text)
        now = raw.call(GetParameters, 'get_parameters',
                       GetParameters.Request(names=list(DEFAULTS)))
        assert {name: parameter_value_to_python(value)
                for name, value in zip(DEFAULTS, now.values)} == DEFAULTS, values
        raw.ask(image, info)
        assert (bytes(raw.depth[-1].data), bytes(raw.points[-1].data)) == before, values


def test_what_is_read_at_configure_cannot_change_afterwards(raw):
    fixed = [item for item in fields(DepthParameters) if not item.metadata['runtime']]
    assert {'variant', 'weights', 'device', 'policy', 'autostart'} <= {f.name for f in fixed}
    for item in fixed:
        value = list(item.default) if isinstance(item.default, tuple) else item.default
        reason, = raw.change(**{item.name: value})
        assert f"'{item.name}' is read when the node is configured" in reason


def test_descriptors_say_what_a_parameter_means_and_accepts(raw):
    items = fields(DepthParameters)
    answer = raw.call(DescribeParameters, 'describe_parameters', DescribeParameters.Request(
        names=[item.name for item in items]))
    for item, descriptor in zip(items, answer.descriptors):
        meta = item.metadata
        assert descriptor.name == item.name
        assert descriptor.description == meta['text']
        # Until the node is configured, a lifecycle manager may set all of them.
        assert not descriptor.read_only
        ranges = [*descriptor.floating_point_range, *descriptor.integer_range]
        assert [(r.from_value, r.to_value) for r in ranges] == (
            [] if meta['low'] is None else [(meta['low'], meta['high'])])
        for choice in meta['choices']:
            assert choice in descriptor.additional_constraints


def test_the_time_constant_holds_the_head(raw_node, photos):
    with Client(raw_node, compressed=False, outputs=('depth/head',)) as client:
        client.wait_for_match()
        heads = client.received['depth/head']

        def heads_of(first, constant):
            assert client.change(router_time_constant=constant) == ['']
            client.clear()
            for i, name in enumerate(['indoor', 'outdoor', 'indoor', 'outdoor']):
                client.ask(raw_image(by_head[name], stamp=first + 0.1 * i),
                           outputs=('depth/head',))
            return [head.data.split()[0] for head in heads]

        try:
            assert client.change(router_time_constant=0.0) == ['']
            by_head = {}
            for photo in photos:
                client.ask(raw_image(photo), outputs=('depth/head',))
                by_head[heads[-1].data.split()[0]] = photo
            assert set(by_head) == {'indoor', 'outdoor'}
            assert heads_of(10, 0.0) == ['indoor', 'outdoor'] * 2
            assert heads_of(20, 3600.0)[1:] != ['outdoor', 'indoor', 'outdoor']
            # A bag that starts anew: stamps go back and the past is forgotten.
            assert heads_of(5, 3600.0) == ['indoor'] * 4
        finally:
            assert client.change_at_once(**DEFAULTS) == ''


def test_clouds_come_at_most_as_often_as_they_may_by_the_stamps(raw, photos):
    photo = photos[0]
    raw.ask(raw_image(photo, stamp=49), info_for(photo, stamp=49))
    raw.clear()
    assert raw.change(point_cloud_max_rate=2.0) == ['']
    for i in range(15):
        at = 50 + i / 10
        raw.infos.publish(info_for(photo, stamp=at))
        raw.ask(raw_image(photo, stamp=at))
    # Stamps that jump back start anew.
    raw.ask(raw_image(photo, stamp=40), info_for(photo, stamp=40))
    raw.wait_until(lambda: len(raw.points) >= 4, what='the clouds')
    assert [round(seconds_of(cloud), 1) for cloud in raw.points] == [50.0, 50.5, 51.0, 40.0]
    assert len(raw.depth) == 16


def test_an_image_between_two_clouds_is_not_computed_unless_something_learns_from_it(
        tiny_weights):
    steps = [10 + i / 10 for i in range(12)]
    learning = {'scale_time_constant': 2.0}, {'anchor': 'depth'}
    for more, frames in (({}, 3), *((choice, len(steps)) for choice in learning)):
        with running_node(**tiny(tiny_weights, policy='every', point_cloud_max_rate=2.0,
                                 diagnostics_period=0.2, **more)) as node, \
                Client(node, compressed=False, outputs=('depth/points',), qos=KEEP_ALL,
                       listen_qos=KEEP_ALL) as client:
            node.wait_for(READY)
            client.wait_for_match()
            client.ask(good_image(1), good_info(1), ('depth/points',))
            client.next_report(lambda status, values: values['rate in [Hz]'] == '0.00')
            begin = len(client.reports)
            for at in steps:
                client.images.publish(good_image(at))
            client.wait_until(lambda: len(client.points) >= 4, what='the last cloud')
            client.next_report(lambda status, values: values['rate in [Hz]'] == '0.00')
            assert [seconds_of(cloud) for cloud in client.points] == [1, 10.0, 10.5, 11.0]
            values = [read_values(status) for status in client.reports[begin:]]
            assert sum(round(0.2 * float(v['rate in [Hz]'])) for v in values) == len(steps)
            assert sum(round(0.2 * float(v['rate out [Hz]'])) for v in values) == frames, more
            assert not any(key.startswith('dropped') for v in values for key in v)
            assert more or {v['message'] for v in values} <= {'working', 'no images arrive'}


def test_clouds_of_a_camera_without_stamps_go_by_the_time(raw, photos):
    photo = photos[0]
    raw.ask(raw_image(photo, stamp=0), info_for(photo, stamp=0))
    raw.clear()
    assert raw.change(point_cloud_max_rate=1000.0) == ['']
    for _ in range(3):
        raw.ask(raw_image(photo, stamp=0), info_for(photo, stamp=0))
    raw.wait_until(lambda: len(raw.points) >= 3, what='the clouds')


def test_a_lost_image_does_not_use_up_the_turn_of_a_cloud(raw, photos):
    photo = photos[0]
    assert raw.change(point_cloud_max_rate=2.0) == ['']
    broken = raw_image(photo, stamp=60)
    broken.step = 1
    seen = raw.next_report().get('dropped: data', '0')
    raw.images.publish(broken)
    raw.next_report(lambda status, values: values.get('dropped: data', '0') != seen)
    raw.ask(raw_image(photo, stamp=60.1), info_for(photo, stamp=60.1))
    assert [round(seconds_of(cloud), 1) for cloud in raw.points] == [60.1]
