"""From depth as the network left it to depth and points of the camera, on the host."""
from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from zoe_ros.anchor.correction import Correction
from zoe_ros.anchor.steady import samples
from zoe_ros.clock import Clock
from zoe_ros.cloud import Unprojection
from zoe_ros.inference.engine import NetworkDepth
from zoe_ros.inference.graphs import Graphs
from zoe_ros.inference.preprocess import SizePlan
from zoe_ros.inference.transfer import as_arrays, start_to_host, to_host
from zoe_ros.refine import limit, refine, resize
from zoe_ros.settings import FrameSettings
from zoe_ros.sky import find_sky
from zoe_ros.training_camera import TrainingCamera


class CameraDepth(NamedTuple):
    """
    Depth at the size of the camera's image.

    :param depth: (h, w) float32 [m], NaN for no value.
    :param deviation: (h, w) float32 [m] its standard deviation, or None.
    :param points: (rows, columns, 3) float32 [m] in the optical frame, or None.
    """

    depth: np.ndarray
    deviation: np.ndarray | None
    points: np.ndarray | None


@torch.inference_mode()
def to_camera(net: NetworkDepth, correction: Correction, view: TrainingCamera | None,
              unprojection: Unprojection | None, settings: FrameSettings,
              graphs: Graphs | None, clock: Clock) -> CameraDepth:
    """
    Bring depth from the network to the image and into space, and all of it to the host.

    :param correction: of the network's depth.
    :param view: the network saw the image through it; None where it saw the image itself.
    :param unprojection: makes the points; None for no points.
    :param graphs: of the GPU, which runs all of this as one graph; None on a CPU.
    :param clock: stages 'images' and, where a CPU makes points, 'cloud'.
    """
    if graphs is not None:
        with clock('images'):
            return _by_graph(net, correction, view, unprojection, settings, graphs)
    points = None
    with clock('images'):
        depth, deviation = _to_image(correction, net.depth, net.deviation,
                                     _sky_pixels(net, settings), net.plan, view, settings)
    if unprojection is not None:
        with clock('cloud'):
            points = unprojection(depth, settings.point_cloud_max_range)
    with clock('images'):
        return CameraDepth(*to_host(depth, deviation, points))


@torch.inference_mode()
def for_anchor(net: NetworkDepth, scale: float, view: TrainingCamera | None) -> np.ndarray:
    """
    Return depth at the size of the image for :class:`.anchor.anchor.Anchor`, on the host.

    Each pixel has the value of the nearest pixel of the network, without filters and limits.

    :param scale: factor on the network's depth; :param view: see :func:`to_camera`.
    :return: (h, w) float32 [m].
    """
    depth = net.depth * scale
    depth = net.plan.crop(resize(depth, depth, net.plan.padded, 'nearest'))
    return (depth if view is None else view.unwarp(depth, linear=False)).cpu().numpy()


@torch.inference_mode()
def for_steadying(net: NetworkDepth, scale: float, view: TrainingCamera | None) -> np.ndarray:
    """Return the :func:`.anchor.steady.samples` of :func:`for_anchor`, (rows, columns) [m]."""
    if view is not None:
        whole = for_anchor(net, scale, view)
        at = samples(*whole.shape)
        return whole[at.rows[:, None], at.columns]
    depth, at = net.depth, samples(*net.plan.image)
    for axis, index in enumerate((at.rows, at.columns)):
        # As in `refine.resize`: the pixel of the network that is nearest, corners aligned.
        share = (depth.shape[axis] - 1) / max(net.plan.padded[axis] - 1, 1)
        nearest = torch.from_numpy(np.rint((index + net.plan.pad[axis]) * share).astype(np.int64))
        depth = depth.index_select(axis, nearest.to(depth.device))
    return (depth * scale).cpu().numpy()


def _sky_pixels(net: NetworkDepth, settings: FrameSettings) -> torch.Tensor | None:
    """Return the pixels in which to look for the sky, or None: indoors there is none."""
    return net.pixels if settings.sky == 'inf' and net.head == 'outdoor' else None


def _to_image(correction: Correction, depth: torch.Tensor, deviation: torch.Tensor | None,
              sky_pixels: torch.Tensor | None, plan: SizePlan, view: TrainingCamera | None,
              settings: FrameSettings) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Bring depth and deviation (H, W) to the image (h, w): filtered, resized, in range."""
    sky = None if sky_pixels is None else find_sky(sky_pixels, depth * correction.factor)
    depth, deviation = refine(depth, deviation, settings, correction)

    def brought(values: torch.Tensor, interpolation: str) -> torch.Tensor:
        values = plan.crop(resize(values, depth, plan.padded, interpolation))
        return values if view is None else view.unwarp(values, interpolation == 'linear')

    full = brought(depth, settings.interpolation)
    if sky is not None:
        full = torch.where(brought(sky, 'nearest') > 0, torch.inf, full)
    full = limit(full, settings)
    if deviation is None:
        return full, None
    return full, torch.where(
        full.isfinite(), brought(deviation, settings.interpolation), torch.nan)


def _by_graph(net: NetworkDepth, correction: Correction, view: TrainingCamera | None,
              unprojection: Unprojection | None, settings: FrameSettings,
              graphs: Graphs) -> CameraDepth:
    """Do the work of :func:`to_camera` on a GPU."""
    inputs = {'correction': torch.tensor(correction, dtype=torch.float32).pin_memory(),
              'depth': net.depth, 'deviation': net.deviation,
              'sky_pixels': _sky_pixels(net, settings)}
    given = {name: values for name, values in inputs.items() if values is not None}
    work = partial(_on_gpu, names=tuple(given), plan=net.plan, view=view,
                   unprojection=unprojection, settings=settings)
    copies = graphs.run(('frame', tuple(given), net.plan, view, unprojection, settings), work,
                        list(given.values()), lambda found: start_to_host(*found))
    return CameraDepth(*as_arrays(copies, net.depth.device))


def _on_gpu(*values: torch.Tensor, names: tuple[str, ...], plan: SizePlan,
            view: TrainingCamera | None, unprojection: Unprojection | None,
            settings: FrameSettings) -> tuple[torch.Tensor | None, ...]:
    """Compute what a graph records: depth, deviation and points."""
    given = dict(zip(names, values))
    depth, deviation = _to_image(
        Correction(*given['correction'].unbind()), given['depth'], given.get('deviation'),
        given.get('sky_pixels'), plan, view, settings)
    points = (None if unprojection is None
              else unprojection(depth, settings.point_cloud_max_range))
    return depth, deviation, points
