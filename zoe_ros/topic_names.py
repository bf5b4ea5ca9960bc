"""What the names of topics tell by convention: transport, CameraInfo, rectified images, depth."""
from __future__ import annotations

from collections.abc import Iterable
import re


def info_topics_of(topic: str) -> tuple[str, str]:
    """Return where CameraInfo is by convention: beside an image topic, or below it."""
    topic = raw_topic(topic)
    return f'{topic.rsplit("/", 1)[0]}/camera_info', f'{topic}/camera_info'


def raw_topic(topic: str) -> str:
    """Return the topic of raw images, of which image_transport derives that of compressed ones."""
    return topic.removesuffix('/compressed').removesuffix('/compressedDepth')


def raw_first(topics: Iterable[str]) -> list[str]:
    """
    Return topics in order, without those of the same images compressed.

    The node, too, takes the raw ones.
    """
    names = sorted(topics)
    return [name for name in names if name == raw_topic(name) or raw_topic(name) not in names]


def says_depth(topic: str) -> bool:
    """Tell whether a topic has depth in its name."""
    return 'depth' in topic.lower()


def shared_parts(one: str, other: str) -> int:
    """Return how many parts two names have in common from their start."""
    pairs = zip(one.split('/'), other.split('/'))
    return next((i for i, (a, b) in enumerate(pairs) if a != b), 1000)


def is_rectified(topic: str) -> bool:
    """Tell from its name whether a topic carries rectified images (image_proc's convention)."""
    return re.search(r'(?:^|[/_])(?:rect(?:ified)?|undistort(?:ed)?)(?:[/_]|$)',
                     topic) is not None
