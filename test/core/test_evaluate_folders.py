"""Evaluation of RGB-D folders: what counts, baselines, groups, pictures, the command."""
import json

import numpy as np
from PIL import Image
import pytest
from rgbd_folders import write_depth, write_folder

from zoe_ros.baselines import measure_baselines
from zoe_ros.cli import main
from zoe_ros.colormap import colorize
from zoe_ros.datasets import DatasetError, EvalProtocol, Sample
from zoe_ros.datasets.folders import RgbdFolder
from zoe_ros.evaluate import evaluate, group_figures, ROUTING, source_table, TABLE
from zoe_ros.evaluation_picture import draw, Row
from zoe_ros.metrics import depth_metrics, shape_metrics


def constant_source(folder, depths, group='room', domain='indoor'):
    """Write a source with an image for each depth [m]: a number, or rows (64, 1)."""
    write_folder(folder, domain, count=len(depths), group=group)
    for index, depth in enumerate(depths):
        write_depth(folder / f'frame{index}.depth.png', depth * np.ones((64, 96)))
    return RgbdFolder(folder)


def test_figures_are_those_of_the_estimator(tiny_estimator, tmp_path):
    source = RgbdFolder(write_folder(tmp_path / 'a', count=4, group='room'))
    result = evaluate(tiny_estimator, source)
    rows, heads = [], []
    for sample in (source[i] for i in range(4)):
        prediction = tiny_estimator.predict(sample.image)
        depth, truth = prediction.depth[sample.valid], sample.depth[sample.valid]
        rows.append({**depth_metrics(depth, truth), **shape_metrics(depth, truth)})
        heads.append(prediction.head == 'indoor')
    for row, expected in zip(result.rows, rows):
        assert {name: row[name] for name in expected} == pytest.approx(expected)
    for name in ('REL', 'REL scaled', 'REL aligned', 'Spearman'):
        assert result.figures[name] == pytest.approx(np.mean([row[name] for row in rows]))
    assert result.figures[ROUTING] == np.mean(heads)
    assert result.group == 'room'


def test_predictions_outside_the_range_of_the_truth_count_in_full(tiny_estimator, tmp_path):
    source = constant_source(tmp_path / 'a', [9.0])
    depth = tiny_estimator.predict(source[0].image).depth
    low = float(depth.max()) * 1.5
    assert low < 9 and not source.protocol.clamps
    source.protocol = EvalProtocol(low, 10.0, clamps=False)
    assert evaluate(tiny_estimator, source).figures['REL'] == pytest.approx(
        1 - float(depth.mean()) / 9, rel=1e-4)
    source.protocol = EvalProtocol(low, 10.0)
    assert evaluate(tiny_estimator, source).figures['REL'] == pytest.approx(1 - low / 9, rel=1e-4)


def test_the_pixels_that_count():
    depth = np.linspace(0, 12, 400 * 500, dtype=np.float32).reshape(400, 500)
    depth[0, 400] = np.nan
    protocol = EvalProtocol(0.1, 10.0, min_pixels=100, max_pixels=3000)
    where = protocol.pick(depth)
    assert len(set(where.tolist())) == 3000
    assert (depth.ravel()[where] > 0.1).all() and (depth.ravel()[where] < 10).all()
    assert np.array_equal(where, protocol.pick(depth))
    # Drawn from everywhere.
    assert np.histogram(where, 8, (0, 400 * 500 * 10 / 12))[0].min() > 300
    few = np.full((20, 20), np.nan)
    few.ravel()[:99] = 1
    assert protocol.pick(few).size == 0
    few.ravel()[99] = 1
    assert sorted(protocol.pick(few).tolist()) == list(range(100))


