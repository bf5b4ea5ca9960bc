"""The pair of Depth Anything's models: a router chooses one, and only that one runs."""
from collections import Counter
from dataclasses import replace
from functools import partial

from checkpoints import depth_anything_state, saved
import made_up
import numpy as np
import pytest
from rgbd_folders import write_folder
import torch
from torch.nn import functional as F

from zoe_ros import DepthEstimator
from zoe_ros.calibrate import run_calibration
from zoe_ros.command_settings import CalibrateSettings, ExportSettings
from zoe_ros.distill.student import student_config
from zoe_ros.export import export
from zoe_ros.files import file_sha256
from zoe_ros.inference.choices import find_config
from zoe_ros.inference.defaults import Hardware
from zoe_ros.inference.routing import HeadChoice
from zoe_ros.model import releases
from zoe_ros.model.config import VARIANTS
from zoe_ros.model.hub import find_weights
from zoe_ros.model.weights import load_model
from zoe_ros.model.zoedepth import ZoeDepth
from zoe_ros.training.start import begin_with

PARTS = {'indoor': 'da-n', 'outdoor': 'da-k'}
# A cup on a table, and a man in a meadow.
PHOTOS = {'n_coffee': 'indoor', 'nk_camera': 'outdoor'}


def file_of(folder, head):
    """Return the path of a model under its published name."""
    return folder / f'depth_anything_metric_depth_{head}.pt'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder with two small models in the published form."""
    for head, variant in PARTS.items():
        config = replace(made_up.depth_anything_config(head), variant=variant,
                         title=f'Depth Anything {variant[-1].upper()}')
        monkeypatch.setitem(VARIANTS, variant, config)
        saved({'model': depth_anything_state(made_up.fill(ZoeDepth(config), head))},
              tmp_path, file_of(tmp_path, head).name)
    return tmp_path


@pytest.fixture
def load(folder):
    """Return what loads a model of the folder: the pair, or one of the two."""
    def load(variant='da-nk', head='', **choices):
        return DepthEstimator.load(
            variant, file_of(folder, head) if head else folder, 'cpu', 'fp32', **choices)

    return load


@pytest.fixture
def pair(load):
    """Return the estimator of the pair."""
    return load()


@pytest.fixture
def images():
    """Return the photographs in the order of PHOTOS."""
    return [made_up.photo(name) for name in PHOTOS]


def count_runs(pair):
    """Return a counter of images that each model encodes from now on."""
    runs = Counter()

    def count(name, module, inputs):
        runs[name] += len(inputs[0])

    for name, model in {**pair.model.models, 'router': pair.model.router}.items():
        model.backbone.register_forward_pre_hook(partial(count, name))
    return runs


@pytest.mark.parametrize('choices', [{}, {'flip': True}, {'aspect': 'keep', 'pad': True}],
                         ids=['stretch', 'flip', 'keep'])
def test_each_image_has_the_depth_of_the_chosen_model(load, images, choices):
    pair = load(**choices)
    runs = count_runs(pair)
    found = pair.predict_batch(images, deviation=True)
    passes = 1 + bool(choices.get('flip'))
    assert runs == {'router': 2 * passes, 'indoor': passes, 'outdoor': passes}
    for image, head, prediction in zip(images, PHOTOS.values(), found):
        assert prediction.head == head
        assert prediction.head_probabilities[head] > 0.8
        assert sum(prediction.head_probabilities.values()) == pytest.approx(1)
        alone = load(PARTS[head], head, **choices).predict(image, deviation=True)
        np.testing.assert_array_equal(prediction.depth, alone.depth)
        np.testing.assert_array_equal(prediction.deviation, alone.deviation)


def test_the_router_is_that_of_the_small_model(pair):
    pixels = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (2, 3, 392, 518))).float()
    router = load_model(VARIANTS['mobile-lite'], find_weights('mobile-lite'))
    small = F.interpolate(pixels, (192, 256), mode='bilinear', antialias=True)
    with torch.inference_mode():
        expected = router.forward_features(small).logits
        torch.testing.assert_close(pair.model.route(pixels), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize('head', PARTS)
def test_a_forced_head_runs_its_model_alone(load, images, head):
    pair = load(router=head)
    runs = count_runs(pair)
    found = pair.predict_batch(images)
    assert runs == {head: 2}
    for prediction, alone in zip(found, load(PARTS[head], head).predict_batch(images)):
        assert prediction.head_probabilities == {name: float(name == head) for name in PARTS}
        np.testing.assert_array_equal(prediction.depth, alone.depth)


def test_what_chooses_may_be_told(pair, images):
    runs = count_runs(pair)
    known = HeadChoice('outdoor', {'indoor': 0.25, 'outdoor': 0.75})
    found, = pair.infer(images[:1], [known])
    assert runs == {'outdoor': 1}
    assert (found.head, found.head_probabilities) == known


def test_the_precision_is_that_of_the_models(folder):
    pair = DepthEstimator.load('da-nk', folder, 'cpu', 'bf16')
    assert pair.precision == 'bf16'
    assert next(pair.model.router.backbone.parameters()).dtype == torch.float32


def test_files_and_licences_of_both_are_told(pair, folder):
    assert pair.weights == tuple(file_of(folder, head) for head in PARTS)
    assert pair.licence == releases.RELEASES['da-n'].licence
    config = pair.model.config
    assert config.variant == 'da-nk'
    assert config.title == 'Depth Anything N and Depth Anything K'
    assert config.head_names == ('indoor', 'outdoor')


def test_a_missing_file(folder, load):
    missing = file_of(folder, 'outdoor')
    missing.unlink()
    with pytest.raises(FileNotFoundError, match=f'no weights file at {missing}'):
        load()


def test_files_under_each_others_names(folder, load, monkeypatch):
    """The SHA-256 of the published files tells them apart."""
    for head, variant in PARTS.items():
        monkeypatch.setitem(releases.RELEASES, variant, replace(
            releases.RELEASES[variant], sha256=file_sha256(file_of(folder, head))))
    load()
    indoor, outdoor = (file_of(folder, head) for head in PARTS)
    indoor.rename(folder / 'other')
    outdoor.rename(indoor)
    (folder / 'other').rename(outdoor)
    with pytest.raises(ValueError, match='holds Depth Anything K, not Depth Anything N'):
        load()


def test_commands_for_one_model_refuse_a_pair(folder, tmp_path):
    scenes = write_folder(tmp_path / 'scenes')
    for refused in (
            lambda: find_config('da-nk', None, Hardware('cpu')),
            lambda: export(ExportSettings(folder=str(tmp_path / 'out'), variant='da-nk')),
            # Before gigabytes of weights are fetched.
            lambda: run_calibration(CalibrateSettings(
                data=(str(scenes),), variant='da-nk', device='cpu')),
            lambda: student_config('da-nk'),
            lambda: begin_with(made_up.tiny_model(), 'da-nk')):
        with pytest.raises(ValueError) as error:
            refused()
        assert str(error.value) == (
            "'da-nk' is two models: name one of them, 'da-n' or 'da-k'")
