"""Arguments of the launch file: what is refused, what is remapped, what is started when."""
import os
from pathlib import Path

import bags
import pytest
from ros_support import bag_frames, Client, good_image, of_camera, PATIENCE, ROOT
from test_launch import Launched, prefix, wait_for  # noqa: F401

SAMPLE = ROOT / 'zoe_ros' / 'data' / 'sample'


@pytest.fixture
def installed(prefix, tmp_path):    # noqa: F811
    """Return a function that makes ament find a package with an executable that tells its use."""
    def install(package, executable):
        (tmp_path / 'share/ament_index/resource_index/packages' / package).touch()
        for folder in (tmp_path / 'lib' / package, tmp_path / 'bin'):
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / executable
            path.write_text(f'#!/bin/sh\necho "$0 $@" >> {tmp_path}/{executable}.called\n')
            path.chmod(0o755)
        return tmp_path / f'{executable}.called'

    prefix['PATH'] = os.pathsep.join((str(tmp_path / 'bin'), os.environ['PATH']))
    return install


@pytest.fixture
def launched(prefix, tmp_path):     # noqa: F811
    """Return a function that launches; what still runs at the end is interrupted."""
    running = []

    def launch(namespace, **arguments):
        running.append(Launched(prefix, tmp_path / f'{namespace}.log', namespace, **arguments))
        return running[-1]

    yield launch
    for item in running:
        item.end()


@pytest.fixture
def tiny(tiny_weights):
    """Return launch arguments for the tiny model."""
    return {'variant': 'tiny', 'weights': tiny_weights, 'device': 'cpu', 'precision': 'fp32'}


def await_call(path):
    """Return the first command line that an installed executable has told."""
    wait_for(_Log(path), '\n')
    return path.read_text().splitlines()[0]


class _Log:
    """A file that may not be there yet, with the interface of a launched process."""

    def __init__(self, path):
        self.log = self
        self._path = path

    def read_text(self):
        return self._path.read_text() if self._path.exists() else ''


@pytest.fixture
def two_cameras(tmp_path):
    """Return a bag with two cameras, one of which is compressed."""
    make, messages = bags.ROSBAGS, []
    for camera, suffix in (('left', ''), ('right', '/compressed')):
        picture, frame = bags.picture(48, 64), f'{camera}_optical'
        image = (make.compressed(bags.encoded(picture), 'png', frame=frame) if suffix
                 else make.photo(picture, frame=frame))
        messages += [(f'/{camera}/image_raw{suffix}', image, bags.START),
                     (f'/{camera}/camera_info', make.info(48, 64, frame=frame), bags.START)]
    path = tmp_path / 'two'
    bags.write_bag(path, messages)
    return path


@pytest.mark.parametrize('arguments, said', [
    ({'params_file': '/nonexistent.yaml'}, 'params_file: there is no file /nonexistent.yaml'),
    ({'use_sim_time': '1'}, "use_sim_time:=1 is neither 'true' nor 'false'"),
    ({'autostart': 'maybe'}, "autostart:=maybe is neither 'true' nor 'false'"),
    ({'cameras': 'front', 'image_topic': '/x'}, 'leave image_topic and camera_info_topic empty')])
def test_what_cannot_be_meant_is_refused_before_anything_starts(arguments, said, launched):
    node = launched('refused', **arguments)
    assert node.process.wait(PATIENCE) == 1
    output = node.log.read_text()
    assert said in output
    assert 'process started' not in output


@pytest.mark.parametrize('argument, package', [
    ({'rviz': 'true'}, 'rviz2'), ({'bag': str(SAMPLE)}, 'ros2bag')])
def test_what_is_not_installed_is_told_before_anything_starts(argument, package, launched):
    from ament_index_python.packages import get_packages_with_prefixes
    if package in get_packages_with_prefixes():
        pytest.skip(f'{package} is installed here')
    node = launched('missing', **argument)
    assert node.process.wait(PATIENCE) == 1
    output = node.log.read_text()
    assert f'needs {package}, which is not installed: apt install ros-$ROS_DISTRO-' in output
    assert 'process started' not in output


