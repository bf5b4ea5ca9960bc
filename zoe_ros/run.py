"""``zoe run``: an image, a folder of images or a bag in; a folder of results out."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
import io
from itertools import islice
import json
import logging
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from tqdm import tqdm
import yaml

from zoe_ros.bag import BagError, BagReader, is_bag
from zoe_ros.bag_anchor import BagAnchor
from zoe_ros.bag_messages import BAG_TYPES
from zoe_ros.bag_writer import BagWriter
from zoe_ros.camera_info import CameraInfoBuffer
from zoe_ros.counts import counted
from zoe_ros.datasets.bags import RecordedDepth
from zoe_ros.files import whole_file
from zoe_ros.headers import nanoseconds
from zoe_ros.idle_options import idle_for_bags, idle_for_images
from zoe_ros.images import MessageError
from zoe_ros.inference.engine import DepthEstimator
from zoe_ros.lerobot.dataset import DatasetWriter, require_packages
from zoe_ros.lerobot.timeline import Timeline
from zoe_ros.model.config import ZoeConfig
from zoe_ros.photos import find_photos, holds_several, photo_camera, read_photo
from zoe_ros.picture import RunPicture, View
from zoe_ros.pipeline import Pipeline
from zoe_ros.remarks import BLACK, is_dark, only_for_training_cameras
from zoe_ros.results import link_latest, new_folder, Statistics, table
from zoe_ros.settings import LEROBOT, RunSettings
from zoe_ros.storage.remote import is_remote, is_there, to_path
from zoe_ros.topic_names import is_rectified

# The median of their steps is the frame rate of a LeRobot data set.
_IMAGES_FOR_RATE = 100
# Files in the folder of the results.
CONFIG, SUMMARY = 'config.yaml', 'summary.json'
# Beside the settings in CONFIG.
FOUND = ('topic', 'camera_info_topic', 'rectified')

log = logging.getLogger(__name__)


def run(settings: RunSettings, estimator: DepthEstimator | None = None) -> Path:
    """
    Run over ``settings.data`` and return the folder of the results.

    An interruption or a damaged bag ends the run early; what was done until then is kept whole.

    :param estimator: from :func:`load_estimator` with these settings, to load the model once for
        several runs; by default it is loaded when the data can be read.
    :raises ValueError: the data, the weights or a setting cannot be used.
    :raises OSError: a file cannot be read or written.
    """
    data = to_path(settings.data)
    if not is_there(data):
        raise FileNotFoundError(f'nothing at {data}: give an image, a folder of images, or a '
                                'rosbag2 (its folder, an .mcap or a .db3 file)')
    if is_bag(data):
        return _run_bag(data, settings, estimator)
    if settings.file_format == LEROBOT:
        raise ValueError(f'{data} is no bag: a LeRobot data set needs images with stamps')
    if is_remote(settings.data):
        raise ValueError(f'{data} is no bag: images are read from this machine only')
    return _run_photos(data, settings, estimator)


def _run_bag(path: Path, settings: RunSettings, estimator: DepthEstimator | None) -> Path:
    with BagReader(path, settings.topic or None) as bag:
        describe(path, bag, settings)
        timeline = _timeline(bag) if settings.file_format == LEROBOT else None
        rectified = is_rectified(bag.topic)
        anchor = BagAnchor(bag, settings) if settings.follows_robot() else None
        if anchor is not None and anchor.note:
            log.warning('%s', anchor.note)
        estimator = estimator or load_estimator(settings)
        settings = with_choices(settings, estimator)
        truth = find_truth(bag)
        pipeline = Pipeline(estimator, BAG_TYPES, settings, bag.infos, rectified,
                            None if anchor is None else anchor.anchor,
                            None if anchor is None else anchor.steady)
        folder = new_folder(Path(settings.output))
        with reporting(folder, settings, facts_of(bag), bag.count, anchor) as report, \
                _writer(folder, timeline) as out:
            for image in report.progress(bag):
                start = perf_counter()
                try:
                    if anchor is not None:
                        anchor.hear_until(image.recorded)
                    frame = pipeline.process(image.message, out.outputs)
                except MessageError as error:
                    report.drop(error.cause, f'an image of {bag.topic} is dropped: {error}')
                    continue
                out.write_frame(frame, image.recorded)
                seconds = perf_counter() - start
                report.add(View(frame.image, frame.depth, frame.camera), frame.head, seconds,
                           None if truth is None else truth.at(image))
                if anchor is not None and frame.scale is not None:
                    anchor.add(frame.scale)
                    if frame.scale_news:
                        log.log(logging.WARNING if frame.scale.reason else logging.INFO, '%s',
                                frame.scale_news)
                for remark in frame.remarks:
                    log.warning('%s', remark)
                if frame.no_cloud and bag.info_topic:
                    report.say_once(f'no cloud: {frame.no_cloud}')
    return folder


def describe(path: Path, bag: BagReader, settings: RunSettings) -> None:
    """Tell the user about a bag, and which settings do nothing for it."""
    log.info('%s is a bag: %s on %s, %s', path, counted(bag.count, 'image'), bag.topic,
             f'CameraInfo on {bag.info_topic}' if bag.info_topic
             else _without_info(bag.info_topics))
    for note in [*bag.notes, *idle_for_bags(settings)]:
        log.warning('%s', note)


def find_truth(bag: BagReader) -> RecordedDepth | None:
    """Return the depth that a bag has beside its images, if any."""
    truth = RecordedDepth.find(bag)
    if truth is not None:
        log.info("comparing with the bag's own depth on %s", truth.topic)
    return truth


def facts_of(bag: BagReader) -> dict[str, Any]:
    """Return what was found in a bag, for the configuration of its results."""
    return dict(zip(FOUND, (bag.topic, bag.info_topic, is_rectified(bag.topic))))


def _timeline(bag: BagReader) -> Timeline:
    """
    Return the timeline of a LeRobot data set, by the stamps of the first images of a bag.

    :raises ValueError: there is no frame rate, or a package is not installed.
    """
    require_packages()
    stamps: list[int] = []
    with suppress(BagError):    # the user is told after the last image
        for _, header in islice(bag.headers(bag.topic), _IMAGES_FOR_RATE):
            stamps.append(nanoseconds(header.stamp))
    return Timeline(stamps)


def _writer(folder: Path, timeline: Timeline | None) -> BagWriter | DatasetWriter:
    if timeline is None:
        return BagWriter(folder / 'bag')
    return DatasetWriter(folder / LEROBOT, timeline)


def _run_photos(path: Path, settings: RunSettings, estimator: DepthEstimator | None) -> Path:
    if path.is_dir():
        photos, others = find_photos(path)
        if not photos:
            if not others and any(inside.is_dir() for inside in path.iterdir()):
                others = f"it holds folders: name '{path / '*'}', in quotes, for all of them"
            raise ValueError(f'{path} is neither a bag (no metadata.yaml, .mcap or .db3) nor a '
                             'folder of images' + (f'; {others}' if others else ''))
        log.info('%s is a folder of %s', path, counted(len(photos), 'image'))
        if others:
            log.warning('%s', others)
    else:
        photos = [path]
        read_photo(path)    # fail before the model is loaded
        log.info('%s is an image', path)
    for option in idle_for_images(settings):
        log.warning('%s', option)
    estimator = estimator or load_estimator(settings)
    settings = with_choices(settings, estimator)
    pipeline = Pipeline(estimator, BAG_TYPES, settings, CameraInfoBuffer(), rectified=False)
    folder = new_folder(Path(settings.output))
    unknown: list[Path] = []
    dark: list[Path] = []
    several: list[Path] = []
    with reporting(folder, settings, {}, len(photos)) as report:
        for photo in report.progress(photos):
            start = perf_counter()
            try:
                image = read_photo(photo)
                camera = photo_camera(photo, image.shape[:2])
                depth, head = pipeline.predict_image(image, camera)
            except ValueError as error:
                report.drop('corrupt', f'dropped: {error}')
                continue
            if camera is None:
                unknown.append(photo)
            if is_dark(image):
                dark.append(photo)
            if holds_several(photo):
                several.append(photo)
            # The whole name: kitchen.jpg and kitchen.png may stand side by side.
            with whole_file(folder / f'{photo.name}.depth.npy') as part:
                array = io.BytesIO()    # numpy itself does not tell why a file cannot be written
                np.save(array, depth)
                part.write_bytes(array.getbuffer())
            report.add(View(image, depth), head, perf_counter() - start)
    if dark:
        log.warning('%d image(s) %s; the first is %s', len(dark), BLACK, dark[0])
    if several:
        log.warning('%d image(s) hold several pictures, of which the first one is used; the first '
                    'is %s: save the pictures as files of their own if all shall have depth',
                    len(several), several[0])
    if unknown:
        _warn_of_unknown_focal(unknown, settings, estimator.model.config)
    return folder


def _warn_of_unknown_focal(photos: list[Path], settings: RunSettings, config: ZoeConfig) -> None:
    """Tell of which image files the focal length is not known, where that matters."""
    no_focal = (f'no focal length in the EXIF of {counted(len(photos), "image")}, the first is '
                f'{photos[0]}')
    if config.canonical_focal:
        log.warning('%s', only_for_training_cameras(config, no_focal))
    elif settings.focal_correction:
        log.warning('no focal correction: %s', no_focal)


def load_estimator(settings: RunSettings) -> DepthEstimator:
    """
    Load the estimator of a run.

    :raises ValueError: the weights or a setting cannot be used.
    :raises OSError: the weights cannot be read.
    """
    estimator = DepthEstimator.load(
        settings.variant, settings.weights or None, settings.device, settings.precision,
        settings.aspect, settings.pad, settings.flip)
    estimator.check_router(settings.router)
    log.info('%s in %s on %s', estimator.model.config.title, estimator.precision,
             estimator.device)
    return estimator


def with_choices(settings: RunSettings, estimator: DepthEstimator) -> RunSettings:
    """Return the settings with the choices that were made for the defaults."""
    return replace(settings, variant=estimator.model.config.variant,
                   precision=estimator.precision)


def _without_info(others: list[str]) -> str:
    text = 'no CameraInfo'
    if others:
        text += f' of this camera (none on {", ".join(others)} has its name, or alone its frame ' \
                'and size)'
    return text + ', so there will be no cloud'


class Report:
    """
    Progress, figures and picture of a run, and where they are written.

    :ivar more: figures that the summary has beside those of the statistics.
    """

    def __init__(self, folder: Path, total: int, anchor: BagAnchor | None) -> None:
        self.statistics = Statistics()
        self.more: dict[str, int] = {}
        self.picture = RunPicture(total)
        self._folder, self._total, self._anchor = folder, total, anchor
        self._index = -1        # of the last image
        self._said: set[str] = set()

    def progress(self, items: Any) -> Iterator[Any]:
        """Iterate with a progress bar, on a terminal."""
        for item in tqdm(items, total=self._total, unit='frame', disable=None):
            self._index += 1
            yield item

    def add(self, view: View, head: str, seconds: float, truth: np.ndarray | None = None) -> None:
        """
        Count a frame that is written.

        :param truth: (h, w) [m] to compare its depth with, if it has the same size.
        """
        self.statistics.add(view.depth, head, seconds)
        if truth is not None:
            self.statistics.compare(view.depth, truth)
        self.picture.add(self._index, view)

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
        summary = {'complete': complete, **self.statistics.summary(), **self.more}
        if self._anchor is not None:
            summary |= self._anchor.summary()
        # A little beyond the middle 96 %, to round numbers.
        near = self.statistics.depth_percentile(2)
        far = self.statistics.depth_percentile(98)
        try:
            if summary['frames']:
                with whole_file(self._folder / 'overview.png') as part:
                    self.picture.save(part, near, far)
        except OSError:
            summary['complete'] = False
            raise
        finally:
            with whole_file(self._folder / SUMMARY) as part:
                part.write_text(json.dumps(summary, indent=2) + '\n')
            log.info('%s', table(summary))


@contextmanager
def reporting(folder: Path, settings: RunSettings, found: dict[str, Any],
              total: int, anchor: BagAnchor | None = None) -> Iterator[Report]:
    """Write the configuration before and the report after a run, however it ends."""
    config = {**asdict(settings), **found}
    with whole_file(folder / CONFIG) as part:
        part.write_text(yaml.safe_dump(config, sort_keys=False))
    report = Report(folder, total, anchor)
    try:
        yield report
        if not report.statistics.frames:
            raise ValueError(f'none of {counted(total, "image")} could be used')
    except BaseException:
        try:
            report.write(complete=False)
        except OSError as error:    # often for the same reason, which is the one to be told
            log.warning('%s', error)
        raise
    else:
        report.write(complete=True)
    finally:
        link_latest(folder)
