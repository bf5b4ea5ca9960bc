"""Calibrated deviation: the fit, its file beside the weights, and where the deviation is used."""
import json
import shutil

import numpy as np
import pytest
from rgbd_folders import write_folder
from scenes import Planes
import torch

from zoe_ros import DepthEstimator
from zoe_ros.calibrate import _errors, fit, measure, Pairs, SHARE, within
from zoe_ros.cli import main
from zoe_ros.inference.runner import by_heads
from zoe_ros.model.calibration import (
    Calibration,
    calibration_file,
    load_calibration,
    save_calibration,
)

MAP = Calibration(0.5, 2.0, 0.1)


def pairs_of(deviation, error):
    """Return pairs of images whose scale is right."""
    return Pairs(deviation, error, error, error, 1)


def errors_of(true, count=40_000, seed=0):
    """Return pairs whose errors have the deviation that the map ``true`` gives."""
    random = np.random.default_rng(seed)
    deviation = random.uniform(0.05, 0.9, count)
    relative = np.maximum(true.floor, true.factor * deviation ** true.exponent)
    return pairs_of(deviation, np.abs(random.normal(0, relative)))


@pytest.mark.parametrize('true', [
    MAP, Calibration(1.5, 1.0, 0.3), Calibration(0.2, 0.5, 1e-3), Calibration(0.3, 0.0, 0.3)])
def test_fit_finds_the_map_of_the_errors(true):
    found = fit(errors_of(true))
    s = torch.linspace(0.1, 0.85, 50)
    ratio = found(s, torch.ones_like(s)) / true(s, torch.ones_like(s))
    assert ratio.min() > 0.9
    assert ratio.max() < 1.1
    assert within(errors_of(true, seed=1), found) == pytest.approx(SHARE, abs=0.01)


def numbers(calibration):
    """Return the parameters of a map."""
    return calibration.factor, calibration.exponent, calibration.floor


def test_a_few_wild_pixels_do_not_matter():
    pairs = errors_of(MAP)
    wild = pairs.error.copy()
    wild[::100] = 1e6
    for value, clean in zip(numbers(fit(pairs_of(pairs.deviation, wild))),
                            numbers(fit(pairs))):
        assert value == pytest.approx(clean, rel=0.1)


def test_deviation_that_falls_with_the_error_gives_one_constant():
    random = np.random.default_rng(0)
    deviation = random.uniform(0.1, 0.5, 20_000)
    pairs = pairs_of(deviation, np.abs(random.normal(0, 0.6 - deviation)))
    found = fit(pairs)
    s = torch.tensor([0.1, 0.3, 0.5])
    assert len(set(found(s, torch.ones(3)).tolist())) == 1
    assert within(pairs, found) == pytest.approx(SHARE, abs=0.01)


@pytest.mark.parametrize('deviation', [0.0, 0.2])
def test_equal_deviations_become_the_quantile_of_the_errors(deviation):
    error = np.random.default_rng(0).permutation(np.linspace(0.1, 0.3, 1000))
    pairs = pairs_of(np.full(1000, deviation), error)
    one = torch.ones(1)
    assert fit(pairs)(deviation * one, one).item() == pytest.approx(
        np.quantile(error, SHARE), rel=1e-3)


def test_fit_accepts_less_pixels_than_cells():
    pairs = pairs_of(np.array([0.2, 0.3, 0.4]), np.array([0.1, 0.2, 0.3]))
    assert within(pairs, fit(pairs)) >= 2 / 3


@pytest.mark.parametrize('values', [
    (-1.0, 1.0, 0.1), (1.0, -0.1, 0.1), (1.0, 1.0, 0.0), (1.0, float('nan'), 0.1),
    (float('inf'), 1.0, 0.1), ('1', 1.0, 0.1), (1.0, 1.0, 0.1, (0.5,)), (1.0, 1.0, 0.1, (0.5, -1)),
    (1.0, 1.0, 0.1, (float('nan'), 0.5)), (1.0, 1.0, 0.1, (0.5, 0.5, 0.5))])
