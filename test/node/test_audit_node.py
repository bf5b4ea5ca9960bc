"""Which CameraInfo an image gets, and how old its outputs are said to be."""
import time

import numpy as np
from ros_support import (
    Client,
    good_image,
    good_info,
    lossless,
    READY,
    running_node,
    seconds_of,
    tiny,
)


def test_a_camera_info_that_is_too_old_is_not_used(tiny_weights):
    for tolerance, clouds in ((0.05, False), (0.2, True)):
        with running_node(**tiny(tiny_weights, camera_info_tolerance=tolerance)) as node, \
                Client(node, compressed=False) as client:
            node.wait_for(READY)
            client.wait_for_match()
            client.ask(good_image(1.0), good_info(1.0))
            client.ask(good_image(1.04), outputs=('depth/image', 'depth/points'))
            client.clear()
            client.ask(good_image(1.1), outputs=('depth/image', 'depth/points')[:1 + clouds])
            client.spin(0.0 if clouds else 1.0)
            assert [seconds_of(cloud) for cloud in client.points] == [1.1] * clouds
            assert ('no cloud: there is no CameraInfo' in node.output) != clouds


def test_the_age_of_an_output_counts_from_the_stamp_of_its_image(raw_node, raw):
    age = 'age at publish p50 [ms]'
    raw.next_report(lambda status, values: age not in values)       # frames of others are over
    # The stamp of a driver that has taken five seconds to deliver the image.
    raw.ask(good_image(time.time() - 5.0))
    values = raw.next_report(lambda status, values: age in values)
    assert 5000 <= float(values[age]) < 60000


def test_with_policy_every_each_image_has_its_own_camera_info(tiny_weights):
    count = 150     # more than the node keeps
    with lossless(tiny_weights) as (node, client):
        stamps = [5 + i for i in range(count)]
        for at in stamps:
            client.infos.publish(good_info(at, k=focal(at)))
            client.images.publish(good_image(at))
        client.wait_until(lambda: len(client.points) >= count, what='the last cloud')
        assert [seconds_of(message) for message in client.camera_info] == stamps
        assert [message.k[0] for message in client.camera_info] == [focal(at)[0] for at in stamps]
        assert node.end() == 0, node.output


def focal(at):
    """Return K of a camera that zooms: its focal length [px] tells the time [s]."""
    return np.array([100.0 + at, 0, 31.5, 0, 100.0 + at, 23.5, 0, 0, 1])
