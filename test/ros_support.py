"""The node as a process of its own, and a client that talks to it over DDS."""
from contextlib import contextmanager
import itertools
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

ROOT = Path(__file__).resolve().parents[1]
# Patience, not a measure: these machines can be slow and discovery takes seconds.
PATIENCE = 90.0
_NUMBERS = itertools.count(1)
QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)


def bag_frames(path):
    """Return the (image, CameraInfo) pairs of a bag as messages of rclpy."""
    images, infos = [], []
    kinds = {'sensor_msgs/msg/CompressedImage': (CompressedImage, images),
             'sensor_msgs/msg/Image': (Image, images),
             'sensor_msgs/msg/CameraInfo': (CameraInfo, infos)}
    with AnyReader([path]) as reader:
        for connection, _, data in reader.messages():
            if connection.msgtype in kinds:
                kind, collected = kinds[connection.msgtype]
                collected.append(deserialize_message(data, kind))
    return list(zip(images, infos))


@contextmanager
def running_node(*arguments, **parameters):
    """Run depth_node with parameters; end it by SIGINT and yield a :class:`NodeProcess`."""
    process = NodeProcess(*arguments, **parameters)
    try:
        yield process
    finally:
        process.end()


class NodeProcess:
    """depth_node in a process of its own, its output collected in a file."""

    def __init__(self, *arguments, **parameters):
        """Start it; ``parameters`` become -p options."""
        # A namespace of its own: tests do not hear each other's nodes.
        self.namespace = f'/test{next(_NUMBERS)}'
        options = ['-r', f'__ns:={self.namespace}', *(str(a) for a in arguments)]
        for name, value in parameters.items():
            text = f"'{value}'" if isinstance(value, str) else str(value).lower()
            options += ['-p', f'{name}:={text}']
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        self._output = b''
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'zoe_ros.ros.main', '--ros-args', *options], cwd=ROOT,
            stdin=subprocess.DEVNULL, stdout=write, stderr=write,
            # Background jobs of a shell ignore SIGINT; the node shall see it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
        os.close(write)

    @property
    def output(self):
        """Return all that it has printed until now."""
        try:
            while chunk := os.read(self._read, 65536):
                self._output += chunk
        except BlockingIOError:
            pass
        return self._output.decode()

    def wait_for(self, text, patience=PATIENCE):
        """Wait until it has printed ``text``."""
        end = time.monotonic() + patience
        while text not in self.output:
            assert self.process.poll() is None, f'the node ended: {self.output}'
            assert time.monotonic() < end, f'no "{text}" in: {self.output}'
            time.sleep(0.05)

    def end(self, sign=signal.SIGINT):
        """Send a signal if it still runs; return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(sign)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


class Client:
    """
    Publishes images to the node and collects what it publishes.

    A context and an executor of its own: tests do not share state.
    """

    def __init__(self, node, compressed=True):
        """Create publishers and subscriptions under the names of a :class:`NodeProcess`."""
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self.node = rclpy.create_node('client', context=self._context,
                                      namespace=node.namespace)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        kind, topic = (CompressedImage, 'image_raw/compressed') if compressed else (
            Image, 'image_raw')
        self.images = self.node.create_publisher(kind, topic, QOS)
        self.infos = self.node.create_publisher(CameraInfo, 'camera_info', QOS)
        self.depth, self.camera_info, self.points = [], [], []
        self._subscriptions = [
            self.node.create_subscription(Image, 'depth/image', self.depth.append, QOS),
            self.node.create_subscription(
                CameraInfo, 'depth/camera_info', self.camera_info.append, QOS),
            self.node.create_subscription(PointCloud2, 'points', self.points.append, QOS)]

    def __enter__(self):
        """Return self."""
        return self

    def __exit__(self, *exception):
        """Leave DDS."""
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def wait_until(self, condition, patience=PATIENCE, what='that'):
        """Spin until ``condition()`` holds."""
        end = time.monotonic() + patience
        while not condition():
            assert time.monotonic() < end, f'{what} did not happen'
            self._executor.spin_once(timeout_sec=0.05)

    def spin(self, seconds):
        """Spin for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.05)

    def wait_for_match(self):
        """Wait until the node and this client have found each other in all directions."""
        topics = [s.topic_name for s in self._subscriptions]
        self.wait_until(
            lambda: self.images.get_subscription_count() and self.infos.get_subscription_count()
            and all(self.node.count_publishers(topic) for topic in topics)
            and self._node_is_reliable(), what='the match')
        # The node's writers may learn of our readers a moment after we learn of them.
        self.spin(0.5)

    def _node_is_reliable(self):
        return all(
            info.qos_profile.reliability == ReliabilityPolicy.RELIABLE
            for publisher in (self.images, self.infos)
            for info in self.node.get_subscriptions_info_by_topic(publisher.topic_name))

    def ask(self, image, info=None):
        """
        Publish one image and wait for its depth; return that.

        With a CameraInfo its outputs are waited for as well.
        """
        collected = [self.depth] if info is None else [self.depth, self.camera_info, self.points]
        before = [len(messages) for messages in collected]
        if info is not None:
            self.infos.publish(info)
        self.images.publish(image)
        self.wait_until(lambda: all(len(messages) > count
                                    for messages, count in zip(collected, before)), what='depth')
        return self.depth[-1]

    def call(self, kind, name, request):
        """Call a service of the node and return the response."""
        client = self.node.create_client(kind, f'depth_node/{name}')
        self.wait_until(client.service_is_ready, what=name)
        future = client.call_async(request)
        self.wait_until(future.done, what=f'an answer of {name}')
        self.node.destroy_client(client)
        return future.result()
