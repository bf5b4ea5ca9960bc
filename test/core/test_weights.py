"""Checkpoints: what is accepted, what is refused and in which words, and what loading costs."""
from dataclasses import replace
import itertools
import json
from pathlib import Path
import pickle
import re
import subprocess
import sys

import made_up
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file
import torch

from zoe_ros.inference.defaults import Hardware
from zoe_ros.inference.engine import find_config
from zoe_ros.model.config import RELEASED, VARIANTS
from zoe_ros.model.layouts import OFFICIAL
from zoe_ros.model.weights import load_model, open_checkpoint, save_model, WeightsError
from zoe_ros.model.zoedepth import ZoeDepth

TINY = made_up.tiny_config()
# In the layouts of others it passes for what its structure is.
TINY_NK = replace(TINY, variant='nk')
ENCODER = 'core.core.pretrained.model'
# What old timm and the official heads put into a file beside the parameters.
LUMBER = {
    f'{ENCODER}.blocks.0.attn.relative_position_index': torch.zeros(17, 17, dtype=torch.int64),
    f'{ENCODER}.head.weight': torch.zeros(1000, 32), f'{ENCODER}.fc_norm.bias': torch.zeros(32),
    'core.core.scratch.refinenet4.resConfUnit1.conv1.weight': torch.zeros(32, 32, 3, 3),
    'conditional_log_binomial.nyu.log_binomial_transform.k_idx': torch.zeros(1, 16, 1, 1),
    'conditional_log_binomial.nyu.log_binomial_transform.K_minus_1': torch.zeros(1, 1, 1, 1)}


@pytest.fixture(scope='module')
def tiny():
    """Return the tiny model."""
    return made_up.tiny_model()


@pytest.fixture
def state(tiny):
    """Return the tensors of the tiny model under their official names."""
    return {OFFICIAL.sources(name, 2)[0]: tensor for name, tensor in tiny.state_dict().items()}


def saved(content, folder, name='made_up.pt'):
    """Save ``content`` as torch does; return the path."""
    torch.save(content, folder / name)
    return folder / name


def refusal(path, config=TINY_NK):
    """Return the words of the refusal, without the path."""
    with pytest.raises(WeightsError) as error:
        load_model(config, path)
    text = str(error.value)
    assert str(path) in text
    assert '\n' not in text
    return text.replace(str(path), 'FILE')


def assert_equal_models(a, b):
    """Compare all tensors."""
    states = a.state_dict(), b.state_dict()
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


# The official layout.

@pytest.mark.parametrize('wrap', [
    lambda state: state,
    lambda state: {'model': state},
    lambda state: {'model': state, 'optimizer': None, 'epoch': 4},
    lambda state: {'model': {f'module.{name}': t for name, t in state.items()}},
    lambda state: {f'module.{name}': t for name, t in state.items()},
    lambda state: {'model': {**state, **LUMBER}},
    lambda state: {'model': dict(reversed(state.items()))},
    lambda state: {'model': {name: t.double() for name, t in state.items()}},
], ids=['plain', 'model', 'trainer', 'module', 'plain module', 'old timm', 'order', 'double'])
def test_official_file_in_all_its_dresses(tiny, state, tmp_path, wrap):
    assert_equal_models(load_model(TINY, saved(wrap(state), tmp_path)), tiny)


@pytest.mark.parametrize('variant', RELEASED)
def test_every_name_of_the_released_file_is_used_or_known_to_be_useless(variant):
    config = VARIANTS[variant]
    names = json.loads((made_up.GOLDEN / f'state_dict_{variant}.json').read_text())
    with torch.device('meta'):
        ours = ZoeDepth(config).state_dict()
    sources = {name: OFFICIAL.sources(name, len(config.metric.heads)) for name in ours}
    used = list(itertools.chain(*sources.values()))
    assert len(used) == len(set(used)) == len(ours)
    assert set(used) <= set(names)
    assert all(OFFICIAL.unused.fullmatch(name) for name in set(names) - set(used))
    assert not any(OFFICIAL.unused.fullmatch(name) for name in used)
    for name, (source,) in sources.items():
        assert tuple(names[source][0]) == tuple(ours[name].shape), name


@pytest.mark.parametrize('name', [
    f'{ENCODER}.cls_token', f'{ENCODER}.blocks.3.attn.relative_position_bias_table',
    'core.core.scratch.layer4_rn.weight', 'attractors.kitti.2._net.2.bias',
    'mlp_classifier.0.weight'])
