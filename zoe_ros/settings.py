"""
Settings with descriptions, from which node parameters and command options are made.

Each field has a description, a unit and the accepted values. Parameter descriptors,
config/depth.yaml, the table in docs/node.md and ``zoe run --help`` are made from them.
"""
from __future__ import annotations

from dataclasses import dataclass, field, fields
from os.path import expanduser
from typing import Any

PRECISIONS = ('auto', 'fp32', 'fp16', 'bf16')
ASPECTS = ('stretch', 'keep')
ROUTERS = ('auto', 'indoor', 'outdoor')
LEROBOT = 'lerobot'     # beside bags, a format of the results of zoe run
# A part of a bag that a fleet cuts has at least so many images: the start of a part, which reads
# all CameraInfo of the bag, and its overlap then take little of its time.
IMAGES_OF_A_PART = 1000
# Sensors that the scale of depth is taken from -> topic that the node subscribes.
SENSORS = {'scan': 'scan', 'points': 'sparse_points', 'depth': 'sparse_depth',
           'stereo': 'right/image_raw'}
REGISTERED = 'depth'    # is in the image of the camera already
STEREO = 'stereo'       # the right camera of a pair, with its CameraInfo beside its images
# The camera itself, together with its motion by TF.
ODOMETRY = 'odometry'


def setting(default: Any, text: str, choices: tuple[str, ...] = (), low: float | None = None,
            high: float | None = None, runtime: bool = False, live: bool = False,
            flag: str = '', metavar: str = '', folder: bool = False) -> Any:
    """
    Describe a field of a dataclass of settings.

    :param text: description, with the unit in brackets.
    :param choices: accepted strings; empty: any string.
    :param low, high: accepted range, ends included.
    :param runtime: the node accepts a new value while it runs.
    :param live: the setting concerns the node only, not ``zoe run``.
    :param flag: command-line flag, where it differs from the field name.
    :param metavar: name of each value of a list in the help.
    :param folder: it is the path of a folder to write, also with ``~``.
    """
    return field(default=default, metadata={
        'text': text, 'choices': choices, 'low': low, 'high': high, 'runtime': runtime,
        'live': live, 'flag': flag, 'metavar': metavar, 'folder': folder})


@dataclass(frozen=True)
class Settings:
    """
    Base class of all settings; checks its fields.

    :raises ValueError: a value has the wrong type or is not accepted.
    """

    def __post_init__(self) -> None:
        """Check the type, choices and range of every value."""
        for item in fields(self):
            value, meta = getattr(self, item.name), item.metadata
            if not meta:
                continue
            kind = type(item.default)
            if kind is float and type(value) is int:
                # YAML reads "max_depth: 10" as an integer, but users mean a number.
                value = float(value)
                object.__setattr__(self, item.name, value)
            if kind is tuple and isinstance(value, (list, tuple)) and all(
                    isinstance(entry, str) for entry in value):
                value = tuple(value)
                object.__setattr__(self, item.name, value)
            if type(value) is not kind:
                raise ValueError(f"parameter '{item.name}' is {value!r}, not of type "
                                 f'{"list of strings" if kind is tuple else kind.__name__}')
            if meta['folder']:
                if not value:
                    raise ValueError(f"parameter '{item.name}' is empty: name a folder, '.' for "
                                     'this one')
                object.__setattr__(self, item.name, expanduser(str(value)))
            if meta['choices'] and value not in meta['choices']:
                raise ValueError(f"parameter '{item.name}' is '{value}', not one of "
                                 f'{", ".join(meta["choices"])}')
            if meta['low'] is not None and not meta['low'] <= value <= meta['high']:
                raise ValueError(f"parameter '{item.name}' is {value}, not within "
                                 f'{meta["low"]:g} ... {meta["high"]:g}')


@dataclass(frozen=True)
class ModelSettings(Settings):
    """Model and device."""

    variant: str = setting(
        '', "Model: 'mobile-lite' (small, comes with the package), 'mobile' (the same for "
            "rendered scenes), 'nk' (published, both heads and a router), 'n' (published, "
            "indoor), 'k' (published, outdoor), 'da-n' and 'da-k' (Depth Anything, indoor and "
            "outdoor), 'da-nk' (both, and a router), or the model name stored in the weights "
            "file. Empty: the model of the weights file; without such a file 'nk' on a CUDA "
            "device and 'mobile-lite' on a CPU.")
    weights: str = setting(
        '', 'Path of a checkpoint; for da-nk, of the folder with both files. Empty: the weights '
            'in the package (mobile-lite, mobile), or the released weights of the variant, '
            'downloaded once.')
    device: str = setting(
        'auto', "Device: 'auto' (a CUDA device if there is one), 'cpu', 'cuda' or 'cuda:N'.")
    precision: str = setting(
        'auto', "Precision of encoder and decoder; the metric head stays in fp32. 'auto': bf16 "
                'where the hardware supports it, else fp32.', choices=PRECISIONS)
    aspect: str = setting(
        'stretch', "Size of the network input. 'stretch': the training resolution, whatever the "
                   "shape of the image (best metric accuracy, constant cost). 'keep': the aspect "
                   'ratio of the image.', choices=ASPECTS)


