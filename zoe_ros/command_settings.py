"""Settings of the commands beside zoe run: what they measure, render or export."""
from __future__ import annotations

from dataclasses import dataclass, fields

from zoe_ros.settings import ModelSettings, PRECISIONS, ROUTERS, setting, Settings


@dataclass(frozen=True)
class DataSettings(Settings):
    """Settings for data whose domain or topics are not known from the data alone."""

    domain: str = setting(
        '', 'Domain of the images of a bag; for other data, use only images of this domain.',
        choices=('', 'indoor', 'outdoor'))
    topic: str = setting('', 'Image topic of a bag; needed if the bag has several.')
    depth_topic: str = setting(
        '', 'Depth topic of a bag; needed if several are registered to the images.')


@dataclass(frozen=True)
class EvalSettings(DataSettings, ModelSettings):
    """
    All settings of ``zoe eval``; saved with the metrics.

    :param data: evaluation data, see :func:`zoe_ros.datasets.open.open_datasets`.
    """

    data: tuple[str, ...] = ()
    router: str = setting(
        'auto', "Metric head: 'auto' lets the router choose; 'indoor' and 'outdoor' force a head.",
        choices=ROUTERS)
    flip: bool = setting(
        True, 'Average with the depth of the mirrored image, as the published evaluation does.')
    intrinsics: bool = setting(
        True, 'Give the focal length of each image to a model that needs it (one with '
              "'canonical_focal'). Otherwise the model assumes a usual one.")
    against: str = setting(
        '', 'The evaluation.json of another run; adds the mean relative improvement (mRI) over '
            'that run.')
    temporal: bool = setting(
        False, 'Measure how steady depth is from frame to frame, on bags with the motion of the '
               'camera on /tf or by odometry, with true depth or without.')
    odometry_topic: str = setting(
        '', 'With --temporal: topic of nav_msgs/Odometry with the motion of the camera; needed if '
            'a bag has several and no /tf.')
    scale_time_constant: float = setting(
        0.0, 'With --temporal: also measure depth that is steadied with this time constant [s], '
             'as zoe run does. 0: only depth as the network predicts it.', low=0, high=3600)
    output: str = setting('results', 'Parent folder of the results folder.', folder=True)

    def __post_init__(self) -> None:
        """Check each field, then that none is without effect."""
        super().__post_init__()
        unused = {'--against': self.against, '--domain': self.domain,
                  '--no-intrinsics': not self.intrinsics}
        if self.temporal and any(unused.values()):
            names = ' and '.join(name for name, given in unused.items() if given)
            raise ValueError(f'{names} cannot be given with --temporal, which compares frames of '
                             'one video')
        for name in ('scale_time_constant', 'odometry_topic'):
            if getattr(self, name) and not self.temporal:
                raise ValueError(f"parameter '{name}' needs --temporal: it concerns videos")


@dataclass(frozen=True)
class WorldSettings(Settings):
    """
    All settings of ``zoe world``.

    :param folder: output folder.
    """

    folder: str = ''
    scenes: int = setting(300, 'Training scenes of each domain.', low=1, high=100_000)
    held_out: int = setting(25, 'Held-out scenes of each domain, for evaluation.', low=1,
                            high=100_000)
    frames: int = setting(12, 'Frames of a scene, along a camera path.', low=1, high=1000)
    height: int = setting(192, 'Image height [px].', low=32, high=4096)
    width: int = setting(256, 'Image width [px].', low=32, high=4096)
    seed: int = setting(0, 'Random seed.', low=0, high=2 ** 31 - 1)
    workers: int = setting(2, 'Rendering processes.', low=1, high=1024)
    recipe: str = setting(
        'plain', "Scenes. 'plain': rooms, corridors and streets by day, seen by robots and cars. "
                 "'varied': also table tops, shelves, people, foliage, halls, parks and country "
                 'roads, at all hours, seen by all kinds of cameras.',
        choices=('plain', 'varied'))
    textures: str = setting(
        '', 'Folder of images that become the surfaces (see docs/training.md). Empty: patterns.')
    bag: str = setting('', 'Write one scene of this domain as an RGB-D bag of --frames frames '
                           'instead of a dataset.', choices=('', 'indoor', 'outdoor'))

    def __post_init__(self) -> None:
        """Check each field, then that none is without effect."""
        super().__post_init__()
        unused = [f'--{item.name.replace("_", "-")}' for item in fields(self)
                  if item.name in ('scenes', 'held_out', 'workers')
                  and getattr(self, item.name) != item.default]
        if self.bag and unused:
            raise ValueError(f'{" and ".join(unused)} cannot be given with --bag, which is one '
                             'scene by one process')


@dataclass(frozen=True)
class CalibrateSettings(DataSettings, ModelSettings):
    """
    All settings of ``zoe calibrate``.

    :param data: data with true depth that the model was not trained on, see
        :func:`zoe_ros.datasets.open.open_datasets`.
    """

    data: tuple[str, ...] = ()


@dataclass(frozen=True)
class BenchSettings(Settings):
    """
    All settings of ``zoe bench``.

    :raises ValueError: a value is not accepted.
    """

    variant: str = setting('nk', "Model: 'mobile', 'nk', 'n', 'k' or another variant.")
    weights: str = setting(
        '', 'Path of a checkpoint. Empty: generated weights, which take the same time.')
    precision: str = setting(
        'auto', "Precision of encoder and decoder; the metric head stays in fp32. 'auto': bf16 "
                'where the hardware supports it, else fp32.', choices=PRECISIONS)
    device: str = setting('auto', "Device: 'auto', 'cpu', 'cuda' or 'cuda:N'.")
    batch: int = setting(1, 'Images in a batch.', low=1, high=4096)
    size: str = setting(
        '', 'Network input as HEIGHTxWIDTH, multiples of 32 (da-n, da-k: of 14). Empty: the size '
            'of the variant.')
    threads: int = setting(0, 'CPU threads. 0: the default of torch.', low=0, high=4096)
    frames: int = setting(10, 'Timed repetitions.', low=1, high=1_000_000)
    against: str = setting(
        '', 'Another implementation, timed in turns with this one (network only).',
        choices=('', 'transformers'))


@dataclass(frozen=True)
class ExportSettings(Settings):
    """
    All settings of ``zoe export``.

    :param folder: output folder.
    """

    folder: str = ''
    variant: str = setting('', "Model: 'nk', 'n', 'k', 'mobile', 'mobile-lite', or the model name "
                               'stored in the weights file.')
    weights: str = setting(
        '', 'Path of a checkpoint. Empty: the weights in the package (mobile-lite, mobile), or '
            'the released weights of the variant, downloaded once.')
    file_format: str = setting('onnx', 'Format of the file.', choices=('onnx',), flag='--format')
    size: str = setting(
        '', 'Network input as HEIGHTxWIDTH, multiples of 32. Empty: the size of the variant.')
    router: str = setting(
        'auto', "Metric heads of the graph. 'auto': all, with the router; 'indoor' or 'outdoor': "
                'this one alone, without the router.', choices=ROUTERS)