def test_booleans_are_those_of_yaml(launched, tiny):
    node = launched('manual', autostart='No', **tiny)
    wait_for(node, 'waiting to be configured')


def test_several_cameras_have_topics_of_their_own(launched, tiny):
    cameras = 'front=/several/front_cam/image_raw,rear'
    node = launched('several', cameras=cameras, **tiny)
    wait_for(node, 'waiting for images on /several/front_cam/image_raw')
    with Client(of_camera(node, 'front'), compressed=False, outputs=('depth/image',)) as front, \
            Client(of_camera(node, 'front_cam'), compressed=False, outputs=()) as source, \
            Client(of_camera(node, 'rear'), compressed=False, outputs=('depth/image',)) as rear:
        source.ask_until(good_image(3.0), lambda: front.spin(0.1) or front.depth)
        rear.ask(good_image(4.0))
        assert front.depth[-1].header.stamp.sec == 3


def test_an_image_topic_counts_more_than_the_cameras_of_a_file(launched, tiny, tmp_path):
    path = tmp_path / 'own.yaml'
    path.write_text("/**:\n  ros__parameters:\n    cameras: ['left', 'right']\n")
    node = launched('counts', params_file=path, image_topic='/one/image_raw/compressed', **tiny)
    wait_for(node, 'waiting for images on /one/image_raw/compressed')


def test_a_bag_gets_its_arguments_and_the_clock(launched, tiny, installed):
    called = installed('ros2bag', 'ros2')
    node = launched('played', bag=SAMPLE, bag_args='--loop --rate 0.5', use_sim_time='true',
                    **tiny)
    wait_for(node, 'waiting for images')
    assert await_call(called).endswith(f'bag play {SAMPLE} --clock --loop --rate 0.5')


@pytest.mark.parametrize('camera, transport', [('left', 'raw'), ('right', 'compressed')])
def test_a_topic_of_a_bag_of_several_cameras_is_found(
        camera, transport, launched, tiny, two_cameras, installed):
    installed('ros2bag', 'ros2')
    node = launched('chosen', bag=two_cameras, image_topic=f'/{camera}/image_raw', **tiny)
    wait_for(node, f'taking /{camera}/image_raw ({transport}) and /{camera}/camera_info')
    wait_for(node, 'waiting for images on')


def test_all_cameras_of_a_bag_can_be_played(launched, tiny, two_cameras, installed):
    installed('ros2bag', 'ros2')
    node = launched('which', bag=two_cameras, **tiny)
    assert node.process.wait(PATIENCE) == 1
    advice = node.log.read_text().split('or all: ')[1].split()[0]
    assert advice == 'cameras:=left=/left/image_raw,right=/right/image_raw'
    node = launched('all', bag=two_cameras, cameras=advice.partition(':=')[2], **tiny)
    wait_for(node, 'taking /right/image_raw (compressed) and /right/camera_info')
    wait_for(node, 'waiting for images on /left/image_raw')


def test_rviz_opens_in_the_frame_of_the_images(launched, tiny, installed):
    called = installed('rviz2', 'rviz2')
    node = launched('seen', rviz='true', use_sim_time='true', **tiny)
    wait_for(node, 'RViz opens with the first image')
    with Client(node, compressed=False) as client:
        client.wait_for_match()
        client.ask(good_image(frame='eye'))
    line = await_call(called)
    assert '-f eye' in line and 'depth.rviz' in line
    # rviz2 gets the time of the bag or of the simulation.
    parameters = [Path(word) for word in line.split() if word.startswith('/tmp/launch_params')]
    assert any('use_sim_time: true' in path.read_text() for path in parameters if path.exists())


def test_respawn_starts_a_node_again(launched, tiny):
    node = launched('again', respawn='true', **tiny)
    wait_for(node, 'waiting for images')
    launching = Path(f'/proc/{node.process.pid}')
    child, = (launching / f'task/{launching.name}/children').read_text().split()
    os.kill(int(child), 9)
    wait_for(node, 'waiting for images', count=2)


def test_the_images_of_the_sample_are_compressed():
    # What some tests above rely on.
    assert bag_frames(SAMPLE)[0][0].format
