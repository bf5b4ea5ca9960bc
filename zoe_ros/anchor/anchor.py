"""The anchor: metric points of a robot's sensors in, depth at their scale out."""
from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
import math
from typing import NamedTuple

import numpy as np

from zoe_ros.anchor import filter as scale_filter
from zoe_ros.anchor.correction import Correction, NOTHING
from zoe_ros.anchor.filter import State
from zoe_ros.anchor.fit import Fit, fit, selects
from zoe_ros.anchor.pairs import find_pairs, Pairs, project
from zoe_ros.anchor.points import ImagePoints, SensorPoints
from zoe_ros.anchor.sweep import place
from zoe_ros.anchor.transform import IDENTITY, Transform
from zoe_ros.camera import Camera

# Takes points of the camera's frame at one stamp [s] into its frame at another; None if unknown.
Motion = Callable[[float, float], Transform | None]
# Takes points of a sensor at one stamp [s] into the optical frame at another. Raises a LookupError
# with the reason if the transform is unknown.
Place = Callable[[float, float], Transform]
# Observations of a source are remembered for so long [s], and at most so many: a slow network
# measures an image seconds after it was taken.
_KEPT, _MOST = 10.0, 400
# Time that goes back by more than this is another recording, not messages out of order [s].
_BACK = 1.0


@dataclass(frozen=True)
class Source:
    """
    A sensor with metric points.

    :param name: for reports, such as 'scan'.
    :param to_camera: from the frame of the sensor to the optical frame, at all times or for given
        stamps of points and image; not used for points that are in the image already.
    :param deviation: relative standard deviation that all points of a moment have in common.
    """

    name: str
    to_camera: Transform | Place = IDENTITY
    deviation: float = 0.0


class Scale(NamedTuple):
    """
    The scale of one frame.

    :param value: factor on depth; 1 while nothing is known.
    :param deviation: standard deviation of the factor.
    :param pairs: number of points that agree with the factor in this frame.
    :param residual: robust relative deviation of predicted from true depth; NaN without a fit.
    :param age: since the last frame with a fit [s]; infinite without one.
    :param coverage: of the image by the pairs of that frame: 0 for one row, 1 for all of it.
    :param source: names of the sources of the pairs, joined by '+'.
    :param reason: why the scale is held or unknown, as 'cause: details'; '' if it was measured in
        this frame.
    :param correction: for the depth of this frame.
    """

    value: float
    deviation: float
    pairs: int
    residual: float
    age: float
    coverage: float
    source: str
    reason: str
    correction: Correction


class _Observation(NamedTuple):
    stamp: float
    points: SensorPoints | ImagePoints | str    # or why there are none


