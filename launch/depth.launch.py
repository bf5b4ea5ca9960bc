"""
Run depth_node, and on demand a bag and RViz.

    ros2 launch zoe_ros depth.launch.py image_topic:=/camera/image_raw
    ros2 launch zoe_ros depth.launch.py cameras:=front=/front/image_raw,rear=/rear/image_raw
    ros2 launch zoe_ros depth.launch.py bag:=kitchen bag_args:='--loop --rate 0.5' rviz:=true

Arguments that are left empty leave the parameter file in force.
"""
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
import re
import shlex

from ament_index_python.packages import (
    get_package_prefix,
    get_package_share_directory,
    PackageNotFoundError,
)
from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessIO
from launch.events.process import ProcessIO
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from zoe_ros.ros.transport import transport
from zoe_ros.settings import SENSORS, STEREO

SHARE = Path(get_package_share_directory('zoe_ros'))
COMPRESSED = '/compressed'

# name, description. Empty: the value of the parameter file.
PARAMETER_ARGUMENTS = (
    ('variant', "model: 'mobile-lite' (small, comes with the package), 'nk' (published, both "
                "heads), 'n' (published, indoor), 'k' (published, outdoor), 'da-n', 'da-k' (Depth "
                'Anything, indoor and outdoor)'),
    ('weights', 'path of a checkpoint; without one the weights in the package or downloaded ones'),
    ('device', "'auto', 'cpu', 'cuda' or 'cuda:N'"),
    ('precision', "'auto', 'fp32', 'fp16' or 'bf16'"),
    ('router', "'auto', 'indoor' or 'outdoor'"),
    ('image_transport', "'auto', 'raw' or 'compressed'"),
    ('anchor', "sensor from which depth gets its scale: 'scan', 'points', 'depth', "
               "'stereo', 'odometry' or 'none'"),
    ('anchor_transform', "pose of that sensor in the camera's optical frame, 'x y z qx qy qz qw'; "
                         'without one by TF'),
    ('autostart', 'true: configure and activate at start; false: leave that to a lifecycle '
                  'manager'),
)
ARGUMENTS = (
    ('namespace', '', 'namespace of the node and its topics'),
    ('image_topic', '', 'topic of the images; empty: image_raw, or the image topic of the bag'),
    ('camera_info_topic', '', "topic of the CameraInfo; empty: 'camera_info' beside the images"),
    ('cameras', '', 'several cameras: NAME=IMAGE_TOPIC,NAME=IMAGE_TOPIC...; a NAME alone '
                    'subscribes NAME/image_raw'),
    ('anchor_topic', '', 'topic of the sensor of anchor; empty: scan, sparse_points, '
                         'sparse_depth or right/image_raw'),
    ('params_file', str(SHARE / 'config' / 'depth.yaml'), 'YAML file of parameters'),
    ('use_sim_time', 'false', 'true: time from /clock, which the bag publishes if there is one'),
    ('log_level', 'info', 'debug, info, warn, error or fatal'),
    ('respawn', 'false', 'true: start the node again when it ends'),
    ('bag', '', 'rosbag2 to play'),
    ('bag_args', '', "more arguments of 'ros2 bag play', such as '--loop --rate 0.5'"),
    ('rviz', 'false', 'true: open RViz with a configuration for this node'),
    ('frame', '', 'fixed frame of RViz; empty: the frame of the images'),
)
_TRUTH = {**dict.fromkeys(('true', 'yes', 'on'), True),
          **dict.fromkeys(('false', 'no', 'off'), False)}


