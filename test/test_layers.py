"""The house: each module imports only those below it, and ROS stays in its own rooms."""
import ast
import os
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONTRIBUTING = ROOT / 'CONTRIBUTING.md'
# Bottom to top. A module may import those of the lines before its own; a name with a dot at its
# end stands for a package, whose modules may import each other.
LAYERS = [
    ['errors', 'counts', 'extras', 'clock', 'files', 'settings', 'colormap', 'camera',
     'color_spaces', 'metrics', 'depth_codec', 'headers', 'pace', 'topic_names', 'stdout'],
    ['model.', 'anchor.', 'command_settings', 'idle_options'],
    ['inference', 'inference.malloc', 'inference.routing', 'inference.transfer',
     'inference.defaults', 'inference.threads'],
    ['inference.preprocess', 'inference.graphs', 'inference.choices', 'refine', 'sky', 'cloud',
     'temporal_metrics'],
    ['inference.runner', 'training_camera'],
    ['inference.pair_runner'],
    ['inference.engine', 'camera_tables'],
    ['camera_depth'],
    [''],                               # zoe_ros itself: the version and the public names
    ['images', 'storage.'],
    ['messages', 'camera_info', 'named_data'],
    ['outputs', 'photos', 'remarks', 'range_messages', 'stereo_pair', 'bag_messages'],
    ['range_anchor'],
    ['pipeline'],
    ['bag', 'results', 'provenance', 'cloud_picture'],
    ['picture', 'run_table', 'bag_writer', 'bag_anchor', 'cuts', 'part_files'],
    ['datasets.', 'kept_parts'],
    ['world.', 'baselines', 'evaluation_picture'],
    ['hugging_face', 'lerobot.'],
    ['run', 'evaluate', 'temporal', 'calibrate', 'benchmark', 'export'],
    ['run_many', 'cluster'],
    ['jobs', 'parts', 'training.'],
    ['fleet'],
    ['distill.', 'evaluate_fleet'],
    ['cli', 'ros.'],
]
MODEL_LAYERS = [
    ['config', 'layouts', 'calibration', 'releases', 'cuda', 'triton_kernels'],
    ['fused'],
    ['kernels'],
    ['transformer', 'decoder', 'pyramid', 'router'],
    ['backbone', 'dino'],
    ['tiling', 'fused_decoder'],
    ['distributions'],
    ['metric'],
    ['fused_metric'],
    ['fuse'],
    ['zoedepth'],
    ['weights'],
    ['hub'],
    ['pair'],
    ['identity'],
]
# Packages that a module may import from; all others may not.
ROOMS = {'rosbags': ['bag_messages', 'bag_writer'], 'huggingface_hub': ['model.hub'],
         'timm': ['model.pyramid'], 'cv2': ['anchor.opencv'],
         'embreex': ['world.render'], 'onnx': ['export'], 'onnxruntime': ['export'],
         'onnxscript': ['export'], 'pyarrow': ['run_table', 'lerobot.dataset', 'lerobot.metadata'],
         'av': ['lerobot.dataset', 'lerobot.video'], 'ray': ['cluster'],
         'upath': ['storage.remote'], 'triton': ['model.fused', 'model.triton_kernels']}
ROS_PACKAGES = [
    'rclpy', 'rcl_interfaces', 'sensor_msgs', 'std_msgs', 'builtin_interfaces', 'diagnostic_msgs',
    'lifecycle_msgs', 'geometry_msgs', 'tf2_msgs', 'nav_msgs', 'sensor_msgs_py',
    'ament_index_python', 'rosbag2_py', 'message_filters', 'image_transport']
LAUNCH_PACKAGES = ['launch', 'launch_ros']
MODULES = {
    '.'.join(path.relative_to(ROOT / 'zoe_ros').with_suffix('').parts): path
    for path in sorted((ROOT / 'zoe_ros').rglob('*.py'))}