@dataclass(frozen=True)
class FrameSettings(Settings):
    """
    How each frame is processed.

    :raises ValueError: min_depth is not less than max_depth, color_min_depth is not less than
        color_max_depth, or far_value is less than max_depth.
    """

    router: str = setting(
        'auto', "Metric head: 'auto' lets the router choose; 'indoor' and 'outdoor' force a head.",
        choices=ROUTERS, runtime=True)
    router_time_constant: float = setting(
        1.0, "Time constant with which router 'auto' averages its scores over the frames of a "
             'video [s], so that the head does not flicker. 0: each frame is decided on its own.',
        low=0, high=3600, runtime=True)
    min_depth: float = setting(
        0.0, 'Smaller depth is replaced by -Inf, too near (REP 117) [m].', low=0, high=1000,
        runtime=True)
    max_depth: float = setting(
        1000.0, 'Larger depth is replaced by +Inf, too far (REP 117), or by far_value [m].', low=0,
        high=1000, runtime=True)
    far_value: float = setting(
        0.0, 'Value written for pixels beyond max_depth, so that costmaps clear along their rays '
             '[m]; at least max_depth. 0: +Inf.', low=0, high=10000, runtime=True)
    depth_scale: float = setting(
        1.0, 'Factor by which all depth is multiplied.', low=1e-3, high=1000, runtime=True)
    focal_correction: bool = setting(
        False, "Multiply depth by the ratio of the camera's focal length to that of the head's "
               'training camera, both in pixels of the network input. Needs CameraInfo; for image '
               'files, the focal length in EXIF.',
        runtime=True)
    camera_view: str = setting(
        'as_is', "'training': resample each image to the undistorted view and field of view of "
                 "the head's training camera, and map depth back to the image; pixels outside of "
                 "that view have no depth. Needs CameraInfo. 'as_is': use the image unchanged.",
        choices=('as_is', 'training'), runtime=True)
    edge_threshold: float = setting(
        0.0, 'Remove flying points: pixels whose 3 x 3 neighbourhood in the network output spans '
             'a depth ratio of more than 1 + this value; 0.2 is a good start. 0: off.', low=0,
        high=100, runtime=True)
    max_relative_uncertainty: float = setting(
        0.0, 'Remove pixels whose predicted standard deviation exceeds this fraction of their '
             'depth. 0: off.', low=0, high=100, runtime=True)
    sky: str = setting(
        'keep', "'inf': replace the depth of the sky by +Inf, or by far_value. Pixels count as "
                'sky if they are far, smooth, bluish and brighter than the ground, in images of '
                "the outdoor head. 'keep': keep the depth that the network predicts for the sky.",
        choices=('keep', 'inf'), runtime=True)
    interpolation: str = setting(
        'edges', "Resizing of depth to the image: 'edges' (linear, but never across a depth "
                 "edge), 'linear' (as in the published evaluation) or 'nearest'.",
        choices=('edges', 'linear', 'nearest'), runtime=True)
    output_size: str = setting(
        'camera', "Size of depth images: that of the 'camera' image or of the 'network' input; "
                  'depth/camera_info is scaled to match.', choices=('camera', 'network'),
        runtime=True)
    output_decimation: int = setting(
        1, 'Depth images of camera size keep every n-th row and column; depth/camera_info is '
           'scaled to match.', low=1, high=64, runtime=True)
    color_min_depth: float = setting(
        0.5, 'Lower end of the colour scale of depth/image_colored [m].', low=0.01, high=1000,
        runtime=True, live=True)
    color_max_depth: float = setting(
        20.0, 'Upper end of the colour scale of depth/image_colored [m].', low=0.01, high=1000,
        runtime=True, live=True)
    point_cloud_downsample: int = setting(
        4, 'The cloud keeps every n-th row and column.', low=1, high=64, runtime=True)
    point_cloud_max_range: float = setting(
        1000.0, 'Points of larger depth are NaN in the cloud [m].', low=0.01, high=10000,
        runtime=True)
    point_cloud_color: bool = setting(
        True, 'Points have the colour of the image (16 bytes each, else 12).', runtime=True)

    def __post_init__(self) -> None:
        """Check each field, then ranges that depend on several fields."""
        super().__post_init__()
        if not self.min_depth < self.max_depth:
            raise ValueError(f"parameter 'min_depth' is {self.min_depth:g}, not less than "
                             f"'max_depth' = {self.max_depth:g}")
        if not self.color_min_depth < self.color_max_depth:
            raise ValueError(f"parameter 'color_min_depth' is {self.color_min_depth:g}, not less "
                             f"than 'color_max_depth' = {self.color_max_depth:g}")
        if self.far_value and self.far_value < self.max_depth:
            raise ValueError(f"parameter 'far_value' is {self.far_value:g}, less than "
                             f"'max_depth' = {self.max_depth:g}: far objects would seem near")


