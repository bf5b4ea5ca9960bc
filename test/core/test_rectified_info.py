"""CameraInfo beside the depth of rectified images: consumers that read K get that of P."""
import bags
import numpy as np
import pytest

from zoe_ros.camera_info import CameraInfoBuffer
from zoe_ros.outputs import CAMERA_INFO, POINTS
from zoe_ros.pipeline import Pipeline
from zoe_ros.settings import FrameSettings

SIZE = (48, 64)
K = (50.0, 0, 31.5, 0, 51.0, 23.5, 0, 0, 1)
P = (40.0, 0, 30.0, -4.8, 0, 40.0, 24.0, 0, 0, 0, 1, 0)
D = (0.1, 0.01, 0.0, 0.0, 0.0)


@pytest.fixture
def published(tiny_estimator):
    """Return a function: CameraInfo that comes beside the depth of an image."""
    def publish(rectified, p=P, **settings):
        info = bags.ROSBAGS.info(*SIZE, k=K, p=p, d=D)
        infos = CameraInfoBuffer()
        infos.add(info)
        pipeline = Pipeline(tiny_estimator, bags.ROSBAGS.types, FrameSettings(**settings), infos,
                            rectified)
        image = bags.ROSBAGS.photo(bags.picture(*SIZE))
        return pipeline.process(image, (CAMERA_INFO, POINTS)).messages[CAMERA_INFO], info

    return publish


def test_rectified_images_have_the_camera_matrix_of_p(published):
    found, info = published(rectified=True)
    np.testing.assert_array_equal(np.reshape(found.k, (3, 3)), np.reshape(P, (3, 4))[:, :3])
    np.testing.assert_array_equal(np.reshape(found.r, (3, 3)), np.eye(3))
    np.testing.assert_array_equal(found.p, P)
    assert not np.any(found.d) and found.distortion_model == 'plumb_bob'
    # The message of the camera is left as it was.
    np.testing.assert_array_equal(info.k, K)
    np.testing.assert_array_equal(info.d, D)


def test_it_follows_the_size_of_the_depth_image(published):
    found, _ = published(rectified=True, output_decimation=2)
    k = np.reshape(found.k, (3, 3))
    assert (found.height, found.width) == (24, 32)
    np.testing.assert_allclose(k, [[20, 0, 15], [0, 20, 12], [0, 0, 1]])
    np.testing.assert_allclose(np.reshape(found.p, (3, 4))[:, :3], k)


def test_other_images_keep_their_camera_matrix_and_distortion(published):
    found, _ = published(rectified=False)
    np.testing.assert_array_equal(found.k, K)
    np.testing.assert_array_equal(found.d, D)


def test_without_p_nothing_is_made_up(published):
    found, _ = published(rectified=True, p=(0.0,) * 12)
    np.testing.assert_array_equal(found.k, K)
