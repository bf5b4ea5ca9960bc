"""The files of a rosbag2, read for what they still hold, however a recording ended."""
from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

EVER = 2 ** 64      # [ns]; later than any time that fits into a record


class StorageError(ValueError):
    """A file that cannot be read as the storage of a rosbag2."""


@dataclass(frozen=True)
class Channel:
    """
    What was recorded of one topic from one publisher.

    :param kind: type of the messages, such as 'sensor_msgs/msg/Image'.
    :param encoding: of the messages: 'cdr' for those of ROS 2.
    :param count: the number of messages that the file says it holds.
    """

    topic: str
    kind: str
    encoding: str
    count: int


class Storage(Protocol):
    """
    An open file of messages.

    :ivar channels: number of a channel -> the channel.
    :ivar defects: what cannot be read; more of it may be found while messages are read.
    """

    channels: dict[int, Channel]
    defects: list[str]

    def messages(self, channels: Collection[int], start: int = 0,
                 stop: int = EVER) -> Iterator[tuple[int, bytes]]:
        """
        Give the messages of some channels that can be read, in the order of recording.

        :param start, stop: times of recording [ns].
        :return: when each was recorded [ns], and its bytes.
        """

    def span(self, channels: Collection[int]) -> tuple[int, int] | None:
        """
        Return times between which all messages of some channels were recorded, ends included [ns].

        None where the file says that there are no such messages.
        """

    def verify(self) -> None:
        """Look for damage that reading does not show; this may read the whole file."""

    def close(self) -> None:
        """Close the file."""


def ros_type(name: str) -> str:
    """Return the name of a type as ROS 2 writes it, from IDL's or the short form."""
    package, *rest = name.replace('::', '/').split('/')
    return f'{package}/msg/{rest[0]}' if len(rest) == 1 else '/'.join((package, *rest))
