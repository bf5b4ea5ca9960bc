"""Batches as a pure function of seed and step, so that a resumed run sees the same data."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
import math
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from zoe_ros.datasets import Dataset, DatasetError
from zoe_ros.datasets.labels import LabelledBag
from zoe_ros.inference.preprocess import plan_sizes, to_pixels
from zoe_ros.model.config import ZoeConfig
from zoe_ros.training.augment import augment
from zoe_ros.training.canonical import canonical_depth, crop
from zoe_ros.training.faults import add_faults
from zoe_ros.training.mixture import has_depth, Mixture

_TRIES = 20     # samples in a row without depth before the data count as useless


@dataclass(frozen=True)
class Batch:
    """
    The data of one training step.

    :param pixels: (b, 3, H, W) in [-1, 1].
    :param depths: (h, w) [m] of each image at its own size, NaN where there is none.
    :param domains: of each image.
    :param names: of the samples, for messages.
    :param metric: of each image, whether its metres are used; else its depth is true up to a
        factor only.
    :param head_probabilities: of each image, see :class:`zoe_ros.datasets.Sample`.
    """

    pixels: torch.Tensor
    depths: list[torch.Tensor]
    domains: list[str]
    names: list[str]
    metric: list[bool]
    head_probabilities: list[Mapping[str, float] | None]

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return replace(self, pixels=self.pixels.to(device, non_blocking=True),
                       depths=[depth.to(device, non_blocking=True) for depth in self.depths])

    def pin_memory(self) -> Batch:
        """Return the batch in memory from which a GPU copies beside its work."""
        return replace(self, pixels=self.pixels.pin_memory(),
                       depths=[depth.pin_memory() for depth in self.depths])


class Batches(TorchDataset):
    """
    Step -> batch.

    Either a batch holds one domain, and the domains take turns (section 6.2); or each batch mixes
    all domains, so that batch normalisation sees the same statistics in training as later; or
    labels of a teacher and other data have fixed shares of all batches together.
    """

    def __init__(self, datasets: Sequence[Dataset], size: tuple[int, int], batch: int, seed: int,
                 *, mixed: bool = False, rank: int = 0, world: int = 1,
                 mixture: Mixture | None = None, canonical: ZoeConfig | None = None,
                 faults: float = 0.0, labelled: float | None = None) -> None:
        """
        Prepare batches of ``batch`` images over ``world`` processes; this one has number ``rank``.

        :param size: (H, W) of the network.
        :param mixture: by default, the images of a domain all count alike, with their metres.
        :param faults: fraction of the images that get faults of cameras.
        :param canonical: the model, if it learns the depth that its training camera would see.
        :param labelled: fraction of the images that have labels of a teacher, whatever their
            domain; None for data without such labels.
        :raises ValueError: there is no data, or the batch cannot be divided evenly.
        """
        if batch % world:
            raise ValueError(f'a batch of {batch} cannot be divided evenly over {world} '
                             'processes')
        self._size, self._batch, self._seed = size, batch, seed
        self._mine = slice(rank * batch // world, (rank + 1) * batch // world)
        domains = sorted({dataset.domain for dataset in datasets if len(dataset)})
        if not domains:
            raise ValueError('there is nothing to learn from: the data contains no sample')
        self._mixture, self._canonical = mixture or Mixture(), canonical
        groups = ([[d for d in datasets if d.domain == domain] for domain in domains]
                  if labelled is None else
                  [[d for d in datasets if isinstance(d, LabelledBag) == kind]
                   for kind in (True, False)])
        self._turns = [[(d, i) for d in group
                        for _ in range(self._mixture.repeats_of(d)) for i in range(len(d))]
                       for group in groups]
        self._mixed, self._faults, self._labelled = mixed, faults, labelled

    def __getitem__(self, step: int) -> Batch:
        """Return this process's share of the batch of a step."""
        slots = range(self._batch)[self._mine]
        chosen = [self._turn(step, slot) for slot in slots]
        random = [np.random.default_rng((self._seed, step, slot)) for slot in slots]
        rows = [self._draw(turn, place, generator)
                for (turn, place), generator in zip(chosen, random)]
        pixels, *others = map(list, zip(*rows))
        return Batch(torch.cat(pixels), *others)

    def _turn(self, step: int, slot: int) -> tuple[int, int]:
        """Return the number of a group of data, and the place of the sample in its order."""
        turns = len(self._turns)
        if self._labelled is not None:
            number = step * self._batch + slot
            before, after = (math.floor(n * self._labelled) for n in (number, number + 1))
            return (0, before) if after > before else (1, number - before)
        if self._mixed:
            # Slots alternate between the domains.
            each = -(-self._batch // turns)
            return slot % turns, step * each + slot // turns
        return step % turns, (step // turns) * self._batch + slot

    def _draw(self, turn: int, place: int, random: np.random.Generator) -> tuple[Any, ...]:
        """Return the ``place``-th sample of a domain, as the fields of a batch."""
        items = self._turns[turn]
        for attempt in range(_TRIES):
            epoch, offset = divmod(place + attempt, len(items))
            dataset, index = items[int(_order(self._seed, turn, epoch, len(items))[offset])]
            sample = dataset[index]
            if self._canonical is not None and sample.camera is not None:
                sample = crop(sample, random)
                sample = replace(sample, depth=canonical_depth(sample, self._canonical))
            image, depth = augment(sample.image, sample.depth, sample.domain, random)
            if self._faults and random.random() < self._faults:
                image, depth = add_faults(image, depth, sample.domain, random)
            if np.isfinite(depth).sum() >= 2 or not has_depth(dataset):
                plan = plan_sizes(image.shape[:2], self._size, 'stretch', False)
                pixels = to_pixels(torch.from_numpy(image)[None], plan)
                return (pixels, torch.from_numpy(depth), sample.domain,
                        f'{dataset.name}/{sample.name}', self._mixture.is_metric(dataset),
                        sample.head_probabilities)
        raise DatasetError(f'{dataset.name}: no depth in {_TRIES} samples in a row, up to '
                           f'{sample.name}: check the depth files')


_ORDERS: dict[tuple[int, int, int, int], np.ndarray] = {}


def _order(seed: int, turn: int, epoch: int, count: int) -> np.ndarray:
    """Return the order of an epoch, a permutation of ``count``; the last few are kept."""
    key = (seed, turn, epoch, count)
    if key not in _ORDERS:
        if len(_ORDERS) > 8:
            _ORDERS.clear()
        _ORDERS[key] = np.random.default_rng((seed, turn, epoch)).permutation(count)
    return _ORDERS[key]


def load(batches: Batches, first: int, last: int, workers: int,
         pinned: bool = False) -> Iterator[Batch]:
    """
    Yield the batches of steps ``first`` to ``last`` - 1, read ahead by other processes.

    :param pinned: for a GPU, see :meth:`Batch.pin_memory`.
    :raises DatasetError: a file is damaged.
    """
    loader = DataLoader(
        _Told(batches), batch_size=None, sampler=range(first, last), num_workers=workers,
        pin_memory=pinned)
    for batch in loader:
        if isinstance(batch, DatasetError):
            raise batch
        yield batch


class _Told(TorchDataset):
    """Batches whose errors are values: torch would put the traceback of a process into them."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __getitem__(self, step: int) -> Batch | DatasetError:
        try:
            return self._batches[step]
        except DatasetError as error:
            return error
