"""colcon builds the package, plain and with links, and what it installs works."""
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys

import pytest

import zoe_ros

pytest.importorskip('colcon_core', reason='needs colcon (pip install colcon-common-extensions)')

ROOT = Path(__file__).resolve().parents[1]
COLCON = (sys.executable, '-m', 'colcon', 'build')
PATIENCE = 300
# What a build does not need, and what must not be copied with it.
LEFT_OUT = ('.git', '.venv', 'build', 'install', 'log', '.*_cache', '.hypothesis', '__pycache__')


@pytest.fixture(scope='module', params=[(), ('--symlink-install',)], ids=['plain', 'symlink'])
def prefix(request, tmp_path_factory):
    """Return the folder into which colcon has installed a copy of this checkout."""
    workspace = tmp_path_factory.mktemp('workspace')
    shutil.copytree(ROOT, workspace / 'src' / 'zoe_ros', ignore=shutil.ignore_patterns(*LEFT_OUT))
    done = subprocess.run(
        [*COLCON, *request.param, '--packages-select', 'zoe_ros'], cwd=workspace,
        capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '1 package finished' in done.stdout + done.stderr, done.stdout + done.stderr
    return workspace / 'install' / 'zoe_ros'


def environment(prefix):
    """Return the environment of a shell that has sourced the workspace."""
    # Without this checkout, which would stand in front of what was installed.
    before = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    text = subprocess.run(
        ['bash', '-c', f'source "{prefix.parent}/local_setup.bash" && env -0'], env=before,
        capture_output=True, text=True, check=True, timeout=PATIENCE).stdout
    return dict(pair.split('=', 1) for pair in text.split('\0') if pair)


def test_a_sourced_workspace_finds_the_package_and_its_files(prefix):
    assert str(prefix) in environment(prefix)['AMENT_PREFIX_PATH'].split(os.pathsep)
    share = prefix / 'share' / 'zoe_ros'
    assert {path.name for path in share.iterdir()} >= {'launch', 'config', 'package.xml'}
    assert {path.name for path in (share / 'config').iterdir()} >= {
        'depth.yaml', 'depth.rviz', 'foxglove.json', 'fastdds.xml', 'consumers'}
    assert {path.name for path in (prefix / 'lib' / 'zoe_ros').iterdir()} == {'depth_node', 'zoe'}


def test_the_package_is_the_one_of_the_workspace(prefix):
    done = subprocess.run(
        [sys.executable, '-c', 'import zoe_ros; print(zoe_ros.__file__)'], cwd=prefix,
        env=environment(prefix), capture_output=True, text=True, timeout=PATIENCE)
    assert Path(done.stdout.strip()).is_relative_to(prefix.parents[1]), done.stdout


def test_the_installed_command_runs(prefix):
    done = subprocess.run([prefix / 'lib' / 'zoe_ros' / 'zoe', '--version'],
                          cwd=prefix, env=environment(prefix), capture_output=True, text=True,
                          timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert zoe_ros.__version__ in done.stdout


def test_the_installed_node_starts_and_ends(prefix, tiny_weights):
    pytest.importorskip('rclpy', reason='needs ROS (pip install .[ros])')
    command = [prefix / 'lib' / 'zoe_ros' / 'depth_node', '--ros-args', '-r', '__ns:=/colcon',
               '-p', 'variant:=tiny', '-p', f"weights:='{tiny_weights}'", '-p', 'device:=cpu']
    with subprocess.Popen(
            command, cwd=prefix, env=environment(prefix), text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler)) as node:
        said = []
        for line in node.stdout:
            said.append(line)
            if 'waiting for images' in line:
                node.send_signal(signal.SIGINT)
        assert node.wait(PATIENCE) == 0, ''.join(said)
        assert 'waiting for images' in ''.join(said)
