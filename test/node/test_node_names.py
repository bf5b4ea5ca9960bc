"""Topics under other names than the node's: remapped images, and topics of other types."""
import pytest
from ros_support import Client, good_image, good_info, QOS, READY, running_node, tiny
from sensor_msgs.msg import CameraInfo, CompressedImage
from std_msgs.msg import String

IMAGES, INFOS = 'cam/image_raw', 'cam/camera_info'
REMAPPED = ('-r', f'image_raw:={IMAGES}')


def test_camera_info_is_taken_from_beside_remapped_images(tiny_weights):
    with running_node(*REMAPPED, **tiny(tiny_weights)) as node, \
            Client(node, compressed=False, images=IMAGES, infos=INFOS) as client:
        node.wait_for(READY)
        node.wait_for(f'taking CameraInfo from {node.namespace}/{INFOS}')
        client.wait_for_match()
        client.ask(good_image(1), good_info(1))
        assert client.points


@pytest.mark.parametrize('remap, infos', [
    (('-r', 'camera_info:=own/info'), INFOS), ((), 'camera_info')])
def test_camera_info_is_looked_for_where_it_should_be(tiny_weights, remap, infos):
    with running_node(*REMAPPED, *remap, **tiny(tiny_weights)) as node, \
            Client(node, compressed=False, images=IMAGES, infos=infos) as client:
        node.wait_for(READY)
        # One beside the images does not count, if another one was named or is published.
        client.node.create_publisher(CameraInfo, INFOS, QOS)
        if remap:
            text = f'no cloud: there is no CameraInfo ({node.namespace}/own/info)'
            client.ask_until(good_image(1), lambda: text in node.output, good_info(1), what=text)
            client.spin(1.5)    # the node looks at the publishers every half second
        else:
            client.wait_for_match()
            client.spin(1.5)
            client.ask(good_image(1), good_info(1))
        assert 'taking CameraInfo' not in node.output


@pytest.mark.parametrize('kind, name, remedy', [
    (CompressedImage, 'sensor_msgs/msg/CompressedImage',
     ': remap image_raw/compressed, not image_raw, to this topic'),
    (String, 'std_msgs/msg/String', '')])
def test_a_topic_of_another_type_is_not_called_silent(tiny_weights, kind, name, remedy):
    with running_node(*REMAPPED, **tiny(tiny_weights)) as node, \
            Client(node, compressed=False) as client:
        node.wait_for(READY)
        client.node.create_publisher(kind, IMAGES, QOS)
        node.wait_for(f'{node.namespace}/{IMAGES} carries {name}, not '
                      f'sensor_msgs/msg/Image{remedy}\n')
        assert 'taking raw images' not in node.output
