"""
The node's parameters: one dataclass that declares, checks and documents them.

``python -m zoe_ros.ros.parameters yaml`` prints config/depth.yaml, ``... markdown`` the README's
table; a test holds both to this file.
"""
from __future__ import annotations

from dataclasses import dataclass, field, fields
import sys
import textwrap
from typing import Any

from zoe_ros.settings import ASPECTS, PRECISIONS, ROUTERS


def _parameter(default: Any, text: str, choices: tuple[str, ...] = (), low: int | None = None,
               high: int | None = None) -> Any:
    return field(default=default,
                 metadata={'text': text, 'choices': choices, 'low': low, 'high': high})


@dataclass(frozen=True)
class DepthParameters:
    """
    All parameters of the node; they are read when it is configured.

    :raises ValueError: a value is of another kind or not accepted.
    """

    variant: str = _parameter(
        'nk', "Model: 'n' (indoor), 'k' (outdoor), 'nk' (both heads and a router), or the name "
              'of the model in the weights file.')
    weights: str = _parameter(
        '', 'Path of a checkpoint. Empty: the released weights, fetched once.')
    device: str = _parameter(
        'auto', "'auto' (a CUDA device if there is one), 'cpu', 'cuda' or 'cuda:N'.")
    precision: str = _parameter(
        'fp32', 'Precision of encoder and decoder; the metric head stays in fp32.',
        choices=PRECISIONS)
    aspect: str = _parameter(
        'stretch', "'stretch' the image to the training resolution (best metric accuracy, "
                   "constant cost) or 'keep' its aspect ratio.", choices=ASPECTS)
    router: str = _parameter(
        'auto', "Metric head: 'auto' decides for each image, the others force one.",
        choices=ROUTERS)
    image_transport: str = _parameter(
        'raw', "'raw' subscribes to image_raw, 'compressed' to image_raw/compressed (JPEG, PNG).",
        choices=('raw', 'compressed'))
    rectified: str = _parameter(
        'auto', 'Whether images are rectified, so that P of CameraInfo holds instead of K and the '
                "distortion. 'auto': by the name of the topic (image_rect...).",
        choices=('auto', 'yes', 'no'))
    point_cloud_downsample: int = _parameter(
        4, 'The cloud takes every n-th row and column.', low=1, high=64)
    autostart: bool = _parameter(
        True, 'Configure and activate at start. Otherwise a lifecycle manager does.')

    def __post_init__(self) -> None:
        """Check every value against its kind, choices and range."""
        for item in fields(self):
            value, meta = getattr(self, item.name), item.metadata
            kind = type(item.default)
            if type(value) is not kind:
                raise ValueError(f"parameter '{item.name}' is {value!r}, not of type "
                                 f'{kind.__name__}')
            if meta['choices'] and value not in meta['choices']:
                raise ValueError(f"parameter '{item.name}' is '{value}', not one of "
                                 f'{", ".join(meta["choices"])}')
            if meta['low'] is not None and not meta['low'] <= value <= meta['high']:
                raise ValueError(f"parameter '{item.name}' is {value}, not within "
                                 f'{meta["low"]} ... {meta["high"]}')


def declare(node: Any) -> DepthParameters:
    """
    Declare all parameters on a node, with descriptions, and return their values.

    :raises ValueError: a value is of another kind or not accepted.
    """
    from rcl_interfaces.msg import IntegerRange, ParameterDescriptor

    values = {}
    for item in fields(DepthParameters):
        meta = item.metadata
        limits = [] if meta['low'] is None else [
            IntegerRange(from_value=meta['low'], to_value=meta['high'], step=1)]
        descriptor = ParameterDescriptor(
            description=meta['text'], read_only=True, integer_range=limits,
            additional_constraints=f'one of: {", ".join(meta["choices"])}'
            if meta['choices'] else '',
            # Kinds are checked here, with better words than rclpy's.
            dynamic_typing=True)
        values[item.name] = node.declare_parameter(
            item.name, item.default, descriptor, ignore_override=False).value
    if values['variant'] is False:
        # YAML 1.1, which rcl speaks, reads a bare n as "no".
        values['variant'] = 'n'
    return DepthParameters(**values)


def to_yaml() -> str:
    """Return config/depth.yaml: every parameter with its default and its meaning."""
    lines = ['# Parameters of depth_node. Made by: python -m zoe_ros.ros.parameters yaml', '/**:',
             '  ros__parameters:']
    for item in fields(DepthParameters):
        text = item.metadata['text'] + _limits(item.metadata)
        lines += [f'    # {line}' for line in textwrap.wrap(text, 90)]
        default = item.default
        # Quoted: a bare n is a boolean for rcl.
        value = f"'{default}'" if isinstance(default, str) else str(default).lower()
        lines.append(f'    {item.name}: {value}')
    return '\n'.join(lines) + '\n'


def to_markdown() -> str:
    """Return the table of parameters of the README."""
    rows = ['| parameter | default | meaning |', '|---|---|---|']
    for item in fields(DepthParameters):
        default = f"'{item.default}'" if isinstance(item.default, str) else item.default
        text = item.metadata['text'] + _limits(item.metadata)
        rows.append(f'| `{item.name}` | `{default}` | {text} |')
    return '\n'.join(rows) + '\n'


def _limits(meta: Any) -> str:
    if meta['choices']:
        return f' One of {", ".join(meta["choices"])}.'
    return '' if meta['low'] is None else f' From {meta["low"]} to {meta["high"]}.'


if __name__ == '__main__':
    sys.stdout.write({'yaml': to_yaml, 'markdown': to_markdown}[sys.argv[1]]())
