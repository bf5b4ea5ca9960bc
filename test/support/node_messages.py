"""Messages that tests of the node send, and its parameters by default."""
from dataclasses import fields

import numpy as np
from ros_support import ROOT
from ros_support import stamp as stamped
from sensor_msgs.msg import CameraInfo, Image

from zoe_ros.messages import pack_array
from zoe_ros.ros.parameters import DepthParameters

SAMPLE = ROOT / 'zoe_ros' / 'data' / 'sample'
DEFAULTS = {item.name: item.default for item in fields(DepthParameters)
            if item.metadata['runtime']}
JUMP = 1.0      # edge_threshold: made-up weights make steep depth


def raw_image(pixels, encoding='rgb8', stamp=1.5, frame='cam'):
    """Return an image message of an array."""
    message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding,
                    step=pixels.strides[0], data=pack_array(pixels))
    message.header.frame_id = frame
    return stamped(message, stamp)


def camera_info(width, height, focal=300.0, stamp=1.5, frame='cam', d=(), p_focal=None):
    """Return a CameraInfo; ``p_focal`` is the focal length [px] of a rectified image."""
    k = [focal, 0.0, width / 2, 0.0, focal, height / 2, 0.0, 0.0, 1.0]
    f = p_focal or focal
    p = [f, 0.0, width / 2, 0.0, 0.0, f, height / 2, 0.0, 0.0, 0.0, 1.0, 0.0]
    message = CameraInfo(height=height, width=width, distortion_model='plumb_bob', d=list(d),
                         k=k, r=np.eye(3).ravel(), p=p)
    message.header.frame_id = frame
    return stamped(message, stamp)


def info_for(pixels, **more):
    """Return a CameraInfo for a photograph."""
    return camera_info(pixels.shape[1], pixels.shape[0], **more)


def array_of(message):
    """Return the array in a depth, millimetre or colour image."""
    kind, channels = {'32FC1': ('<f4', 1), '16UC1': ('<u2', 1), 'rgb8': ('u1', 3)}[
        message.encoding]
    values = np.frombuffer(bytes(message.data), kind)
    return values.reshape(message.height, message.width, *([channels] if channels > 1 else []))
