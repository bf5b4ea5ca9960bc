"""Options of ``zoe run`` that a user gives and that can do nothing."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from zoe_ros.settings import LEROBOT, RunSettings

_CLOUD = ('point_cloud_downsample', 'point_cloud_max_range', 'point_cloud_color')
_ANCHOR = ('anchor_transform', 'anchor_tolerance', 'anchor_report_only')
# Reason -> the settings that do nothing for image files.
_FOR_IMAGES = {
    'image files have no CameraInfo': ('camera_view',),
    'image files have no topics': ('topic', 'anchor', 'anchor_topic', *_ANCHOR),
    'image files give depth of their own size alone': ('output_size', 'output_decimation',
                                                       *_CLOUD),
    'image files are no video': ('router_time_constant', 'scale_time_constant')}


def idle_for_images(settings: RunSettings) -> list[str]:
    """Return a sentence about each kind of options that can do nothing for image files."""
    return _told(settings, _FOR_IMAGES)


def idle_for_bags(settings: RunSettings) -> list[str]:
    """Return a sentence about each kind of options that can do nothing for a bag."""
    idle: dict[str, tuple[str, ...]] = {}
    if not settings.anchors():
        idle['there is no anchor'] = _ANCHOR
    if not settings.follows_robot():    # a topic of odometry also steadies the scale
        idle['there is no anchor and no scale_time_constant'] = ('anchor_topic',)
    if settings.file_format == LEROBOT:
        idle['a LeRobot data set has no clouds'] = _CLOUD
    return _told(settings, idle)


def _told(settings: RunSettings, idle: Mapping[str, tuple[str, ...]]) -> list[str]:
    """
    Return a sentence for each reason for which a setting that is no default does nothing.

    :param idle: reason -> names of settings.
    """
    given = [item.name for item in fields(settings)
             if item.metadata and getattr(settings, item.name) != item.default]
    found = {reason: ' and '.join(name for name in given if name in names)
             for reason, names in idle.items()}
    return [f'no effect of {names}: {reason}' for reason, names in found.items()
            if names]
