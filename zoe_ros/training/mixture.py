"""How often each dataset is used in training, and whether its metres are."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from zoe_ros.datasets import Dataset
from zoe_ros.datasets.folders import ImageFolder
from zoe_ros.model.config import ZoeConfig
from zoe_ros.training.recipe import TrainSettings

_MOST = 100_000     # repetitions


@dataclass(frozen=True)
class Mixture:
    """
    The use of datasets; names are those of datasets or of groups of RGB-D folders.

    :param repeats: name -> how often each image is used in an epoch; 1 for other names.
    :param up_to_scale: names of the data whose depth is true up to a factor for each image.
    """

    repeats: Mapping[str, int] = field(default_factory=dict)
    up_to_scale: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, repeat: Sequence[str], up_to_scale: Sequence[str],
              datasets: Sequence[Dataset]) -> Mixture:
        """
        Read the settings ``repeat`` and ``up_to_scale`` of a training run.

        :param repeat: texts NAME=TIMES.
        :raises ValueError: a text is not of that form, or a name fits none of the datasets.
        """
        repeats: dict[str, int] = {}
        for text in repeat:
            name, equals, times = text.rpartition('=')
            if not (equals and times.isascii() and times.isdigit() and 1 <= int(times) <= _MOST):
                raise ValueError(f"'{text}' is not NAME=TIMES with 1 to {_MOST} times, like "
                                 'street=20')
            if name in repeats:
                raise ValueError(f"'{name}' is repeated twice, {repeats[name]} and {times} times: "
                                 'say it once')
            repeats[name] = int(times)
        known = [name for dataset in datasets for name in _names(dataset)]
        for name in (*repeats, *up_to_scale):
            if name not in known:
                raise ValueError(f"no training data has the name or group '{name}', only "
                                 f'{", ".join(dict.fromkeys(known))}')
        return cls(repeats, frozenset(up_to_scale))

    def repeats_of(self, dataset: Dataset) -> int:
        """Return how often a dataset is used; its own name counts before that of its group."""
        return next((self.repeats[name] for name in _names(dataset) if name in self.repeats), 1)

    def is_metric(self, dataset: Dataset) -> bool:
        """Tell whether the metres of a dataset are used."""
        return self.up_to_scale.isdisjoint(_names(dataset))


def _names(dataset: Dataset) -> tuple[str, ...]:
    if isinstance(dataset, ImageFolder):
        return dataset.name, dataset.group
    return (dataset.name,)


def has_depth(dataset: Dataset) -> bool:
    """Tell whether a dataset teaches depth, or the router alone."""
    return type(dataset) is not ImageFolder


def check_router_teaches(datasets: Sequence[Dataset], config: ZoeConfig,
                         settings: TrainSettings) -> None:
    """
    Check that a router learns from the images without depth, if there are any.

    :raises ValueError: no router learns.
    """
    without = [dataset.name for dataset in datasets if not has_depth(dataset)]
    if without and (config.router is None or settings.stage == 'relative'
                    or settings.routing != 'trained'):
        raise ValueError(f"the source '{without[0]}' has no depth, so that it teaches a router "
                         'alone: train a model with two heads, with --stage metric and '
                         '--routing trained')
