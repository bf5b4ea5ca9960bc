"""Metrics of the depth of a video: how well frames that follow each other agree."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from zoe_ros.anchor.transform import Transform
from zoe_ros.camera import Camera

# Falloff of the weight of a pixel of OPW over its squared difference of colour, in [0, 1].
_FALLOFF = 50.0
# A place is seen by both frames where their depths differ by less than this ratio.
_SEEN = 1.25


class View(NamedTuple):
    """
    A frame of a video.

    :param depth: (h, w) [m]; NaN and infinity for no value.
    :param image: (h, w, 3) uint8 RGB.
    """

    depth: np.ndarray
    image: np.ndarray


class Warp(NamedTuple):
    """
    The pixels of one frame in another one.

    :param source, target: (n,) index of a pixel in the flat images of both.
    :param depth: (n,) [m] of the source, as the other camera should see it.
    """

    source: np.ndarray
    target: np.ndarray
    depth: np.ndarray


def warp(depth: np.ndarray, camera: Camera, motion: Transform) -> Warp:
    """
    Bring depth into another frame of the same camera, by its motion.

    Where several pixels fall on one, the nearest hides the others.

    :param depth: (h, w) [m]; :param motion: of points of this frame into the other one.
    """
    source = np.flatnonzero(np.isfinite(depth) & (depth > 0))
    rays = camera.rays.reshape(-1, 2)[source].astype(np.float64)
    points = np.concatenate([rays, np.ones((len(rays), 1))], 1) * depth.ravel()[source, None]
    x, y, z = motion(points).T
    with np.errstate(all='ignore'):
        u, v = (np.floor(w + 0.5) for w in camera.project(x / z, y / z))
        inside = (z > 0) & (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    source, z = source[inside], z[inside]
    target = v[inside].astype(np.intp) * camera.width + u[inside].astype(np.intp)
    nearest = np.full(camera.width * camera.height, -1)
    order = np.argsort(-z)
    nearest[target[order]] = order      # of equal targets the last one stays
    kept = nearest[nearest >= 0]
    return Warp(source[kept], target[kept], z[kept])


def alignment_error(one: np.ndarray, other: np.ndarray, forth: Warp, back: Warp) -> float:
    """
    Return the temporal alignment error of two frames.

    TAE of Video Depth Anything (arXiv 2501.12375) is the mean over the pairs of a video of REL
    between the depth of a frame, brought into the next one by the true motion, and the depth that
    is predicted there; forth and back. The paper aligns predictions to true depth first, and
    states percent. Here metric depth is compared as it is, and 0.01 is one percent.

    :param one, other: (h, w) [m] predicted depth.
    :param forth, back: of the depth of each frame into the other one.
    """
    errors = []
    for seen, found in ((other, forth), (one, back)):
        predicted = seen.ravel()[found.target]
        known = np.isfinite(predicted) & (predicted > 0)
        if known.any():
            predicted = predicted[known]
            errors.append(np.mean(np.abs(found.depth[known] - predicted) / predicted))
    return float(np.mean(errors)) if errors else float('nan')


def warping_error(one: View, other: View, flow: Warp) -> float:
    """
    Return the error of depth that is warped by optical flow, of two frames [m].

    OPW of NVDS (arXiv 2307.08695) is the mean of ``|D' - D|`` over the pixels, where D' is the
    depth of the first frame at the place that the flow gives for a pixel, weighted with
    ``exp(-50 |I' - I|^2)`` for the colours in [0, 1], so that hidden places do not count. The
    paper takes the flow from a network. Here the flow is that of the motion of the camera, which
    holds for things that do not move by themselves.

    :param flow: from the first frame to the other one: a warp of true depth where there is one,
        else of predicted depth.
    """
    before, after = one.depth.ravel()[flow.source], other.depth.ravel()[flow.target]
    known = np.isfinite(before) & np.isfinite(after)
    if not known.any():
        return float('nan')
    colours = [view.image.reshape(-1, 3)[at[known]].astype(np.float32) / 255 for view, at in (
        (one, flow.source), (other, flow.target))]
    weight = np.exp(-_FALLOFF * ((colours[0] - colours[1]) ** 2).sum(axis=1))
    return float(np.mean(weight * np.abs(before[known] - after[known])))


def scale_step(other: np.ndarray, forth: Warp) -> float:
    """
    Return the log of the factor by which depth changes from one frame to the next.

    It is the median over places that both frames see.

    :param other: (h, w) [m] depth of the next frame; :param forth: of the first one's depth.
    """
    with np.errstate(all='ignore'):
        ratio = np.log(other.ravel()[forth.target] / forth.depth)
    ratio = ratio[np.isfinite(ratio)]
    near = ratio[np.abs(ratio - np.median(ratio)) < np.log(_SEEN)] if len(ratio) else ratio
    return float(np.median(near)) if len(near) else float('nan')
