"""Files of parameters whose sections are for another node."""
import pytest
import rclpy
from ros_support import running_node, tiny

from zoe_ros.ros.parameter_files import explain_unused_files

CONTENT = 'ros__parameters: {max_depth: 7.0}'
NODE = '/robot/depth_node'
MATCHING = ['/**', '/robot/depth_node', 'robot/depth_node', '"/*/depth_node"', '/**/depth_node',
            '"/robot/*"']
OTHERS = ['depth_node', '/**/depth', '"/*"', '/robot', '/depth_node/robot']
FILES = {
    **{f'{name}: {{{CONTENT}}}': '' for name in MATCHING},
    **{f'{name}: {{{CONTENT}}}': f'/{name.strip(chr(34)).lstrip("/")}' for name in OTHERS},
    f'robot: {{depth_node: {{{CONTENT}}}}}': '',
    f'robot: {{depth: {{{CONTENT}}}}}': '/robot/depth',
    f'{{/other: {{{CONTENT}}}, /**: {{{CONTENT}}}}}': '',
    f'{{/b: {{{CONTENT}}}, /a: {{{CONTENT}}}}}': '/a, /b', '{}': 'no node', '': 'no node'}


def used_by_ros(path):
    """Tell whether ROS gives a node the parameters of a file."""
    context = rclpy.Context()
    rclpy.init(context=context, args=['--ros-args', '--params-file', str(path)])
    node = rclpy.create_node('depth_node', context=context, namespace='robot',
                             automatically_declare_parameters_from_overrides=True)
    used = node.has_parameter('max_depth')
    node.destroy_node()
    rclpy.shutdown(context=context)
    return used


@pytest.mark.parametrize('content', FILES)
def test_files_for_this_node_and_for_others(tmp_path, content):
    path = tmp_path / 'own.yaml'
    path.write_text(content)
    said = explain_unused_files(
        ['depth_node', '--ros-args', '--params-file', str(path), '-p', 'a:=1'], NODE)
    assert used_by_ros(path) == (not said)
    assert said == [f'{path} has no parameters for {NODE}, so that nothing in it is used: it has '
                    f'some for {FILES[content]}'] * bool(FILES[content])


def test_without_a_file():
    assert explain_unused_files(['depth_node', '--ros-args', '-p', 'a:=1'], NODE) == []


def test_the_node_says_so(tiny_weights, tmp_path):
    # The node of a test is in a namespace, and the first section is for one without.
    paths = [tmp_path / 'other.yaml', tmp_path / 'own.yaml']
    for path, name in zip(paths, ('depth_node', '/**')):
        path.write_text(f'{name}: {{{CONTENT}}}')
    arguments = [text for path in paths for text in ('--params-file', path)]
    with running_node(*arguments, **tiny(tiny_weights)) as node:
        node.wait_for(f'{paths[0]} has no parameters for {node.name}, so that nothing in it is '
                      'used: it has some for /depth_node')
        node.wait_for('waiting for images')
        assert 'own.yaml' not in node.output
