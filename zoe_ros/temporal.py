"""``zoe eval --temporal``: how steady the depth of a video is, on bags with poses."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from zoe_ros.anchor.transform import Transform
from zoe_ros.bag import BagError, BagReader, is_bag
from zoe_ros.bag_anchor import BagAnchor, ODOMETRY_TYPE
from zoe_ros.bag_messages import BAG_TYPES
from zoe_ros.camera import Camera
from zoe_ros.command_settings import EvalSettings
from zoe_ros.datasets import DatasetError
from zoe_ros.datasets.bags import choose_depth, RecordedDepth
from zoe_ros.files import whole_file
from zoe_ros.headers import frame_name, nanoseconds
from zoe_ros.images import MessageError
from zoe_ros.inference.engine import DepthEstimator
from zoe_ros.pipeline import Frame, Pipeline
from zoe_ros.results import check_output, link_latest, new_folder, told_apart
from zoe_ros.settings import RunSettings
from zoe_ros.temporal_metrics import alignment_error, scale_step, View, warp, warping_error
from zoe_ros.topic_names import is_rectified

NETWORK, STEADIED = 'network', 'steadied'
TABLE = 'temporal.json'
# Names of the figures of a video.
TAE, OPW, STEP, REL, SCALE, HEADS = (
    'TAE', 'OPW', 'step', 'REL', 'scale', 'heads')
_COLUMNS = 320      # most columns of an image that are compared

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Video:
    """
    The metrics of a video.

    :param figures: way, ``NETWORK`` or ``STEADIED`` -> figures: the means of TAE, OPW [m] and REL;
        'step' and 'scale', the standard deviations of the log of the scale from frame to frame and
        against true depth; 'heads', changes of the head per minute.
    :param frames: of each frame the seconds since the first one, its head, the factor that
        steadies it, and of each way the metrics.
    """

    name: str
    figures: dict[str, dict[str, float]]
    frames: list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class _Seen:
    """A frame with its true depth, or None, and the motion since the frame before, or None."""

    frame: Frame
    stamp: float
    truth: np.ndarray | None
    motion: Transform | None


def run_temporal(settings: EvalSettings) -> Path:
    """
    Evaluate a model on videos and return the folder of the results.

    :raises ValueError, OSError: the data, the weights or a setting cannot be used.
    """
    check_output(Path(settings.output))
    paths = [Path(text).expanduser() for text in settings.data]
    for path in paths:
        if not path.exists() or not is_bag(path):
            raise DatasetError(f'{path} is no bag: --temporal needs videos with the motion of the '
                               'camera on /tf, like those of zoe world --bag')
    estimator = load_estimator(settings)
    videos = [replace(evaluate_video(path, settings, estimator, progress=True), name=name)
              for name, path in zip(told_apart([path.stem for path in paths]), paths)]
    return write_videos(videos, replace(
        settings, variant=estimator.model.config.variant, precision=estimator.precision))


def load_estimator(settings: EvalSettings) -> DepthEstimator:
    """
    Load the estimator of an evaluation.

    :raises ValueError, OSError: the weights or a setting cannot be used.
    """
    estimator = DepthEstimator.load(
        settings.variant, settings.weights or None, settings.device, settings.precision,
        settings.aspect, flip=settings.flip)
    estimator.check_router(settings.router)
    return estimator


def write_videos(videos: Sequence[Video], settings: EvalSettings) -> Path:
    """
    Write the table, the metrics and the plots into a new folder, and return the folder.

    :param settings: with the choices that were made for the defaults.
    :raises OSError: a file cannot be written.
    """
    folder = new_folder(Path(settings.output))
    content = {'settings': asdict(settings), 'results': [asdict(video) for video in videos]}
    with whole_file(folder / TABLE) as part:
        part.write_text(json.dumps(_without_nan(content), indent=1) + '\n')
    with whole_file(folder / 'table.txt') as part:
        part.write_text(table(videos) + '\n')
    try:
        for number, video in enumerate(videos):
            draw_video(video, folder / f'{number}_{video.name}.png')
    except ImportError:
        log.warning('no plots over time: matplotlib is not installed')
    link_latest(folder)
    return folder


def evaluate_video(path: Path, settings: EvalSettings, estimator: DepthEstimator,
                   progress: bool = False) -> Video:
    """
    Run over the images of a bag, as ``zoe run`` does, and compare each with the one before.

    :param progress: show a progress bar, on a terminal.
    :raises BagError: the bag cannot be read, or has no poses or no CameraInfo.
    """
    frames: list[dict[str, Any]] = []
    before: _Seen | None = None
    first = None
    for seen in tqdm(_frames(path, settings, estimator), desc=path.stem, unit='frame',
                     disable=None if progress else True):
        first = seen.stamp if first is None else first
        frames.append({
            'time': round(seen.stamp - first, 6), 'head': seen.frame.head,
            'steadying': seen.frame.steadying,
            **{way: _compare(before, seen, way) for way in _ways(settings)}})
        before = seen
    if not any(TAE in frame[NETWORK] for frame in frames):
        raise BagError(f'{path}: the motion of the camera is not known between any two images: '
                       'record its pose on /tf, or on a topic of nav_msgs/Odometry, and '
                       'CameraInfo')
    return Video(path.stem, {way: video_figures(frames, way) for way in _ways(settings)}, frames)


def _ways(settings: EvalSettings) -> list[str]:
    return [NETWORK, *([STEADIED] if settings.scale_time_constant else [])]


def _frames(path: Path, settings: EvalSettings, estimator: DepthEstimator) -> Iterator[_Seen]:
    """Give the frames of a bag."""
    with BagReader(path, settings.topic or None) as bag:
        run = RunSettings(data=str(path), router=settings.router,
                          scale_time_constant=settings.scale_time_constant,
                          anchor_topic=_odometry_topics(bag, path, settings))
        robot = BagAnchor(bag, run)
        if not robot.motion_topics:
            raise BagError(_unmoved(bag, path))
        truth = (RecordedDepth(bag, choose_depth(path, bag, settings.depth_topic))
                 if settings.depth_topic else RecordedDepth.find(bag))
        pipeline = Pipeline(estimator, BAG_TYPES, run, bag.infos, is_rectified(bag.topic),
                            steady=robot.steady)
        last = None
        for image in bag:
            try:
                robot.hear_until(image.recorded)
                frame = pipeline.process(image.message, ())
            except MessageError as error:
                log.warning('an image of %s is dropped: %s', bag.topic, error)
                continue
            header = image.message.header
            stamp = nanoseconds(header.stamp) / 1e9
            motion = None if last is None or frame.camera is None else robot.frames.motion(
                frame_name(header), last, stamp, exact=True)
            last = stamp
            yield _Seen(frame, stamp, None if truth is None else truth.at(image), motion)


def _odometry_topics(bag: BagReader, path: Path, settings: EvalSettings) -> tuple[str, ...]:
    """
    Return the topic of odometry that the user names, if any.

    :raises BagError: the bag has none on this topic.
    """
    if not settings.odometry_topic:
        return ()
    topics = bag.topics(ODOMETRY_TYPE)
    if settings.odometry_topic not in topics:
        raise BagError(f'{path} has no {ODOMETRY_TYPE} on {settings.odometry_topic}; it has '
                       f'{", ".join(topics) or "none at all"}')
    return settings.odometry_topic,


def _unmoved(bag: BagReader, path: Path) -> str:
    """Return what is missing in a bag without the motion of the camera."""
    topics = bag.topics(ODOMETRY_TYPE)
    if topics:
        return f'{path} has odometry on {", ".join(topics)}: choose one by --odometry-topic'
    return (f'{path} has no motion of the camera: record its pose on /tf, or on a topic of '
            'nav_msgs/Odometry')


def _thinned(seen: _Seen, way: str) -> tuple[View, np.ndarray | None, Camera | None]:
    """
    Return a frame, its true depth and its camera, at the pixels that are compared.

    Of large images every n-th row and column tells the same in a fraction of the time.

    :param way: depth is steadied, or lacks the factor that steadies it.
    """
    frame, truth, camera = seen.frame, seen.truth, seen.frame.camera
    depth = frame.depth if way == STEADIED else frame.depth / np.float32(frame.steadying)
    step = -(-depth.shape[1] // _COLUMNS)
    if truth is not None:
        truth = truth[::step, ::step] if truth.shape == depth.shape else None
    depth = depth[::step, ::step]
    if camera is not None:
        camera = replace(camera, width=depth.shape[1], height=depth.shape[0], fx=camera.fx / step,
                         fy=camera.fy / step, cx=camera.cx / step, cy=camera.cy / step)
    return View(depth, frame.image[::step, ::step]), truth, camera


def _compare(before: _Seen | None, seen: _Seen, way: str) -> dict[str, float]:
    """Return the metrics of a frame, against its true depth and the frame before."""
    found = {}
    view, truth, camera = _thinned(seen, way)
    if truth is not None:
        with np.errstate(all='ignore'):
            ratio = view.depth / truth
            ratio = ratio[np.isfinite(ratio) & (ratio > 0)]
        if len(ratio):
            found[REL] = float(np.mean(np.abs(ratio - 1)))
            found[SCALE] = float(np.median(np.log(ratio)))
    if before is None or camera is None or seen.motion is None or (
            seen.frame.camera != before.frame.camera):
        return found
    earlier, truth, _ = _thinned(before, way)
    forth = warp(earlier.depth, camera, seen.motion)
    back = warp(view.depth, camera, seen.motion.inverse())
    flow = forth if truth is None else warp(truth, camera, seen.motion)
    return found | {TAE: alignment_error(earlier.depth, view.depth, forth, back),
                    OPW: warping_error(earlier, view, flow), STEP: scale_step(view.depth, forth)}


def video_figures(frames: Sequence[dict[str, Any]], way: str) -> dict[str, float]:
    """Return the figures of a way, see :class:`Video`."""
    found = {}
    for name, summary in ((TAE, np.mean), (OPW, np.mean), (STEP, np.std), (REL, np.mean),
                          (SCALE, np.std)):
        values = np.array([frame[way][name] for frame in frames if name in frame[way]])
        values = values[np.isfinite(values)]
        if len(values):
            found[name] = float(summary(values))
    changes = sum(a['head'] != b['head'] for a, b in pairwise(frames))
    minutes = (frames[-1]['time'] - frames[0]['time']) / 60
    return found | {HEADS: changes / minutes if minutes > 0 else 0.0}


def table(videos: Sequence[Video]) -> str:
    """Return the figures as text, one line for each video and way."""
    names = (TAE, OPW, STEP, REL, SCALE, HEADS)
    width = max(len('video'), *(len(video.name) for video in videos))
    lines = [f'{"video":{width}} frames {"":8} ' + ' '.join(f'{name:>8}' for name in names)]
    for video in videos:
        for way, figures in video.figures.items():
            cells = ' '.join(f'{figures[name]:8.4f}' if name in figures else f'{"-":>8}'
                             for name in names)
            lines.append(f'{video.name:{width}} {len(video.frames):6} {way:8} {cells}')
    lines += ['', 'TAE: relative change of depth from frame to frame at the same place; OPW: the '
                  'same in metres, by optical flow;',
              'step: deviation of the scale from frame to frame; scale: against true depth; '
              'heads: changes per minute']
    return '\n'.join(lines)


def draw_video(video: Video, path: Path) -> None:
    """
    Plot the metrics of a video over time.

    :raises ImportError: matplotlib is not installed.
    """
    # Imported here: matplotlib is an extra, and slow to import.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [name for name in (TAE, OPW, REL, SCALE)
             if any(name in frame[NETWORK] for frame in video.frames)]
    figure = Figure(figsize=(9, 1.9 * len(names)), layout='constrained')
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(len(names), sharex=True, squeeze=False)[:, 0], names):
        for way in video.figures:
            seen = [(frame['time'], frame[way][name]) for frame in video.frames
                    if name in frame[way]]
            axes.plot(*zip(*seen), label=way)
        axes.set(ylabel='log of the scale' if name == SCALE else f'{name} [m]' if name == OPW
                 else name, ylim=(None, None) if name == SCALE else (0, None))
        axes.legend(loc='upper right', fontsize=8)
    axes.set(xlabel='time [s]')
    with whole_file(path) as part:
        figure.savefig(part, format='png', dpi=110)


def _without_nan(value: Any) -> Any:
    """Replace NaN, which JSON does not know, by None."""
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value
