"""The launch file, by the real launch and launch_ros where they can be imported."""
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from ros_support import bag_frames, Client, PATIENCE, ROOT

from zoe_ros.ros.transport import PROFILE

pytestmark = pytest.mark.slow

pytest.importorskip('launch_ros', reason='launch and launch_ros come with a ROS distribution only')

SAMPLE = ROOT / 'zoe_ros' / 'data' / 'sample'
RUN = textwrap.dedent("""
    import sys
    from launch import LaunchService
    from launch.actions import IncludeLaunchDescription
    from launch.launch_description_sources import PythonLaunchDescriptionSource
    service = LaunchService(argv=sys.argv[2:])
    service.include_launch_description(IncludeLaunchDescription(
        PythonLaunchDescriptionSource(sys.argv[1]),
        launch_arguments=[tuple(a.split(':=', 1)) for a in sys.argv[2:]]))
    sys.exit(service.run())
    """)


@pytest.fixture
def prefix(tmp_path):
    """Return an environment in which ament finds this checkout as an installed package."""
    share, index = tmp_path / 'share' / 'zoe_ros', tmp_path / 'share/ament_index/resource_index'
    (index / 'packages').mkdir(parents=True)
    (index / 'packages' / 'zoe_ros').touch()
    for name in ('launch', 'config'):
        shutil.copytree(ROOT / name, share / name)
    executable = tmp_path / 'lib' / 'zoe_ros' / 'depth_node'
    executable.parent.mkdir(parents=True)
    executable.write_text(f'#!{sys.executable}\nimport sys\nfrom zoe_ros.ros.main import main\n'
                          'sys.exit(main())\n')
    executable.chmod(0o755)
    paths = [str(tmp_path), os.environ.get('AMENT_PREFIX_PATH', '')]
    python = [str(ROOT), os.environ.get('PYTHONPATH', '')]
    return {**os.environ, 'AMENT_PREFIX_PATH': os.pathsep.join(filter(None, paths)),
            'PYTHONPATH': os.pathsep.join(filter(None, python)),
            'ROS_LOG_DIR': str(tmp_path / 'log'), 'PYTHONUNBUFFERED': '1'}


class Launched:
    """The launch file in a process of its own."""

    def __init__(self, environment, log: Path, namespace, **arguments):
        """Launch with ``name:=value`` arguments."""
        self.namespace, self.name = f'/{namespace}', f'/{namespace}/depth_node'
        self.log = log
        pairs = [f'{name}:={value}' for name, value in
                 {'namespace': namespace, **arguments}.items()]
        with log.open('w') as file:
            self.process = subprocess.Popen(
                [sys.executable, '-c', RUN, str(ROOT / 'launch' / 'depth.launch.py'), *pairs],
                env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))

    def end(self):
        """Interrupt it as a terminal would and return what it printed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.wait(PATIENCE)
        return self.log.read_text()


@pytest.fixture
def launched(prefix, tmp_path):
    """Return a function that launches; what still runs at the end is interrupted."""
    running = []

    def launch(namespace, **arguments):
        running.append(Launched(prefix, tmp_path / f'{namespace}.log', namespace, **arguments))
        return running[-1]

    yield launch
    for item in running:
        item.end()


def test_every_argument_is_documented(prefix, monkeypatch):
    monkeypatch.setenv('AMENT_PREFIX_PATH', prefix['AMENT_PREFIX_PATH'])
    from launch import LaunchContext
    from launch.launch_description_sources import PythonLaunchDescriptionSource
    source = PythonLaunchDescriptionSource(str(ROOT / 'launch' / 'depth.launch.py'))
    arguments = {a.name: a.description
                 for a in source.get_launch_description(LaunchContext()).get_launch_arguments()}
    assert set(arguments) >= {
        'namespace', 'image_topic', 'camera_info_topic', 'params_file', 'use_sim_time',
        'autostart', 'log_level', 'bag', 'rviz', 'variant', 'weights', 'precision', 'device',
        'router'}
    assert all(arguments.values())


def test_the_node_runs_in_its_namespace_with_its_topics(launched, tiny_weights):
    node = launched('robot', variant='tiny', weights=tiny_weights, device='cpu',
                    image_transport='compressed', image_topic='/robot/image_raw')
    with Client(node) as client:
        client.wait_for_match()
        image, info = bag_frames(SAMPLE)[0]
        assert client.ask(image, info).header == image.header
        assert client.points[-1].header == image.header
    output = node.end()
    assert 'process has finished cleanly' in output
    assert 'Traceback' not in output


def test_the_node_and_nothing_else_gets_the_profile_for_large_messages(launched, tiny_weights):
    node = launched('large', variant='tiny', weights=tiny_weights, device='cpu')
    wait_for(node, 'waiting for images')
    launching = Path(f'/proc/{node.process.pid}')
    child, = (launching / f'task/{launching.name}/children').read_text().split()
    name = f'FASTDDS_DEFAULT_PROFILES_FILE={PROFILE}'.encode()
    assert name in (launching.parent / child / 'environ').read_bytes().split(b'\0')
    assert name not in (launching / 'environ').read_bytes().split(b'\0')


def test_a_bag_names_its_own_topics(launched, tiny_weights):
    node = launched('other', variant='tiny', weights=tiny_weights, device='cpu', bag=SAMPLE)
    wait_for(node, 'waiting for images on /camera/image_raw/compressed')
    wait_for(node, 'process started with pid', count=2)     # the node, then the player
    assert 'taking /camera/image_raw (compressed) and /camera/camera_info' in node.end()


def test_the_variant_n_arrives_as_a_text(launched, tiny_weights):
    node = launched('letter', variant='n', weights=tiny_weights)
    assert node.process.wait(PATIENCE) is not None
    assert "ask for variant 'tiny', not 'n'" in node.end()


def wait_for(node, text, count=1):
    end = time.monotonic() + PATIENCE
    while node.log.read_text().count(text) < count:
        assert time.monotonic() < end, node.log.read_text()
        time.sleep(0.1)
