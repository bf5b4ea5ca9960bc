"""``zoe distill --fleet``: the labels of bags, by the workers of a fleet."""
from __future__ import annotations

from collections.abc import Sequence
from functools import partial
import logging
from pathlib import Path

from zoe_ros.counts import counted
from zoe_ros.datasets import DatasetError
from zoe_ros.distill.label import label_bag, labelled_folders, unlabelled
from zoe_ros.distill.recipe import DistillSettings
from zoe_ros.distill.teacher import Teacher
from zoe_ros.fleet import Fleet, Task, work_on_bags

log = logging.getLogger(__name__)


def label_in_fleet(bags: Sequence[Path], settings: DistillSettings, root: Path, teacher: Teacher,
                   fleet: Fleet) -> list[Path]:
    """
    Label bags as :func:`.label.label_bags` does; a bag that fails does not hinder the others.

    :param teacher: that labels are compared with; each worker loads its own.
    :raises DatasetError: labels are there that were made otherwise, some bags have no labels now,
        or no bag has any frame left.
    :raises ValueError: Ray or the teacher cannot be used.
    """
    waiting = unlabelled(bags, settings, root, teacher)
    task = Task(settings.device,
                partial(Teacher, settings.teacher, settings.device, settings.precision),
                partial(_label, settings, root))
    errors = []
    for _, done in work_on_bags(task, waiting, fleet) if waiting else ():
        if done.error:
            errors.append(done.error)
        else:
            log.info('%s', done.result)
    if errors:
        raise DatasetError(f'there are no labels of {len(errors)} of '
                           f'{counted(len(bags), "bag")}, the first one because: {errors[0]}; '
                           'the same command tries them again')
    unlabelled(bags, settings, root, teacher)   # another machine may have other weights
    return labelled_folders(bags, root)


def _label(settings: DistillSettings, root: Path, teacher: Teacher, bag: Path) -> str:
    return label_bag(bag, settings, root, teacher)