class TestOneTensor:
    """The text names the tensor that is not as it should be."""

    def test_missing(self, state, tmp_path, name):
        del state[name]
        text = refusal(saved(state, tmp_path))
        assert text == f'FILE does not fit ZoeD-tiny; missing: {name}'

    def test_of_another_shape(self, state, tmp_path, name):
        right = tuple(state[name].shape)
        wrong = (*right[:-1], right[-1] + 1)
        state[name] = torch.zeros(wrong)
        text = refusal(saved(state, tmp_path))
        assert text == ('FILE does not fit ZoeD-tiny; '
                        f'of another shape: {name} is {wrong}, not {right}')

    def test_without_a_shape(self, state, tmp_path, name):
        right = tuple(state[name].shape)
        state[name] = torch.tensor(1.0)
        text = refusal(saved(state, tmp_path))
        assert text == f'FILE does not fit ZoeD-tiny; of another shape: {name} is (), not {right}'

    def test_unknown(self, state, tmp_path, name):
        state[f'{name}.more'] = torch.zeros(2)
        text = refusal(saved(state, tmp_path))
        assert text == f'FILE does not fit ZoeD-tiny; unknown: {name}.more'


def test_many_problems_are_counted_not_listed(state, tmp_path):
    for name in [name for name in state if '.blocks.1.' in name]:
        del state[name]
    state['more'] = torch.zeros(1)
    text = refusal(saved(state, tmp_path))
    assert re.fullmatch(r'FILE does not fit ZoeD-tiny; missing: (\S+, ){3}\S+ and \d+ more; '
                        'unknown: more', text)


def released(variant, folder):
    """Write a file with the names and shapes of a released one, but a single number in each."""
    layout = json.loads((made_up.GOLDEN / f'state_dict_{variant}.json').read_text())
    return saved({'model': {name: torch.zeros(1).expand(shape)
                            for name, (shape, _) in layout.items()}}, folder)


@pytest.mark.parametrize('variant', RELEASED)
def test_a_released_file_tells_its_variant(tmp_path, variant):
    assert find_config('', released(variant, tmp_path), Hardware('cpu')) is VARIANTS[variant]


@pytest.mark.parametrize('held, asked', list(itertools.permutations(RELEASED, 2)))
def test_released_file_of_another_variant(tmp_path, held, asked):
    text = refusal(released(held, tmp_path), VARIANTS[asked])
    assert text == (f'FILE holds {VARIANTS[held].title}, not {VARIANTS[asked].title}: ask for '
                    f"variant '{held}' or give the weights of {VARIANTS[asked].title}")


@pytest.mark.parametrize('held, tensors', [
    ('n', {'metric_head.attractors.0.conv2.bias': torch.zeros(16)}),
    ('k', {'metric_head.attractors.0.conv2.bias': torch.zeros(32)}),
    ('nk', {'metric_head.patch_transformer.embedding_convPxP.bias': torch.zeros(128)})])
def test_hugging_face_file_of_another_variant(tmp_path, held, tensors):
    save_file(tensors, tmp_path / 'model.safetensors')
    for asked in set(RELEASED) - {held}:
        text = refusal(tmp_path / 'model.safetensors', VARIANTS[asked])
        assert text.startswith(f'FILE holds {VARIANTS[held].title}, not {VARIANTS[asked].title}:')


def test_first_attractor_without_a_shape(tmp_path):
    """The tensor that tells the variants apart is itself damaged."""
    save_file({'metric_head.attractors.0.conv2.bias': torch.tensor(1.0)},
              tmp_path / 'model.safetensors')
    assert refusal(tmp_path / 'model.safetensors', VARIANTS['n']).startswith(
        'FILE does not fit ZoeD-M12-N; missing: ')


# Files that are no checkpoints.

@pytest.mark.parametrize('keep', [lambda size: size // 2, lambda size: size - 200,
                                  lambda size: 100, lambda size: 5],
                         ids=['half', 'no end', 'start', 'five bytes'])
@pytest.mark.parametrize('kind', ['pt', 'safetensors'])
def test_truncated_file(tiny, state, tmp_path, kind, keep):
    path = tmp_path / f'made_up.{kind}'
    if kind == 'pt':
        torch.save(state, path)
    else:
        save_model(tiny, path)
    content = path.read_bytes()
    path.write_bytes(content[:keep(len(content))])
    assert re.match('FILE is damaged', refusal(path))


@pytest.mark.parametrize('content', [
    b'', b'{"name": "a text"}', b'version https://git-lfs.github.com/spec/v1\noid sha256:ab\n',
    bytes(4096), b'\x10\x00\x00\x00\x00\x00\x00\x00{not json at all', b'<html></html>'],
    ids=['empty', 'json', 'lfs pointer', 'zeros', 'bad header', 'html'])
