"""
What users choose, in words: the one source of the node's parameters and of the command's options.

Each field carries its text, its unit, and what it accepts; descriptors, config/depth.yaml, the
README's tables and ``zoe run --help`` are made from that.
"""
from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

PRECISIONS = ('auto', 'fp32', 'fp16', 'bf16')
ASPECTS = ('stretch', 'keep')
ROUTERS = ('auto', 'indoor', 'outdoor')


def setting(default: Any, text: str, choices: tuple[str, ...] = (), low: float | None = None,
            high: float | None = None, runtime: bool = False, live: bool = False,
            flag: str = '') -> Any:
    """
    Describe a field of a dataclass of settings.

    :param text: what it means, with its unit in brackets.
    :param choices: the accepted texts; all, if empty.
    :param low, high: the accepted range, ends included.
    :param runtime: the node takes a new value while it runs.
    :param live: it matters to the node only, not to ``zoe run``.
    :param flag: of the command line, where it is not the name of the field.
    """
    return field(default=default, metadata={
        'text': text, 'choices': choices, 'low': low, 'high': high, 'runtime': runtime,
        'live': live, 'flag': flag})


@dataclass(frozen=True)
class Settings:
    """
    The base of all settings: checks its fields.

    :raises ValueError: a value is of another kind or not accepted.
    """

    def __post_init__(self) -> None:
        """Check every value against its kind, choices and range."""
        for item in fields(self):
            value, meta = getattr(self, item.name), item.metadata
            if not meta:
                continue
            kind = type(item.default)
            if kind is float and type(value) is int:
                # "max_depth: 10" means a number to everybody but YAML.
                value = float(value)
                object.__setattr__(self, item.name, value)
            if kind is tuple and isinstance(value, (list, tuple)) and all(
                    isinstance(entry, str) for entry in value):
                value = tuple(value)
                object.__setattr__(self, item.name, value)
            if type(value) is not kind:
                raise ValueError(f"parameter '{item.name}' is {value!r}, not of type "
                                 f'{"list of texts" if kind is tuple else kind.__name__}')
            if meta['choices'] and value not in meta['choices']:
                raise ValueError(f"parameter '{item.name}' is '{value}', not one of "
                                 f'{", ".join(meta["choices"])}')
            if meta['low'] is not None and not meta['low'] <= value <= meta['high']:
                raise ValueError(f"parameter '{item.name}' is {value}, not within "
                                 f'{meta["low"]:g} ... {meta["high"]:g}')


@dataclass(frozen=True)
class ModelSettings(Settings):
    """What is loaded, and where it runs."""

    variant: str = setting(
        '', "Model: 'mobile' (small, comes with the package), 'nk' (the published one with both "
            "heads and a router), 'n' (indoor), 'k' (outdoor), or the name of the model in the "
            "weights file. Empty: what that file holds; without one 'nk' on a CUDA device and "
            "'mobile' on a CPU.")
    weights: str = setting(
        '', 'Path of a checkpoint. Empty: what comes with the package, or the released weights of '
            'the variant, fetched once.')
    device: str = setting(
        'auto', "'auto' (a CUDA device if there is one), 'cpu', 'cuda' or 'cuda:N'.")
    precision: str = setting(
        'auto', "Precision of encoder and decoder; the metric head stays in fp32. 'auto': bf16 "
                'where the device has products of it, else fp32.', choices=PRECISIONS)
    aspect: str = setting(
        'stretch', "'stretch' the image to the training resolution (best metric accuracy, "
                   "constant cost) or 'keep' its aspect ratio.", choices=ASPECTS)


