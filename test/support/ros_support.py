"""The node as a process of its own, and a client that talks to it over DDS."""
from contextlib import contextmanager, suppress
import itertools
from multiprocessing import Pipe
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import bags
from diagnostic_msgs.msg import DiagnosticArray
from forked import ForkedProcess
from geometry_msgs.msg import PoseWithCovarianceStamped
from lifecycle_msgs.srv import GetState
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import String

from zoe_ros.images import is_depth

ROS = bags.rclpy_family()
ROOT = Path(__file__).resolve().parents[2]
# Patience, not a measure: these machines can be slow and discovery takes seconds.
PATIENCE = 90.0
_NUMBERS = itertools.count(1)
READY = 'waiting for images'
QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
KEEP_ALL = QoSProfile(history=HistoryPolicy.KEEP_ALL, reliability=ReliabilityPolicy.RELIABLE)
# What the node publishes.
OUTPUTS = {
    'depth/image': Image, 'depth/image_raw': Image, 'depth/image_colored': Image,
    'depth/uncertainty': Image, 'depth/camera_info': CameraInfo, 'depth/points': PointCloud2,
    'depth/head': String, 'depth/image/compressedDepth': CompressedImage}
# With an anchor only.
ANCHORED = {'depth/scale': PoseWithCovarianceStamped}
USUAL = ('depth/image', 'depth/camera_info', 'depth/points')


def tiny(model, **more):
    """Return parameters of a node with the tiny model in fp32 that takes raw images."""
    return {'variant': 'tiny', 'weights': str(model), 'device': 'cpu', 'precision': 'fp32',
            **more}


def stamp(message, seconds):
    """Write a stamp [s] into the header of a message; return the message."""
    nanoseconds = round(seconds * 1e9)
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(nanoseconds, 10 ** 9)
    return message


def good_image(at=1.0, size=(48, 64), frame='cam', encoding='rgb8', seed=0):
    """Return a good sensor_msgs/Image."""
    return stamp(ROS.photo(bags.picture(*size, seed=seed), encoding, frame=frame), at)


def good_info(at=1.0, size=(48, 64), frame='cam', **more):
    """Return its CameraInfo."""
    return stamp(ROS.info(*size, frame=frame, **more), at)


def seconds_of(message):
    """Return the stamp of a message [s]."""
    return message.header.stamp.sec + message.header.stamp.nanosec * 1e-9


def bag_frames(path):
    """Return the (image, CameraInfo) pairs of a bag as messages of rclpy, without its depth."""
    images, infos = [], []
    kinds = {'sensor_msgs/msg/CompressedImage': (CompressedImage, images),
             'sensor_msgs/msg/Image': (Image, images),
             'sensor_msgs/msg/CameraInfo': (CameraInfo, infos)}
    with AnyReader([path]) as reader:
        for connection, _, data in reader.messages():
            if connection.msgtype in kinds:
                kind, collected = kinds[connection.msgtype]
                message = deserialize_message(data, kind)
                if isinstance(message, CameraInfo) or not is_depth(message):
                    collected.append(message)
    return list(zip(images, infos))


def python_path():
    """Return a PYTHONPATH by which this checkout is found from any folder."""
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get('PYTHONPATH'))))


def shared_memory():
    """Return the segments of Fast DDS on this machine."""
    return set(Path('/dev/shm').glob('fastdds_*'))


@contextmanager
def running_node(*arguments, **parameters):
    """
    Run depth_node with parameters; end it by SIGINT and yield a :class:`NodeProcess`.

    pytest shows what the node has printed where the block fails.
    """
    process = NodeProcess(*arguments, **parameters)
    try:
        yield process
    except Exception:
        sys.stderr.write(process.output)
        raise
    finally:
        process.end()


