"""The parameters of the node: one source, and everything that is written from it."""
from dataclasses import fields
from pathlib import Path
import re

import pytest
import yaml

from zoe_ros.ros.parameters import DepthParameters, to_markdown, to_yaml
from zoe_ros.settings import RunSettings

ROOT = Path(__file__).resolve().parents[2]


def test_the_parameter_file_is_the_one_that_the_code_writes():
    assert (ROOT / 'config' / 'depth.yaml').read_text() == to_yaml()


def test_the_table_of_the_page_is_the_one_that_the_code_writes():
    assert to_markdown() in (ROOT / 'docs' / 'node.md').read_text()


def test_the_parameter_file_holds_the_defaults():
    loaded = yaml.safe_load(to_yaml())['/**']['ros__parameters']
    assert DepthParameters(**loaded) == DepthParameters()


@pytest.mark.parametrize('path', sorted((ROOT / 'config').glob('*.yaml')), ids=lambda p: p.name)
def test_parameter_files_hold_parameters(path):
    DepthParameters(**yaml.safe_load(path.read_text())['/**']['ros__parameters'])


def test_bag_runs_and_the_node_share_names_and_defaults():
    run = {item.name: item.default for item in fields(RunSettings)}
    node = {item.name: item.default for item in fields(DepthParameters)}
    shared = set(run) & set(node)
    assert shared >= {'variant', 'weights', 'device', 'precision', 'aspect', 'router',
                      'point_cloud_downsample'}
    assert {name: run[name] for name in shared} == {name: node[name] for name in shared}


@pytest.mark.parametrize(('name', 'value', 'text'), [
    ('precision', 'fp8',
     "parameter 'precision' is 'fp8', not one of auto, fp32, fp16, bf16"),
    ('router', 'kitchen', "parameter 'router' is 'kitchen', not one of auto, indoor, outdoor"),
    ('point_cloud_downsample', 65, "'point_cloud_downsample' is 65, not within 1 ... 64"),
    ('point_cloud_downsample', 2.0, "'point_cloud_downsample' is 2.0, not of type int"),
    ('autostart', 'yes', "parameter 'autostart' is 'yes', not of type bool"),
    ('autostart', 1, "parameter 'autostart' is 1, not of type bool"),
    ('weights', 5, "parameter 'weights' is 5, not of type str"),
    ('cameras', (), "parameter 'cameras' is [], not a list of different names"),
    ('cameras', ('left', 'left'), "parameter 'cameras' is ['left', 'left'], not a list of "
                                  'different names that are valid in a topic'),
])
def test_a_wrong_value_names_itself_and_what_is_accepted(name, value, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        DepthParameters(**{name: value})