def test_a_map_that_falls_or_promises_no_error_is_refused(values):
    with pytest.raises(ValueError, match='is no calibration'):
        Calibration(*values)


def test_a_share_of_the_deviation_is_left_where_the_scale_is_known():
    random = np.random.default_rng(0)
    deviation = np.full(40_000, 0.3)
    parts = np.cumsum([random.normal(0, wide, 40_000) for wide in (0.2, 0.1, 0.15)], axis=0)
    found = fit(Pairs(deviation, *np.abs(parts[::-1]), 1))
    # 0.2 is left by the scale of the image, and 0.1 more by that of a row.
    assert found.left == pytest.approx([
        np.hypot(0.2, 0.1) / np.linalg.norm([0.2, 0.1, 0.15]),
        0.2 / np.linalg.norm([0.2, 0.1, 0.15])], rel=0.02)
    assert (found.left_at(0.0), found.left_at(1.0)) == pytest.approx(found.left)
    assert found.left_at(0.5) ** 2 == pytest.approx(np.square(found.left).mean())
    assert MAP.left_at(0.5) is None


def test_the_scale_of_a_strip_of_the_image_and_of_the_whole():
    # The upper half is predicted a quarter too near, the lower one right.
    truth = np.full((64, 10), 2.0)
    predicted = np.where(np.arange(64)[:, None] < 24, 1.6, 2.0) * np.ones((64, 10))
    every = np.arange(640)
    error, by_row, by_image = _errors(truth, predicted, every, every)
    assert np.array_equal(error, by_image) and (error > 0).sum() == 240
    # Three of eight strips have the scale 1.25.
    right = np.mean(by_row < 1e-9)
    assert right == pytest.approx((3 * 3 + 5 * 5) / 64, abs=0.02)


# The file beside the weights.

@pytest.fixture
def weights(tiny_weights, tmp_path):
    """Return a copy of the tiny model's weights, alone in its folder."""
    return shutil.copy(tiny_weights, tmp_path / 'tiny.safetensors')


def loaded(weights):
    """Return an estimator on the weights."""
    return DepthEstimator.load('tiny', weights, device='cpu', precision='fp32')


def test_calibration_comes_back(weights):
    path = save_calibration(weights, {'indoor': MAP}, ['rooms'])
    assert path == calibration_file(weights)
    assert load_calibration(weights) == {'indoor': MAP}
    assert loaded(weights).model.calibrations == {'indoor': MAP}


def test_the_shares_come_back_and_older_files_have_none(weights):
    known = Calibration(0.5, 2.0, 0.1, (0.8, 0.6))
    path = save_calibration(weights, {'indoor': known}, [])
    assert load_calibration(weights) == {'indoor': known}
    content = json.loads(path.read_text())
    del content['heads']['indoor']['left']
    path.write_text(json.dumps(content))
    assert load_calibration(weights) == {'indoor': MAP}


@pytest.mark.parametrize('text', [
    'no json', '[]', '{}', '{"weights_sha256": "", "heads": {"indoor": {"factor": 1}}}',
    '{"weights_sha256": "", "heads": {"indoor": {"factor": 1, "exponent": -1, "floor": 1}}}',
    '{"weights_sha256": "", "heads": {"indoor": {"factor": 1, "exponent": 1, "floor": 1, '
    '"left": 0.5}}}',
    '{"weights_sha256": "", "heads": 3}'])
def test_a_damaged_calibration_is_refused(weights, text):
    calibration_file(weights).write_text(text)
    with pytest.raises(ValueError, match='is no calibration') as error:
        loaded(weights)
    assert str(calibration_file(weights)) in str(error.value)


def test_calibration_of_other_weights_is_not_used(weights, caplog):
    path = save_calibration(weights, {'indoor': MAP}, [])
    content = json.loads(path.read_text())
    content['weights_sha256'] = '0' * 64
    path.write_text(json.dumps(content))
    assert loaded(weights).model.calibrations == {}
    assert 'was made for other weights' in caplog.text


