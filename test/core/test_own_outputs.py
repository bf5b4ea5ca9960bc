"""Bags that were recorded while the node ran: its outputs are neither truth nor images."""
from pathlib import Path

import bags
import numpy as np
import pytest
from test_datasets_bags import DEPTH, depth_image, EVERY, HEIGHT, INFO, metres, RAW, WIDTH

from zoe_ros import bag as bag_module
from zoe_ros.bag import BagError, BagReader
from zoe_ros.bag_anchor import BagAnchor
from zoe_ros.bag_messages import BAG_TYPES
from zoe_ros.datasets.bags import RecordedDepth, RgbdBag
from zoe_ros.messages import compressed_depth_message
from zoe_ros.outputs import own_topics, perhaps_own_topics
from zoe_ros.settings import RunSettings

OWN = '/robot/depth/'


def message_for(topic, index, stamp):
    """Return what is recorded on a topic; the node's own depth has no hole, a sensor's has."""
    dense = np.full((HEIGHT, WIDTH), 2.0 + index, np.float32)
    depth = dense if topic.startswith(OWN) else metres(index)
    if topic.endswith('camera_info'):
        return bags.ROSBAGS.info(HEIGHT, WIDTH, stamp=stamp)
    if topic in (RAW, f'{OWN}image_colored'):
        return bags.ROSBAGS.photo(bags.picture(HEIGHT, WIDTH, index), stamp=stamp)
    if topic.endswith('compressedDepth'):
        return compressed_depth_message(BAG_TYPES, bags.ROSBAGS.header(stamp=stamp), depth)
    return depth_image(depth, stamp=stamp)


@pytest.fixture
def recorded(tmp_path):
    """Return a function: topics beside those of the camera -> the path of a bag."""
    def written(*topics):
        return bags.write_bag(tmp_path / 'bag', [
            (topic, message_for(topic, index, stamp), stamp)
            for index, stamp in enumerate(range(bags.START, bags.START + 3 * EVERY, EVERY))
            for topic in (INFO, RAW, *topics)], 'mcap')

    return written


@pytest.mark.parametrize('topics, own, perhaps', [
    ({'/depth/image', '/depth/camera_info', '/tf'}, set(), {'/depth/image'}),
    ({'/a/depth/image', '/a/depth/points'}, set(), {'/a/depth/image'}),
    ({'/depth/image', '/depth/image/compressedDepth'}, set(),
     {'/depth/image', '/depth/image/compressedDepth'}),
    ({'/depth/image_raw', '/depth/uncertainty', '/depth/camera_info'},
     {'/depth/image_raw', '/depth/uncertainty', '/depth/camera_info'}, set()),
    ({'/depth/image_raw', '/depth/head'}, {'/depth/image_raw', '/depth/head'}, set()),
    # Of other nodes.
    ({'/camera/depth/image_raw', '/camera/depth/camera_info', '/camera/depth/points'}, set(),
     set()),
    ({'/depth/image', '/camera/depth/camera_info'}, set(), set()),
    ({'/front/depth/image_raw', '/rear/depth/head'}, {'/rear/depth/head'}, set()),
    ({'/aligned_depth/image', '/aligned_depth/camera_info'}, set(), set()),
])
def test_outputs_are_known_by_what_is_beside_them(topics, own, perhaps):
    assert own_topics(topics) == own
    assert perhaps_own_topics(topics) == perhaps


def test_the_depth_of_a_sensor_is_the_truth(recorded):
    own = [OWN + name for name in ('image', 'camera_info', 'uncertainty', 'image_colored')]
    path = recorded(*own, DEPTH)
    assert RgbdBag(path, 'indoor')._depth_topic == DEPTH
    with BagReader(path) as bag:
        assert bag.topic == RAW and bag.info_topic == INFO
        assert RecordedDepth.find(bag).topic == DEPTH
        assert bag.other_cameras() == {}
        assert BagAnchor(bag, RunSettings(anchor='depth')).topics == {'depth': DEPTH}


def test_own_depth_alone_is_no_truth_unless_it_is_named(recorded, caplog):
    caplog.set_level('INFO')
    path = recorded(f'{OWN}image', f'{OWN}camera_info')
    sentence = (f'{path} has no depth of a sensor, only {OWN}image, which looks like the output '
                'of zoe_ros: record the depth of a sensor, or name this by %s all the same')
    with pytest.raises(BagError) as caught:
        RgbdBag(path, 'indoor')
    assert str(caught.value) == sentence % '--depth-topic'
    assert len(RgbdBag(path, 'indoor', depth_topic=f'{OWN}image')) == 3
    with BagReader(path) as bag:
        assert RecordedDepth.find(bag) is None
        assert caplog.messages[-1] == ('no comparison with recorded depth: '
                                       + sentence % 'zoe eval --depth-topic')
        with pytest.raises(BagError) as caught:
            BagAnchor(bag, RunSettings(anchor='depth'))
        assert str(caught.value) == sentence % '--anchor-topic'
        named = RunSettings(anchor='depth', anchor_topic=(f'{OWN}image',))
        assert BagAnchor(bag, named).topics == {'depth': f'{OWN}image'}


def test_a_sensor_may_have_the_names_of_the_node(recorded):
    """Drivers of OpenNI have depth/image and depth/camera_info; their depth has holes."""
    path = recorded('/kinect/depth/image', '/kinect/depth/camera_info')
    assert len(RgbdBag(path, 'indoor')) == 3
    with BagReader(path) as bag:
        assert RecordedDepth.find(bag).topic == '/kinect/depth/image'


def test_first_messages_are_read_once(recorded, monkeypatch):
    decoded, original = [], bag_module.deserialize

    def counted(data, kind):
        decoded.append(kind)
        return original(data, kind)

    monkeypatch.setattr(bag_module, 'deserialize', counted)
    path = recorded(DEPTH, f'{DEPTH}/compressedDepth', '/rear/camera_info')
    with BagReader(Path(path)) as bag:
        for _ in range(2):
            assert list(bag.depth_topics()) == [DEPTH]
            assert bag.other_cameras() == {}
    kinds = [kind.rpartition('/')[2] for kind in decoded]
    assert kinds.count('Image') == 2 and kinds.count('CompressedImage') == 1
