"""Cameras at a given resolution: the ray of each pixel, and the pixel of each ray."""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
import re

import numpy as np
from numpy.polynomial import Polynomial

DISTORTION_MODELS = ('plumb_bob', 'rational_polynomial', 'equidistant')
# Unsupported wide-angle models, which are not pinhole cameras even without coefficients.
_WIDE_ANGLE = re.compile(
    r'fish|omni|mei|kannala|^kb|spher|^ds$|ucm|fov|atan|scara|ocam|theta|cylin|equi')
_ITERATIONS = 50
# Residual of a ray in units of the image plane at z = 1: a thousandth of a pixel or less.
_TOLERANCE = 1e-6
# Of the same view: the most by which focal lengths differ, and centres in sizes of the image.
_SAME_FOCAL, _SAME_CENTRE = 0.03, 0.02


@dataclass(frozen=True)
class Camera:
    """
    A camera model (REP-104; the distortion models are OpenCV's).

    :param width, height: [px].
    :param fx, fy, cx, cy: [px]; pixel (0, 0) is a centre, not a corner.
    :param model: one of ``DISTORTION_MODELS``. Without coefficients 'equidistant' is an ideal
        fisheye, whose angle grows with the distance from the centre; the others, and unknown
        models except wide-angle ones, are pinhole cameras.
    :param distortion: k1 k2 p1 p2 k3 [k4 k5 k6], or k1 k2 k3 k4 of an equidistant camera.
    :raises ValueError: a focal length is not positive and finite, or the distortion is unknown.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    model: str = 'plumb_bob'
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check all values, because wrong values would give wrong clouds without an error."""
        numbers = (self.fx, self.fy, self.cx, self.cy)
        if not (np.isfinite(numbers).all() and self.fx > 0 and self.fy > 0):
            raise ValueError('the camera is not calibrated (fx {:g}, fy {:g}, cx {:g}, '
                             'cy {:g})'.format(*numbers))
        if not np.isfinite(self.distortion).all():
            coefficients = ', '.join(f'{d:g}' for d in self.distortion)
            raise ValueError(f'the camera is not calibrated: the distortion D is {coefficients}')
        if not any(self.distortion) and not _WIDE_ANGLE.search(self.model.lower()):
            return
        if self.model not in DISTORTION_MODELS:
            raise ValueError(f"distortion model '{self.model}' is not one of "
                             f'{", ".join(DISTORTION_MODELS)}')
        most = 4 if self.model == 'equidistant' else 8
        if any(self.distortion[most:]):
            raise ValueError(f"distortion model '{self.model}' with {len(self.distortion)} "
                             f'coefficients: at most {most} are supported')

    @property
    def _is_pinhole(self) -> bool:
        return self.model != 'equidistant' and not any(self.distortion)

    def same_view(self, other: Camera) -> bool:
        """
        Tell whether another camera sees the same part of the world, at any resolution.

        An autofocus changes the focal length a little in each image, which does not count.
        """
        limits = np.array((_SAME_FOCAL, _SAME_FOCAL, _SAME_CENTRE, _SAME_CENTRE))
        return bool((np.abs(self._view - other._view) <= limits).all())

    @cached_property
    def _view(self) -> np.ndarray:
        """Return logarithms of the focal lengths, and the centre, in sizes of the image, (4,)."""
        return np.array((np.log(self.fx / self.width), np.log(self.fy / self.height),
                         (self.cx + 0.5) / self.width, (self.cy + 0.5) / self.height))

    @cached_property
    def rays(self) -> np.ndarray:
        """
        Return x/z and y/z of the ray of each pixel, (height, width, 2) float32.

        NaN where the distortion model has no inverse, or looks sideways or back.
        """
        x, y = np.meshgrid((np.arange(self.width) - self.cx) / self.fx,
                           (np.arange(self.height) - self.cy) / self.fy)
        if not self._is_pinhole:
            undistort = _undistort_fisheye if self.model == 'equidistant' else _undistort
            x, y = undistort(x, y, self.distortion)
        return np.stack([x, y], axis=-1).astype(np.float32)

    def project(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Return the pixels (u, v) on which rays (x, y, 1) fall.

        NaN beyond the angle at which the distortion model stops being monotonic.
        """
        if not self._is_pinhole:
            if self.model == 'equidistant':
                x, y = _distort_fisheye(x, y, self.distortion)
            else:
                seen = x * x + y * y < _fold(self.distortion)
                x, y = (np.where(seen, c, np.nan) for c in distort(x, y, self.distortion))
        return x * self.fx + self.cx, y * self.fy + self.cy


def distort(x: np.ndarray, y: np.ndarray,
            coefficients: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Project rays (x, y, 1) to the image plane of plumb_bob or rational_polynomial."""
    k1, k2, p1, p2, k3, k4, k5, k6 = (*coefficients, *[0.0] * 8)[:8]
    r2 = x * x + y * y
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    return (x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + 2 * p2 * x * y + p1 * (r2 + 2 * y * y))


def _undistort(xd: np.ndarray, yd: np.ndarray,
               coefficients: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Invert :func:`distort` by Newton's method; NaN where no ray exists."""
    x, y = xd.copy(), yd.copy()
    h = 1e-6
    with np.errstate(all='ignore'):
        for _ in range(_ITERATIONS):
            fx, fy = distort(x, y, coefficients)
            ax, ay = distort(x + h, y, coefficients)
            bx, by = distort(x, y + h, coefficients)
            j11, j12, j21, j22 = (ax - fx) / h, (bx - fx) / h, (ay - fy) / h, (by - fy) / h
            det = j11 * j22 - j12 * j21
            ex, ey = xd - fx, yd - fy
            if np.nanmax(np.hypot(ex, ey), initial=0) < _TOLERANCE * 1e-3:
                break
            x = x + (j22 * ex - j12 * ey) / det
            y = y + (j11 * ey - j21 * ex) / det
        fx, fy = distort(x, y, coefficients)
        good = (np.hypot(xd - fx, yd - fy) < _TOLERANCE) & (
            x * x + y * y < _fold(coefficients))
    return np.where(good, x, np.nan), np.where(good, y, np.nan)


@lru_cache(maxsize=64)      # roots take longer than the projection of a scan
def _fold(coefficients: tuple[float, ...]) -> float:
    """
    Return the squared radius up to which the radial polynomial is monotonic, or infinity.

    Beyond this radius the model describes no lens, but has solutions, even mirrored ones.
    """
    k1, k2, _, _, k3, k4, k5, k6 = (*coefficients, *[0.0] * 8)[:8]
    u = Polynomial([0, 1])      # r^2
    above, below = Polynomial([1, k1, k2, k3]), Polynomial([1, k4, k5, k6])
    # Numerator of d/dr (r * above / below); and the poles.
    slope = above * below + 2 * u * (above.deriv() * below - above * below.deriv())
    return min(_first_root(slope), _first_root(below))


def _first_root(polynomial: Polynomial) -> float:
    """Return the smallest positive root, or infinity."""
    roots = polynomial.trim(1e-12).roots()
    real = roots.real[(np.abs(roots.imag) < 1e-9) & (roots.real > 0)]
    return float(real.min(initial=np.inf))


def _distort_fisheye(x: np.ndarray, y: np.ndarray,
                     coefficients: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Project rays (x, y, 1) to the image plane of the equidistant model."""
    k1, k2, k3, k4 = (*coefficients, *[0.0] * 4)[:4]
    r = np.hypot(x, y)
    theta = np.arctan(r)
    t2 = theta * theta
    distorted = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
    scale = np.where(r > 1e-9, distorted / np.maximum(r, 1e-9), 1.0)
    scale = np.where(t2 < _fold_of_fisheye((k1, k2, k3, k4)), scale, np.nan)
    return x * scale, y * scale


@lru_cache(maxsize=64)
def _fold_of_fisheye(coefficients: tuple[float, ...]) -> float:
    """Return the squared angle up to which the equidistant model is monotonic, see _fold."""
    k1, k2, k3, k4 = coefficients
    # The derivative of theta * (1 + k1 theta^2 + ...).
    return _first_root(Polynomial([1, 3 * k1, 5 * k2, 7 * k3, 9 * k4]))


def _undistort_fisheye(xd: np.ndarray, yd: np.ndarray,
                       coefficients: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Invert the equidistant model: theta_d = theta (1 + k1 theta^2 + ... + k4 theta^8)."""
    k1, k2, k3, k4 = (*coefficients, *[0.0] * 4)[:4]
    target = np.hypot(xd, yd)
    theta = target.copy()
    with np.errstate(all='ignore'):
        for _ in range(_ITERATIONS):
            t2 = theta * theta
            value = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
            slope = 1 + t2 * (3 * k1 + t2 * (5 * k2 + t2 * (7 * k3 + t2 * 9 * k4)))
            theta = theta + (target - value) / slope
        t2 = theta * theta
        value = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
        good = (np.abs(value - target) < _TOLERANCE) & (slope > 0) & (theta < np.pi / 2)
        # tan(theta) / theta_d tends to 1 at the centre.
        scale = np.where(target > 1e-9, np.tan(theta) / np.maximum(target, 1e-9), 1.0)
    scale = np.where(good, scale, np.nan)
    return xd * scale, yd * scale