def imports(path):
    """Return the full names that a file imports, wherever in it: also inside of functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}:{node.lineno} imports relatively'
            names.update(f'{node.module}.{alias.name}' for alias in node.names)
        elif (isinstance(node, ast.Call) and ast.unparse(node.func).endswith('import_module')
              and isinstance(node.args[0], ast.Constant)):
            names.add(node.args[0].value)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == 'require':
            names.update(ast.literal_eval(package) for package in node.args[2:])
    return names


def own(names):
    """Return the modules of zoe_ros among imported names, as they are called in MODULES."""
    found = set()
    for name in names:
        package, _, rest = name.partition('.')
        if package != 'zoe_ros':
            continue
        candidates = [rest, rest.rpartition('.')[0], f'{rest}.__init__']
        modules = [candidate for candidate in candidates if candidate in MODULES]
        found.add(modules[0] if modules else '__init__')
    return found


def layer_of(module, layers=LAYERS):
    """Return the number of the layer and the name in it that holds a module."""
    name = '' if module == '__init__' else module.removesuffix('.__init__')
    for number, layer in enumerate(layers):
        for entry in layer:
            package = entry.endswith('.') and f'{name}.'.startswith(entry)
            if entry == name or package:
                return number, entry
    pytest.fail(f'module {module} has no place in the table of layers')
    return None


def layer_table():
    """Return the tables of layers as Markdown: those of the package, then those within model/."""
    rows = ['| layer | modules | packages that only these modules import |', '|---|---|---|']
    for number, layer in enumerate(LAYERS):
        here = {package: [room for room in rooms if layer_of(room)[0] == number]
                for package, rooms in sorted(ROOMS.items())}
        only = [f'{package} (`{"`, `".join(rooms)}`)' for package, rooms in here.items() if rooms]
        only += ['ROS (`ros.`)'] if 'ros.' in layer else []
        rows.append(f'| {number + 1} | {_names(layer)} | {", ".join(only)} |')
    rows += ['', '| layer within `model.` | modules |', '|---|---|']
    rows += [f'| {number} | {_names(layer)} |' for number, layer in enumerate(MODEL_LAYERS, 1)]
    return '\n'.join(rows) + '\n'


def _names(layer):
    return ', '.join(f'`{name or "zoe_ros"}`' for name in layer)


def with_layer_table(page):
    """Return the text of CONTRIBUTING.md with new tables of layers between its two marks."""
    before, begin, rest = page.partition('<!-- layers -->\n')
    _, end, after = rest.partition('<!-- end of layers -->\n')
    assert begin and end
    return before + begin + layer_table() + end + after


def test_the_table_of_layers_is_up_to_date():
    page = CONTRIBUTING.read_text()
    assert with_layer_table(page) == page, 'run python test/test_layers.py'


@pytest.mark.parametrize('module', MODULES)
def test_a_module_imports_only_what_is_below_it(module):
    number, entry = layer_of(module)
    for other in own(imports(MODULES[module])):
        below, other_entry = layer_of(other)
        same_package = entry.endswith('.') and other_entry == entry
        assert below < number or same_package, f'{module} imports {other}'


@pytest.mark.parametrize('module', [m for m in MODULES if m.startswith('model.')])
def test_layers_within_the_model(module):
    name = module.removeprefix('model.')
    if name == '__init__':
        assert not own(imports(MODULES[module]))
        return
    number, _ = layer_of(name, MODEL_LAYERS)
    for other in own(imports(MODULES[module])):
        if other == 'files' and module in (
                'model.weights', 'model.calibration', 'model.hub', 'model.releases',
                'model.identity'):
            continue    # the modules that write or check files
        assert other.startswith('model.')
        below, _ = layer_of(other.removeprefix('model.'), MODEL_LAYERS)
        assert below < number, f'{module} imports {other}'


@pytest.mark.parametrize('module', MODULES)
def test_packages_stay_in_their_rooms(module):
    packages = {name.partition('.')[0] for name in imports(MODULES[module])}
    assert not packages & set(LAUNCH_PACKAGES)
    if not module.startswith('ros.'):
        assert not packages & set(ROS_PACKAGES)
    for package, rooms in ROOMS.items():
        assert package not in packages or module in rooms, f'{module} imports {package}'


def test_packages_are_where_they_are_said_to_be():
    for package, rooms in ROOMS.items():
        for room in rooms:
            assert any(name.partition('.')[0] == package for name in imports(MODULES[room]))


def test_the_walk_finds_imports_of_every_kind(tmp_path):
    file = tmp_path / 'module.py'
    file.write_text('import a.b, c as d\nfrom e import f\nfrom zoe_ros.model.hub import g\n'
                    'from zoe_ros import camera, h\n'
                    'def later():\n    from rclpy.node import Node\n'
                    '    return importlib.import_module("i")\n'
                    'require("a fleet", "fleet", "j", "k.l")\n')
    assert imports(file) == {'a.b', 'c', 'e.f', 'zoe_ros.model.hub.g', 'zoe_ros.camera',
                             'zoe_ros.h', 'rclpy.node.Node', 'i', 'j', 'k.l'}
    assert own(imports(file)) == {'model.hub', 'camera', '__init__'}


WITHOUT_ROS = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {blocked!r}:
            raise ImportError(f'{{name}} is blocked')

sys.meta_path.insert(0, Blocked())
try:
    import {first}
    sys.exit('the block does not hold')
except ImportError:
    pass

import numpy as np
import zoe_ros
import zoe_ros.cli
prediction = zoe_ros.DepthEstimator.load('tiny', {weights!r}, device='cpu').predict(
    np.full((20, 30, 3), 128, np.uint8))
assert prediction.depth.shape == (20, 30)
sys.exit(zoe_ros.cli.main(['run', {photo!r}, '--variant', 'tiny', '--weights', {weights!r},
                           '--output', {output!r}]))
"""


@pytest.mark.slow
def test_without_ros(tmp_path, tiny_weights):
    # A bag is run here: even that needs no ROS.
    blocked = [*ROS_PACKAGES, *LAUNCH_PACKAGES, 'cv_bridge', 'cv2']
    sample = ROOT / 'zoe_ros' / 'data' / 'sample'
    code = WITHOUT_ROS.format(blocked=blocked, first='rclpy', weights=str(tiny_weights),
                              photo=str(sample), output=str(tmp_path / 'results'))
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True,
                          timeout=300, env={**os.environ, 'OMP_NUM_THREADS': '1'})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'results' / 'latest' / 'bag' / 'metadata.yaml').is_file()


if __name__ == '__main__':
    CONTRIBUTING.write_text(with_layer_table(CONTRIBUTING.read_text()))
