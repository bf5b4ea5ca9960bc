"""The ready views for RViz and Foxglove show topics that the node publishes."""
import json
from pathlib import Path
import re

import yaml

from zoe_ros.outputs import CAMERA_INFO, DEPTH, POINTS

CONFIG = Path(__file__).resolve().parents[1] / 'config'
OUTPUTS = {DEPTH, CAMERA_INFO, POINTS}


def test_rviz_shows_the_cloud_and_the_depth():
    content = yaml.safe_load((CONFIG / 'depth.rviz').read_text())
    displays = content['Visualization Manager']['Displays']
    topics = [display['Topic']['Value'] for display in displays if 'Topic' in display]
    # Relative, so that they follow a namespace.
    assert topics == [POINTS, DEPTH]


def test_foxglove_shows_the_cloud_the_depth_and_the_diagnostics():
    text = (CONFIG / 'foxglove.json').read_text()
    named = set(re.findall(r'"/([\w/]+)"', text))
    assert named == OUTPUTS | {'diagnostics'}


def test_every_panel_of_foxglove_has_its_place():
    content = json.loads((CONFIG / 'foxglove.json').read_text())

    def places(node):
        return [node] if isinstance(node, str) else [
            *places(node['first']), *places(node['second'])]

    assert sorted(places(content['layout'])) == sorted(content['configById'])