@pytest.mark.parametrize('name', ['made_up.pt', 'made_up.safetensors'])
def test_no_checkpoint_at_all(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    assert re.match('FILE is (damaged|not loaded)', refusal(path))


def test_file_of_torch_before_1_6(state, tmp_path):
    path = tmp_path / 'old.pt'
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert 'no checkpoint of torch 1.6 or newer' in refusal(path)


@pytest.mark.parametrize('make', [lambda folder: folder, lambda folder: folder / 'no' / 'such.pt'],
                         ids=['directory', 'missing'])
def test_no_file(tmp_path, make):
    path = make(tmp_path)
    with pytest.raises(FileNotFoundError, match=f'^no weights file at {re.escape(str(path))}: '):
        load_model(TINY, path)


@pytest.mark.parametrize('content', [
    [torch.zeros(1)], {}, {'model': {}}, {'model': None}, {'model': {'epoch': 3}}, torch.zeros(3),
    {'model': [torch.zeros(1)]}], ids=str)
def test_no_dictionary_of_tensors(tmp_path, content):
    assert refusal(saved(content, tmp_path)).startswith('FILE holds no model: ')


@pytest.mark.parametrize('kind', ['pt', 'safetensors'])
def test_tensors_of_something_else(tmp_path, kind):
    path = tmp_path / f'other.{kind}'
    tensors = {'conv1.weight': torch.zeros(2), 'bn1.bias': torch.zeros(2)}
    if kind == 'pt':
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    assert refusal(path).startswith(
        'FILE holds no ZoeDepth (it starts with bn1.bias, conv1.weight): ')


class Code:
    """Unpickles by running code."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return eval, (f'open({str(self.marker)!r}, "w")',)


def test_code_in_a_checkpoint_is_not_run(state, tmp_path):
    marker = tmp_path / 'marker'
    path = saved({'model': {**state, 'conv2.bias': Code(marker)}}, tmp_path)
    text = refusal(path)
    assert not marker.exists()
    assert re.fullmatch(r'FILE is not loaded: it holds more than tensors \((\w+\.)?eval\), and '
                        r'unpickling that could run code; use the released \.pt or a safetensors '
                        r'file', text)
    # The file would have run it: otherwise this test showed nothing.
    torch.load(path, weights_only=False)
    assert marker.exists()


def test_code_in_a_plain_pickle_is_not_run(tmp_path):
    marker, path = tmp_path / 'marker', tmp_path / 'made_up.pt'
    path.write_bytes(pickle.dumps({'model': Code(marker)}))
    refusal(path)
    assert not marker.exists()


def test_object_beside_the_tensors(state, tmp_path):
    """Such a file is harmless, but telling it from another would mean to unpickle it."""
    optimizer = torch.optim.SGD([torch.ones(1)])
    text = refusal(saved({'model': state, 'optimizer': optimizer}, tmp_path))
    assert text.startswith('FILE is not loaded: it holds more than tensors (torch.optim.sgd.SGD)')


# Our own files.

def test_own_file_comes_back(tiny, tmp_path):
    save_model(tiny, tmp_path / 'tiny.safetensors')
    assert [path.name for path in tmp_path.iterdir()] == ['tiny.safetensors']
    assert open_checkpoint(tmp_path / 'tiny.safetensors').config == TINY
    assert_equal_models(load_model(TINY, str(tmp_path / 'tiny.safetensors')), tiny)
    (tmp_path / 'other').touch()
    # Who may read other new files may read this one.
    assert (tmp_path / 'tiny.safetensors').stat().st_mode == (tmp_path / 'other').stat().st_mode


@pytest.mark.parametrize('heads, bounded', [(('indoor',), False), (('outdoor',), True)])
def test_own_file_of_a_single_head_comes_back(tmp_path, heads, bounded):
    model = made_up.tiny_model(heads, bounded=bounded)
    save_model(model, tmp_path / 'tiny.safetensors')
    config = open_checkpoint(tmp_path / 'tiny.safetensors').config
    assert config == model.config
    assert_equal_models(load_model(config, tmp_path / 'tiny.safetensors'), model)


@pytest.mark.parametrize('change, words', [
    (lambda tensors: tensors.pop('backbone.cls_token'), 'missing: backbone.cls_token'),
    (lambda tensors: tensors.update(more=torch.zeros(1)), 'unknown: more'),
    (lambda tensors: tensors.update({'backbone.cls_token': torch.zeros(1, 1, 33)}),
     'of another shape: backbone.cls_token is (1, 1, 33), not (1, 1, 32)')])
def test_own_file_with_a_tensor_changed(tiny_weights, tmp_path, change, words):
    with safe_open(tiny_weights, 'pt') as file:
        metadata = file.metadata()
    tensors = load_file(tiny_weights)
    change(tensors)
    save_file(tensors, tmp_path / 'changed.safetensors', metadata)
    assert refusal(tmp_path / 'changed.safetensors') == f'FILE does not fit ZoeD-tiny; {words}'


@pytest.mark.parametrize('description', ['{}', 'no json', '[]', '{"variant": "tiny"}', '3'])
def test_own_file_with_another_description(tiny_weights, tmp_path, description):
    save_file(load_file(tiny_weights), tmp_path / 'tiny.safetensors', {'zoe_ros': description})
    assert refusal(tmp_path / 'tiny.safetensors').startswith(
        'FILE was written by another version of zoe_ros: ')


@pytest.mark.parametrize('make', [lambda folder: folder / 'no' / 'model.safetensors',
                                  lambda folder: folder / 'taken'],
                         ids=['no folder', 'a folder'])
def test_save_that_fails_leaves_nothing(tiny, tmp_path, make):
    (tmp_path / 'taken').mkdir()
    with pytest.raises(Exception, match=r'No such file|Is a directory'):
        save_model(tiny, make(tmp_path))
    assert [path.name for path in tmp_path.rglob('*')] == ['taken']


FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, {support!r})
import made_up
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    made_up.write_tiny({path!r}, seed=1)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_save_on_a_full_disk_keeps_the_old_file(tiny_weights, tmp_path):
    path = tmp_path / 'tiny.safetensors'
    path.write_bytes(tiny_weights.read_bytes())
    script = FULL_DISK.format(support=str(Path(made_up.__file__).parent), path=str(path))
    said = subprocess.run([sys.executable, '-c', script], check=True, capture_output=True,
                          text=True)
    assert 'File too large' in said.stdout
    assert path.read_bytes() == tiny_weights.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


# What loading gives and costs.

@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize('kind', ['pt', 'safetensors'])
def test_precision(tiny, state, tmp_path, dtype, kind):
    path = tmp_path / f'tiny.{kind}'
    if kind == 'pt':
        torch.save(state, path)
    else:
        save_model(tiny, path)
    model = load_model(TINY, path, dtype=dtype)
    for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        half = made_up.is_halved(name, dtype)
        assert tensor.dtype == (dtype if half else torch.float32), name
        assert not tensor.requires_grad
        assert tensor.device.type == 'cpu'
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize('kind', ['pt', 'safetensors'])
@pytest.mark.parametrize('happen', [
    lambda path: path.write_bytes(bytes(path.stat().st_size)), lambda path: path.unlink(),
    lambda path: path.write_bytes(b'')], ids=['overwritten', 'deleted', 'emptied'])
def test_model_does_not_live_in_its_file(tiny, state, tmp_path, kind, happen):
    path = tmp_path / f'tiny.{kind}'
    if kind == 'pt':
        torch.save(state, path)
    else:
        save_model(tiny, path)
    model = load_model(TINY, path)
    happen(path)
    assert_equal_models(model, tiny)


MEMORY = """
import sys, threading, time
import torch
from zoe_ros.inference.engine import DepthEstimator
from zoe_ros.model.config import VARIANTS
from zoe_ros.model.weights import load_model

def anonymous():
    with open('/proc/self/status') as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith('RssAnon'))

