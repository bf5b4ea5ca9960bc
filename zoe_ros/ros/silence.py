"""Explains to the user why no images arrive."""
from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node

from zoe_ros.ros.image_input import KINDS
from zoe_ros.ros.subscription import published_types, type_name

_TYPES = {name: type_name(kind) for name, kind in KINDS.items()}


def explain_silence(node: Node, topics: dict[str, str], is_own: Callable[[str], bool]) -> str:
    """
    Return the reason why no image arrives.

    :param topics: transport -> topic of the subscriptions.
    :param is_own: tells whether a topic is an output of this node.
    """
    names = ' or '.join(topics.values())
    types = {name: published_types(node, topic) for name, topic in topics.items()}
    if any(_TYPES[name] in types[name] for name in topics):
        return f'{names} has a publisher but no image arrives from it'
    wrong = next((name for name in topics if types[name]), None)
    if wrong is not None:
        text = (f'{topics[wrong]} carries {", ".join(sorted(types[wrong]))}, not '
                f'{_TYPES[wrong]}')
        # Some publish compressed images under a name that image_transport gives to raw ones.
        return text + (': remap image_raw/compressed, not image_raw, to this topic'
                       if _TYPES['compressed'] in types[wrong] else '')
    found = _published_images(node, is_own)
    same = [topic for topic, name in found.items() if name in topics]
    other = [topic for topic, name in found.items() if name not in topics]
    text = f'nobody publishes {names}'
    if same:
        text += f'; there are images on {", ".join(same)}'
    if other:
        kind = found[other[0]]
        text += (f'; there are {kind} images on {", ".join(other)}, '
                 f'which need image_transport: {kind}')
    return text


def explain_clock(node: Node) -> str:
    """Return the reason why the clock is at zero, or an empty string if it runs."""
    if node.get_clock().now().nanoseconds:
        return ''
    topic = node.resolve_topic_name('/clock')
    if node.count_publishers(topic):
        return f'use_sim_time is set, but {topic} has sent no time yet: is the simulator paused?'
    return f'use_sim_time is set, but nobody publishes {topic}'


def _published_images(node: Node, is_own: Callable[[str], bool]) -> dict[str, str]:
    """Return topic -> transport of the images that other nodes publish, except depth."""
    found = {}
    for topic, types in sorted(node.get_topic_names_and_types()):
        for name, kind in _TYPES.items():
            # Depth of this node, of another depth node, or of an RGB-D camera.
            if (kind in types and 'depth' not in topic.lower() and not is_own(topic)
                    and node.count_publishers(topic)):
                found[topic] = name
    return found
