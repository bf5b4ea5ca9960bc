"""The stats behind /diagnostics: counts, times and levels, without a node."""
from threading import Thread

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message

from zoe_ros.anchor.anchor import Anchor
from zoe_ros.ros.diagnostics import FrameStats

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
UNKNOWN = Anchor().measure(np.ones((4, 4), np.float32), 'indoor', 1.0)
FACTS = {'device': 'abacus (10 beads)', 'model': 'ZoeD'}


def report(stats, period=2.0, listening=('',), **facts):
    """Return the status of the period that ends now, and its values."""
    message = stats.report(Time(sec=3, nanosec=4), '/robot/depth_node', period,
                           {**FACTS, **facts}, listening)
    # What it says can be sent.
    again = deserialize_message(serialize_message(message), type(message))
    assert again == message
    status, = message.status
    assert message.header.stamp == Time(sec=3, nanosec=4)
    values = {pair.key: pair.value for pair in status.values}
    assert len(values) == len(status.values)
    return status, values


def publish(stats, age=0.1, head='indoor', probability=0.9, camera='', **seconds):
    """Tell of a frame that came in and went out."""
    stats.received(camera)
    stats.published(camera, age, seconds, head, probability)


def test_an_empty_report_has_a_name_facts_and_no_times():
    status, values = report(FrameStats(), listening=())
    assert status.name == '/robot/depth_node: depth'
    assert status.hardware_id == 'abacus (10 beads)'
    assert values == {'rate in [Hz]': '0.00', 'rate out [Hz]': '0.00', **FACTS}


def test_rates_are_those_of_the_period():
    stats = FrameStats()
    for _ in range(7):
        stats.received('')
    for _ in range(3):
        stats.published('', 0.1, {}, 'indoor', 0.9)
    _, values = report(stats, period=2.0)
    assert (values['rate in [Hz]'], values['rate out [Hz]']) == ('3.50', '1.50')
    _, values = report(stats)
    assert (values['rate in [Hz]'], values['rate out [Hz]']) == ('0.00', '0.00')
    assert not any(key.startswith('age') for key in values)


def test_times_are_percentiles_in_milliseconds_of_each_stage():
    stats = FrameStats()
    for i in range(101):
        publish(stats, age=i / 1000, network=2 * i / 1000, decode=0.0015)
    _, values = report(stats)
    assert values['age at publish p50 [ms]'] == '50.0'
    assert values['age at publish p95 [ms]'] == '95.0'
    assert values['network p50 [ms]'] == '100.0'
    assert values['network p95 [ms]'] == '190.0'
    assert values['decode p50 [ms]'] == values['decode p95 [ms]'] == '1.5'


def test_the_head_is_the_last_one_and_is_remembered():
    stats = FrameStats()
    publish(stats, head='indoor', probability=0.9)
    publish(stats, head='outdoor', probability=0.625)
    assert report(stats)[1]['head'].startswith('outdoor 0.6')
    assert report(stats)[1]['head'].startswith('outdoor 0.6')


def test_lost_images_are_counted_from_the_start():
    stats = FrameStats()
    stats.dropped('newer')
    stats.dropped('corrupt', 3)
    assert report(stats)[1]['dropped: corrupt'] == '3'
    stats.dropped('corrupt')
    _, values = report(stats)
    assert (values['dropped: newer'], values['dropped: corrupt']) == ('1', '4')
    assert stats.totals == {'newer': 1, 'corrupt': 4}
    assert list(values).index('dropped: corrupt') < list(values).index('dropped: newer')


def test_counting_nothing_lists_nothing():
    stats = FrameStats()
    stats.dropped('newer', 0)
    status, values = report(stats, listening=())
    assert status.level == OK
    assert values.get('dropped: newer', '0') == '0'


