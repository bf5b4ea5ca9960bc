"""
The node's parameters: the settings of model and frames, and settings of the node itself.

``python -m zoe_ros.ros.parameters yaml`` prints config/depth.yaml, ``... markdown`` prints the
table in docs/node.md; a test compares both with this file.
"""
from __future__ import annotations

from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
import re
import sys
import textwrap
from typing import Any

from zoe_ros.settings import AnchorSettings, FrameSettings, ModelSettings, setting

# Parameters that rclpy declares on each node.
_OF_ROS = ('use_sim_time', 'qos_overrides.', 'start_type_description_service')
_NEAR = 0.8     # similarity from which a name counts as a misspelling of another


@dataclass(frozen=True)
class DepthParameters(FrameSettings, ModelSettings, AnchorSettings):
    """
    All parameters of the node.

    :raises ValueError: a value has the wrong type or is not accepted.
    """

    cameras: tuple[str, ...] = setting(
        ('',), 'Names of the cameras that share the model; each name prefixes the topics of its '
               "camera (front/image_raw -> front/depth/image). ['']: one camera without a "
               'prefix.')
    image_transport: str = setting(
        'auto', "'raw' subscribes to image_raw; 'compressed' to image_raw/compressed (JPEG, PNG); "
                "'auto' to image_raw if it has a publisher, else to image_raw/compressed.",
        choices=('auto', 'raw', 'compressed'))
    rectified: str = setting(
        'auto', 'Whether images are rectified, so that matrix P of CameraInfo applies instead of '
                "matrix K and the distortion. 'auto': yes if the topic name says so "
                '(.../image_rect).',
        choices=('auto', 'yes', 'no'))
    camera_info_tolerance: float = setting(
        0.0, 'Maximum age difference between an image and the CameraInfo used for it [s]. 0: '
             'unlimited.', low=0, high=3600)
    policy: str = setting(
        'latest', "'latest': process the newest image and drop older ones. 'every': process each "
                  'image in order, which slows down a reliable publisher; for bags and mapping.',
        choices=('latest', 'every'))
    point_cloud_max_rate: float = setting(
        0.0, 'Maximum rate of clouds, by image stamps [Hz]. 0: a cloud for every frame.',
        low=0, high=1000, runtime=True)
    diagnostics_period: float = setting(
        1.0, 'Period of /diagnostics [s].', low=0.1, high=3600)
    autostart: bool = setting(
        True, 'Configure and activate at start. false: leave that to a lifecycle manager.')

    def __post_init__(self) -> None:
        """Check each field, then the camera names."""
        super().__post_init__()
        valid = all(re.fullmatch(r'([A-Za-z_]\w*(/[A-Za-z_]\w*)*)?', c) for c in self.cameras)
        if not valid or not self.cameras or len(set(self.cameras)) < len(self.cameras):
            raise ValueError(f"parameter 'cameras' is {list(self.cameras)}, not a list of "
                             'different names that are valid in a topic')
        if self.anchor_transform and len(self.cameras) > 1:
            raise ValueError("parameter 'anchor_transform' holds for one camera, not "
                             f'{len(self.cameras)}: let TF place the sensor')

    def changed(self, changes: dict[str, Any], configured: bool) -> DepthParameters:
        """
        Return a copy with some parameters changed, checked as a whole.

        :param configured: the model is loaded, so some values cannot change.
        :raises ValueError: the result is not accepted, or a change needs a new configuration.
        """
        kinds = {item.name: item.metadata for item in fields(self)}
        for name in changes:
            if configured and name in kinds and not kinds[name]['runtime']:
                raise ValueError(f"parameter '{name}' is read when the node is configured: "
                                 'clean up the node first')
        return replace(self, **{k: v for k, v in changes.items() if k in kinds})


