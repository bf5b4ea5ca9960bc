"""Accuracy of a model on a dataset, by the protocol of the paper (specification, section 6.3)."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from zoe_ros.baselines import measure_baselines
from zoe_ros.command_settings import EvalSettings
from zoe_ros.datasets import Dataset, DatasetError
from zoe_ros.datasets.folders import RgbdFolder
from zoe_ros.datasets.open import open_datasets, require_bag_for_topics
from zoe_ros.evaluation_picture import draw, Row
from zoe_ros.files import whole_file
from zoe_ros.inference.engine import DepthEstimator, DepthPrediction
from zoe_ros.metrics import (
    AURC,
    depth_metrics,
    doubt_metrics,
    mean_metrics,
    METRICS,
    relative_improvement,
    SHAPE_METRICS,
    shape_metrics,
    WITHIN,
)
from zoe_ros.results import check_output, link_latest, new_folder, told_apart

ROUTING = 'router accuracy'
TABLE = 'evaluation.json'
MODEL = 'model'     # the name of the model beside those of the baselines
# Columns of the table of sources: heading -> metric.
_COLUMNS = {'REL': 'REL', 'delta1': 'delta1', 'scaled': 'REL scaled', 'aligned': 'REL aligned',
            'rank': 'Spearman', WITHIN: WITHIN, AURC: AURC, 'router': ROUTING}
_SHOWN = 6          # number of samples in the picture of a dataset


@dataclass(frozen=True, eq=False)
class Evaluation:
    """
    The metrics of a dataset.

    :param figures: the means of ``METRICS`` and of :func:`doubt_metrics` over the images, and the
        fraction of images that the router sent to the head of their domain, if the model has a
        router; of an RGB-D folder also the means of ``SHAPE_METRICS``.
    :param rows: the metrics of each image, with the name of the image.
    :param pictures: some images, spread over the dataset; the worst and the median image of an
        RGB-D folder.
    :param drawing: the PNG of these images, see :func:`drawn`.
    :param group: of an RGB-D folder.
    :param baselines: name of a baseline -> its figures.
    """

    dataset: str
    domain: str
    figures: dict[str, float]
    rows: list[dict[str, Any]]
    pictures: list[Row]
    group: str = ''
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    drawing: bytes = b''


def run_evaluation(settings: EvalSettings) -> Path:
    """
    Evaluate a model on data and return the folder of the results.

    :raises ValueError, OSError: the data, the weights or a setting cannot be used.
    """
    check_output(Path(settings.output))
    require_bag_for_topics(settings.data, settings)
    datasets = open_datasets(settings.data, 'test', settings)
    names = told_apart([dataset.name for dataset in datasets])
    against = reference(settings, names)
    estimator = load_estimator(settings)
    baselines = measure_baselines([data for data in datasets if isinstance(data, RgbdFolder)])
    results = [replace(drawn(evaluate(estimator, dataset, progress=True,
                                      intrinsics=settings.intrinsics)),
                       dataset=name, baselines=baselines.get(dataset.name, {}))
               for name, dataset in zip(names, datasets)]
    return write_evaluation(results, replace(
        settings, variant=estimator.model.config.variant, precision=estimator.precision), against)


def load_estimator(settings: EvalSettings) -> DepthEstimator:
    """
    Load the estimator of an evaluation.

    :raises ValueError, OSError: the weights or a setting cannot be used.
    """
    return DepthEstimator.load(
        settings.variant, settings.weights or None, settings.device, settings.precision,
        settings.aspect, flip=settings.flip, router=settings.router)


def write_evaluation(results: Sequence[Evaluation], settings: EvalSettings,
                     against: dict[str, dict[str, float]] | None) -> Path:
    """
    Write tables, metrics and pictures into a new folder, and return the folder.

    :param settings: with the choices that were made for the defaults.
    :param against: see :func:`reference`.
    :raises OSError: a file cannot be written.
    """
    text = table(results, against)
    if any(result.group for result in results):
        text += '\n\n' + source_table(results)
    folder = new_folder(Path(settings.output))
    write_results(results, asdict(settings), folder)
    with whole_file(folder / 'table.txt') as part:
        part.write_text(text + '\n')
    link_latest(folder)
    return folder


def evaluate(estimator: DepthEstimator, dataset: Dataset, progress: bool = False,
             intrinsics: bool = True) -> Evaluation:
    """
    Compare predictions with the true depth of a dataset, each image at the size of its depth.

    The dataset's protocol says which pixels count, and whether predictions are clamped.

    :param progress: show a progress bar, on a terminal.
    :param intrinsics: give the estimator the camera of each image.
    :raises DatasetError: no image has such depth.
    """
    protocol, folder = dataset.protocol, isinstance(dataset, RgbdFolder)
    rows: list[dict[str, Any]] = []
    counted, pictures = [], []
    shown = set() if folder else set(
        np.linspace(0, len(dataset) - 1, _SHOWN).astype(int).tolist())
    far = {'indoor': 10.0, 'outdoor': 80.0}[dataset.domain]
    for index in tqdm(range(len(dataset)), desc=dataset.name, unit='image',
                      disable=None if progress else True):
        sample = dataset[index]
        prediction = estimator.predict(
            sample.image, sample.camera if intrinsics else None, deviation=True)
        if index in shown:
            pictures.append(Row(sample, prediction.depth, 0.5, far, sample.name))
        where = protocol.pick(sample.depth)
        if not where.size:
            continue
        depth = protocol.clamp(prediction.depth.ravel()[where])
        truth = sample.depth.ravel()[where]
        assert prediction.deviation is not None
        rows.append({'name': sample.name, **depth_metrics(depth, truth),
                     **doubt_metrics(depth, prediction.deviation.ravel()[where], truth),
                     **(shape_metrics(depth, truth) if folder else {}),
                     **_routing(estimator, prediction, sample.domain)})
        counted.append(index)
    if not rows:
        raise DatasetError(f'{dataset.name}: no image has depth between {protocol.min_depth:g} '
                           f'and {protocol.max_depth:g} m within the crop of its protocol')
    names = [name for name in (*METRICS, *SHAPE_METRICS, WITHIN, AURC, ROUTING)
             if name in rows[0]]
    figures, group = mean_metrics(rows, names), ''
    if isinstance(dataset, RgbdFolder):
        group = dataset.group
        pictures = _extremes(estimator, dataset, counted, rows, intrinsics)
    return Evaluation(dataset.name, dataset.domain, figures, rows, pictures, group)


def _extremes(estimator: DepthEstimator, dataset: RgbdFolder, counted: Sequence[int],
              rows: Sequence[dict[str, Any]], intrinsics: bool) -> list[Row]:
    """Return the image with the worst and the one with the median REL, each on its own scale."""
    order = np.argsort([row['REL'] for row in rows])
    chosen = []
    for title, place in (('worst', order[-1]), ('median', order[(len(order) - 1) // 2])):
        sample = dataset[counted[place]]
        prediction = estimator.predict(sample.image, sample.camera if intrinsics else None)
        ends = [np.nanpercentile(depth, (2, 98)) for depth in (sample.depth, prediction.depth)]
        chosen.append(Row(
            sample, prediction.depth, float(np.min(ends)), float(np.max(ends)),
            f'{title}: {sample.name}, REL {rows[place]["REL"]:.2f}, {prediction.head} head'))
    return chosen


def _routing(estimator: DepthEstimator, prediction: DepthPrediction,
             domain: str) -> dict[str, float]:
    names = estimator.model.config.head_names
    if len(names) < 2 or estimator.router != 'auto' or domain not in names:
        return {}
    return {ROUTING: float(prediction.head == domain)}


def write_results(results: Sequence[Evaluation], settings: dict[str, Any], folder: Path) -> None:
    """Write the metrics, also of each image, as JSON, and a picture for each dataset."""
    content = {'settings': settings, 'results': [
        {'dataset': result.dataset, 'domain': result.domain, 'figures': result.figures,
         **({'group': result.group, 'baselines': result.baselines} if result.group else {}),
         'images': result.rows} for result in results], 'groups': group_figures(results)}
    with whole_file(folder / TABLE) as part:
        part.write_text(json.dumps(content, indent=1) + '\n')
    for result in results:
        with whole_file(folder / f'{result.dataset.replace("/", "_")}.png') as part:
            part.write_bytes(drawn(result).drawing)


def drawn(result: Evaluation) -> Evaluation:
    """Return an evaluation with its pictures as one PNG, which takes far less memory."""
    if result.drawing:
        return result
    png = io.BytesIO()
    draw(result.pictures).save(png, 'PNG')
    return replace(result, pictures=[], drawing=png.getvalue())


def table(results: Sequence[Evaluation],
          before: dict[str, dict[str, float]] | None = None) -> str:
    """
    Return the metrics as text, one line for each dataset.

    :param before: dataset -> its figures in another run; adds the relative improvement over that
        run, mRI.
    """
    names = [*METRICS, WITHIN, AURC, ROUTING]
    width = max(len('dataset'), *(len(result.dataset) for result in results))
    head = f'{"dataset":{width}} images ' + ' '.join(
        f'{name:>8}' for name in (*METRICS, WITHIN, AURC, 'router'))
    lines = [head + ('      mRI' if before else '')]
    for result in results:
        cells = ' '.join(f'{result.figures[name]:8.4f}' if name in result.figures else f'{"-":>8}'
                         for name in names)
        line = f'{result.dataset:{width}} {len(result.rows):6} {cells}'
        if before:
            gain = relative_improvement(result.figures, before[result.dataset])
            line += f' {100 * gain:7.1f}%'
        lines.append(line)
    return '\n'.join(lines)


def group_figures(results: Sequence[Evaluation]) -> dict[str, dict[str, dict[str, float]]]:
    """
    Return the figures of the model and of the baselines for each group of RGB-D folders.

    Each source has the same weight, except in the router's accuracy: each image counts there.

    :return: group -> ``MODEL`` or name of a baseline -> figures.
    """
    groups: dict[str, dict[str, dict[str, float]]] = {}
    for group in dict.fromkeys(result.group for result in results if result.group):
        inside = [result for result in results if result.group == group]
        ways = [{MODEL: result.figures, **result.baselines} for result in inside]
        for way in dict.fromkeys(name for figures in ways for name in figures):
            sources = [figures[way] for figures in ways if way in figures]
            groups.setdefault(group, {})[way] = mean_metrics(
                sources, [name for name in sources[0] if name != ROUTING])
        routed = [row[ROUTING] for result in inside for row in result.rows if ROUTING in row]
        if routed:
            groups[group][MODEL][ROUTING] = float(np.mean(routed))
    return groups


def source_table(results: Sequence[Evaluation]) -> str:
    """Return the figures of RGB-D folders beside the baselines: sources, then their groups."""
    sources = [result for result in results if result.group]
    blocks = [(result.dataset, len(result.rows), {MODEL: result.figures, **result.baselines})
              for result in sources]
    for group, ways in group_figures(sources).items():
        count = sum(len(result.rows) for result in sources if result.group == group)
        blocks.append((f'group {group}', count, ways))
    width = max(len('source'), *(len(name) for name, _, _ in blocks))
    lines = [f'{"source":{width}} images          ' + ' '.join(f'{key:>7}' for key in _COLUMNS)]
    for name, count, ways in blocks:
        for way, figures in ways.items():
            cells = ' '.join(f'{figures[key]:7.3f}' if key in figures else f'{"-":>7}'
                             for key in _COLUMNS.values())
            start = f'{name:{width}} {count:6}' if way == MODEL else ' ' * (width + 7)
            lines.append(f'{start} {way:8} {cells}')
    return '\n'.join(lines)


def reference(settings: EvalSettings,
              names: Sequence[str]) -> dict[str, dict[str, float]] | None:
    """
    Return the figures of the run that ``against`` names; None if it names none.

    To be read before the work, which would be lost by a file that cannot be used.

    :param names: of the datasets of this run.
    :raises ValueError: the file is no JSON of :func:`write_results`, or lacks a dataset.
    """
    if not settings.against:
        return None
    path = Path(settings.against).expanduser()
    try:
        results = {r['dataset']: r['figures'] for r in json.loads(path.read_text())['results']}
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f'{path} is no {TABLE} of zoe eval') from None
    missing = [name for name in names if name not in results]
    if missing:
        raise ValueError(f'{path} holds no metrics of {", ".join(missing)}, only of '
                         f'{", ".join(results)}')
    return results
