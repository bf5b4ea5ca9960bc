"""The reference docs/node.md against the code: topics, types, units, diagnostics, levels."""
import re

from builtin_interfaces.msg import Time
import numpy as np
import pytest
from ros_support import good_image, good_info, ROOT

from zoe_ros.anchor.anchor import Anchor
from zoe_ros.camera_info import CameraInfoBuffer
from zoe_ros.pipeline import Pipeline
from zoe_ros.ros.camera_stream import ANCHORED, OUTPUTS, ROS_TYPES
from zoe_ros.ros.diagnostics import FrameStats
from zoe_ros.settings import FrameSettings

PAGE = (ROOT / 'docs' / 'node.md').read_text()
# What decode_image and the node count: as the sources write it.
COUNTED = re.compile(r"(?:MessageError\(\s*|_drop\(|\.dropped\()'(\w+)'")


def table(first):
    """Return the rows of the page's table whose head begins with ``first``."""
    lines = PAGE.split(f'| {first} |', 1)[1].splitlines()[2:]
    end = next(i for i, line in enumerate(lines) if not line.startswith('|'))
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in lines[:end]]


def ros_name(kind):
    """Return the name of a message class: sensor_msgs/Image."""
    return f'{kind.__module__.split(".")[0]}/{kind.__name__}'


@pytest.fixture(scope='module')
def frame(tiny_estimator):
    """Return all that comes of an image."""
    infos = CameraInfoBuffer()
    infos.add(good_info())
    return Pipeline(tiny_estimator, ROS_TYPES, FrameSettings(point_cloud_downsample=1), infos,
                    False).process(good_image(), tuple(OUTPUTS))


def test_topics_and_types(frame):
    rows = {re.findall('`(.*?)`', name)[0]: kind
            for name, kind, *_ in table('published topic')}
    expected = {name: ros_name(kind) for name, kind in (OUTPUTS | ANCHORED).items()}
    for name, message in frame.messages.items():
        if hasattr(message, 'encoding'):
            expected[name] += f', {message.encoding}'
    assert rows == {**expected, '/diagnostics': 'diagnostic_msgs/DiagnosticArray'}


def test_units(frame):
    units = {re.findall('`(.*?)`', name)[0]: unit
             for name, _, unit, _ in table('published topic')}
    metres = {'m': 1.0, 'mm': 1e-3}
    # Seen through the camera: a point of the cloud lies at z [m] by REP 103.
    cloud = np.frombuffer(bytes(frame.messages['depth/points'].data), '<f4').reshape(48, 64, 4)
    assert units['depth/points'] == 'm'
    kinds = {'32FC1': '<f4', '16UC1': '<u2'}
    for name in ('depth/image', 'depth/image_raw'):
        message = frame.messages[name]
        values = np.frombuffer(bytes(message.data), kinds[message.encoding]).reshape(48, 64)
        # Rounded to millimetres at worst.
        np.testing.assert_allclose(values * metres[units[name]], cloud[..., 2], atol=6e-4)
    assert units['depth/uncertainty'] == units['depth/image']


def test_diagnostics_are_listed(frame):
    listed = set()
    for keys, _ in table('key'):
        first, *others = re.findall('`(.*?)`', keys)
        for key in (first, *others):
            listed.add(first.replace('p50', 'p95') if key == 'p95' else key)
    node = (ROOT / 'zoe_ros' / 'ros' / 'node.py').read_text()
    sources = node + (ROOT / 'zoe_ros' / 'images.py').read_text()
    causes = set(COUNTED.findall(sources)) | {'size'}
    stats = FrameStats()
    stats.published('', 0.1, {**frame.seconds, 'publish': 0.1}, frame.head, 0.5,
                    scale=Anchor().measure(frame.depth, frame.head, 0.0))
    for cause in causes:
        stats.dropped(cause)
    facts = dict.fromkeys(set(re.findall(r"facts\['(.*?)'\]", node))
                          | set(re.findall(r"'(\w+)': (?:device|f'\{title)", node)), '')
    status, = stats.report(Time(), 'node', 1.0, facts, ['']).status
    assert {value.key for value in status.values} == listed


def test_levels_are_listed():
    rows = {(level, text) for level, text, _ in table('level')}
    source = (ROOT / 'zoe_ros' / 'ros' / 'diagnostics.py').read_text()
    source = re.sub(r'\{counted\(\w+, "(\w+)"\)\}', r'\1s', source)
    said = re.findall(r"DiagnosticStatus\.(\w+), f?'(?:\{.*?\} )?([a-z ]+)", source)
    assert {(level, text.strip()) for level, text in said} == rows
