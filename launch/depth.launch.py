"""
Launch depth_node, and optionally play a bag and open RViz.

    ros2 launch zoe_ros depth.launch.py image_topic:=/camera/image_raw
    ros2 launch zoe_ros depth.launch.py bag:=kitchen rviz:=true

An empty argument keeps the value of the parameter file.
"""
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
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

SHARE = Path(get_package_share_directory('zoe_ros'))

# Name, description. Their default is empty: the value of the parameter file is kept.
PARAMETER_ARGUMENTS = (
    ('variant', "model: 'mobile' (small, comes with the package), 'nk' (published, both heads), "
                "'n' (published, indoor) or 'k' (published, outdoor)"),
    ('weights', 'path of a checkpoint; without it the packaged or the released weights'),
    ('device', "'auto', 'cpu', 'cuda' or 'cuda:N'"),
    ('precision', "'auto', 'fp32', 'fp16' or 'bf16'"),
    ('router', "'auto', 'indoor' or 'outdoor'"),
    ('image_transport', "'raw' or 'compressed'"),
    ('autostart', "'true': configure and activate at start; 'false': a lifecycle manager does"),
)
# Name, default, description.
ARGUMENTS = (
    ('namespace', '', 'namespace of the node and its topics'),
    ('image_topic', '', 'image topic, without /compressed for compressed images; empty: '
                        'image_raw, or the image topic of the bag'),
    ('camera_info_topic', '', 'CameraInfo topic; empty: camera_info in the namespace of '
                              'image_topic'),
    ('params_file', str(SHARE / 'config' / 'depth.yaml'), 'YAML parameter file'),
    ('use_sim_time', 'false', "'true': use the time of /clock"),
    ('log_level', 'info', 'debug, info, warn, error or fatal'),
    ('bag', '', 'rosbag2 to play once the node is ready'),
    ('rviz', 'false', "'true': open RViz"),
)


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

    overrides = {name: value(name) for name, _ in PARAMETER_ARGUMENTS if value(name)}
    image_topic, info_topic = value('image_topic'), value('camera_info_topic')
    frame = 'camera_optical_frame'
    actions: list[Action] = []
    if value('bag') and not image_topic:
        found = _look_into(Path(value('bag')))
        image_topic, info_topic = found['image_topic'], info_topic or found['info_topic']
        overrides.setdefault('image_transport', found['image_transport'])
        frame = found['frame']
        actions.append(LogInfo(msg=f'taking {image_topic} ({found["image_transport"]}) and '
                                   f'{info_topic or "no CameraInfo"} from the bag'))
    if image_topic and not info_topic:
        info_topic = f'{image_topic.rpartition("/")[0]}/camera_info'

    remappings = []
    if image_topic:
        remappings = [('image_raw', image_topic), ('camera_info', info_topic)]
    typed = {name: _typed(name, text) for name, text in overrides.items()}
    node = Node(
        package='zoe_ros', executable='depth_node', name='depth_node', output='screen',
        namespace=value('namespace'), remappings=remappings,
        additional_env=transport(),
        parameters=[value('params_file'), typed,
                    {'use_sim_time': value('use_sim_time').lower() == 'true'}],
        arguments=['--ros-args', '--log-level', value('log_level')])
    actions.append(node)
    if value('bag'):
        actions.append(_play_when_ready(node, value('bag')))
    if value('rviz').lower() == 'true':
        actions.append(Node(
            package='rviz2', executable='rviz2', output='log', namespace=value('namespace'),
            arguments=['-d', str(SHARE / 'config' / 'depth.rviz'), '-f', frame]))
    return actions


def _play_when_ready(node: Node, bag: str) -> Action:
    """Play the bag once the node says that it waits for images: a model loads for seconds."""
    started = []

    def on_output(event: ProcessIO) -> list[Action]:
        if started or b'waiting for images' not in event.text:
            return []
        started.append(bag)
        return [ExecuteProcess(cmd=['ros2', 'bag', 'play', bag], output='screen')]

    return RegisterEventHandler(OnProcessIO(
        target_action=node, on_stdout=on_output, on_stderr=on_output))


def _typed(name: str, text: str) -> object:
    """Keep texts texts: rcl would read the variant n as a boolean."""
    return text.lower() == 'true' if name == 'autostart' else text


def _look_into(bag: Path) -> dict[str, str]:
    """Find the image topic of a bag, its transport, its CameraInfo and its frame."""
    from zoe_ros.bag import BagReader, SeveralTopicsError

    try:
        with BagReader(bag) as reader:
            base = reader.topic.removesuffix('/compressed')
            return {
                'image_topic': base, 'info_topic': reader.info_topic or '',
                'image_transport': 'raw' if base == reader.topic else 'compressed',
                'frame': next(iter(reader)).message.header.frame_id}
    except SeveralTopicsError as error:
        choices = '  '.join(f'image_topic:={t.removesuffix("/compressed")}' for t in error.topics)
        raise RuntimeError(f'{error}; add one of: {choices}') from None
