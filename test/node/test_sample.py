"""The sample bag through the full ZoeD-M12-NK, offline and live, with made-up weights."""
from operator import itemgetter

from bags import read_bag, write_bag
import numpy as np
import pytest
from ros_support import bag_frames, Client, PATIENCE, ROOT, running_node
import torch

from zoe_ros.bag import BagReader
from zoe_ros.headers import nanoseconds
from zoe_ros.run import run
from zoe_ros.settings import RunSettings

SAMPLE = ROOT / 'zoe_ros' / 'data' / 'sample'


@pytest.fixture
def short(tmp_path):
    """Return a bag with every ninth frame: the full model takes seconds for one on a CPU."""
    messages = [(topic, message, recorded) for topic, found in read_bag(SAMPLE).items()
                for recorded, message in found[::9]]
    return write_bag(tmp_path / 'short', sorted(messages, key=itemgetter(2)))


@pytest.mark.full
def test_the_full_model_offline_and_live_agree(official, short, tmp_path):
    weights = official('nk')
    folder = run(RunSettings(data=str(short), output=str(tmp_path / 'results'),
                             weights=str(weights), device='cpu', router_time_constant=0))
    results = {topic: [message for _, message in found]
               for topic, found in read_bag(folder / 'bag').items()}
    with BagReader(short) as bag:
        stamps = [nanoseconds(image.message.header.stamp) for image in bag]
    assert len(stamps) >= 5
    for topic in ('/depth/image', '/depth/camera_info', '/depth/points'):
        assert [nanoseconds(m.header.stamp) for m in results[topic]] == stamps

    # As many threads as here, because a matrix product rounds differently with another number.
    with running_node(weights=str(weights), device='cpu', image_transport='compressed',
                      router_time_constant=0.0, threads=torch.get_num_threads()) as node, \
            Client(node) as client:
        node.wait_for('waiting for images')
        client.wait_for_match()
        for image, info in bag_frames(short):
            client.ask(image, info, interval=PATIENCE)
        node.end()
    for topic, live in (('/depth/image', client.depth), ('/depth/points', client.points)):
        found = {nanoseconds(message.header.stamp): message for message in live}
        assert set(found) == set(stamps)
        for stamp, expected in zip(stamps, results[topic]):
            assert found[stamp].data.tobytes() == expected.data.tobytes()
    depth = np.frombuffer(results['/depth/image'][0].data, '<f4')
    assert np.isfinite(depth).mean() > 0.9
