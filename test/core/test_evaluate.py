"""Evaluation by protocol: crops, clamping, the router's accuracy, tables, files, the command."""
import json

import numpy as np
from PIL import Image
import pytest
from scenes import Planes
import torch

from zoe_ros import DepthEstimator
from zoe_ros.cli import main
from zoe_ros.command_settings import EvalSettings, WorldSettings
from zoe_ros.datasets import DatasetError, EvalProtocol
from zoe_ros.evaluate import evaluate, reference, ROUTING, TABLE, table, write_results
from zoe_ros.inference.defaults import default_precision, describe
from zoe_ros.metrics import depth_metrics, mean_metrics
from zoe_ros.world.make import make_world


def test_figures_are_those_of_the_estimator(tiny_estimator):
    data = Planes('indoor', 5)
    result = evaluate(tiny_estimator, data)
    rows = []
    for sample in (data[i] for i in range(5)):
        depth = tiny_estimator.predict(sample.image).depth.clip(1e-3, 80)
        rows.append(depth_metrics(depth[sample.valid], sample.depth[sample.valid]))
    expected = mean_metrics(rows)
    assert {name: result.figures[name] for name in expected} == pytest.approx(expected)
    assert [row['name'] for row in result.rows] == [f'{i:03}' for i in range(5)]


def test_images_count_alike_whatever_their_depth_covers(tiny_estimator):
    rows = evaluate(tiny_estimator, Planes('indoor', 3)).rows
    counts = [int(Planes('indoor', 3)[i].valid.sum()) for i in range(3)]
    assert counts == [96 * 62, 96 * 54, 96 * 46]
    errors = [row['REL'] for row in rows]
    found = evaluate(tiny_estimator, Planes('indoor', 3)).figures['REL']
    assert found == pytest.approx(sum(errors) / 3)
    assert found != pytest.approx(np.average(errors, weights=counts))