def test_an_image_with_little_truth_does_not_count(tiny_estimator, tmp_path):
    source = constant_source(tmp_path / 'a', [2.0, 2.0])
    sparse = np.full((64, 96), np.nan)
    sparse[10, :99 // 2] = 2.0
    write_depth(tmp_path / 'a' / 'frame0.depth.png', sparse)
    assert [row['name'] for row in evaluate(tiny_estimator, source).rows] == ['frame1']
    write_depth(tmp_path / 'a' / 'frame1.depth.png', sparse)
    with pytest.raises(DatasetError, match=r'a: no image has depth between 0\.1 and 10 m'):
        evaluate(tiny_estimator, source)


# --- baselines ------------------------------------------------------------------------------


def test_constant_and_median(tmp_path):
    sources = [constant_source(tmp_path / 'a', [2.0, 4.0]),
               constant_source(tmp_path / 'b', [5.0]),
               constant_source(tmp_path / 'c', [8.0, 8.0, 1.0], group='tabletop'),
               constant_source(tmp_path / 'd', [20.0], 'street', 'outdoor')]
    found = measure_baselines(sources)
    assert {name: list(ways) for name, ways in found.items()} == {
        'a': ['constant', 'median', 'ramp'], 'b': ['constant', 'median', 'ramp'],
        'c': ['constant'], 'd': ['constant']}
    assert found['a']['constant']['REL'] == pytest.approx((0.25 + 0.375) / 2)
    assert found['a']['median']['REL'] == pytest.approx((1.5 + 0.25) / 2)    # b: 5 m
    assert found['b']['median']['REL'] == pytest.approx(0.4)                 # a: 3 m
    assert found['d']['constant']['REL'] == pytest.approx(0.4)               # 12 m
    assert found['d']['constant']['Spearman'] == 0


def test_the_ramp(tmp_path):
    rows = np.linspace(6, 1, 64)[:, None]
    sources = [constant_source(tmp_path / 'a', [rows]),
               constant_source(tmp_path / 'b', [rows, rows])]
    ramp = measure_baselines(sources)['a']['ramp']
    assert ramp['REL'] < 0.08 and ramp['Spearman'] > 0.99   # bands of three rows
    # Of three other sources the first and the third are used.
    other = [constant_source(tmp_path / name, [depth])
             for name, depth in (('c', 1.0), ('d', 9.0), ('e', 3.0))]
    assert measure_baselines([sources[0], *other])['a']['ramp']['Spearman'] == 0
    assert measure_baselines([*other[:2], constant_source(tmp_path / 'f', [2.0]), other[2]])[
        'f']['ramp']['REL'] == pytest.approx(0, abs=1e-6)  # the median of c and e: 2 m


def test_a_ramp_spans_bands_without_depth(tmp_path):
    source = constant_source(tmp_path / 'a', [4.0])
    half = np.full((64, 96), np.nan)
    half[32:] = 4.0
    write_depth(tmp_path / 'a' / 'frame0.depth.png', half)
    other = constant_source(tmp_path / 'b', [2.0])
    ramp = measure_baselines([source, other])['b']['ramp']
    assert ramp['REL'] == pytest.approx(1.0)


# --- what is written ------------------------------------------------------------------------


def test_groups_are_means_over_sources(tiny_estimator, tmp_path):
    results = [evaluate(tiny_estimator, constant_source(tmp_path / name, depths, group))
               for name, depths, group in (('a', [2.0, 3.0, 4.0], 'room'), ('b', [9.0], 'room'),
                                           ('c', [1.0], 'tabletop'))]
    for result in results:
        result.baselines['constant'] = {**result.figures, 'REL': 0.25}
    results[0].rows[0][ROUTING] = 1.0
    for row in (*results[0].rows[1:], *results[1].rows):
        row[ROUTING] = 0.0
    groups = group_figures(results)
    room, a, b = groups['room']['model'], results[0].figures, results[1].figures
    assert a['REL'] != pytest.approx(b['REL'])
    assert room['REL'] == pytest.approx((a['REL'] + b['REL']) / 2)
    assert room[ROUTING] == 0.25        # of images
    assert groups['room']['constant']['REL'] == 0.25
    assert groups['tabletop']['model']['REL'] == results[2].figures['REL']
    lines = source_table(results).splitlines()
    assert lines[0].split() == ['source', 'images', 'REL', 'delta1', 'scaled', 'aligned', 'rank',
                                'within', 'AURC', 'router']
    assert lines[1].split()[:4] == ['a', '3', 'model', f'{a["REL"]:.3f}']
    assert lines[2].split()[:2] == ['constant', '0.250']
    assert lines[7].split()[:5] == ['group', 'room', '4', 'model', f'{room["REL"]:.3f}']
    assert len(lines) == 1 + 2 * 5


def test_pictures_show_the_worst_and_the_median(tiny_estimator, tmp_path):
    source = constant_source(tmp_path / 'a', [3.0, 0.3, 2.0, 6.0])
    write_depth(tmp_path / 'a' / 'frame2.depth.png', np.full((64, 96), np.nan))
    result = evaluate(tiny_estimator, source)
    order = sorted(result.rows, key=lambda row: row['REL'])
    assert [row.caption.split(',')[0] for row in result.pictures] == [
        f'worst: {order[-1]["name"]}', f'median: {order[1]["name"]}']
    worst = result.pictures[0]
    both = np.concatenate([worst.sample.depth, worst.depth])
    assert worst.near == pytest.approx(np.nanpercentile(worst.sample.depth, 2))
    assert np.nanmedian(both) < worst.far <= both.max()


def test_truth_and_prediction_have_one_scale_in_the_picture():
    depth = np.full((60, 80), 4.0, np.float32)
    sparse = np.full((60, 80), np.nan, np.float32)
    sparse[30, 40], sparse[30, 41] = 2.0, 3.0
    rows = [Row(Sample(np.zeros((60, 80, 3), np.uint8), truth, None, 'indoor', 'a'),
                np.full((60, 80), 4.0, np.float32), 1.0, 8.0, 'a') for truth in (depth, sparse)]
    picture = np.array(draw(rows))
    first, second = picture[40:180], picture[40 + 172:180 + 172]
    color = colorize(np.array(4.0), 1.0, 8.0)
    for column in (300, 500):       # truth, prediction
        assert (first[70, column] == color).all()
    # A single point of a lidar is seen, and the nearer one hides the other.
    near = (np.abs(second[:, 212:412].astype(int) - colorize(np.array(2.0), 1.0, 8.0)) < 12)
    assert 50 < near.all(axis=-1).sum() < 400


def test_the_command(tmp_path, tiny_weights, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, group in (('desk', 'room'), ('shelf', 'room'), ('road', 'street')):
        write_folder(tmp_path / 'real' / name, 'outdoor' if group == 'street' else 'indoor',
                     group=group)
    assert main(['eval', 'real', '--variant', 'tiny', '--weights', str(tiny_weights),
                 '--device', 'cpu']) == 0
    out = capsys.readouterr().out
    for words in ('group room', 'group street', 'ramp', 'aligned'):
        assert words in out
    latest = tmp_path / 'results' / 'latest'
    content = json.loads((latest / TABLE).read_text())
    assert [(r['dataset'], r['group'], list(r['baselines'])) for r in content['results']] == [
        ('desk', 'room', ['constant', 'median', 'ramp']), ('road', 'street', ['constant']),
        ('shelf', 'room', ['constant', 'median', 'ramp'])]
    assert list(content['groups']['room']) == ['model', 'constant', 'median', 'ramp']
    assert (latest / 'table.txt').read_text().strip() in out
    for name in ('desk', 'shelf', 'road'):
        assert Image.open(latest / f'{name}.png').size[1] > 300
