"""Checkpoints of our own, saved and read back; precision, and what loading costs."""
import itertools
from pathlib import Path
import subprocess
import sys

from checkpoints import assert_equal_models, refusal, TINY, write_tiny
import made_up
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file
import torch

from zoe_ros.model.weights import load_model, open_checkpoint, save_model


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


@pytest.mark.slow
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
    write_tiny(tiny, state, path)
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
    write_tiny(tiny, state, path)
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
    path = official('nk')
    for dtype, precision, width in (('float32', 'fp32', 4), ('bfloat16', 'bf16', 2)):
        said = subprocess.run([sys.executable, '-c', MEMORY, str(path), dtype, precision],
                              check=True, capture_output=True, text=True).stdout
        peak, size, count, packed = map(int, said.split())
        assert size == pytest.approx(width * count, rel=0.01)
        assert 0.9 * size < peak < 1.25 * size
        # Laid out anew for inference: still one of each, and no holes.
        assert 0.9 * size < packed < 1.1 * size
