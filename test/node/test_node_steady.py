"""The node steadies depth as ``zoe run`` does."""
import bags
import numpy as np
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
