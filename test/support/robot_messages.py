"""Messages of a robot's sensors that stand where its camera stands, and see a room."""
import bags
import numpy as np

from zoe_ros.bag_messages import BAG_TYPES
from zoe_ros.camera import Camera
from zoe_ros.messages import cloud_message

CAMERA = Camera(160, 120, 100, 100, 79.5, 59.5)
TYPES = bags.TYPESTORE.types


def header(at, frame):
    """Return a header; ``at`` [s]."""
    return bags.ROSBAGS.header(stamp=round(at * 1e9), frame=frame)


def room():
    """Return depth of a floor, and of a back wall with a step in it, (120, 160) [m]."""
    y = (np.arange(120) - CAMERA.cy) / CAMERA.fy
    floor = np.where(y > 0.01, 0.5 / np.maximum(y, 0.01), np.inf)
    wall = np.where(np.arange(160) < 90, 4.0, 6.0)
    return np.minimum(floor[:, None], wall).astype(np.float32)


def scan_of(depth, at):
    """Return a laser scan of the middle row, in frame 'lidar' (x forward, y left)."""
    angles = np.linspace(-0.6, 0.6, 161)
    column = np.rint(CAMERA.cx - CAMERA.fx * np.tan(angles)).astype(int)
    ranges = depth[60, column] / np.cos(angles)
    return TYPES['sensor_msgs/msg/LaserScan'](
        header=header(at, 'lidar'), angle_min=-0.6, angle_max=0.6, angle_increment=1.2 / 160,
        time_increment=0.0, scan_time=0.1, range_min=0.01, range_max=100.0,
        ranges=ranges.astype(np.float32), intensities=np.zeros(0, np.float32))


def cloud_of(depth, at, columns=slice(None)):
    """Return a cloud of every fourth pixel, in frame 'cloud' (that of the camera)."""
    xyz = np.concatenate([CAMERA.rays, np.ones((120, 160, 1), np.float32)], axis=2)
    points = (xyz * depth[..., None])[2::4, columns][:, 2::4]
    return cloud_message(BAG_TYPES, header(at, 'cloud'), np.ascontiguousarray(points), None)


def sparse_of(depth, at):
    """Return depth of every eighth pixel as an image in millimetres."""
    values = np.zeros((120, 160), np.uint16)
    values[4::8, 4::8] = np.rint(1000 * depth[4::8, 4::8])
    message = bags.ROSBAGS.image(values.tobytes(), 120, 160, 320, '16UC1', frame='cam')
    message.header = header(at, 'cam')
    return message


def transform_of(parent, child, numbers):
    """Return a message of /tf or /tf_static with one transform."""
    x, y, z, qx, qy, qz, qw = map(float, numbers)
    transform = TYPES['geometry_msgs/msg/Transform'](
        translation=TYPES['geometry_msgs/msg/Vector3'](x=x, y=y, z=z),
        rotation=TYPES['geometry_msgs/msg/Quaternion'](x=qx, y=qy, z=qz, w=qw))
    return TYPES['tf2_msgs/msg/TFMessage'](transforms=[
        TYPES['geometry_msgs/msg/TransformStamped'](
            header=header(0, parent), child_frame_id=child, transform=transform)])


def odometry_of(at, numbers, frame='odom', child='cam'):
    """Return a pose of nav_msgs/Odometry at a time [s]."""
    x, y, z, qx, qy, qz, qw = map(float, numbers)
    zero = TYPES['geometry_msgs/msg/Vector3'](x=0.0, y=0.0, z=0.0)
    pose = TYPES['geometry_msgs/msg/Pose'](
        position=TYPES['geometry_msgs/msg/Point'](x=x, y=y, z=z),
        orientation=TYPES['geometry_msgs/msg/Quaternion'](x=qx, y=qy, z=qz, w=qw))
    return TYPES['nav_msgs/msg/Odometry'](
        header=header(at, frame), child_frame_id=child,
        pose=TYPES['geometry_msgs/msg/PoseWithCovariance'](pose=pose, covariance=np.zeros(36)),
        twist=TYPES['geometry_msgs/msg/TwistWithCovariance'](
            twist=TYPES['geometry_msgs/msg/Twist'](linear=zero, angular=zero),
            covariance=np.zeros(36)))