class Blind(DepthEstimator):
    """The estimator, without depth in the upper half of every image."""

    def predict(self, image, camera=None, deviation=False):
        """Predict, and forget half of the depth."""
        prediction = super().predict(image, camera, deviation)
        prediction.depth[:len(prediction.depth) // 2] = np.nan
        return prediction


def test_a_prediction_without_depth_is_an_error(tiny_estimator):
    data = Planes('indoor', 2)
    blind = evaluate(Blind(tiny_estimator.model), data)
    for row, sample in zip(blind.rows, (data[0], data[1])):
        depth = tiny_estimator.predict(sample.image).depth
        depth[:32] = data.protocol.min_depth
        valid = sample.valid
        expected = depth_metrics(depth[valid].clip(1e-3, 80), sample.depth[valid])
        assert {name: row[name] for name in expected} == pytest.approx(expected)


def test_the_routers_accuracy(tiny_estimator):
    data = Planes('outdoor', 6)
    result = evaluate(tiny_estimator, data)
    chosen = [tiny_estimator.predict(data[i].image).head for i in range(6)]
    assert result.figures[ROUTING] == chosen.count('outdoor') / 6


def test_a_forced_head_has_no_accuracy(tiny_weights):
    estimator = DepthEstimator.load('tiny', tiny_weights, device='cpu', router='indoor')
    assert ROUTING not in evaluate(estimator, Planes('outdoor', 2)).figures


def test_predictions_are_clamped_and_truth_is_masked(tiny_estimator):
    data = Planes('indoor', 2)
    data.protocol = EvalProtocol(3.0, 3.5)
    for row in evaluate(tiny_estimator, data).rows:
        assert row['RMSE'] <= 0.5
    data.protocol = EvalProtocol(50.0, 80.0)
    with pytest.raises(DatasetError, match='planes-indoor: no image has depth between 50 and 80'):
        evaluate(tiny_estimator, data)


def test_crops():
    depth = np.ones((480, 640), np.float32)
    eigen = EvalProtocol(0.1, 10, 'eigen').mask(depth)
    assert eigen.sum() == (471 - 45) * (601 - 41)
    # Nothing of it is a share of the size.
    for size, count in (((768, 1024), 426 * 560), ((441, 591), (441 - 45) * (591 - 41))):
        mask = EvalProtocol(0.1, 10, 'eigen').mask(np.ones(size, np.float32))
        assert mask.sum() == count and mask[45:471, 41:601].all()
    assert eigen[45, 41] and eigen[470, 600] and not eigen[44, 41] and not eigen[471, 600]
    garg = EvalProtocol(0.1, 10, 'garg').mask(np.ones((352, 1216), np.float32))
    assert garg[143, 43] and garg[348, 1171] and not garg[142, 43] and not garg[349, 600]
    assert EvalProtocol(0.1, 10).mask(depth).all()
    depth[0, 0], depth[0, 1], depth[0, 2] = np.nan, 0.1, 10
    assert not EvalProtocol(0.1, 10).mask(depth)[0, :3].any()


def test_tables_and_files(tiny_estimator, tmp_path):
    results = [evaluate(tiny_estimator, Planes(domain, 8)) for domain in ('indoor', 'outdoor')]
    for result in results:      # the made-up weights hit nothing at all
        result.figures['delta1'] = 0.5
    write_results(results, {'variant': 'tiny'}, tmp_path)
    content = json.loads((tmp_path / TABLE).read_text())
    assert content['settings'] == {'variant': 'tiny'}
    assert content['results'][1]['figures'] == results[1].figures
    assert len(content['results'][0]['images']) == 8
    for domain in ('indoor', 'outdoor'):
        picture = np.array(Image.open(tmp_path / f'planes-{domain}.png'))
        assert picture.std() > 20
    text = table(results)
    assert f'{results[0].figures["REL"]:.4f}' in text and 'planes-outdoor' in text

    def against(file=TABLE):
        settings = EvalSettings(against=str(tmp_path / file))
        return reference(settings, [result.dataset for result in results])

    # Against itself nothing is better.
    assert table(results, against()).count(' 0.0%') == 2
    content['results'][0]['figures']['REL'] *= 2
    (tmp_path / TABLE).write_text(json.dumps(content))
    assert float(table(results[:1], against()).split()[-1][:-1]) == pytest.approx(
        50 / 3, abs=0.1)
    content['results'][1]['dataset'] = 'other'
    (tmp_path / TABLE).write_text(json.dumps(content))
    with pytest.raises(ValueError, match='holds no metrics of planes-outdoor, only of'):
        against()
    (tmp_path / 'x.json').write_text('[]')
    for name in ('x.json', 'missing.json', ''):
        with pytest.raises(ValueError, match='is no evaluation'):
            against(name)


@pytest.mark.slow
def test_the_commands_from_world_to_figures(tmp_path, capsys, monkeypatch):
    """Make a world, train a step, measure: the way of docs/training.md, in small."""
    pytest.importorskip('embreex')
    monkeypatch.chdir(tmp_path)
    small = ['--scenes', '1', '--held-out', '1', '--frames', '2', '--height', '64', '--width',
             '96', '--workers', '1']
    assert main(['world', 'w', *small]) == 0
    assert main(['train', '--data', 'w', '--held-out', 'w', '--steps', '2', '--batch', '2',
                 '--size', '64x96', '--workers', '0', '--device', 'cpu', '--output', 'run']) == 0
    assert 'the model is run/model.safetensors' in capsys.readouterr().out
    assert main(['eval', 'w', '--weights', 'run/model.safetensors', '--device', 'cpu']) == 0
    out = capsys.readouterr().out
    assert 'world-indoor' in out and 'world-outdoor' in out
    settings = json.loads((tmp_path / 'results' / 'latest' / TABLE).read_text())['settings']
    precision = default_precision(describe(torch.device('cpu'))).name
    assert (settings['variant'], settings['precision']) == ('mobile', precision)


@pytest.mark.parametrize('arguments, words', [
    (['eval', 'nowhere'], 'zoe: nothing at nowhere'),
    (['train', '--data', 'nowhere'], 'zoe: nothing at nowhere'),
    (['train'], 'the following arguments are required: --data'),
    (['train', '--data', 'w', '--steps', '0'], "zoe: parameter 'steps' is 0, not within"),
    (['eval', 'w', '--weights', 'no.pt'], 'zoe: no weights file at no.pt')])
def test_commands_refuse_in_one_line(arguments, words, tmp_path, capsys, monkeypatch):
    pytest.importorskip('embreex')
    monkeypatch.chdir(tmp_path)
    make_world(WorldSettings('w', 1, 1, 1, 32, 32, workers=1))
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    error = capsys.readouterr().err.splitlines()[-1]
    assert code == 2 and words in error