class Anchor:
    """
    Brings predicted depth to the scale of a robot's own sensors.

    Each head has a scale of its own. The result depends on nothing but the sequence of calls.

    :ivar counts: cause -> number of values, points and frames that were not used.
    """

    def __init__(self, tolerance: float = 0.1, report_only: bool = False,
                 motion: Motion | None = None) -> None:
        """
        Start before the first frame.

        :param tolerance: largest difference between the stamps of image and points [s].
        :param report_only: scales are stated, but depth is left as it is.
        :param motion: of the camera between the stamps of points and image, where it is known.
        """
        self.counts: Counter[str] = Counter()
        self._tolerance, self._report_only, self._motion = tolerance, report_only, motion
        self._camera: Camera | None = None
        self._view: Camera | None = None        # the last camera that was known
        self._sources: dict[str, Source] = {}
        self._seen: dict[str, deque[_Observation]] = {}
        self._heads: dict[str, State] = {}
        self._stamp: float | None = None        # of the last frame

    def configure(self, camera: Camera | None, *sources: Source) -> None:
        """
        Set the camera, and add or move sensors; scales and observations are kept.

        :param camera: of the depth images, with its lens model; None while it is not known.
        """
        self._camera = camera
        if camera is not None:
            if self._view is not None and not camera.same_view(self._view):
                self.forget('another view')     # of a region or a zoom a network has another scale
            self._view = camera
        self.place(*sources)

    def forget(self, cause: str) -> None:
        """
        Forget the scales: depth is in another one from now on.

        :param cause: a few words for counting.
        """
        self.counts[f'frames: {cause}'] += 1
        self._heads.clear()

    def place(self, *sources: Source) -> None:
        """Add or move sensors."""
        self._sources |= {source.name: source for source in sources}

    def observe(self, points: SensorPoints | ImagePoints, stamp: float, source: str) -> None:
        """
        Remember the points of a sensor.

        :param stamp: [s]; :param source: name of a source that was configured.
        :raises ValueError: the name is unknown.
        """
        if source not in self._sources:
            raise ValueError(f"anchor source '{source}' is not one of "
                             f'{", ".join(self._sources) or "none"}')
        self._count(source, points.dropped)
        if not math.isfinite(stamp):
            self.counts[f'{source}: stamp'] += 1
            return
        self._remember(source, stamp, points)

    def miss(self, source: str, stamp: float, cause: str, details: str) -> None:
        """
        Remember why a sensor gives no points at a stamp [s].

        :param source: name of a source that was configured.
        :param cause: a few words for counting; :param details: for people.
        """
        self.counts[f'{source}: {cause}'] += 1
        if math.isfinite(stamp):
            self._remember(source, stamp, f'{cause}: {details}')

    def apply(self, depth: np.ndarray, head: str, stamp: float) -> tuple[np.ndarray, Scale]:
        """
        Measure the scale of a frame and bring its depth to it.

        :param depth: (h, w) float32 [m] by the network, at the size of the camera; NaN and
            infinity for no value. Never changed.
        :param head: that predicted the depth.
        :param stamp: of the image [s].
        """
        scale = self.measure(depth, head, stamp)
        if scale.correction == NOTHING:
            return depth, scale
        return scale.correction.apply(depth, None)[0], scale

    def measure(self, depth: np.ndarray, head: str, stamp: float) -> Scale:
        """Measure the scale of a frame, see :meth:`apply`; its depth is not changed."""
        if not math.isfinite(stamp):
            self.counts['frames: no stamp'] += 1
            return self._unknown('no stamp: that of the image is not finite')
        travelled = self._begin(stamp)
        state = self._heads.get(head)
        if state is not None:
            state = scale_filter.predict(state, stamp, travelled)
        prior = None if state is None else state.prior
        pairs, names, reason = self._pairs(depth, stamp, prior)
        found = None
        if pairs is not None:
            found, reason = fit(pairs, prior)
        if found is not None:
            # Of several sources the best one counts.
            common = min(self._sources[name].deviation for name in names)
            found = found._replace(variance=found.variance + common ** 2)
        if found is not None:
            if state is None:
                state = scale_filter.start(found, stamp)
            else:
                state, reason = scale_filter.update(state, found)
        if reason:
            self.counts[f'frames: {reason.partition(":")[0]}'] += 1
        if state is None:
            return self._unknown(reason)
        self._heads[head] = state
        correction = NOTHING if self._report_only else _correction(state)
        return _report(state, found, _coverage(state.areas, depth.shape), '+'.join(names), reason,
                       correction)

    def _remember(self, source: str, stamp: float,
                  points: SensorPoints | ImagePoints | str) -> None:
        seen = self._seen.setdefault(source, deque(maxlen=_MOST))
        if seen and stamp < seen[-1].stamp - _BACK:
            self.counts[f'{source}: time went back'] += 1
            seen.clear()
        seen.append(_Observation(stamp, points))
        while seen[0].stamp < stamp - _KEPT:
            seen.popleft()

    def _begin(self, stamp: float) -> float:
        """Begin a frame; return the way that the camera travelled since the last one [m]."""
        last, self._stamp = self._stamp, stamp
        if last is None:
            return 0.0
        if stamp < last - _BACK:
            # What was known belongs to later frames.
            self.forget('time went back')
            return 0.0
        step = None if self._motion is None else self._motion(last, stamp)
        return 0.0 if step is None else float(np.linalg.norm(step.translation))

    def _pairs(self, depth: np.ndarray, stamp: float, prior: tuple[float, float] | None
               ) -> tuple[Pairs | None, list[str], str]:
        """Return the pairs of a frame and their sources; or None and the reason."""
        camera = self._camera
        if camera is None:
            return None, [], 'no camera: there is no CameraInfo that fits the image'
        if depth.shape != (camera.height, camera.width):
            return None, [], (f'image size: depth has the shape {depth.shape}, the camera '
                              f'{(camera.height, camera.width)}')
        expected = prior[0] if prior is not None and selects(prior) else None
        found: dict[str, Pairs] = {}
        reason = ''
        for name, source in self._sources.items():
            try:
                points = self._points(source, stamp, camera)
            except LookupError as error:
                reason = reason or str(error)
                continue
            pairs = find_pairs(points, depth, expected)
            self._count(name, pairs.left_out)
            if len(pairs.true):
                found[name] = pairs
        if not found:
            return None, [], reason or 'no points: the camera sees none of the sensor'
        return _joined(list(found.values())), list(found), ''

    def _points(self, source: Source, stamp: float, camera: Camera) -> ImagePoints:
        """
        Return the points of a source that are nearest in time to an image, in the image.

        :raises LookupError: there are none, or their place is not known; with the reason.
        """
        seen: Sequence[_Observation] = self._seen.get(source.name, ())
        # Of several with one stamp the last one: simulated clocks make coarse steps.
        nearest = min(reversed(seen), key=lambda item: abs(item.stamp - stamp), default=None)
        if nearest is None or abs(nearest.stamp - stamp) > self._tolerance:
            raise LookupError(f'silent: nothing from {source.name} within {self._tolerance:g} s '
                              'of the image')
        points = nearest.points
        if isinstance(points, str):
            raise LookupError(points)
        if isinstance(points, ImagePoints):
            return points
        taken = nearest.stamp
        projected = project(
            place(points, lambda after: self._placed(source, taken + after, stamp)), camera)
        self._count(source.name, projected.dropped)
        return projected

    def _placed(self, source: Source, taken: float, stamp: float) -> Transform:
        """Return the transform of points that were taken at one time to an image at another."""
        if not isinstance(source.to_camera, Transform):
            try:
                return source.to_camera(taken, stamp)
            except LookupError as error:
                raise LookupError(f'no transform: {error}') from None
        motion = None if self._motion is None else self._motion(taken, stamp)
        return source.to_camera if motion is None else motion.after(source.to_camera)

    def _count(self, source: str, causes: dict[str, int]) -> None:
        for cause, number in causes.items():
            self.counts[f'{source}: {cause}'] += number

    def _unknown(self, reason: str) -> Scale:
        return Scale(1.0, scale_filter.UNKNOWN, 0, math.nan, math.inf, 0.0, '', reason,
                     NOTHING)