def declare(node: Any) -> DepthParameters:
    """
    Declare all parameters on a node, with descriptions, and return their values.

    :param node: created with automatically declared overrides, so that misspelled names show.
    :raises ValueError: a value has the wrong type or is not accepted, or a name is misspelled.
    """
    values = {}
    for item in fields(DepthParameters):
        if node.has_parameter(item.name):
            node.undeclare_parameter(item.name)
        declared = node.declare_parameter(
            item.name, list(item.default) if isinstance(item.default, tuple) else item.default,
            _descriptor(item.default, item.metadata))
        values[item.name] = declared.value
    if values['variant'] is False:
        # rcl parses YAML 1.1, where a bare n means "no".
        values['variant'] = 'n'
    check_names(node)
    chosen = DepthParameters(**values)
    node.set_parameters(as_declared(
        [node.get_parameter(item.name) for item in fields(DepthParameters)]))
    return chosen


def check_names(node: Any) -> None:
    """
    Check parameters that a user has set but the node does not have.

    They cause only a warning, because a file may hold parameters of several nodes.

    :raises ValueError: a name is similar to the name of a parameter.
    """
    own = [item.name for item in fields(DepthParameters)]
    unknown = [name for name in node.get_parameters_by_prefix('')
               if name not in own and not name.startswith(_OF_ROS)]
    for name in unknown:
        nearest = get_close_matches(name, own, 1, _NEAR)
        if nearest:
            raise ValueError(f"there is no parameter '{name}': do you mean '{nearest[0]}'?")
        node.get_logger().warning(f"there is no parameter '{name}'")


def as_declared(parameters: list[Any]) -> list[Any]:
    """Return rclpy parameters with integers converted where floating point is declared."""
    floats = {item.name for item in fields(DepthParameters) if isinstance(item.default, float)}
    return [type(p)(p.name, value=float(p.value)) if p.name in floats and type(p.value) is int
            else p for p in parameters]


def _descriptor(default: Any, meta: Any) -> Any:
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    limits: dict[str, Any] = {}
    if meta['low'] is not None:
        name, kind = (('floating_point_range', FloatingPointRange) if isinstance(default, float)
                      else ('integer_range', IntegerRange))
        as_kind = type(default)
        limits[name] = [kind(from_value=as_kind(meta['low']), to_value=as_kind(meta['high']))]
        if name == 'integer_range':
            limits[name][0].step = 1
    return ParameterDescriptor(
        description=meta['text'],
        additional_constraints=f'one of: {", ".join(meta["choices"])}' if meta['choices'] else '',
        # The settings check types with clearer errors, and accept 10 for 10.0.
        dynamic_typing=True, **limits)


def to_yaml() -> str:
    """Return config/depth.yaml: every parameter with its default and description."""
    lines = ['# Parameters of depth_node. Made by: python -m zoe_ros.ros.parameters yaml', '/**:',
             '  ros__parameters:']
    for item in fields(DepthParameters):
        text = item.metadata['text'] + _limits(item.metadata)
        lines += [f'    # {line}' for line in textwrap.wrap(text, 90)]
        lines.append(f'    {item.name}: {_in_yaml(item.default)}')
    return '\n'.join(lines) + '\n'


def to_markdown() -> str:
    """Return the parameter table of docs/node.md; a star marks run-time parameters."""
    rows = ['| parameter | default | meaning |', '|---|---|---|']
    for item in fields(DepthParameters):
        text = item.metadata['text'] + _limits(item.metadata)
        star = ' *' if item.metadata['runtime'] else ''
        rows.append(f'| `{item.name}`{star} | `{_in_yaml(item.default)}` | {text} |')
    return '\n'.join(rows) + '\n'


def _in_yaml(value: Any) -> str:
    if isinstance(value, tuple):
        return f'[{", ".join(map(_in_yaml, value))}]'
    # Quoted: rcl reads a bare n as a boolean.
    return f"'{value}'" if isinstance(value, str) else str(value).lower()


def _limits(meta: Any) -> str:
    if meta['choices']:
        return f' One of {", ".join(meta["choices"])}.'
    return '' if meta['low'] is None else f' From {meta["low"]:g} to {meta["high"]:g}.'


if __name__ == '__main__':
    sys.stdout.write({'yaml': to_yaml, 'markdown': to_markdown}[sys.argv[1]]())