@dataclass(frozen=True)
class FrameSettings(Settings):
    """
    What is made of each frame.

    :raises ValueError: min_depth is not less than max_depth, or far_value is less than that.
    """

    router: str = setting(
        'auto', "Metric head: 'auto' decides by the image, the others force one.",
        choices=ROUTERS, runtime=True)
    router_time_constant: float = setting(
        1.0, "Time over which 'auto' averages its evidence [s], so that the head of a video does "
             'not flicker. 0: each frame on its own.', low=0, high=3600, runtime=True)
    min_depth: float = setting(
        0.0, 'Depth below is -Inf, too near (REP 117) [m].', low=0, high=1000, runtime=True)
    max_depth: float = setting(
        1000.0, 'Depth above is +Inf, too far (REP 117), or far_value [m].', low=0, high=1000,
        runtime=True)
    far_value: float = setting(
        0.0, 'What stands for too far, so that costmaps clear along the ray [m]; at least '
             'max_depth. 0: +Inf.', low=0, high=10000, runtime=True)
    depth_scale: float = setting(
        1.0, 'Factor on all depth.', low=1e-3, high=1000, runtime=True)
    focal_correction: bool = setting(
        False, 'Multiply depth by the focal length of CameraInfo over that of the training '
               'camera of the head, both at the size of the network: similar triangles.',
        runtime=True)
    camera_view: str = setting(
        'as_is', "'training' shows the network each image as the training camera of its head "
                 'would have seen it, undistorted and with its field of view, and brings depth '
                 'back to the pixels of the image; what was not seen has none. Needs CameraInfo.',
        choices=('as_is', 'training'), runtime=True)
    edge_threshold: float = setting(
        0.0, 'Remove depth where 3 x 3 network pixels differ by more than this share, against '
             'flying points; 0.2 is a good start. 0: off.', low=0, high=100, runtime=True)
    max_relative_uncertainty: float = setting(
        0.0, 'Remove depth whose uncertainty exceeds this share of it. 0: off.', low=0, high=100,
        runtime=True)
    interpolation: str = setting(
        'edges', "How depth comes to the size of the camera: 'edges' (linear, but never across "
                 "an edge of depth), 'linear' (as in the published evaluation) or 'nearest'.",
        choices=('edges', 'linear', 'nearest'), runtime=True)
    output_size: str = setting(
        'camera', "Size of depth images: that of the 'camera' or of the 'network'; CameraInfo "
                  'follows.', choices=('camera', 'network'), runtime=True)
    output_decimation: int = setting(
        1, 'Depth images of the size of the camera keep every n-th row and column; CameraInfo '
           'follows.', low=1, high=64, runtime=True)
    color_min_depth: float = setting(
        0.5, 'Nearest depth of the colours of depth/image_colored [m].', low=0.01, high=1000,
        runtime=True, live=True)
    color_max_depth: float = setting(
        20.0, 'Farthest depth of these colours [m].', low=0.01, high=1000, runtime=True,
        live=True)
    point_cloud_downsample: int = setting(
        4, 'The cloud takes every n-th row and column.', low=1, high=64, runtime=True)
    point_cloud_max_range: float = setting(
        1000.0, 'Points farther along the optical axis are left out [m].', low=0.01, high=10000,
        runtime=True)
    point_cloud_color: bool = setting(
        True, 'Points carry the colour of the image (16 bytes each, else 12).', runtime=True)

    def __post_init__(self) -> None:
        """Check each field, then what they say together."""
        super().__post_init__()
        if not self.min_depth < self.max_depth:
            raise ValueError(f"parameter 'min_depth' is {self.min_depth:g}, not less than "
                             f"'max_depth' = {self.max_depth:g}")
        if not self.color_min_depth < self.color_max_depth:
            raise ValueError(f"parameter 'color_min_depth' is {self.color_min_depth:g}, not less "
                             f"than 'color_max_depth' = {self.color_max_depth:g}")
        if self.far_value and self.far_value < self.max_depth:
            raise ValueError(f"parameter 'far_value' is {self.far_value:g}, less than "
                             f"'max_depth' = {self.max_depth:g}: far things would seem near")


@dataclass(frozen=True)
class RunSettings(FrameSettings, ModelSettings):
    """
    Everything that decides a run of ``zoe run``; written beside its results.

    :param data: a photograph, a folder of them, or a bag.
    """

    data: str = ''
    output: str = setting('results', 'Folder under which the folder of results is made.')
    topic: str = setting('', 'Image topic of a bag. Empty: the only one.')
    pad: bool = setting(False, 'Mirror a border around the image, as the official inference does.')
    flip: bool = setting(
        False, 'Average with the mirrored image, as the official inference does; twice the cost.')