# Where the deviation is used.

def test_each_head_has_its_own_map_and_depth_stays(tiny_estimator, weights, photos):
    save_calibration(weights, {'indoor': MAP}, [])
    image = photos[0]
    for head in ('indoor', 'outdoor'):
        plain, mapped = (
            DepthEstimator(estimator.model, router=head).predict(image, deviation=True)
            for estimator in (tiny_estimator, loaded(weights)))
        assert np.array_equal(plain.depth, mapped.depth, equal_nan=True)
        if head == 'outdoor':
            assert np.array_equal(plain.deviation, mapped.deviation, equal_nan=True)
        else:
            assert not (mapped.deviation < 0.0999 * mapped.depth).any()
            assert not np.allclose(plain.deviation, mapped.deviation, rtol=0.1)


def test_a_batch_with_both_heads_is_calibrated_head_by_head(tiny_estimator, weights):
    save_calibration(weights, {'indoor': MAP, 'outdoor': Calibration(1.0, 0.0, 0.4)}, [])
    model = loaded(weights).model
    pixels = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        shared = model.forward_features(pixels)
        depth, deviation = model.predict_depth(shared, ['indoor', 'outdoor'], True)
        both = by_heads(model, pixels, (), True)
    for row, head in enumerate(('indoor', 'outdoor')):
        assert torch.equal(depth[row], both.depth[head][row])
        assert torch.allclose(deviation[row], both.deviation[head][row])
    assert torch.allclose(deviation[1], depth[1], rtol=0.5, atol=0)
    assert not torch.allclose(deviation[0] / depth[0], deviation[1] / depth[1], rtol=0.1)


def test_deviation_of_a_prediction(tiny_estimator, photos):
    for aspect in ('stretch', 'keep'):
        estimator = DepthEstimator(tiny_estimator.model, aspect=aspect)
        found = estimator.predict_batch(photos, deviation=True)
        for one, plain, image in zip(found, estimator.predict_batch(photos), photos):
            assert one.deviation.shape == image.shape[:2] == one.depth.shape
            assert one.deviation.dtype == np.float32
            assert (np.isnan(one.deviation) >= np.isnan(one.depth)).all()
            assert np.nanmin(one.deviation) > 0
            assert np.array_equal(one.depth, plain.depth, equal_nan=True)
            assert plain.deviation is None


# The command.

def test_command_calibrates_and_the_figures_follow(weights, tmp_path, capsys):
    folder = write_folder(tmp_path / 'room', count=6)
    arguments = [str(folder), '--variant', 'tiny', '--weights', str(weights), '--device', 'cpu',
                 '--precision', 'fp32']
    assert main(['calibrate', *arguments]) == 0
    said = capsys.readouterr().out
    assert str(calibration_file(weights)) in said
    heads = load_calibration(weights)
    assert set(heads) <= {'indoor', 'outdoor'}
    assert json.loads(calibration_file(weights).read_text())['data'] == ['room']
    estimator = loaded(weights)
    for pairs in measure(estimator, [Planes('indoor', 6)]).values():
        assert within(pairs) == pytest.approx(SHARE, abs=0.05)
    # A calibration is made from the raw deviation: the same command finds the same map again.
    assert main(['calibrate', *arguments]) == 0
    assert load_calibration(weights) == heads


def test_command_on_data_without_images_of_the_head(weights, tmp_path, capsys):
    single = DepthEstimator.load('tiny', weights, device='cpu', precision='fp32')
    chosen = single.predict(Planes('outdoor', 1)[0].image).head
    other = {'indoor': 'outdoor', 'outdoor': 'indoor'}[chosen]
    folder = write_folder(tmp_path / 'none', domain=other, count=1)
    assert main(['calibrate', str(folder), '--variant', 'tiny', '--weights', str(weights),
                 '--device', 'cpu']) == 2
    assert 'no image with true depth went to the head of its domain' in capsys.readouterr().err
    assert not calibration_file(weights).exists()
