"""The package as colcon, pip and people find it."""
from importlib.metadata import entry_points
from pathlib import Path
import re
import subprocess
import sys
from xml.etree import ElementTree

import yaml

import zoe_ros

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ElementTree.parse(ROOT / 'package.xml').getroot()


def test_package_xml_names_what_the_node_uses():
    assert PACKAGE.get('format') == '3'
    assert PACKAGE.findtext('export/build_type') == 'ament_python'
    named = {item.text for item in PACKAGE.iter('exec_depend')}
    assert named >= {'rclpy', 'sensor_msgs', 'std_msgs', 'diagnostic_msgs', 'lifecycle_msgs',
                     'sensor_msgs_py', 'launch', 'launch_ros', 'python3-numpy',
                     'python3-torch', 'python3-timm-pip'}
    # colcon silently takes a package with a bad address for one that is not ROS.
    assert re.fullmatch(r'[\w.+-]+@[\w.-]+\.\w+', PACKAGE.find('maintainer').get('email'))


def test_all_files_agree_on_the_version():
    setup = (ROOT / 'setup.py').read_text()
    changes = (ROOT / 'CHANGELOG.rst').read_text()
    assert f"version='{zoe_ros.__version__}'" in setup
    assert PACKAGE.findtext('version') == zoe_ros.__version__
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    assert citation['version'] == zoe_ros.__version__
    assert citation['license'] == PACKAGE.findtext('license')
    assert re.search(rf'^{re.escape(zoe_ros.__version__)} ', changes, re.MULTILINE)


def test_the_commands_are_installed():
    names = {point.name: point.value for point in entry_points(group='console_scripts')}
    assert names['zoe'] == 'zoe_ros.cli:main'
    assert names['depth_node'] == 'zoe_ros.ros.main:main'


def test_help_and_version_need_no_torch():
    probe = ('import sys; from zoe_ros.cli import main\n'
             'try: main(["run", "--help"])\n'
             'except SystemExit: pass\n'
             'sys.exit("torch" in sys.modules)')
    done = subprocess.run([sys.executable, '-c', probe], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert '--topic' in done.stdout


def test_what_ships_is_small():
    sizes = {path: path.stat().st_size for path in (ROOT / 'zoe_ros').rglob('*')
             if path.is_file() and path.suffix != '.pyc'}
    weights = sum(sizes.pop(path) for path in list(sizes) if path.suffix == '.safetensors')
    assert weights <= 25e6
    assert sum(sizes.values()) < 6e6, sorted(sizes.items(), key=lambda item: -item[1])[:5]
    assert (ROOT / 'zoe_ros/data/sample/LICENSES.md').exists()
