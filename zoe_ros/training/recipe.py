"""What a training run can be told, and what each variant is trained with by default."""
from __future__ import annotations

from dataclasses import dataclass

from zoe_ros.settings import DataSettings, setting

STAGES = ('metric', 'relative')
ROUTING = ('trained', 'labeled', 'auto')
PARTS = ('all', 'heads', 'indoor', 'outdoor')


@dataclass(frozen=True)
class TrainSettings(DataSettings):
    """
    Everything that decides a training run; written into its folder.

    :param data: what is learnt from, see :func:`zoe_ros.datasets.open.open_datasets`.
    :raises ValueError: a value is not accepted.
    """

    data: tuple[str, ...] = ()
    held_out: tuple[str, ...] = setting((), 'Data that measures progress and is not learnt from.')
    variant: str = setting('mobile', 'Model that is trained.')
    start: str = setting(
        '', 'Weights to begin with: those of a former stage, a released ZoeDepth, a MiDaS '
            'checkpoint, or the name of a variant whose weights are here. Empty: random.',
        flag='--from')
    stage: str = setting(
        'metric', "'relative' teaches encoder and decoder relative depth, 'metric' the whole "
                  'model.', choices=STAGES)
    routing: str = setting(
        'trained', "How the router learns: from domain labels ('trained', R.2 of the paper), not "
                   "at all, the label picks the head ('labeled', R.1), or from depth alone "
                   "('auto', R.3).", choices=ROUTING)
    parts: str = setting(
        'all', "What is trained: 'all', the metric 'heads' with the router, or one head.",
        choices=PARTS)
    size: str = setting(
        '', 'Network input as HEIGHTxWIDTH, multiples of 32. Empty: that of the variant.')
    steps: int = setting(10000, 'Batches until the end.', low=1, high=10_000_000)
    batch: int = setting(16, 'Images of a batch, over all processes.', low=1, high=4096)
    learning_rate: float = setting(
        0.0, 'Largest learning rate. 0: that of the variant.', low=0, high=1)
    encoder_factor: float = setting(
        0.0, 'Learning rate of the encoder as a share of it. 0: that of the variant.', low=0,
        high=1)
    decoder_factor: float = setting(
        0.0, 'The same for the decoder.', low=0, high=1)
    weight_decay: float = setting(0.01, 'Of AdamW.', low=0, high=1)
    warm_share: float = setting(
        0.7, 'Share of the steps at the largest learning rate, before it falls along a cosine.',
        low=0.01, high=0.99)
    clip: float = setting(0.1, 'Largest norm of the gradient.', low=1e-6, high=1e6)
    routing_weight: float = setting(
        0.0, "Weight of the router's loss. 0: that of the variant.", low=0, high=1e6)
    precision: str = setting(
        'fp32', 'Of encoder and decoder; heads and losses stay in fp32.',
        choices=('fp32', 'bf16'))
    device: str = setting('auto', "'auto', 'cpu', 'cuda' or 'cuda:N'.")
    workers: int = setting(1, 'Processes that read data.', low=0, high=256)
    seed: int = setting(43, 'Of weights, order and augmentation.', low=0, high=2 ** 31 - 1)
    checkpoint_steps: int = setting(
        500, 'Steps between checkpoints; the held-out data are measured then.', low=1,
        high=10_000_000)
    output: str = setting('training', 'Folder of the run; one that holds a run is continued.')


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
# A small network that starts from nothing has no encoder to be careful with, and its router
# learns beside everything else.
_SMALL = Recipe(1e-3, encoder_factor=1.0, decoder_factor=1.0, routing_weight=1.0)


def make_recipe(variant: str, settings: TrainSettings) -> Recipe:
    """Return the rates of a run: what was asked for, else those of the variant."""
    base = {'n': _SINGLE, 'k': _SINGLE}.get(
        variant, _DOUBLE if variant.startswith('nk') else _SMALL)
    return Recipe(*(getattr(settings, name) or getattr(base, name) for name in (
        'learning_rate', 'encoder_factor', 'decoder_factor', 'routing_weight')))
