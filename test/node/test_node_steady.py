"""The node steadies depth as ``zoe run`` does."""
import bags
import numpy as np
import pytest
from ros_support import Client, good_info, READY, ROS, running_node, stamp, tiny

from zoe_ros.cli import main

COUNT, SIZE = 8, (48, 64)


def test_live_depth_is_that_of_zoe_run(tiny_weights, tmp_path):
    # A camera that stands still before a scene whose light changes.
    rng = np.random.default_rng(0)
    pixels = [np.clip(bags.picture(*SIZE) + rng.normal(rng.normal(0, 8), 3, (*SIZE, 3)),
                      0, 255).astype(np.uint8) for _ in range(COUNT)]
    stamps = [10 + index / 10 for index in range(COUNT)]
    recorded = []
    for image, at in zip(pixels, stamps):
        header = {'stamp': round(at * 1e9), 'frame': 'cam'}
        recorded += [('/camera/camera_info', bags.ROSBAGS.info(*SIZE, **header), round(at * 1e9)),
                     ('/camera/image_raw', bags.ROSBAGS.photo(image, 'rgb8', **header),
                      round(at * 1e9) + 1)]
    bag = bags.write_bag(tmp_path / 'bag', recorded)

    def run(name, *options):
        assert main(['run', str(bag), '--variant', 'tiny', '--weights', str(tiny_weights),
                     '--device', 'cpu', '--precision', 'fp32', *options, '--output',
                     str(tmp_path / name)]) == 0
        return [bags.depth_of(message) for _, message in bags.read_bag(
            tmp_path / name / 'latest/bag')['/depth/image']]

    offline, plain = run('steady', '--scale-time-constant', '2'), run('plain')
    with running_node(**tiny(tiny_weights, scale_time_constant=2.0)) as node, \
            Client(node, compressed=False) as client:
        node.wait_for(READY)
        client.wait_for_match()
        live = [bags.depth_of(client.ask(stamp(ROS.photo(image, 'rgb8', frame='cam'), at),
                                         good_info(at))) for image, at in zip(pixels, stamps)]
    for one, other in zip(live, offline, strict=True):
        assert np.allclose(one, other, rtol=1e-6)
    assert not np.allclose(plain[-1], offline[-1], rtol=1e-3)


@pytest.mark.parametrize('policy, ahead', [('latest', 0.4), ('every', 60.0)])
def test_odometry_says_that_the_robot_stands(policy, ahead, tiny_weights):
    # With policy 'every' images wait for the network, and odometry does not.
    nav = pytest.importorskip('nav_msgs.msg', reason='nav_msgs comes with a ROS distribution')

    def image(level, at):
        # Without texture, so that the image alone does not tell.
        return stamp(ROS.photo(np.full((*SIZE, 3), level, np.uint8), 'rgb8', frame='cam'), at)

    with running_node(**tiny(tiny_weights, scale_time_constant=2.0, policy=policy)) as node, \
            Client(node, compressed=False) as client:
        node.wait_for(READY)
        wheels = client.node.create_publisher(nav.Odometry, 'odom', 20)
        client.wait_for_match()
        client.wait_until(wheels.get_subscription_count, what='a subscription of odometry')

        def depth(level, at):
            return bags.depth_of(client.ask(image(level, at), good_info(at)))

        plain = [depth(level, at) for level, at in ((90, 10.0), (94, 10.1))]
        # Two topics: on a busy machine an image may overtake the odometry. After each gap the
        # filter begins again.
        for start in range(20, 220, 20):
            for at in (*np.arange(start - 0.1, start + 0.4, 0.05),
                       *np.arange(start + 0.4, start + ahead, 0.4)):
                message = stamp(nav.Odometry(child_frame_id='cam'), float(at))
                message.header.frame_id = 'odom'
                message.pose.pose.orientation.w = 1.0
                wheels.publish(message)
                client.spin(0.005)
            client.spin(0.5)
            first, second = depth(90, float(start)), depth(94, start + 0.1)
            if not np.allclose(second, plain[1], rtol=1e-5):
                break
    assert np.allclose(first, plain[0], rtol=1e-6)
    # One number, because the frame before is known to show the same place.
    factor = second / plain[1]
    assert np.ptp(factor) < 1e-5 and abs(factor.mean() - 1) > 1e-4