@dataclass(frozen=True)
class AnchorSettings(Settings):
    """
    The sensors from which depth gets its scale, and how steady that is.

    :raises ValueError: an anchor is not known, or its transform is none.
    """

    anchor: str = setting(
        'none', "Sensor from which depth gets its scale: 'scan' (LaserScan), 'points' "
                "(PointCloud2), 'depth' (sparse depth images, registered to the camera), "
                "'stereo' (the right camera of a rectified pair), 'odometry' (the motion of the "
                "camera in TF), several joined by '+', or 'none'. Needs CameraInfo.")
    anchor_transform: str = setting(
        '', "Pose of the sensor in the camera's optical frame as 'x y z qx qy qz qw'. Empty: by "
            'TF.')
    anchor_tolerance: float = setting(
        0.1, 'Largest difference between the stamps of an image and of the points for it [s].',
        low=0, high=10)
    anchor_report_only: bool = setting(
        False, 'State the scale, but leave depth as the network predicts it.')
    scale_time_constant: float = setting(
        0.0, 'Time constant with which the scale of depth is steadied from frame to frame [s]: '
             'frames are compared by the motion of the camera in TF or, without TF, while the '
             'image stands still. 2 is a good start. 0: off.', low=0, high=3600)

    def __post_init__(self) -> None:
        """Check each field, then the names of the sensors and their transform."""
        super().__post_init__()
        for kind in self.anchors():
            if kind not in (*SENSORS, ODOMETRY):
                raise ValueError(f"parameter 'anchor' is '{self.anchor}', not none or one of "
                                 f"{', '.join((*SENSORS, ODOMETRY))}, or several joined by '+'")
        numbers, placed = self.transform_numbers(), self.placed_sensors()
        if numbers and len(placed) > 1:
            raise ValueError("parameter 'anchor_transform' can place one sensor, not "
                             f'{" and ".join(placed)}: let TF place them')

    def follows_robot(self) -> bool:
        """Tell whether something needs the sensors or the motion of the robot."""
        return bool(self.anchors()) or self.scale_time_constant > 0

    def anchors(self) -> tuple[str, ...]:
        """Return the kinds of sensors, each once."""
        return () if self.anchor == 'none' else tuple(dict.fromkeys(self.anchor.split('+')))

    def sensors(self) -> tuple[str, ...]:
        """Return the anchors that have a topic of their own."""
        return tuple(kind for kind in self.anchors() if kind in SENSORS)

    def placed_sensors(self) -> tuple[str, ...]:
        """Return the sensors whose pose must be known."""
        return tuple(kind for kind in self.sensors() if kind not in (REGISTERED, STEREO))

    def transform_numbers(self) -> list[float]:
        """Return the seven numbers of ``anchor_transform``, or none of them."""
        try:
            numbers = [float(word) for word in self.anchor_transform.replace(',', ' ').split()]
        except ValueError:
            numbers = [0.0]
        if len(numbers) not in (0, 7):
            raise ValueError(f"parameter 'anchor_transform' is '{self.anchor_transform}', not "
                             'seven numbers x y z qx qy qz qw')
        return numbers


@dataclass(frozen=True)
class RunSettings(FrameSettings, ModelSettings, AnchorSettings):
    """
    All settings of ``zoe run``; saved with the results.

    :param data: an image, a folder of images, or a bag.
    """

    data: str = ''
    output: str = setting('results', 'Parent folder of the results folder.', folder=True)
    file_format: str = setting(
        'bag', "Format of the results of a bag. 'bag': a rosbag2. 'lerobot': a LeRobot data set "
               'of images and depth, for training; see docs/fleets.md.',
        choices=('bag', LEROBOT), flag='--format')
    topic: str = setting('', 'Image topic of a bag; needed if the bag has several.')
    anchor_topic: tuple[str, ...] = setting(
        (), 'Topics of the anchors in a bag; needed if the bag has several of a type.',
        metavar='TOPIC')
    pad: bool = setting(
        False, 'Pad the image with a mirrored border, as the official inference does.')
    flip: bool = setting(
        False, 'Average with the depth of the mirrored image, as the official inference does; '
               'doubles the cost.')


def check_choice(what: str, value: str, accepted: tuple[str, ...]) -> None:
    """Raise a ValueError that lists the accepted values, unless ``value`` is one of them."""
    if value not in accepted:
        raise ValueError(f"{what} '{value}' is not one of {', '.join(accepted)}")