@dataclass(frozen=True)
class DataSettings(Settings):
    """What is to be said about data that do not tell it themselves."""

    domain: str = setting(
        '', 'Domain of a bag; of other data, only what belongs to it is taken.',
        choices=('', 'indoor', 'outdoor'))
    topic: str = setting('', 'Image topic of a bag, if there are several.')
    depth_topic: str = setting(
        '', 'Depth topic of a bag, if several are registered to the images.')


@dataclass(frozen=True)
class EvalSettings(DataSettings, ModelSettings):
    """
    Everything that decides an evaluation; written beside its figures.

    :param data: what is measured on, see :func:`zoe_ros.datasets.open.open_datasets`.
    """

    data: tuple[str, ...] = ()
    router: str = setting(
        'auto', "Metric head: 'auto' decides by the image, the others force one.",
        choices=ROUTERS)
    flip: bool = setting(True, 'Average with the mirrored image, as the published figures do.')
    against: str = setting('', 'The evaluation.json of another run: adds the improvement, mRI.')
    output: str = setting('results', 'Folder under which the folder of results is made.')


@dataclass(frozen=True)
class WorldSettings(Settings):
    """
    What decides the frames of a world.

    :param folder: where they go.
    """

    folder: str = ''
    scenes: int = setting(300, 'Scenes of each domain to learn from.', low=1, high=100_000)
    held_out: int = setting(25, 'Scenes of each domain that are kept apart for measuring.',
                            low=1, high=100_000)
    frames: int = setting(12, 'Frames of a scene, along a way of the camera.', low=1, high=1000)
    height: int = setting(192, 'Of the images [px].', low=32, high=4096)
    width: int = setting(256, 'Of the images [px].', low=32, high=4096)
    seed: int = setting(0, 'Of everything.', low=0, high=2 ** 31 - 1)
    workers: int = setting(2, 'Processes that render.', low=1, high=1024)
    bag: str = setting('', 'Write one scene of this domain as an RGB-D bag instead, of so many '
                           'frames.', choices=('', 'indoor', 'outdoor'))


@dataclass(frozen=True)
class BenchSettings(Settings):
    """
    What is timed.

    :raises ValueError: a value is not accepted.
    """

    variant: str = setting('nk', 'Model.')
    weights: str = setting('', 'Path of a checkpoint. Empty: made-up weights, at the same cost.')
    precision: str = setting(
        'auto', "Of encoder and decoder; the metric head stays in fp32. 'auto': bf16 where the "
                'device has products of it, else fp32.', choices=PRECISIONS)
    device: str = setting('auto', "'auto', 'cpu', 'cuda' or 'cuda:N'.")
    batch: int = setting(1, 'Images at a time.', low=1, high=4096)
    size: str = setting(
        '', 'Network input as HEIGHTxWIDTH, multiples of 32. Empty: that of the variant.')
    threads: int = setting(0, 'Of the CPU. 0: as many as torch chooses.', low=0, high=4096)
    frames: int = setting(10, 'Times that are measured.', low=1, high=1_000_000)
    against: str = setting(
        '', 'Another implementation, whose network is timed in turns with ours.',
        choices=('', 'transformers'))


def check_choice(what: str, value: str, accepted: tuple[str, ...]) -> None:
    """Raise a ValueError that names what is accepted, unless ``value`` is."""
    if value not in accepted:
        raise ValueError(f"{what} '{value}' is not one of {', '.join(accepted)}")


def parse_size(text: str) -> tuple[int, int] | None:
    """
    Return (height, width) of a text like '192x256', None of an empty one.

    :raises ValueError: it is not two multiples of 32.
    """
    if not text:
        return None
    try:
        height, width = (int(part) for part in text.lower().split('x'))
    except ValueError:
        height = width = 0
    if height < 32 or width < 32 or height % 32 or width % 32:
        raise ValueError(f"size '{text}' is not HEIGHTxWIDTH in multiples of 32, like 192x256")
    return height, width
