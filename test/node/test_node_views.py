"""Two drivers publish CameraInfo on one topic by accident."""
from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
from ros_support import Client, good_image, good_info, READY, running_node, tiny
from sensor_msgs.msg import CameraInfo

NARROW = np.array([120.0, 0, 31.5, 0, 120.0, 23.5, 0, 0, 1])
TEXT = 'CameraInfo goes back and forth between '


def test_two_drivers_on_one_topic_of_camera_info_are_told_once(tiny_weights):
    parameters = tiny(tiny_weights, anchor='depth', diagnostics_period=0.3)
    with running_node(**parameters) as node, Client(node, compressed=False) as client:
        node.wait_for(READY)
        other = client.node.create_publisher(CameraInfo, 'camera_info', 10)
        client.wait_for_match()
        client.wait_until_heard(other)

        def drive(first, step=0.1):
            """Publish some images, every other one with CameraInfo of the other driver."""
            for index in range(20):
                at = first + index * step
                if index % 2:
                    other.publish(good_info(at, k=NARROW))
                else:
                    client.infos.publish(good_info(at))
                client.spin(0.02)       # another topic may not overtake it
                client.ask(good_image(at))

        drive(10)
        values = client.next_report(lambda status, values: TEXT in status.message)
        assert values['level'] == DiagnosticStatus.WARN
        drive(20)
        node.wait_for('give each of them a topic of its own')
        assert node.output.count(TEXT) == 1
        for index in range(10):
            client.ask(good_image(30 + index / 10), good_info(30 + index / 10))
        client.next_report(lambda status, values: TEXT not in status.message)
        assert node.end() == 0, node.output
        assert 'Traceback' not in node.output
