"""The frames of a robot over time, as TF states them: where points of one are in another."""
from __future__ import annotations

from bisect import bisect_left, insort
from operator import itemgetter
from threading import Lock

import numpy as np

from zoe_ros.anchor.transform import IDENTITY, Transform

# Frame in which the motion of a robot has no jumps (REP 105); `map` is corrected in jumps.
_ODOMETRY = 'odom'
_KEPT = 10.0        # [s]
# The last pose of a moving frame holds for so long [s]: odometry often comes later than images.
_HOLD = 0.1
_DENSE = 0.5        # between poses that are farther apart, nobody knows the way [s]
_BACK = 1.0         # time that goes back by more than this is another recording [s]
_stamp = itemgetter(0)


class Frames:
    """
    A tree of frames: each has at most one parent, to which it is fixed or moves.

    May be written and read by different threads.
    """

    def __init__(self, kept: float = _KEPT) -> None:
        """Start without frames; a moving one is remembered for ``kept`` [s]."""
        self._lock, self._kept = Lock(), kept
        self._parents: dict[str, str] = {}
        self._untold: set[str] = set()      # frames of which TF has not told
        self._fixed: dict[str, Transform] = {}          # frame -> transform to its parent
        self._moving: dict[str, list[tuple[float, np.ndarray]]] = {}    # stamp, seven numbers

    def fix(self, child: str, parent: str, numbers: list[float]) -> None:
        """
        State that a frame is fixed to its parent.

        :param numbers: pose of the child in the parent, see :meth:`.Transform.from_numbers`.
        :raises ValueError: these are no transform, or they would make a circle of frames.
        """
        transform = Transform.from_numbers(numbers)
        with self._lock:
            self._attach(child, parent)
            self._untold.discard(child)
            self._moving.pop(child, None)
            self._fixed[child] = transform

    def move(self, child: str, parent: str, numbers: list[float], stamp: float,
             by_tf: bool = True) -> None:
        """
        State where a moving frame is; see :meth:`fix`.

        :param stamp: [s].
        :param by_tf: TF states it. Else, if TF ever states a parent of the child, this is left
            out: wheels and a filter often tell two different ways of one robot.
        """
        Transform.from_numbers(numbers)
        values = np.array(numbers, np.float64)
        values[3:] /= np.linalg.norm(values[3:])
        with self._lock:
            if not by_tf and child in self._parents and child not in self._untold:
                return
            changed = self._attach(child, parent) or (by_tf and child in self._untold)
            (self._untold.discard if by_tf else self._untold.add)(child)
            if changed or child in self._fixed:
                self._fixed.pop(child, None)
                self._moving.pop(child, None)
            track = self._moving.setdefault(child, [])
            if track and stamp < track[-1][0] - _BACK:
                track.clear()
            insort(track, (stamp, values), key=_stamp)
            # By halves, because entries are removed from the start of a list.
            if track[-1][0] - track[0][0] > 2 * self._kept:
                del track[:bisect_left(track, track[-1][0] - self._kept, key=_stamp)]

    def across(self, source: str, start: float, target: str, stop: float) -> Transform:
        """
        Return the transform of points from a frame at one time to another frame at another time.

        The motion between the two times is taken into account where it is known.

        :param start, stop: [s].
        :raises LookupError: the frames are not connected at that time; the text says which.
        """
        with self._lock:
            steady = self._steady(target)
            if steady and steady in self._chain(source):
                try:
                    return self._between(steady, target, stop).after(
                        self._between(source, steady, start))
                except LookupError:
                    pass    # the motion is not known at these times
            return self._between(source, target, stop)

    def motion(self, frame: str, start: float, stop: float, exact: bool = False
               ) -> Transform | None:
        """
        Return the transform of points of a frame at one time to it at another; or None.

        :param exact: the last pose does not hold for a moment, and poses on both sides of a gap
            tell nothing of the time between.
        """
        with self._lock:
            steady = self._steady(frame)
            below = self._chain(frame)
            below = below[:below.index(steady)] if steady else below
            if exact and not all(self._dense(link, stamp) for link in below
                                 if link in self._moving for stamp in (start, stop)):
                return None
            try:
                return self._between(steady, frame, stop).after(
                    self._between(frame, steady, start)) if steady else None
            except LookupError:
                return None

    def _dense(self, frame: str, stamp: float) -> bool:
        """Tell whether a moving frame has a pose at a stamp, or one soon before and after it."""
        track = self._moving[frame]
        after = bisect_left(track, stamp, key=_stamp)
        return after < len(track) and (track[after][0] == stamp or (
            after > 0 and track[after][0] - track[after - 1][0] < _DENSE))

    def _attach(self, child: str, parent: str) -> bool:
        """Set the parent of a frame; return whether it had another one."""
        if child in self._chain(parent):
            raise ValueError(f"frame '{child}' cannot be below '{parent}', which is below it")
        before = self._parents.get(child)
        self._parents[child] = parent
        return before not in (None, parent)

    def _chain(self, frame: str) -> list[str]:
        """Return a frame, its parent, and so on."""
        chain = [frame]
        while chain[-1] in self._parents:
            chain.append(self._parents[chain[-1]])
        return chain

    def _steady(self, frame: str) -> str:
        """Return the frame in which the motion of another one is known; '' if none is."""
        chain = self._chain(frame)
        if not any(link in self._moving for link in chain):
            return ''
        return _ODOMETRY if _ODOMETRY in chain else chain[-1]

    def _between(self, source: str, target: str, stamp: float) -> Transform:
        up, down = self._chain(source), self._chain(target)
        common = next((frame for frame in up if frame in down), None)
        if common is None:
            raise LookupError(f"TF does not connect '{source}' and '{target}'")
        up, down = up[:up.index(common)], down[:down.index(common)]
        return self._product(down, stamp).inverse().after(self._product(up, stamp))

    def _product(self, links: list[str], stamp: float) -> Transform:
        """Return the transform from the first of some frames to the parent of the last."""
        found = IDENTITY
        for frame in links:
            found = (self._fixed.get(frame) or self._pose(frame, stamp)).after(found)
        return found

    def _pose(self, frame: str, stamp: float) -> Transform:
        """Return the pose of a moving frame, between those before and after a stamp."""
        track = self._moving[frame]
        after = bisect_left(track, stamp, key=_stamp)
        first, last = track[0][0], track[-1][0]
        if stamp < first or stamp > last + _HOLD:
            raise LookupError(f"TF has '{frame}' from {first:.3f} to {last:.3f} s, not at "
                              f'{stamp:.3f} s')
        if after in (0, len(track)):    # at the first pose, or after the last one
            return Transform.from_numbers(list(track[min(after, len(track) - 1)][1]))
        (stamp_a, a), (stamp_b, b) = track[after - 1:after + 1]
        share = (stamp - stamp_a) / (stamp_b - stamp_a)
        if a[3:] @ b[3:] < 0:   # q and -q are the same rotation
            a = np.concatenate([a[:3], -a[3:]])
        mean = (1 - share) * a + share * b
        # Along the chord: poses follow each other closely.
        mean[3:] /= np.linalg.norm(mean[3:])
        return Transform.from_numbers(list(mean))
