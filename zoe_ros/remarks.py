"""What a user should know about a camera and its settings, once."""
from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from zoe_ros.camera import Camera
from zoe_ros.headers import frame_name, nanoseconds
from zoe_ros.model.config import ZoeConfig
from zoe_ros.settings import FrameSettings

# Focal lengths that differ by less than this share are as good as equal.
_FOCAL_TOLERANCE = 0.1
# So many frames cannot be steadied before it is said: TF may come a little later than images.
_UNSTEADY = 10
# The optical axis of a whole image is nearer to its centre than this share of its size.
_OFF_CENTRE = 0.15
# The size of an image in focal lengths: 1 degree of view, and 150 degrees.
_NARROW, _WIDE = 0.02, 7.5
# The brightest pixel of an image in which something can be seen; 12 of 16 bits reach 16.
_DARK = 16
# In so many frames so many changes lead back to the view before the last: no zoom is so restless.
_FRAMES, _RETURNS = 10, 3
_STRIDE = 8     # between the rows and columns in which brightness is looked for
BLACK = 'are almost black: if their 10 or 12 bits do not fill 16 bits, scale them'


class Views:
    """Notices a view that goes back and forth, as if CameraInfo came from two cameras."""

    def __init__(self) -> None:
        """Start before the first frame."""
        self._recent: deque[Camera] = deque(maxlen=_FRAMES)

    def of(self, camera: Camera | None) -> str:
        """
        Return what is wrong with the views of the last frames, or nothing.

        :param camera: of the next frame; None if it is not known.
        """
        if camera is None:
            return ''
        self._recent.append(camera)
        views = list(self._recent)
        left = [k for k in range(1, len(views)) if views[k] is not views[k - 1]
                and not views[k].same_view(views[k - 1])]
        if sum(views[k].same_view(views[i - 1]) for i, k in pairwise(left)) < _RETURNS:
            return ''
        return (f'CameraInfo goes back and forth between {_describe(views[left[-1] - 1])} and '
                f'{_describe(views[left[-1]])}: if two drivers publish it on one topic, give each '
                'of them a topic of its own; if one camera changes its region or binning, let it '
                'keep one; the scales of anchor and scale_time_constant start again with each '
                'change')


def _describe(camera: Camera) -> str:
    return (f'{camera.width} x {camera.height} pixels with fx {camera.fx:g}, cx {camera.cx:g}, '
            f'cy {camera.cy:g}')


class Remarks:
    """Finds what there is to say about each frame, and gives each kind of it once."""

    def __init__(self) -> None:
        """Start with nothing said."""
        self._said: set[str] = set()
        self._unstamped = 0     # frames

    def about(self, header: Any, image: np.ndarray, info: Any | None, camera: Camera | None,
              no_camera: str, focal_factor: float, settings: FrameSettings, config: ZoeConfig,
              unsteady: int = 0, alternating: str = '') -> tuple[str, ...]:
        """
        Return what is to be said for the first time.

        :param header: of the image; :param image: (h, w, 3) uint8 RGB.
        :param info: the CameraInfo that is used for it, or None.
        :param camera: by this CameraInfo; None if it cannot be used.
        :param no_camera: why the image has no usable CameraInfo, or empty.
        :param focal_factor: see :func:`.training_camera.focal_factor`.
        :param unsteady: number of frames whose depth could not be steadied, because the motion
            of the camera is not known.
        :param alternating: what is wrong with the views of the last frames, see :class:`Views`.
        """
        found = dict(_all_about(header, info, no_camera, focal_factor, settings, config))
        found |= _doubts(image, info, camera)
        if alternating:
            found['alternating'] = alternating
        self._unstamped += not nanoseconds(header.stamp)
        if self._unstamped > 1:     # a simulation may start at 0
            found['stamp'] = (
                'the images have stamps of 0, and so have the outputs: anchor, '
                'scale_time_constant and TF need stamps, which the driver of the camera must '
                'fill in')
        if unsteady >= _UNSTEADY:
            found['unsteady'] = ('scale_time_constant has no effect while the camera moves: '
                                 + (no_camera or 'neither TF nor odometry tells where it was at '
                                                 'the stamps of the images'))
        new = [kind for kind in found if kind not in self._said]
        self._said.update(new)
        return tuple(found[kind] for kind in new)


def _all_about(header: Any, info: Any | None, no_camera: str, focal_factor: float,
               settings: FrameSettings, config: ZoeConfig) -> Iterator[tuple[str, str]]:
    """Give the kind and the text of each remark."""
    if info is not None and frame_name(info.header) != frame_name(header):
        yield 'frame', (f"CameraInfo has frame '{info.header.frame_id}', the images have "
                        f"'{header.frame_id}'; CameraInfo is used and outputs have the frame of "
                        'the image')
    if no_camera and settings.focal_correction:
        yield 'focal_correction', f'no focal correction: {no_camera}'
    if no_camera and config.canonical_focal:
        yield 'canonical_focal', only_for_training_cameras(config, no_camera)
    if no_camera and settings.camera_view == 'training':
        yield 'camera_view', f"camera_view 'training' has no effect: {no_camera}"
    if (abs(focal_factor - 1) > _FOCAL_TOLERANCE and not settings.focal_correction
            and settings.camera_view != 'training' and not config.canonical_focal):
        yield 'focal_factor', (
            f'the focal length of this camera is {focal_factor:.2f} times that of the training '
            'camera, and depth may be wrong by this factor: parameter focal_correction corrects '
            'it, or camera_view')


def _doubts(image: np.ndarray, info: Any | None, camera: Camera | None) -> dict[str, str]:
    """Return the kind and the text of what is probably wrong with an image and its camera."""
    found = {}
    if is_dark(image):
        found['dark'] = f'the images {BLACK}'
    # Of a region of the image the optical axis may be anywhere.
    if info is None or camera is None or (info.width, info.height) not in (
            (camera.width, camera.height), (0, 0)):
        return found
    about = f'an image of {camera.width} x {camera.height} pixels'
    extents = camera.width / camera.fx, camera.height / camera.fy
    off = max(abs((camera.cx + 0.5) / camera.width - 0.5),
              abs((camera.cy + 0.5) / camera.height - 0.5))
    if not _NARROW < min(extents) <= max(extents) < _WIDE:
        found['lens'] = (
            f'focal lengths of {camera.fx:g} and {camera.fy:g} pixels by CameraInfo belong to no '
            f'lens for {about}: if they are in another unit, depth in metres and clouds are wrong')
    elif off > _OFF_CENTRE:
        found['centre'] = (
            f'the optical centre ({camera.cx:g}, {camera.cy:g}) by CameraInfo is far from the '
            f'middle of {about}: if its matrices are of another resolution, or of the image '
            'before it was cropped, depth in metres and clouds are wrong')
    return found


def is_dark(image: np.ndarray) -> bool:
    """Tell whether nothing can be seen in an image (h, w, 3) uint8."""
    return int(image[::_STRIDE, ::_STRIDE].max()) <= _DARK


def only_for_training_cameras(config: ZoeConfig, reason: str) -> str:
    """Return the warning that a model which needs the focal length does not know it."""
    views = ', '.join(f'{head.field_of_view:.0f} degrees ({head.name})'
                      for head in config.metric.heads)
    return f'depth is in metres for a horizontal field of view of {views} only: {reason}'
