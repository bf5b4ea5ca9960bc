"""Checkpoints of others: what is accepted, and what is refused and in which words."""
import itertools
import pickle
import re

from checkpoints import assert_equal_models, refusal, saved, TINY, write_tiny
import made_up
import pytest
from safetensors.torch import save_file
import torch

from zoe_ros.inference.choices import find_config
from zoe_ros.inference.defaults import Hardware
from zoe_ros.model.config import RELEASED, VARIANTS
from zoe_ros.model.layouts import DEPTH_ANYTHING, OFFICIAL
from zoe_ros.model.weights import load_model
from zoe_ros.model.zoedepth import ZoeDepth

# What their files tell apart.
ZOEDEPTHS = ('n', 'k', 'nk')
ENCODER = 'core.core.pretrained.model'
# What old timm and the official heads put into a file beside the parameters.
LUMBER = {
    f'{ENCODER}.blocks.0.attn.relative_position_index': torch.zeros(17, 17, dtype=torch.int64),
    f'{ENCODER}.head.weight': torch.zeros(1000, 32), f'{ENCODER}.fc_norm.bias': torch.zeros(32),
    'core.core.scratch.refinenet4.resConfUnit1.conv1.weight': torch.zeros(32, 32, 3, 3),
    'conditional_log_binomial.nyu.log_binomial_transform.k_idx': torch.zeros(1, 16, 1, 1),
    'conditional_log_binomial.nyu.log_binomial_transform.K_minus_1': torch.zeros(1, 1, 1, 1)}


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
    config, names = VARIANTS[variant], made_up.layout_of(variant)
    layout = DEPTH_ANYTHING if variant.startswith('da-') else OFFICIAL
    with torch.device('meta'):
        ours = ZoeDepth(config).state_dict()
    sources = {name: layout.sources(name, len(config.metric.heads)) for name in ours}
    used = list(itertools.chain(*sources.values()))
    assert len(used) == len(set(used)) == len(ours)
    assert set(used) <= set(names)
    assert all(layout.unused.fullmatch(name) for name in set(names) - set(used))
    assert not any(layout.unused.fullmatch(name) for name in used)
    for name, (source,) in sources.items():
        assert names[source] == tuple(ours[name].shape), name


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
    return saved({'model': {name: torch.zeros(1).expand(shape)
                            for name, shape in made_up.layout_of(variant).items()}}, folder)


@pytest.mark.parametrize('variant', ZOEDEPTHS)
def test_a_released_file_tells_its_variant(tmp_path, variant):
    assert find_config('', released(variant, tmp_path), Hardware('cpu')) is VARIANTS[variant]


@pytest.mark.parametrize('held, asked', [
    pair for pair in itertools.product(ZOEDEPTHS, RELEASED) if len(set(pair)) == 2])
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
    write_tiny(tiny, state, path)
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
    assert re.match('FILE is (damaged|not loaded|a Git LFS pointer|a web page)', refusal(path))


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
                        r'unpickling could run code; use the released \.pt or a safetensors '
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
