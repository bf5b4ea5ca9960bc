"""
Parts of a bag: run by several workers, then joined to the results of one run over the whole bag.

A frame depends on the frames before it by its head alone, because the average of the router over
time has no end. So each part records the logits of the router. The join chooses the heads once
more over the whole bag, in order and by the same class, and runs frames again that have another
head than in their part.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, islice
import logging
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from zoe_ros.bag import BagImage, BagReader
from zoe_ros.bag_messages import BAG_TYPES
from zoe_ros.bag_writer import BagWriter
from zoe_ros.cuts import Part
from zoe_ros.images import MessageError
from zoe_ros.inference.engine import DepthEstimator
from zoe_ros.inference.routing import HeadChoice, HeadTracker
from zoe_ros.kept_parts import discard, is_usable, made_of, seal
from zoe_ros.part_files import PartWriter, read_part, read_records, Record
from zoe_ros.picture import RunPicture, View
from zoe_ros.pipeline import Frame, Pipeline
from zoe_ros.results import new_folder, Statistics
from zoe_ros.run import describe, facts_of, find_truth, Report, reporting, with_choices
from zoe_ros.run_many import cut_folder, inputs_of, run_one
from zoe_ros.run_table import Outcome
from zoe_ros.settings import RunSettings
from zoe_ros.storage.remote import to_path
from zoe_ros.topic_names import is_rectified

log = logging.getLogger(__name__)


# --- a part ---------------------------------------------------------------------------------


def run_part(settings: RunSettings, part: Part, estimator: DepthEstimator) -> None:
    """
    Run over a part of a bag; its folder takes its name when it is complete.

    A part that is there already, of an earlier fleet or of a worker that died, is not run again
    if it is made of the same and whole.

    :param settings: of the run over the bag, see :func:`.run_many.run_one`.
    :raises ValueError, OSError, RuntimeError: as for :func:`.run.run`.
    """
    folder = cut_folder(settings) / str(part.number)
    origin = made_of(with_choices(settings, estimator), part, inputs_of(settings, estimator),
                     estimator.device.type)
    if is_usable(folder, origin):
        return
    discard(folder)     # now, and not after the work, if it cannot be replaced
    half = folder.with_name(f'{folder.name}.part')
    discard(half)       # of a worker that died before
    half.mkdir(parents=True)
    with BagReader(to_path(settings.data), settings.topic or None) as bag, \
            PartWriter(half) as out:
        maker = _RecordMaker(bag, settings, estimator)
        for image in bag.between(part.warm, part.stop):
            if image.recorded < part.start:
                maker.warm(image)
            else:
                out.write(*maker.make(image))
        bag.require_whole(bag.count)    # the join counts the images of all parts
    seal(half, origin)
    half.rename(folder)


class _RecordMaker:
    """Makes the records of a part."""

    def __init__(self, bag: BagReader, settings: RunSettings, estimator: DepthEstimator) -> None:
        self._tracker = _RecordingTracker()
        self._pipeline = Pipeline(estimator, BAG_TYPES, settings, bag.infos,
                                  is_rectified(bag.topic), tracker=self._tracker)
        self._truth = find_truth(bag)
        self._has_info = bag.info_topic is not None
        self._before = self._place = 0
        self._said: set[str] = set()

    def warm(self, image: BagImage) -> None:
        """Show an image before the part to the router."""
        with suppress(MessageError):
            self._pipeline.route(image.message)

    def make(self, image: BagImage) -> tuple[Record, dict[str, Any]]:
        """Return the record of an image, and its output messages by their topics."""
        self._place = self._place + 1 if image.recorded == self._before else 0
        self._before = image.recorded
        record = Record(image.recorded, self._place)
        self._tracker.begin(record)
        start = perf_counter()
        try:
            frame = self._pipeline.process(image.message, BagWriter.outputs)
        except MessageError as error:
            record.dropped = [error.cause, str(error)]
            return record, {}
        one = Statistics()
        one.add(frame.depth, frame.head, perf_counter() - start)
        truth = None if self._truth is None else self._truth.at(image)
        if truth is not None:
            one.compare(frame.depth, truth)
        record.statistics = one.as_record()
        record.remarks = [text for text in _remarks(frame, self._has_info)
                          if text not in self._said]
        self._said.update(record.remarks)
        return record, {f'/{name}': message for name, message in frame.messages.items()}


class _RecordingTracker(HeadTracker):
    """Chooses heads, and notes the logits and the choices in the record of the image."""

    def __init__(self) -> None:
        super().__init__()
        self._record: Record | None = None

    def begin(self, record: Record) -> None:
        """Begin an image."""
        self._record = record

    def choose(self, logits: np.ndarray, names: Sequence[str], stamp: float,
               time_constant: float) -> HeadChoice:
        """Choose the head of a frame; see :meth:`.routing.HeadTracker.choose`."""
        choice = super().choose(logits, names, stamp, time_constant)
        if self._record is not None:
            self._record.routed.append((stamp, logits.astype(float).tolist()))
            self._record.heads.append(choice.head)
        return choice


def _remarks(frame: Frame, has_info: bool) -> Iterator[str]:
    """Give what a run tells about a frame."""
    yield from frame.remarks
    if frame.no_cloud and has_info:
        yield f'no cloud: {frame.no_cloud}'


# --- the join -------------------------------------------------------------------------------


def join_parts(settings: RunSettings, total: int, estimator: DepthEstimator) -> Outcome:
    """
    Join the parts of a bag to its results, as :func:`.run_many.run_one` would make them.

    The summary also has the number of parts, and of frames that were run again for their heads.

    :param total: number of parts, which are complete.
    """
    folders = [cut_folder(settings) / str(number) for number in range(1, total + 1)]
    return run_one(settings, estimator, partial(_join, folders))


def _join(folders: Sequence[Path], settings: RunSettings, estimator: DepthEstimator) -> Path:
    """Do the work of :func:`join_parts`; see :data:`.run_many.Work`."""
    path = to_path(settings.data)
    with BagReader(path, settings.topic or None) as bag:
        describe(path, bag, settings)
        settings = with_choices(settings, estimator)
        again = _Again(bag, settings, estimator)
        shown, given = _shown(folders, RunPicture(bag.count))
        bag.require_whole(given)
        folder = new_folder(Path(settings.output))
        with reporting(folder, settings, facts_of(bag), bag.count) as report, \
                BagWriter(folder / 'bag') as out:
            changed = 0
            pieces = chain.from_iterable(map(read_part, folders))
            for index, (record, messages) in enumerate(report.progress(pieces)):
                other = again.choose(record)
                changed += other
                if record.dropped:
                    cause, text = record.dropped
                    report.drop(cause, f'an image of {bag.topic} is dropped: {text}')
                    continue
                if other or index in shown:
                    again.run(record, report, out)
                else:
                    for (topic, kind, _), data in zip(record.messages, messages):
                        out.write_bytes(topic, kind, data, record.recorded)
                    report.statistics.add_record(record.statistics)
                for remark in record.remarks:
                    report.say_once(remark)
            report.more = {'parts': len(folders), 'frames_run_again': changed}
    return folder


def _shown(folders: Sequence[Path], picture: RunPicture) -> tuple[set[int], int]:
    """
    Return the numbers of the frames of the picture of a run, and the number of all images.

    These frames are run again: the parts keep neither images nor depth of the full size.
    """
    count, large = 0, -1
    for record in chain.from_iterable(map(read_records, folders)):
        if not record.dropped and (large < 0 or count <= picture.middle):
            large = count
        count += 1
    return {*picture.sheet, large}, count


class _Again:
    """Chooses the heads of the whole bag, and runs frames again."""

    def __init__(self, bag: BagReader, settings: RunSettings, estimator: DepthEstimator) -> None:
        self._bag, self._settings = bag, settings
        self._names = estimator.model.config.head_names
        self._tracker, self._given = HeadTracker(), _GivenHeads()
        self._pipeline = Pipeline(estimator, BAG_TYPES, settings, bag.infos,
                                  is_rectified(bag.topic), tracker=self._given)
        self._truth = find_truth(bag)

    def choose(self, record: Record) -> bool:
        """Choose the heads of the next image; tell whether they are others than in its part."""
        self._given.choices = deque(
            self._tracker.choose(np.array(logits), self._names, stamp,
                                 self._settings.router_time_constant)
            for stamp, logits in record.routed)
        return [choice.head for choice in self._given.choices] != record.heads

    def run(self, record: Record, report: Report, out: BagWriter) -> None:
        """Run the frame of an image with the heads that were chosen."""
        same_time = self._bag.between(record.recorded, record.recorded + 1)
        image = next(islice(same_time, record.place, None))
        start = perf_counter()
        frame = self._pipeline.process(image.message, out.outputs)
        out.write_frame(frame, record.recorded)
        report.add(View(frame.image, frame.depth, frame.camera), frame.head,
                   perf_counter() - start,
                   None if self._truth is None else self._truth.at(image))


class _GivenHeads(HeadTracker):
    """
    Gives the heads that were chosen already, one after the other.

    The router runs all the same, so that the frame goes the same way through the network.

    :ivar choices: that are left.
    """

    def __init__(self) -> None:
        super().__init__()
        self.choices: deque[HeadChoice] = deque()

    def choose(self, logits: np.ndarray, names: Sequence[str], stamp: float,
               time_constant: float) -> HeadChoice:
        """Return the next choice."""
        return self.choices.popleft()
