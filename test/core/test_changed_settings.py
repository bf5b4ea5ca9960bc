"""Settings of the scale that a user changes while filters of the scale run."""
from dataclasses import replace

import bags
from frames import buffer_of, SIZE
import numpy as np
import pytest

from zoe_ros.anchor.frames import Frames
from zoe_ros.anchor.steady import SteadyScale
from zoe_ros.camera_info import CameraInfoBuffer
from zoe_ros.outputs import DEPTH
from zoe_ros.pipeline import Pipeline
from zoe_ros.range_anchor import RangeAnchor
from zoe_ros.settings import AnchorSettings, FrameSettings

INFO = bags.ROSBAGS.info(*SIZE, k=(90.0, 0, 31.5, 0, 90.0, 23.5, 0, 0, 1))
CHANGES = [{'depth_scale': 2.0}, {'focal_correction': True}, {'camera_view': 'training'}]


def image(k):
    """Return one of the images of a camera that stands still."""
    return bags.ROSBAGS.photo(bags.picture(*SIZE), stamp=bags.START + k * bags.SECOND // 10)


def depth_after(change, tiny_estimator, infos, steady=None, anchor=None):
    """Return the depth of the first frame after a change, and that of a new pipeline."""
    pipe = Pipeline(tiny_estimator, bags.ROSBAGS.types, FrameSettings(), infos, False, anchor,
                    steady)
    for k in range(12):
        if k == 11:
            pipe.settings = replace(pipe.settings, **change)
        frame = pipe.process(image(k), (DEPTH,))
    new = Pipeline(tiny_estimator, bags.ROSBAGS.types, FrameSettings(**change), infos, False)
    return frame, new.process(image(11), (DEPTH,)).depth


@pytest.mark.parametrize('change', CHANGES)
def test_a_change_comes_at_once_though_depth_is_steadied(change, tiny_estimator):
    infos, steady = buffer_of(INFO), SteadyScale(60.0, Frames())
    frame, expected = depth_after(change, tiny_estimator, infos, steady)
    assert np.array_equal(frame.depth, expected, equal_nan=True)
    assert steady.counts['other settings'] == 1


def test_a_change_of_no_scale_does_not_start_again(tiny_estimator):
    steady = SteadyScale(60.0, Frames())
    depth_after({'max_depth': 30.0}, tiny_estimator, CameraInfoBuffer(), steady)
    assert 'other settings' not in steady.counts


def test_a_scale_of_other_settings_is_forgotten_by_a_new_pipeline(tiny_estimator):
    # A node keeps its anchors while it is inactive, and makes new pipelines.
    anchor = RangeAnchor(AnchorSettings(anchor='depth'), Frames())
    for scale, times in ((1.0, 0), (1.0, 0), (2.0, 1)):
        Pipeline(tiny_estimator, bags.ROSBAGS.types, FrameSettings(depth_scale=scale),
                 buffer_of(INFO), False, anchor).process(image(0), (DEPTH,))
        assert anchor.counts['frames: other settings'] == times


def test_an_anchored_scale_is_measured_again(tiny_estimator):
    anchor = RangeAnchor(AnchorSettings(anchor='depth'), Frames())
    frame, _ = depth_after({'depth_scale': 2.0}, tiny_estimator, buffer_of(INFO), anchor=anchor)
    assert frame.scale is not None and anchor.counts['frames: other settings'] == 1