@contextmanager
def lossless(tiny_weights):
    """
    Run the tiny node with policy 'every', and a client that keeps all; yield both.

    One image has come out, and what came of it is forgotten.
    """
    with running_node(**tiny(tiny_weights, policy='every')) as node, \
            Client(node, compressed=False, qos=KEEP_ALL, listen_qos=KEEP_ALL) as client:
        node.wait_for(READY)
        client.wait_for_match()
        client.ask(good_image(1), good_info(1))
        client.clear()
        yield node, client


class NodeProcess:
    """depth_node in a process of its own, its output collected in a file."""

    def __init__(self, *arguments, cwd=ROOT, threads=1, environment=None,
                 program=('-m', 'zoe_ros.ros.main'), fresh=False, **parameters):
        """
        Start it; ``parameters`` become -p options.

        :param program: what Python runs: the node, or a script around it.
        :param threads: of the network. The tiny one needs no more, and two of them wait for each
            other, for a second at times, where others use the machine as well.
        :param fresh: start an interpreter, as users do, for tests of imports and of the end of a
            process. Otherwise the node is a fork of one that has imported torch, unless libraries
            may read ``environment`` or ``threads`` when they are loaded.
        """
        # A namespace of its own: tests do not hear each other's nodes.
        self.namespace = f'/test{next(_NUMBERS)}'
        self.name = f'{self.namespace}/depth_node'
        options = ['-r', f'__ns:={self.namespace}', *(str(a) for a in arguments)]
        for name, value in parameters.items():
            text = f"'{value}'" if isinstance(value, str) else str(value).lower()
            options += ['-p', f'{name}:={text}']
        self._foreign = shared_memory()
        self._reader, writer = Pipe(duplex=False)
        os.set_blocking(self._reader.fileno(), False)
        self._output = b''
        changes = {'PYTHONPATH': python_path(), 'OMP_NUM_THREADS': str(threads)}
        if fresh or environment or threads != 1:
            self.process = subprocess.Popen(
                [sys.executable, *program, '--ros-args', *options], cwd=cwd,
                stdin=subprocess.DEVNULL, stdout=writer, stderr=writer,
                env={**os.environ, **changes, **(environment or {})},
                # Background jobs of a shell ignore SIGINT; the node shall see it.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
        else:
            self.process = ForkedProcess(
                program, ['--ros-args', *options], cwd, changes, writer)
        writer.close()

    def segments(self):
        """
        Return the segments of Fast DDS that the node has made and mapped: path -> bytes.

        It maps those of its peers, too, which were there before it.
        """
        maps = Path(f'/proc/{self.process.pid}/maps').read_text()
        paths = {Path(path) for path in re.findall(r'/dev/shm/fastdds_[0-9a-f]+(?=\n)', maps)}
        return {path: path.stat().st_size for path in paths - self._foreign if path.exists()}

    @property
    def output(self):
        """Return all that it has printed until now."""
        try:
            while chunk := os.read(self._reader.fileno(), 65536):
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


def of_camera(node, camera):
    """Return what a client of one camera of a node needs: a namespace, and the node's name."""
    return SimpleNamespace(namespace=f'{node.namespace}/{camera}', name=node.name)


class Client:
    """
    Publishes images to the node and collects what it publishes.

    A context and an executor of its own: tests do not share state.

    :ivar received: output -> its messages; also to be had as ``depth``, ``camera_info`` and
        ``points``.
    :ivar reports: the statuses of this node on /diagnostics.
    :ivar asked: how many images :meth:`ask` was called for; ``lost``: how often one of them had no
        depth and was published once more; ``overtaken``: how often it had depth and no cloud,
        because it was faster than its CameraInfo. At the end few may have been.
    """

    def __init__(self, node, compressed=True, outputs=USUAL, qos=QOS, listen_qos=QOS,
                 images=None, infos='camera_info'):
        """
        Create publishers and subscriptions under the names of a :class:`NodeProcess`.

        :param outputs: what is subscribed.
        :param images, infos: other topics of images and of their CameraInfo. A publisher that is
            destroyed before the node has found it can stay known to the node for a minute.
        :param qos: of what is published; :param listen_qos: of what is subscribed.
        """
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self.namespace, self._name = node.namespace, node.name
        self.node = rclpy.create_node('client', context=self._context,
                                      namespace=node.namespace)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        kind, topic = (CompressedImage, 'image_raw/compressed') if compressed else (
            Image, 'image_raw')
        self._reliable = qos.reliability == ReliabilityPolicy.RELIABLE
        self.images = self.node.create_publisher(kind, images or topic, qos)
        self.infos = self.node.create_publisher(CameraInfo, infos, qos)
        self.received = {name: [] for name in dict.fromkeys((*OUTPUTS, *outputs))}
        self.depth, self.camera_info, self.points = (self.received[name] for name in USUAL)
        self.asked = self.lost = self.overtaken = 0
        self._listen_qos = listen_qos
        self._subscriptions = {}
        self._services = {}
        for name in outputs:
            self.listen(name)
        self.reports = []
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 100)

    def __enter__(self):
        """Return self."""
        return self

    def __exit__(self, kind, *exception):
        """Leave DDS; a node that answers only because it is asked again and again fails here."""
        if kind is not None:
            counts = {name: len(messages) for name, messages in self.received.items() if messages}
            last = read_values(self.reports[-1]) if self.reports else None
            sys.stderr.write(f'received {counts}; the last report: {last}\n')
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)
        if kind is None:
            assert self.lost <= 1 + self.asked // 20, f'{self.lost} of {self.asked} images lost'
            # Two topics: on a busy machine their order is anybody's.
            assert self.overtaken <= 1 + self.asked // 4, (
                f'{self.overtaken} of {self.asked} images came without their CameraInfo')

    # --- listening --------------------------------------------------------------------------

    def listen(self, name):
        """Subscribe an output of the node."""
        self._subscriptions[name] = self.node.create_subscription(
            (OUTPUTS | ANCHORED)[name], name, self.received[name].append, self._listen_qos)

    def deafen(self, name):
        """Subscribe it no more."""
        self.node.destroy_subscription(self._subscriptions.pop(name))

    def clear(self):
        """Forget what was received."""
        for messages in self.received.values():
            messages.clear()

    def _on_diagnostics(self, message):
        self.reports += [status for status in message.status
                         if status.name == f'{self._name}: depth']

    def next_report(self, condition=lambda status, values: True, count=1):
        """
        Wait for diagnostics that are not here yet.

        :param condition: of the status and its values.
        :param count: of the new ones the first ``count`` are waited for whatever they say: the
            period of the first began before the call.
        :return: the values, a dictionary.
        """
        seen = len(self.reports)
        found = []

        def look():
            found[:] = [read_values(status) for status in self.reports[seen + count - 1:]
                        if condition(status, read_values(status))]
            return found

        self.wait_until(look, what='a report')
        return found[0]

    def report_while(self, image, info, text):
        """Return the values of the next report with a text; meanwhile an image comes again."""
        seen = len(self.reports)

        def told():
            return [status for status in self.reports[seen:] if text in status.message]

        self.ask_until(image, told, info, what=text)
        return read_values(told()[0])

    # --- waiting ----------------------------------------------------------------------------

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
        topics = [s.topic_name for s in self._subscriptions.values()]
        self.wait_until(lambda: all(self.node.count_publishers(topic) for topic in topics),
                        what='the outputs')
        for publisher in (self.images, self.infos):
            self.wait_until_heard(publisher)
        self.wait_until_known()

    def wait_until_heard(self, publisher):
        """Wait until the node subscribes a publisher of ours, as reliably as that publishes."""
        def heard():
            infos = self.node.get_subscriptions_info_by_topic(publisher.topic_name)
            return publisher.get_subscription_count() and not (self._reliable and any(
                info.qos_profile.reliability != ReliabilityPolicy.RELIABLE for info in infos))

        self.wait_until(heard, what=f'a subscription of {publisher.topic_name}')

    def wait_until_known(self):
        """
        Wait until the node knows all subscriptions and services that this client has by now.

        The node discards images that nobody listens to, and it may learn of our readers later than
        we learn of its writers. DDS announces readers in order: when the node answers a service,
        it knows the reader of the answer, so all those before.
        """
        client = self.node.create_client(GetState, f'{self._name}/get_state')
        self.wait_until(client.service_is_ready, what='get_state')
        answers = []

        def answered():
            # An answer before the node knows its reader is lost.
            answers.append(client.call_async(GetState.Request()))
            with suppress(AssertionError):
                self.wait_until(lambda: any(answer.done() for answer in answers), 1.0)
            return any(answer.done() for answer in answers)

        self.wait_until(answered, what='an answer of get_state')
        self.node.destroy_client(client)

    def ask(self, image, info=None, outputs=None, interval=PATIENCE / 9):
        """
        Publish one image and wait for its depth; return that.

        With a CameraInfo its outputs are waited for as well, or those that are named.

        :param interval: after which the image is published again [s]: longer than a frame takes.
        """
        if outputs is None:
            outputs = ('depth/image',) if info is None else USUAL
        collected = [self.received[name] for name in outputs]
        before = [len(messages) for messages in collected]

        def answers():
            # An earlier image that was asked twice may be answered late.
            return [len(messages) > count and
                    getattr(messages[-1], 'header', image.header).stamp == image.header.stamp
                    for messages, count in zip(collected, before)]

        self.asked += 1
        end = time.monotonic() + PATIENCE
        while True:
            if info is not None:
                self.infos.publish(info)
            self.images.publish(image)
            with suppress(AssertionError):
                self.wait_until(lambda: all(answers()), interval)
            if all(answers()):
                return collected[0][-1]
            assert time.monotonic() < end, f'{self.namespace}: depth did not happen'
            if any(answers()):
                self.overtaken += 1
            else:
                self.lost += 1
            for messages, count in zip(collected, before):
                del messages[count:]

    def ask_until(self, image, condition, info=None, interval=0.1, what='that'):
        """
        Publish an image again and again until ``condition()`` holds.

        For a state of the node that a stream of images brings about. An answer to one image is
        what :meth:`ask` waits for, which counts those that are lost.
        """
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f'{what} did not happen'
            if info is not None:
                self.infos.publish(info)
            self.images.publish(image)
            with suppress(AssertionError):
                self.wait_until(condition, interval)

    # --- services ---------------------------------------------------------------------------

    def call(self, kind, name, request):
        """Call a service of the node and return the response."""
        if name not in self._services:
            self._services[name] = self.node.create_client(kind, f'{self._name}/{name}')
            # Else the answer may have nobody to go to.
            self.wait_until_known()
        client = self._services[name]
        self.wait_until(client.service_is_ready, what=name)
        future = client.call_async(request)
        self.wait_until(future.done, what=f'an answer of {name}')
        return future.result()

    def change(self, **values):
        """Set parameters, each on its own; return the reasons, empty where it worked."""
        response = self.call(SetParameters, 'set_parameters',
                             SetParameters.Request(parameters=parameter_messages(values)))
        assert all(r.successful != bool(r.reason) for r in response.results)
        return [result.reason for result in response.results]

    def change_at_once(self, **values):
        """Set parameters all at once; return the reason, empty where it worked."""
        request = SetParametersAtomically.Request(parameters=parameter_messages(values))
        result = self.call(SetParametersAtomically, 'set_parameters_atomically', request).result
        assert result.successful != bool(result.reason)
        return result.reason


def parameter_messages(values):
    """Return rcl_interfaces/Parameter messages of name -> value."""
    return [ParameterMessage(name=name, value=Parameter(name, value=value).get_parameter_value())
            for name, value in values.items()]


def read_values(status):
    """Return the values of a DiagnosticStatus as a dictionary, its level and message added."""
    return {'level': status.level, 'message': status.message,
            **{pair.key: pair.value for pair in status.values}}