def watch():
    while not done.is_set():
        peaks.append(anonymous())
        time.sleep(0.002)

before, peaks, done = anonymous(), [], threading.Event()
thread = threading.Thread(target=watch)
thread.start()
model = load_model(VARIANTS['nk'], sys.argv[1], dtype=getattr(torch, sys.argv[2]))
done.set()
thread.join()
print(max(peaks) - before, sum(p.numel() * p.element_size() for p in model.parameters()),
      sum(p.numel() for p in model.parameters()), end=' ')
del model
estimator = DepthEstimator.load('nk', sys.argv[1], 'cpu', sys.argv[3])
print(anonymous() - before)
"""


@pytest.mark.full
@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_loading_takes_the_memory_of_one_model(official):
    with official('nk') as path:
        for dtype, precision, width in (('float32', 'fp32', 4), ('bfloat16', 'bf16', 2)):
            said = subprocess.run([sys.executable, '-c', MEMORY, str(path), dtype, precision],
                                  check=True, capture_output=True, text=True).stdout
            peak, size, count, packed = map(int, said.split())
            assert size == pytest.approx(width * count, rel=0.01)
            assert 0.9 * size < peak < 1.25 * size
            # Laid out anew for inference: still one of each, and no holes.
            assert 0.9 * size < packed < 1.1 * size
