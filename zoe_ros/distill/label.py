"""Writes the labels of bags: a teacher's depth of the frames that differ."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
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
from zoe_ros.camera_info import camera_from_info
from zoe_ros.counts import counted
from zoe_ros.datasets import DatasetError
from zoe_ros.datasets.files import scaled
from zoe_ros.datasets.labels import DESCRIPTION, IMAGE, LABEL, read_description, VERSION
from zoe_ros.distill.choice import FrameChooser
from zoe_ros.distill.recipe import DistillSettings
from zoe_ros.distill.teacher import LEAST_TRUSTED, Opinion, Teacher
from zoe_ros.files import whole_folder
from zoe_ros.headers import nanoseconds
from zoe_ros.images import decode_image, MessageError
from zoe_ros.provenance import changed_inputs, data_digest, other_settings
from zoe_ros.run_many import results_folder
from zoe_ros.stereo_pair import flaw_of
from zoe_ros.storage.remote import is_there
from zoe_ros.topic_names import is_rectified

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
    waiting = unlabelled(bags, settings, root, teacher)
    for number, bag in enumerate(waiting, start=1):
        log.info('%d of %d: labelling %s', number, len(waiting), bag)
        log.info('%s', label_bag(bag, settings, root, teacher))
    return labelled_folders(bags, root)


def unlabelled(bags: Sequence[Path], settings: DistillSettings, root: Path,
               teacher: Teacher) -> list[Path]:
    """
    Return the bags that have no labels yet.

    :raises DatasetError: labels are there that were made otherwise.
    """
    waiting, named = [], dict.fromkeys(bags)    # each once
    for bag in named:
        folder = results_folder(root, bag)
        if folder.exists():
            _require_same(folder, bag, settings, teacher)
        else:
            waiting.append(bag)
    if len(waiting) < len(named):
        log.info('%d of %d bags are labelled', len(named) - len(waiting), len(named))
    return waiting


def label_bag(bag: Path, settings: DistillSettings, root: Path, teacher: Teacher) -> str:
    """
    Write the labels of a bag, all or none; return a sentence about them.

    :raises BagError: the bag cannot be read.
    :raises OSError: the labels cannot be written.
    """
    made_with = {'teacher': teacher.identity,
                 **{name: getattr(settings, name) for name in _MADE_WITH}}
    inputs = _inputs(bag, teacher)      # a bag that changes while it is labelled has changed
    with whole_folder(results_folder(root, bag)) as part:
        about = _Labelling(bag, settings, teacher, part).go()
        (part / DESCRIPTION).write_text(json.dumps(
            {'version': VERSION, 'bag': bag.name, 'made_with': made_with, 'inputs': inputs,
             **about}, indent=1) + '\n', encoding='utf-8')
    return f'labels of {counted(len(about["frames"]), "frame")}{_causes(about["left_out"])}'


def labelled_folders(bags: Sequence[Path], root: Path) -> list[Path]:
    """
    Return the folder of each bag with labels.

    :raises DatasetError: a description is damaged, or no bag has any frame left.
    """
    folders = [results_folder(root, bag) for bag in bags]
    descriptions = [read_description(folder) for folder in folders]
    found = [folder for folder, about in zip(folders, descriptions) if about['frames']]
    if not found:
        total = sum((Counter(about['left_out']) for about in descriptions), Counter[str]())
        raise DatasetError(f'no frame of {counted(len(bags), "bag")} is left to learn from'
                           f'{_causes(total)}')
    return found


def _causes(counts: dict[str, int]) -> str:
    return ''.join(f'; {count} left out: {cause}' for cause, count in sorted(counts.items()))


def _inputs(bag: Path, teacher: Teacher) -> dict[str, str | None]:
    """Return the hashes of what changes labels beside the settings and the teacher's weights."""
    return {'data': data_digest(bag), 'calibration': teacher.calibration}


def _require_same(folder: Path, bag: Path, settings: DistillSettings, teacher: Teacher) -> None:
    """
    Compare the labels of a bag with those that would be made now.

    :raises DatasetError: they differ.
    """
    about = read_description(folder)
    then = about['made_with']
    free = {item.name for item in fields(settings)} - set(_MADE_WITH)
    other = ['teacher'] * (then.get('teacher') != teacher.identity)
    other += other_settings(folder, settings, then, free, ('teacher',))
    changed = changed_inputs(about['inputs'], _inputs(bag, teacher))
    other += ['calibration of the teacher'] * ('calibration' in changed)
    what = f'made with another {" and ".join(other)}' if other else f'made before {bag} changed'
    if other or changed:
        raise DatasetError(f'{folder} has labels that were {what}: choose another --labels or '
                           '--output, or remove the folder')


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
            if anchor is not None and anchor.note:
                log.warning('%s', anchor.note)
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
