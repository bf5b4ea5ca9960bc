"""The ready files under config/consumers/, each with the contract of its consumer."""
import re

import bags
import numpy as np
import pytest
from ros_support import ROOT
import yaml

from zoe_ros.camera_info import CameraInfoBuffer
from zoe_ros.outputs import CAMERA_INFO, DEPTH, POINTS
from zoe_ros.pipeline import Pipeline
from zoe_ros.ros.parameters import DepthParameters

FILES = sorted((ROOT / 'config' / 'consumers').glob('*.yaml'))
SIZE = (48, 64)


def parameters_of(path):
    """Return what a file sets for depth_node."""
    content = yaml.safe_load(path.read_text())
    return content['/**/depth_node']['ros__parameters']


def frame_of(name, estimator, **changes):
    """Run one frame with the settings of a file; return it with its header."""
    values = parameters_of(ROOT / 'config' / 'consumers' / f'{name}.yaml')
    settings = DepthParameters(**{**values, **changes})
    image = bags.ROSBAGS.photo(bags.picture(*SIZE))
    infos = CameraInfoBuffer()
    infos.add(bags.ROSBAGS.info(*SIZE))
    pipeline = Pipeline(estimator, bags.ROSBAGS.types, settings, infos,
                        rectified=settings.rectified == 'yes')
    frame = pipeline.process(image, (DEPTH, CAMERA_INFO, POINTS))
    for message in frame.messages.values():
        assert message.header == image.header
    return frame, settings


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_every_file_sets_parameters_that_exist(path):
    DepthParameters(**parameters_of(path))


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_every_topic_of_a_file_is_one_that_the_node_publishes(path):
    text = path.read_text()
    topics = re.findall(r"topic: '/?([\w/]+)'|:=/(depth/\w+)", text)
    assert topics
    assert {a or b for a, b in topics} <= {DEPTH, CAMERA_INFO, POINTS}


def test_there_is_a_file_for_each_consumer():
    assert {path.stem for path in FILES} == {
        'nav2_voxel_layer', 'nav2_stvl', 'rtabmap', 'nvblox', 'octomap'}


def test_nav2_clears_where_nothing_is_in_reach(tiny_estimator):
    # All depth is far for this node: everything must come out as far_value, none as NaN or Inf.
    frame, settings = frame_of('nav2_voxel_layer', tiny_estimator, depth_scale=500.0,
                               edge_threshold=0.0)
    points = np.frombuffer(bytes(frame.messages[POINTS].data), '<f4').reshape(-1, 3)
    np.testing.assert_allclose(points[:, 2], settings.far_value)
    layer = yaml.safe_load((ROOT / 'config/consumers/nav2_voxel_layer.yaml').read_text())[
        '/**/local_costmap']['ros__parameters']['voxel_layer']['depth']
    assert layer['obstacle_max_range'] <= settings.max_depth < settings.far_value
    assert layer['raytrace_max_range'] >= settings.max_depth


@pytest.mark.parametrize('name', ['nav2_voxel_layer', 'nav2_stvl', 'octomap'])
def test_clouds_are_small_and_read_by_name(name, tiny_estimator):
    cloud = frame_of(name, tiny_estimator)[0].messages[POINTS]
    assert [field.name for field in cloud.fields] == ['x', 'y', 'z']
    assert (cloud.point_step, cloud.is_dense) == (12, False)
    per_pixel = len(cloud.data) / (SIZE[0] * SIZE[1])
    assert 640 * 480 * per_pixel < 400_000


def test_rtabmap_gets_an_exact_fraction_and_one_head(tiny_estimator):
    frame, settings = frame_of('rtabmap', tiny_estimator)
    depth, info = frame.messages[DEPTH], frame.messages[CAMERA_INFO]
    assert depth.encoding == '32FC1'
    assert (SIZE[0] % depth.height, SIZE[1] % depth.width) == (0, 0)
    assert SIZE[0] // depth.height == SIZE[1] // depth.width == settings.output_decimation
    assert (info.height, info.width) == (depth.height, depth.width)
    assert settings.router != 'auto'


def test_nvblox_gets_pinhole_depth(tiny_estimator):
    frame, settings = frame_of('nvblox', tiny_estimator)
    assert frame.messages[DEPTH].encoding == '32FC1'
    assert settings.rectified == 'yes'
    info = frame.messages[CAMERA_INFO]
    assert (info.height, info.width) == SIZE
