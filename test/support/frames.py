"""Messages of one small camera, and the outputs that a frame can have."""
import bags

from zoe_ros.camera_info import CameraInfoBuffer
from zoe_ros.outputs import CAMERA_INFO, COLORED, DEPTH, MILLIMETRES, POINTS, UNCERTAINTY
from zoe_ros.settings import FrameSettings

SIZE = (48, 64)
# fx, fy, cx, cy of the CameraInfo here.
K = (50, 0, 30.5, 0, 55, 25.25, 0, 0, 1)
P = (45, 0, 28, 0, 0, 46, 22, 0, 0, 0, 1, 0)
BARREL = (-0.2, 0.05, 0.001, -0.002, 0)
OUTPUTS = (DEPTH, CAMERA_INFO, POINTS)
ALL = (*OUTPUTS, MILLIMETRES, COLORED, UNCERTAINTY)
# As the published evaluation does: what DepthEstimator.predict returns, bit for bit.
PUBLISHED = FrameSettings(
    interpolation='linear', router_time_constant=0, point_cloud_downsample=1)


def buffer_of(*infos):
    """Return a buffer with these CameraInfo."""
    buffer = CameraInfoBuffer()
    for info in infos:
        buffer.add(info)
    return buffer


def photo(family=bags.ROSBAGS, size=SIZE, **header):
    """Return an image message."""
    return family.photo(bags.picture(*size), **header)