@pytest.mark.parametrize(('received', 'dropped', 'listening', 'level', 'text'), [
    (10, {}, [''], OK, 'working'),
    (10, {}, [], OK, 'nobody listens'),
    (0, {}, [], OK, 'nobody listens'),
    (0, {}, [''], WARN, 'no images arrive'),
    (10, {'newer': 5}, [''], OK, 'working'),
    (10, {'newer': 6}, [''], WARN, 'slower than the camera: most images are dropped'),
    (10, {'data': 1}, [''], WARN, '1 image could not be used'),
    (10, {'data': 1, 'size': 2, 'newer': 7}, [''], WARN, '3 images could not be used'),
    (10, {'data': 1}, [], WARN, '1 image could not be used'),
    (10, {'error': 2, 'data': 1}, [''], ERROR, '2 frames lost to errors'),
    (10, {'error': 1}, [], ERROR, '1 frame lost to errors'),
])
def test_levels(received, dropped, listening, level, text):
    stats = FrameStats()
    for _ in range(received):
        stats.received('')
    for cause, count in dropped.items():
        stats.dropped(cause, count)
    status, _ = report(stats, listening=listening)
    assert (status.level, status.message[:len(text)]) == (level, text)
    # What is over is over: the next period begins without blame.
    publish(stats)
    status, _ = report(stats)
    assert (status.level, status.message) == (OK, 'working')


def test_an_output_that_cannot_be_made_matters_to_who_listens():
    stats = FrameStats()
    for listening, said in ((['front', 'rear'], 'subscribed but not made: front: no cloud'),
                            (['rear'], 'working')):
        publish(stats, camera='rear')
        stats.received('front')
        stats.published('front', 0.1, {}, 'indoor', 0.9, not_made='no cloud')
        assert report(stats, listening=listening)[0].message == said


def test_an_error_stands_until_a_frame_has_worked():
    stats = FrameStats()
    stats.dropped('error')
    assert report(stats)[0].level == ERROR
    for listening in ([''], []):
        stats.received('')
        status, values = report(stats, listening=listening)
        assert status.level == ERROR
        assert status.message == 'no frame has worked since the last error'
        assert values['dropped: error'] == '1'
    stats.dropped('data')
    assert report(stats)[0].level == ERROR
    publish(stats)
    assert report(stats)[0].level == OK


def test_each_camera_is_watched_and_has_its_head():
    stats = FrameStats()
    publish(stats, camera='front', head='indoor')
    publish(stats, camera='front', head='outdoor')
    publish(stats, camera='left/eye')
    status, values = report(stats, period=1.0, listening=['front', 'left/eye', 'rear', 'top'])
    assert (status.level, status.message) == (WARN, 'no images arrive from rear, top')
    assert (values['rate in [Hz]'], values['rate out [Hz]']) == ('3.00', '3.00')
    assert (values['head front'], values['head left/eye']) == ('outdoor 0.90', 'indoor 0.90')
    publish(stats, camera='front')
    # Nobody listens to the others: their silence is no trouble.
    status, _ = report(stats, listening=['front'])
    assert (status.level, status.message) == (OK, 'working')


def test_after_a_restart_nothing_is_left_of_the_frames_before():
    stats = FrameStats()
    stats.dropped('data')
    stats.dropped('error')
    stats.received('front')
    stats.published('front', 0.1, {'network': 0.1}, 'indoor', 0.9, 'no cloud', UNKNOWN)
    stats.restart()
    stats.received('')
    status, values = report(stats)
    assert (status.level, status.message) == (OK, 'working')
    assert set(values) == {'rate in [Hz]', 'rate out [Hz]', 'dropped: data', 'dropped: error',
                           *FACTS}
    stats.dropped('error')
    stats.restart()
    assert report(stats)[0].level == ERROR, 'no frame has worked since'


def test_two_threads_and_a_reporter_lose_no_count():
    stats, count = FrameStats(), 3000

    def write(cause):
        for _ in range(count):
            stats.dropped(cause)
            publish(stats, network=0.01)

    threads = [Thread(target=write, args=(cause,)) for cause in ('newer', 'data')]
    for thread in threads:
        thread.start()
    total = 0.0
    while any(thread.is_alive() for thread in threads):
        total += float(report(stats, period=1.0)[1]['rate out [Hz]'])
    total += float(report(stats, period=1.0)[1]['rate out [Hz]'])
    assert total == 2 * count
    assert stats.totals == {'newer': count, 'data': count}
