"""``zoe run``: a photograph, a folder of them or a bag in; a folder of results out."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
import json
import logging
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm
import yaml

from zoe_ros.bag import BAG_TYPES, BagReader, BagWriter, is_bag
from zoe_ros.inference.engine import DepthEstimator
from zoe_ros.messages import CameraInfoBuffer, is_rectified, MessageError, photo_to_rgb
from zoe_ros.outputs import CAMERA_INFO, DEPTH, POINTS
from zoe_ros.pipeline import Pipeline
from zoe_ros.results import ContactSheet, link_latest, new_folder, Statistics, table
from zoe_ros.settings import RunSettings

OUTPUTS = (DEPTH, CAMERA_INFO, POINTS)
PHOTO_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')
# The EXIF tag of a photograph's orientation, and how each value is turned upright.
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90}

log = logging.getLogger(__name__)


def run(settings: RunSettings) -> Path:
    """
    Run over ``settings.data`` and return the folder of the results.

    An interruption or a damaged bag ends the run early; what was done until then is kept whole.

    :raises ValueError: the data, the weights or a setting cannot be used.
    :raises OSError: a file cannot be read or written.
    """
    data = Path(settings.data).expanduser()
    if not data.exists():
        raise FileNotFoundError(f'nothing at {data}: give a photograph, a folder of them, or a '
                                'rosbag2 (its folder, an .mcap or a .db3 file)')
    return _run_bag(data, settings) if is_bag(data) else _run_photos(data, settings)


def _run_bag(path: Path, settings: RunSettings) -> Path:
    with BagReader(path, settings.topic or None) as bag:
        log.info('%s is a bag: %d images on %s, %s', path, bag.count, bag.topic,
                 f'CameraInfo on {bag.info_topic}' if bag.info_topic
                 else 'no CameraInfo, so there will be no cloud')
        rectified = is_rectified(bag.topic)
        estimator, settings = _load(settings)
        pipeline = Pipeline(estimator, BAG_TYPES, settings, bag.infos, rectified)
        folder = new_folder(Path(settings.output))
        found = {'topic': bag.topic, 'camera_info_topic': bag.info_topic, 'rectified': rectified}
        with _reporting(folder, settings, found, bag.count) as report, \
                BagWriter(folder / 'bag') as out:
            for image in report.progress(bag):
                start = perf_counter()
                try:
                    frame = pipeline.process(image.message, OUTPUTS)
                except MessageError as error:
                    report.drop(error.cause, f'an image of {bag.topic} is dropped: {error}')
                    continue
                for name, message in frame.messages.items():
                    out.write(f'/{name}', message, image.recorded)
                report.add(frame.image, frame.depth, frame.head, perf_counter() - start)
                if frame.no_cloud and bag.info_topic:
                    report.say_once(f'no cloud: {frame.no_cloud}')
    return folder


def _run_photos(path: Path, settings: RunSettings) -> Path:
    if path.is_dir():
        photos = sorted(p for p in path.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES)
        if not photos:
            raise ValueError(f'{path} is neither a bag (no metadata.yaml) nor a folder of '
                             f'photographs ({", ".join(PHOTO_SUFFIXES)})')
        log.info('%s is a folder of %d photographs', path, len(photos))
    else:
        photos = [path]
        read_photo(path)    # fail before the model is loaded
        log.info('%s is a photograph', path)
    estimator, settings = _load(settings)
    pipeline = Pipeline(estimator, BAG_TYPES, settings, CameraInfoBuffer(), rectified=False)
    folder = new_folder(Path(settings.output))
    with _reporting(folder, settings, {}, len(photos)) as report:
        for photo in report.progress(photos):
            start = perf_counter()
            try:
                image = read_photo(photo)
                depth, head = pipeline.predict_image(image)
            except ValueError as error:
                report.drop('corrupt', f'dropped: {error}')
                continue
            # The whole name: kitchen.jpg and kitchen.png may stand side by side.
            np.save(folder / f'{photo.name}.depth.npy', depth)
            report.add(image, depth, head, perf_counter() - start)
    return folder


def _load(settings: RunSettings) -> tuple[DepthEstimator, RunSettings]:
    """Load the estimator; return it with the settings in which the choices are made."""
    estimator = DepthEstimator.load(
        settings.variant, settings.weights or None, settings.device, settings.precision,
        settings.aspect, settings.pad, settings.flip)
    estimator.check_router(settings.router)
    log.info('%s in %s on %s', estimator.model.config.title, estimator.precision,
             estimator.device)
    return estimator, replace(settings, variant=estimator.model.config.variant,
                              precision=estimator.precision)


def read_photo(path: Path) -> np.ndarray:
    """
    Read a photograph, turned upright as its camera noted.

    :return: (height, width, 3) uint8 RGB.
    :raises ValueError: it is no picture, or damaged.
    """
    try:
        with Image.open(path) as picture:
            # Not ImageOps.exif_transpose: it stumbles over tags of no concern here.
            turn = _UPRIGHT.get(picture.getexif().get(_ORIENTATION))
            return photo_to_rgb(picture if turn is None else picture.transpose(turn))
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ValueError(f'{path} is no picture that can be read ({error})') from None
    except (OSError, SyntaxError) as error:
        raise ValueError(f'{path} is damaged ({error})') from None


class _Report:
    """Progress, figures and picture of a run, and where they are written."""

    def __init__(self, folder: Path, total: int) -> None:
        self.statistics = Statistics()
        self.sheet = ContactSheet(total)
        self._folder, self._total = folder, total
        self._index = -1
        self._said: set[str] = set()

    def progress(self, items: Any) -> Iterator[Any]:
        """Iterate with a progress bar, on a terminal."""
        for item in tqdm(items, total=self._total, unit='frame', disable=None):
            self._index += 1
            yield item

    def add(self, image: np.ndarray, depth: np.ndarray, head: str, seconds: float) -> None:
        """Count a frame that is written."""
        self.statistics.add(depth, head, seconds)
        self.sheet.add(self._index, image, depth)

    def drop(self, cause: str, text: str) -> None:
        """Count an image that cannot be used; say it the first time for each cause."""
        self.statistics.dropped[cause] += 1
        if self.statistics.dropped[cause] == 1:
            log.warning('%s', text)

    def say_once(self, text: str) -> None:
        """Say what would be true of every frame."""
        if text not in self._said:
            self._said.add(text)
            log.warning('%s', text)

    def write(self, complete: bool) -> None:
        """Write the summary and the picture."""
        summary = {'complete': complete, **self.statistics.summary()}
        (self._folder / 'summary.json').write_text(json.dumps(summary, indent=2) + '\n')
        # A little beyond the middle 96 %, to round numbers.
        near = self.statistics.depth_percentile(2)
        far = self.statistics.depth_percentile(98)
        self.sheet.save(self._folder / 'overview.png', near, far)
        log.info('%s', table(summary))


@contextmanager
def _reporting(folder: Path, settings: RunSettings, found: dict[str, Any],
               total: int) -> Iterator[_Report]:
    """Write the configuration before and the report after a run, however it ends."""
    config = {**asdict(settings), **found}
    (folder / 'config.yaml').write_text(yaml.safe_dump(config, sort_keys=False))
    report = _Report(folder, total)
    complete = False
    try:
        yield report
        complete = report.statistics.frames > 0
        if not complete:
            raise ValueError(f'none of the {total} images could be used')
    finally:
        report.write(complete)
        link_latest(folder)