def _joined(pairs: list[Pairs]) -> Pairs:
    if len(pairs) == 1:
        return pairs[0]
    return Pairs(np.concatenate([one.true for one in pairs]),
                 np.concatenate([one.predicted for one in pairs]),
                 np.concatenate([one.place for one in pairs]), {}, _deviation(pairs))


def _deviation(pairs: list[Pairs]) -> np.ndarray | None:
    if all(one.deviation is None for one in pairs):
        return None
    return np.concatenate([np.zeros(len(one.true)) if one.deviation is None else one.deviation
                           for one in pairs])


def _correction(state: State) -> Correction:
    """Return the correction by a scale and, where the covariance carries one, by a shift."""
    factor, amount, shift = math.exp(state.output), scale_filter.usable_shift(state), state.shift
    if not amount or shift is None:
        return Correction(factor)
    return Correction(factor, amount, shift.centre, shift.low, shift.high)


def _coverage(areas: int, shape: tuple[int, ...]) -> float:
    """Return the coverage of an image (h, w) by pairs in so many squares of a quarter of w."""
    whole = 4 * math.ceil(4 * shape[0] / shape[1])
    return min(max((areas - 4) / max(whole - 4, 1), 0.0), 1.0)


def _report(state: State, found: Fit | None, coverage: float, names: str, reason: str,
            correction: Correction) -> Scale:
    value = math.exp(state.output)
    return Scale(value, value * state.deviation, 0 if found is None else found.pairs,
                 math.nan if found is None else found.residual, state.stamp - state.measured,
                 coverage, names, reason, correction)
