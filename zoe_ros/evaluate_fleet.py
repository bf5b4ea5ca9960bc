"""``zoe eval --fleet``: the bags of an evaluation, by the workers of a fleet."""
from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from zoe_ros import evaluate, temporal
from zoe_ros.bag import is_bag
from zoe_ros.command_settings import EvalSettings
from zoe_ros.counts import counted
from zoe_ros.datasets import DatasetError
from zoe_ros.datasets.open import open_datasets, require_domain
from zoe_ros.fleet import Fleet, Task, work_on_bags
from zoe_ros.inference.engine import DepthEstimator
from zoe_ros.jobs import Done
from zoe_ros.results import check_output, told_apart


def evaluate_in_fleet(settings: EvalSettings, fleet: Fleet) -> tuple[Path, str]:
    """
    Evaluate a model on bags; a bag that fails does not hinder the others.

    Each bag is measured by the function that one process uses, and the table has the bags in the
    order of ``settings.data``, so the results are those of one process.

    :return: the folder of the results, and a sentence about bags that failed, or nothing.
    :raises ValueError, OSError: Ray, the data, the weights or a setting cannot be used, or all
        bags failed.
    """
    check_output(Path(settings.output))
    bags = _find_bags(settings)
    names = told_apart([bag.stem for bag in bags])
    against = evaluate.reference(settings, names)
    load, work = ((temporal.load_estimator, _measure_video) if settings.temporal
                  else (evaluate.load_estimator, _measure_depth))
    task = Task(settings.device, partial(load, settings), partial(work, settings))
    ended: dict[Path, Done] = dict(work_on_bags(task, list(dict.fromkeys(bags)), fleet))
    errors = [ended[bag].error for bag in bags if ended[bag].error]
    found = [(name, *ended[bag].result) for name, bag in zip(names, bags) if not ended[bag].error]
    if not found:
        raise DatasetError(f'none of {counted(len(bags), "bag")} was measured, the first one '
                           f'because: {errors[0]}')
    _, variant, precision, _ = found[0]
    taken = replace(settings, variant=variant, precision=precision)
    folder = (
        temporal.write_videos([replace(video, name=name) for name, *_, video in found], taken)
        if settings.temporal else evaluate.write_evaluation(
            [replace(result, dataset=name) for name, *_, result in found], taken, against))
    return folder, (f'{len(errors)} of {len(bags)} bags failed; {folder} has the metrics of the '
                    'others') if errors else ''


def _find_bags(settings: EvalSettings) -> list[Path]:
    """
    Return the bags that a user names, in this order.

    :raises DatasetError: something else is named, or the domain is not known.
    """
    bags = [Path(text).expanduser() for text in settings.data]
    for bag in bags:
        if not bag.exists():
            raise DatasetError(f'nothing at {bag}: --fleet needs bags')
        if not is_bag(bag):
            raise DatasetError(f'{bag} is no bag: --fleet shares bags between workers; leave it '
                               'out for other data')
        if not settings.temporal:
            require_domain(bag, settings.domain)
    return bags


def _measure_depth(settings: EvalSettings, estimator: DepthEstimator,
                   bag: Path) -> tuple[str, str, evaluate.Evaluation]:
    dataset, = open_datasets([str(bag)], 'test', settings)
    found = evaluate.evaluate(estimator, dataset, intrinsics=settings.intrinsics)
    return estimator.model.config.variant, estimator.precision, evaluate.drawn(found)


def _measure_video(settings: EvalSettings, estimator: DepthEstimator,
                   bag: Path) -> tuple[str, str, temporal.Video]:
    return (estimator.model.config.variant, estimator.precision,
            temporal.evaluate_video(bag, settings, estimator))
