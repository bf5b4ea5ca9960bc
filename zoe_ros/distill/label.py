"""Writes the labels of bags: a teacher's depth of the frames that differ."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from zoe_ros.bag import BagError, BagImage, BagReader, is_bag
from zoe_ros.bag_anchor import BagAnchor
from zoe_ros.camera import Camera
from zoe_ros.datasets import DatasetError
from zoe_ros.datasets.files import scaled
from zoe_ros.datasets.labels import DESCRIPTION, IMAGE, LABEL, read_description, VERSION
from zoe_ros.distill.choice import FrameChooser
from zoe_ros.distill.recipe import DistillSettings
from zoe_ros.distill.teacher import LEAST_TRUSTED, Opinion, Teacher
from zoe_ros.files import whole_folder
from zoe_ros.images import decode_image, MessageError
from zoe_ros.messages import camera_from_info, is_rectified, nanoseconds
from zoe_ros.run_many import results_folder
from zoe_ros.stereo_pair import flaw_of
from zoe_ros.storage.remote import is_there

# Enough for a crop of half the width at the size of a small model.
_MOST_PIXELS = 288 * 384
_QUALITY = 95       # of JPEG
# Settings that change labels.
_MADE_WITH = ('topic', 'anchor', 'anchor_topic', 'anchor_transform', 'difference')

log = logging.getLogger(__name__)


def check_bags(bags: Sequence[Path], settings: DistillSettings) -> None:
    """
    Open each bag once, because labelling takes hours.

    :raises BagError: a bag cannot be read, has no images or not the sensors of the anchor.
    """
    for path in bags:
        if not is_there(path):
            raise BagError(f'nothing at {path}')
        if not is_bag(path):
            raise BagError(f'{path} is no bag: give the folder of a rosbag2, an .mcap or a .db3 '
                           'file')
        with BagReader(path, settings.topic or None) as bag:
            _anchor(bag, settings)


def label_bags(bags: Sequence[Path], settings: DistillSettings, root: Path,
               teacher: Teacher) -> list[Path]:
    """
    Label bags that have no labels yet; return the folder of each bag with labels.

    :param root: folder of the folders.
    :raises DatasetError: labels are there that were made otherwise, or no bag has any frame left.
    :raises BagError: a bag cannot be read.
    """
    made_with = {'teacher': teacher.identity, **{
        name: value for name in _MADE_WITH
        for value in [json.loads(json.dumps(getattr(settings, name)))]}}
    folders = [results_folder(root, bag) for bag in bags]
    for folder in folders:      # before hours of work
        if folder.exists():
            _require_same(folder, made_with)
    for number, (bag, folder) in enumerate(zip(bags, folders), start=1):
        if folder.exists():
            log.info('%d of %d: %s is labelled', number, len(bags), bag)
            continue
        log.info('%d of %d: labelling %s', number, len(bags), bag)
        with whole_folder(folder) as part:
            about = _Labelling(bag, settings, teacher, part).go()
            (part / DESCRIPTION).write_text(json.dumps(
                {'version': VERSION, 'bag': bag.name, 'made_with': made_with, **about},
                indent=1) + '\n', encoding='utf-8')
        log.info('%d frames have labels%s', len(about['frames']), _causes(about['left_out']))
    descriptions = [read_description(folder) for folder in folders]
    found = [folder for folder, about in zip(folders, descriptions) if about['frames']]
    if not found:
        total = sum((Counter(about['left_out']) for about in descriptions), Counter[str]())
        raise DatasetError(f'no frame of {len(bags)} bag(s) is left to learn from'
                           f'{_causes(total)}')
    return found


def _causes(counts: dict[str, int]) -> str:
    return ''.join(f'; {count} left out: {cause}' for cause, count in sorted(counts.items()))


def _require_same(folder: Path, made_with: dict[str, Any]) -> None:
    then = read_description(folder).get('made_with', {})
    other = [name for name, value in made_with.items() if then.get(name) != value]
    if other:
        raise DatasetError(f'{folder} has labels that were made with another '
                           f'{" and ".join(other)}: choose another --labels or --output, or '
                           'remove the folder')


@dataclass
class _Labelling:
    """The labelling of one bag."""

    bag: Path
    settings: DistillSettings
    teacher: Teacher
    folder: Path

    def go(self) -> dict[str, Any]:
        """Write the files of all frames; return 'frames' and 'left_out' of the description."""
        frames: list[dict[str, Any]] = []
        left_out: Counter[str] = Counter()
        chooser = FrameChooser(self.settings.difference)
        with BagReader(self.bag, self.settings.topic or None) as bag:
            anchor = _anchor(bag, self.settings)
            for item in tqdm(_readable(bag), total=bag.count, unit='image', disable=None):
                if anchor is not None:
                    anchor.hear_until(item.recorded)
                try:
                    image = decode_image(item.message)
                except MessageError as error:
                    left_out[f'damaged ({error.cause})'] += 1
                    continue
                if chooser.takes(image):
                    cause, frame = self._label(bag, item, image, anchor)
                    left_out[cause] += 1
                    frames += frame
        del left_out['']
        return {'frames': frames, 'left_out': dict(left_out)}

    def _label(self, bag: BagReader, item: BagImage, image: np.ndarray,
               anchor: BagAnchor | None) -> tuple[str, list[dict[str, Any]]]:
        """Label a frame; return why it is left out, or '' and the frame of the description."""
        header, rectified = item.message.header, is_rectified(bag.topic)
        info = bag.infos.find(header)
        camera = _camera(info, image.shape[:2], rectified)
        opinion = self.teacher.look(image, camera)
        if opinion is None:
            return 'image and mirror image go to different heads', []
        if anchor is not None and anchor.anchor is not None:
            scale = anchor.anchor.measure(opinion.depth, opinion.head, header, camera, image,
                                          flaw_of(info, rectified))
            if math.isinf(scale.age):
                return 'the anchor knows no scale', []
            opinion = opinion.corrected(scale.correction)
        if opinion.trusted.mean() < LEAST_TRUSTED:
            return 'the teacher is not sure', []
        name = str(nanoseconds(header.stamp))
        if (self.folder / f'{name}{IMAGE}').exists():
            return 'another image has the stamp', []
        size = self._write(name, image, opinion)
        small = None if camera is None else scaled(camera, size)
        return '', [{'name': name, 'probabilities': opinion.probabilities, 'camera': small and [
            small.fx, small.fy, small.cx, small.cy]}]

    def _write(self, name: str, image: np.ndarray, opinion: Opinion) -> tuple[int, int]:
        """Write image and label at a size that training needs; return (height, width)."""
        height, width = image.shape[:2]
        factor = min(1.0, math.sqrt(_MOST_PIXELS / (height * width)))
        size = max(1, round(height * factor)), max(1, round(width * factor))
        Image.fromarray(image).resize(size[::-1], Image.Resampling.BOX).save(
            self.folder / f'{name}{IMAGE}', 'JPEG', quality=_QUALITY)
        # Depth is not interpolated, because there is nothing between an object and its background.
        at = np.ix_(*((np.arange(n) + 0.5) * m // n for n, m in zip(size, (height, width))))
        rows, columns = (index.astype(int) for index in at)
        with np.errstate(divide='ignore', invalid='ignore'):
            values = np.log([np.where(opinion.trusted, opinion.depth, np.nan)[rows, columns],
                             opinion.deviation[rows, columns]])
        np.save(self.folder / f'{name}{LABEL}', values.astype(np.float16))
        return size


def _anchor(bag: BagReader, settings: DistillSettings) -> BagAnchor | None:
    anchored = settings.anchor_settings()
    return BagAnchor(bag, anchored) if anchored.anchors() else None


def _readable(bag: BagReader) -> Iterator[BagImage]:
    """Give the images of a bag before its damage, if there is any."""
    try:
        yield from bag
    except BagError as error:
        log.warning('%s', error)


def _camera(info: Any | None, size: tuple[int, ...], rectified: bool) -> Camera | None:
    """Return the camera of an image, None if its CameraInfo does not tell it."""
    try:
        return info and camera_from_info(info, (size[0], size[1]), rectified)
    except ValueError:
        return None
