"""The sample bag through the full ZoeD-M12-NK, offline and live, with made-up weights."""
from bags import read_bag
import numpy as np
import pytest
from ros_support import bag_frames, Client, ROOT, running_node
import torch

from zoe_ros.bag import BagReader
from zoe_ros.messages import nanoseconds
from zoe_ros.run import run
from zoe_ros.settings import RunSettings

SAMPLE = ROOT / 'zoe_ros' / 'data' / 'sample'


@pytest.mark.full
def test_the_full_model_offline_and_live_agree(official, tmp_path):
    with official('nk') as weights:
        folder = run(RunSettings(data=str(SAMPLE), output=str(tmp_path), weights=str(weights),
                                 device='cpu', router_time_constant=0))
        results = {topic: [message for _, message in found]
                   for topic, found in read_bag(folder / 'bag').items()}
        with BagReader(SAMPLE) as bag:
            stamps = [nanoseconds(image.message.header.stamp) for image in bag]
        for topic in ('/depth/image', '/depth/camera_info', '/points'):
            assert [nanoseconds(m.header.stamp) for m in results[topic]] == stamps

        # Few of the frames come live: each is routed on its own. As many threads as here, because
        # a matrix product rounds differently with another number.
        with running_node(weights=str(weights), device='cpu', image_transport='compressed',
                          router_time_constant=0.0, threads=torch.get_num_threads()) as node, \
                Client(node) as client:
            node.wait_for('waiting for images')
            client.wait_for_match()
            frames = bag_frames(SAMPLE)
            # One frame of each photograph: the full model takes seconds for one on a CPU.
            chosen = range(0, len(frames), 5)
            for i in chosen:
                client.ask(*frames[i])
            node.end()
        # By stamp: on a slow machine an image may be asked for twice.
        for topic, live in (('/depth/image', client.depth), ('/points', client.points)):
            found = {nanoseconds(message.header.stamp): message for message in live}
            assert set(found) == {stamps[i] for i in chosen}
            for i in chosen:
                assert found[stamps[i]].data.tobytes() == results[topic][i].data.tobytes()
    depth = np.frombuffer(results['/depth/image'][0].data, '<f4')
    assert np.isfinite(depth).mean() > 0.9
