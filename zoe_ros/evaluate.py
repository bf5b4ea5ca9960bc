"""Accuracy of a model on a dataset, by the protocol of the paper (specification, section 6.3)."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from zoe_ros.colormap import colorize, INK, PAPER
from zoe_ros.datasets import Dataset, DatasetError, Sample
from zoe_ros.datasets.open import open_datasets
from zoe_ros.files import whole_file
from zoe_ros.inference.engine import DepthEstimator, DepthPrediction
from zoe_ros.metrics import depth_metrics, mean_metrics, METRICS, relative_improvement
from zoe_ros.results import link_latest, new_folder
from zoe_ros.settings import EvalSettings

ROUTING = 'router accuracy'
TABLE = 'evaluation.json'
_SHOWN = 6          # number of samples in the picture of a dataset
_WORST = 0.3        # relative error at the end of the scale of the pictures


@dataclass(frozen=True, eq=False)
class Evaluation:
    """
    The metrics of a dataset.

    :param figures: the means of ``METRICS`` over the images, and the fraction of images that the
        router sent to the head of their domain, if the model has a router.
    :param rows: the metrics of each image, with the name of the image.
    :param pictures: (sample, prediction) of some images, spread over the dataset.
    """

    dataset: str
    domain: str
    figures: dict[str, float]
    rows: list[dict[str, Any]]
    pictures: list[tuple[Sample, np.ndarray]]


def run_evaluation(settings: EvalSettings) -> Path:
    """
    Evaluate a model on data and return the folder of the results.

    :raises ValueError, OSError: the data, the weights or a setting cannot be used.
    """
    datasets = open_datasets(settings.data, 'test', settings)
    reference = Path(settings.against) if settings.against else None
    estimator = DepthEstimator.load(
        settings.variant, settings.weights or None, settings.device, settings.precision,
        settings.aspect, flip=settings.flip, router=settings.router)
    results = [evaluate(estimator, dataset, progress=True) for dataset in datasets]
    text = table(results, reference)
    folder = new_folder(Path(settings.output))
    taken = replace(settings, variant=estimator.model.config.variant,
                    precision=estimator.precision)
    write_results(results, asdict(taken), folder)
    with whole_file(folder / 'table.txt') as part:
        part.write_text(text + '\n')
    link_latest(folder)
    return folder


def evaluate(estimator: DepthEstimator, dataset: Dataset, progress: bool = False) -> Evaluation:
    """
    Compare predictions with the true depth of a dataset, each image at the size of its depth.

    Predictions are clamped to the range of the dataset's protocol; only true depths within the
    range and the crop of the protocol count.

    :raises DatasetError: no image has such depth.
    """
    protocol = dataset.protocol
    rows: list[dict[str, Any]] = []
    pictures = []
    shown = set(np.linspace(0, len(dataset) - 1, _SHOWN).astype(int).tolist())
    for index in tqdm(range(len(dataset)), desc=dataset.name, disable=not progress, unit='image'):
        sample = dataset[index]
        prediction = estimator.predict(sample.image)
        valid = sample.valid & protocol.mask(sample.depth)
        if index in shown:
            pictures.append((sample, prediction.depth))
        if not valid.any():
            continue
        # Invalid predictions count as wrong, not as missing.
        depth = np.nan_to_num(prediction.depth[valid], nan=protocol.min_depth)
        depth = depth.clip(protocol.min_depth, protocol.max_depth)
        rows.append({'name': sample.name, **depth_metrics(depth, sample.depth[valid]),
                     **_routing(estimator, prediction, sample.domain)})
    if not rows:
        raise DatasetError(f'{dataset.name}: no image has depth between {protocol.min_depth:g} '
                           f'and {protocol.max_depth:g} m within the crop of its protocol')
    figures = mean_metrics(rows)
    if ROUTING in rows[0]:
        figures[ROUTING] = float(np.mean([row[ROUTING] for row in rows]))
    return Evaluation(dataset.name, dataset.domain, figures, rows, pictures)


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
         'images': result.rows} for result in results]}
    with whole_file(folder / TABLE) as part:
        part.write_text(json.dumps(content, indent=1) + '\n')
    for result in results:
        with whole_file(folder / f'{result.dataset.replace("/", "_")}.png') as part:
            picture(result).save(part, 'PNG')


def table(results: Sequence[Evaluation], reference: Path | None = None) -> str:
    """
    Return the metrics as text, one line for each dataset.

    :param reference: a JSON of :func:`write_results`; adds the relative improvement over it, mRI.
    :raises ValueError: the file is not such a JSON, or lacks a dataset.
    """
    names = [*METRICS, ROUTING]
    before = _read(reference, [result.dataset for result in results]) if reference else None
    width = max(len('dataset'), *(len(result.dataset) for result in results))
    head = f'{"dataset":{width}} images ' + ' '.join(f'{name:>8}' for name in METRICS)
    lines = [head + '   router' + ('      mRI' if before else '')]
    for result in results:
        cells = ' '.join(f'{result.figures[name]:8.4f}' if name in result.figures else f'{"-":>8}'
                         for name in names)
        line = f'{result.dataset:{width}} {len(result.rows):6} {cells}'
        if before:
            gain = relative_improvement(result.figures, before[result.dataset])
            line += f' {100 * gain:7.1f}%'
        lines.append(line)
    return '\n'.join(lines)


def _read(path: Path, datasets: list[str]) -> dict[str, dict[str, float]]:
    try:
        results = {r['dataset']: r['figures'] for r in json.loads(path.read_text())['results']}
    except (ValueError, KeyError, TypeError):
        raise ValueError(f'{path} is no {TABLE} of zoe eval') from None
    missing = [name for name in datasets if name not in results]
    if missing:
        raise ValueError(f'{path} holds no metrics of {", ".join(missing)}, only of '
                         f'{", ".join(results)}')
    return results


def picture(result: Evaluation) -> Image.Image:
    """Draw image, truth, prediction and relative error of some samples, on shared scales."""
    far = {'indoor': 10.0, 'outdoor': 80.0}[result.domain]
    height, width, gap, top = 150, 200, 6, 22
    sheet = Image.new('RGB', (4 * (width + gap) + gap,
                              top + len(result.pictures) * (height + gap) + gap), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for column, title in enumerate((
            'image', f'truth, 0.5 ... {far:g} m', 'prediction',
            f'error / truth, 0 ... {_WORST:.0%}')):
        draw.text((gap + column * (width + gap), 5), title, INK, font)
    for row, (sample, depth) in enumerate(result.pictures):
        error = np.abs(depth - sample.depth) / sample.depth
        for column, pixels in enumerate((
                sample.image, colorize(sample.depth, 0.5, far), colorize(depth, 0.5, far),
                _grey(error / _WORST))):
            tile = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
            sheet.paste(tile, (gap + column * (width + gap), top + row * (height + gap)))
    return sheet


def _grey(values: np.ndarray) -> np.ndarray:
    """Return (h, w, 3) uint8, white at 0 and black at 1; grey-blue for NaN."""
    shade = (255 * (1 - np.clip(np.nan_to_num(values), 0, 1))).astype(np.uint8)
    return np.where(np.isfinite(values)[..., None], shade[..., None],
                    np.array((190, 200, 215), np.uint8))
