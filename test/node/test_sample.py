"""The sample bag through the full ZoeD-M12-NK, offline and live, with made-up weights."""
from bags import read_bag, write_bag
import numpy as np
import pytest
from ros_support import bag_frames, Client, ROOT, running_node
import torch

from zoe_ros.bag import BagReader
from zoe_ros.messages import nanoseconds
from zoe_ros.run import run
from zoe_ros.settings import RunSettings

SAMPLE = ROOT / 'zoe_ros' / 'data' / 'sample'


def thinned(path, chosen):
    """Write some of the images of the sample, with their CameraInfo, as a new bag."""
    found = read_bag(SAMPLE)
    messages = [(topic, message, recorded)
                for topic in ('/camera/camera_info', '/camera/image_raw/compressed')
                for recorded, message in (found[topic][i] for i in chosen)]
    return write_bag(path, messages, 'mcap')


@pytest.mark.full
def test_the_full_model_offline_and_live_agree(official, tmp_path):
    with official('nk') as weights:
        # A few of its frames: the full model takes seconds for one on a CPU.
        bag = thinned(tmp_path / 'thinned', range(0, 40, 9))
        folder = run(RunSettings(data=str(bag), output=str(tmp_path), weights=str(weights),
                                 device='cpu', router_time_constant=0))
        results = {topic: [message for _, message in found]
                   for topic, found in read_bag(folder / 'bag').items()}
        with BagReader(bag) as images:
            stamps = [nanoseconds(image.message.header.stamp) for image in images]
        for topic in ('/depth/image', '/depth/camera_info', '/points'):
            assert [nanoseconds(m.header.stamp) for m in results[topic]] == stamps

        # As many threads as here, because a matrix product rounds differently with another number.
        with running_node(weights=str(weights), device='cpu', image_transport='compressed',
                          router_time_constant=0.0, threads=torch.get_num_threads()) as node, \
                Client(node) as client:
            node.wait_for('waiting for images')
            client.wait_for_match()
            for image, info in bag_frames(bag):
                client.ask(image, info)
            node.end()
        # By stamp: on a slow machine an image may be asked for twice.
        for topic, live in (('/depth/image', client.depth), ('/points', client.points)):
            found = {nanoseconds(message.header.stamp): message for message in live}
            assert set(found) == set(stamps)
            for stamp, message in zip(stamps, results[topic]):
                assert found[stamp].data.tobytes() == message.data.tobytes()
    depth = np.frombuffer(results['/depth/image'][0].data, '<f4')
    assert np.isfinite(depth).mean() > 0.9