@dataclass
class Camera:
    """
    A camera of the node: its name, which may be empty, and its topics.

    :ivar is_compressed: the image topic was given with /compressed, which is taken off.
    """

    name: str
    image_topic: str = ''
    info_topic: str = ''

    def __post_init__(self) -> None:
        """Take /compressed off the image topic, which the node adds again."""
        self.is_compressed = self.image_topic.endswith(COMPRESSED)
        self.image_topic = self.image_topic.removesuffix(COMPRESSED)

    def remappings(self) -> list[tuple[str, str]]:
        """Return the remappings of the node for the topics that are given."""
        prefix = f'{self.name}/' if self.name else ''
        beside = f'{self.image_topic.rpartition("/")[0]}/camera_info'
        if not self.image_topic:
            return [(f'{prefix}camera_info', self.info_topic)] if self.info_topic else []
        return [(f'{prefix}image_raw', self.image_topic),
                (f'{prefix}camera_info', self.info_topic or beside)]


@dataclass(frozen=True)
class InBag:
    """What a bag holds of a camera; the image topic without /compressed."""

    image_topic: str
    info_topic: str
    image_transport: str
    frame: str


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; the actions depend on their values."""
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value=default, description=text)
          for name, default, text in ARGUMENTS),
        *(DeclareLaunchArgument(name, default_value='', description=f'{text}; empty: as in '
                                                                    'params_file')
          for name, text in PARAMETER_ARGUMENTS),
        OpaqueFunction(function=_actions),
    ])


def _actions(context: LaunchContext) -> list[Action]:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    # All that can be refused is refused before the first process starts.
    truth = {name: _truth(name, value(name)) for name in ('use_sim_time', 'respawn', 'rviz')}
    if not Path(value('params_file')).is_file():
        raise RuntimeError(f'params_file: there is no file {value("params_file")}')
    if truth['rviz']:
        _require('rviz2', 'rviz:=true')
    if value('bag'):
        _require('ros2bag', 'bag:=...')
    overrides = {name: value(name) for name, _ in PARAMETER_ARGUMENTS if value(name)}
    if 'autostart' in overrides:
        overrides['autostart'] = _truth('autostart', overrides['autostart'])

    remappings = _anchor_remappings(value('anchor'), value('anchor_topic'))
    cameras = _cameras(value('cameras'), value('image_topic'), value('camera_info_topic'))
    if value('cameras') or value('image_topic') or value('bag'):
        # What is named here counts, not what the parameter file names.
        overrides['cameras'] = [camera.name for camera in cameras]
    if all(camera.is_compressed for camera in cameras):
        overrides.setdefault('image_transport', 'compressed')
    frame, actions = value('frame'), []
    if value('bag'):
        found = [_look_into(Path(value('bag')), camera, value('namespace')) for camera in cameras]
        transports = {item.image_transport for item in found}
        overrides.setdefault('image_transport',
                             transports.pop() if len(transports) == 1 else 'auto')
        frame = frame or found[0].frame
        actions += [LogInfo(msg=f'taking {item.image_topic} ({item.image_transport}) and '
                                f'{item.info_topic or "no CameraInfo"} from the bag')
                    for item in found]
    node = Node(
        package='zoe_ros', executable='depth_node', name='depth_node', output='screen',
        namespace=value('namespace'), additional_env=transport(),
        remappings=[*remappings, *(p for camera in cameras for p in camera.remappings())],
        parameters=[value('params_file'), overrides, {'use_sim_time': truth['use_sim_time']}],
        arguments=['--ros-args', '--log-level', value('log_level')],
        respawn=truth['respawn'], respawn_delay=2.0)
    actions.append(node)
    if value('bag'):
        clock = ['--clock'] if truth['use_sim_time'] else []
        play = ['ros2', 'bag', 'play', value('bag'), *clock, *shlex.split(value('bag_args'))]
        # A model loads for seconds.
        actions.append(_once_said(node, 'waiting for images', lambda _: ExecuteProcess(
            cmd=play, output='screen')))
    if truth['rviz']:
        def rviz(frame: str) -> Action:
            return Node(
                package='rviz2', executable='rviz2', output='log', namespace=value('namespace'),
                arguments=['-d', str(SHARE / 'config' / 'depth.rviz'), '-f', frame],
                parameters=[{'use_sim_time': truth['use_sim_time']}])

        actions += [rviz(frame)] if frame else [
            LogInfo(msg='RViz opens with the first image, whose frame becomes its fixed frame'),
            _once_said(node, r"first image of \S+: .* frame '([^']*)'", rviz)]
    return actions


def _anchor_remappings(anchor: str, topic: str) -> list[tuple[str, str]]:
    """Return the remapping of the sensor of an anchor, if a topic is given, or refuse."""
    if not topic:
        return []
    if anchor not in SENSORS:
        raise RuntimeError(f"anchor_topic needs one anchor of {', '.join(SENSORS)}, not "
                           f"'{anchor}'; remap several in a launch file of your own")
    # The right camera of a pair has a CameraInfo of its own.
    return (Camera('right', topic).remappings() if anchor == STEREO
            else [(SENSORS[anchor], topic)])


def _truth(name: str, text: str) -> bool:
    """Read a boolean as YAML does, or refuse."""
    if text.lower() not in _TRUTH:
        raise RuntimeError(f"{name}:={text} is neither 'true' nor 'false'")
    return _TRUTH[text.lower()]


def _require(package: str, argument: str) -> None:
    try:
        get_package_prefix(package)
    except PackageNotFoundError:
        name = package.replace('_', '-')
        raise RuntimeError(f'{argument} needs {package}, which is not installed: '
                           f'apt install ros-$ROS_DISTRO-{name}') from None


def _cameras(listed: str, image_topic: str, info_topic: str) -> list[Camera]:
    """Return the cameras that the arguments name; one without a name where they name none."""
    if not listed:
        return [Camera('', image_topic, info_topic)]
    if image_topic or info_topic:
        raise RuntimeError('cameras:= names the topics of all cameras: leave image_topic and '
                           'camera_info_topic empty')
    pairs = (item.partition('=') for item in listed.split(','))
    return [Camera(name.strip(), topic.strip()) for name, _, topic in pairs]


def _once_said(node: Node, pattern: str, action: Callable[[str], Action]) -> Action:
    """Do something once the node has logged a line; what its first group holds is handed on."""
    done = []

    def on_output(event: ProcessIO) -> list[Action]:
        said = re.search(pattern, event.text.decode(errors='replace'))
        if done or not said:
            return []
        done.append(said)
        return [action(said.group(said.lastindex or 0))]

    return RegisterEventHandler(OnProcessIO(
        target_action=node, on_stdout=on_output, on_stderr=on_output))


def _look_into(path: Path, camera: Camera, namespace: str) -> InBag:
    """Find the images of a camera in a bag, and fill in the topics that were not given."""
    from zoe_ros.bag import BagReader, SeveralTopicsError

    wanted = camera.image_topic or (f'{camera.name}/image_raw' if camera.name else '')
    if wanted and not wanted.startswith('/'):
        wanted = '/'.join(filter(None, ('', namespace.strip('/'), wanted)))
    try:
        with BagReader(path, _topic_in(path, wanted)) as bag:
            base = bag.topic.removesuffix(COMPRESSED)
            found = InBag(base, camera.info_topic or bag.info_topic or '',
                          'raw' if base == bag.topic else 'compressed',
                          next(iter(bag)).message.header.frame_id)
    except SeveralTopicsError as error:
        bases = [topic.removesuffix(COMPRESSED) for topic in error.topics]
        choices = '  '.join(f'image_topic:={base}' for base in bases)
        every = ','.join(f'{base.strip("/").partition("/")[0]}={base}' for base in bases)
        raise RuntimeError(f'{error}; add one of: {choices}; or all: cameras:={every}') from None
    camera.image_topic, camera.info_topic = found.image_topic, found.info_topic
    return found


def _topic_in(path: Path, wanted: str) -> str | None:
    """Return the topic under which a bag holds the wanted images: as such, or compressed."""
    from zoe_ros.bag import BagError, BagReader

    if not wanted:
        return None
    for topic in (wanted, wanted + COMPRESSED):
        try:
            with BagReader(path, topic):
                return topic
        except BagError as error:
            if 'has no images on' not in str(error):
                raise
    return wanted       # the reader will say what there is
