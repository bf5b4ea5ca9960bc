"""What users choose, in words: shared by the estimator, the command line and the node."""
from __future__ import annotations

from dataclasses import dataclass

PRECISIONS = ('fp32', 'fp16', 'bf16')
ASPECTS = ('stretch', 'keep')
ROUTERS = ('auto', 'indoor', 'outdoor')


@dataclass(frozen=True)
class RunSettings:
    """
    Everything that decides a run of ``zoe run``; written beside its results.

    Names, meanings and defaults are those of the node's parameters.

    :param data: a photograph, a folder of them, or a bag.
    :param output: the folder under which the folder of results is made.
    :param topic: image topic of a bag; empty to take the only one.
    :param weights: path of a checkpoint; empty for the released one.
    :param point_cloud_downsample: the cloud takes every n-th row and column.
    """

    data: str
    output: str = 'results'
    topic: str = ''
    variant: str = 'nk'
    weights: str = ''
    device: str = 'auto'
    precision: str = 'fp32'
    aspect: str = 'stretch'
    pad: bool = False
    flip: bool = False
    router: str = 'auto'
    point_cloud_downsample: int = 4


def one_of(what: str, value: str, accepted: tuple[str, ...]) -> None:
    """Raise a ValueError that names what is accepted, unless ``value`` is."""
    if value not in accepted:
        raise ValueError(f"{what} '{value}' is not one of {', '.join(accepted)}")
