"""Settings of ``zoe distill``."""
from __future__ import annotations

from dataclasses import dataclass

from zoe_ros.settings import RunSettings, setting, Settings


@dataclass(frozen=True)
class DistillSettings(Settings):
    """
    All settings of ``zoe distill``; saved in the folder of the run.

    :param data: bags, patterns, and ``@file``, see :func:`zoe_ros.run_many.find_data`.
    :raises ValueError: a value is not accepted.
    """

    data: tuple[str, ...] = ()
    teacher: str = setting('nk', 'Model that labels the images: a variant or a weights file.')
    start: str = setting(
        'mobile-lite', 'Initial weights of the student: a variant or a weights file. A variant '
                       "without published weights, like 'nano', starts from random weights.",
        flag='--from')
    encoder_weights: str = setting(
        '', 'Pretrained weights of the encoder of a student that starts from random weights, see '
            'zoe train.')
    topic: str = setting('', 'Image topic of the bags; needed if a bag has several.')
    anchor: str = setting(
        'none', 'Sensor of the bags from which the labels get their scale, see zoe run.')
    anchor_topic: tuple[str, ...] = setting(
        (), 'Topics of the anchors; needed if a bag has several of a type.', metavar='TOPIC')
    anchor_transform: str = setting(
        '', "Pose of the sensor in the camera's optical frame as 'x y z qx qy qz qw'. Empty: by "
            'TF.')
    difference: float = setting(
        0.5, 'Least difference of an image from the last labelled one: the mean absolute '
             'difference of small grey images in units of their contrast. Unlike images have '
             'about 1. 0: each image is labelled.', low=0, high=2)
    labels: str = setting(
        '', 'Folder of the labels, which several students may share. Empty: in the output folder.')
    world: str = setting(
        '', 'Folder of zoe world, whose images are mixed in so that the student forgets less. '
            'Empty: a varied world is rendered into the output folder.')
    world_share: float = setting(
        0.25, 'Fraction of the training images that are from the world. 0: none.', low=0, high=0.9)
    steps: int = setting(500, 'Number of batches to train on.', low=1, high=10_000_000)
    batch: int = setting(8, 'Images per batch.', low=1, high=4096)
    learning_rate: float = setting(
        0.0, 'Maximum learning rate. 0: 3e-4 from weights, 1e-3 from random weights.', low=0,
        high=1)
    precision: str = setting(
        'auto', "Precision of encoder and decoder of the teacher and in training. 'auto': bf16 "
                'where the hardware supports it, else fp32.', choices=('auto', 'fp32', 'bf16'))
    device: str = setting('auto', "Device: 'auto', 'cpu', 'cuda' or 'cuda:N'.")
    workers: int = setting(1, 'Number of data loading processes.', low=0, high=256)
    seed: int = setting(43, 'Random seed of weights, data order and augmentation.', low=0,
                        high=2 ** 31 - 1)
    output: str = setting('distilled', 'Folder of the run; the same command continues it.',
                          folder=True)

    def __post_init__(self) -> None:
        """Check each setting, also those of the anchor."""
        super().__post_init__()
        self.anchor_settings()

    def anchor_settings(self) -> RunSettings:
        """Return the settings for the anchor of a bag."""
        return RunSettings(anchor=self.anchor, anchor_topic=self.anchor_topic,
                           anchor_transform=self.anchor_transform)
