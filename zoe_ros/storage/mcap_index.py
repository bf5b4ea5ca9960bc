"""Single messages of an MCAP chunk, by the index behind the chunk."""
from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
import struct

_MESSAGE, _MESSAGE_INDEX = 0x05, 0x07
_PREFIX = struct.Struct('<BQ')      # of a record: its kind and its length
# Of the content of a chunk: what is before its records, if these are not compressed. It has two
# times, the size, the checksum, the empty name of the compression, and the size again.
_BEFORE_RECORDS = 8 + 8 + 8 + 4 + 4 + 8


class IndexDamagedError(Exception):
    """An index that does not lead to the messages."""


@dataclass(frozen=True)
class ChunkIndex:
    """
    Where the messages of a chunk are, which is not compressed.

    :param records: offset of the records of the chunk in the file, ``size`` bytes.
    :param index: offset of the index of the messages, ``index_size`` bytes.
    """

    records: int
    size: int
    index: int
    index_size: int


def parse_chunk_index(content: bytes) -> ChunkIndex | None:
    """
    Return where the messages of a chunk are; None if they can only be read together.

    :param content: of a record of kind Chunk Index.
    :raises struct.error: it is cut off.
    """
    _, _, chunk, length, map_size = struct.unpack_from('<QQQQI', content)
    index_size, name_size = struct.unpack_from('<QI', content, 36 + map_size)
    size, = struct.unpack_from('<Q', content, 36 + map_size + 12 + name_size)
    if name_size or not index_size:
        return None
    return ChunkIndex(chunk + _PREFIX.size + _BEFORE_RECORDS, size, chunk + length, index_size)


def read_messages(read: Callable[[int, int], bytes], chunk: ChunkIndex,
                  channels: Collection[int]) -> Iterator[bytes]:
    """
    Give the contents of the records of the messages of some channels, in the order of the file.

    :param read: offset and length -> as many of these bytes of the file as there are.
    :raises IndexDamagedError, struct.error: the index is damaged.
    """
    entries = sorted(_entries(read(chunk.index, chunk.index_size)))
    # A record ends where the next begins, or before it.
    ends = [offset for offset, _ in entries[1:]] + [chunk.size]
    for (offset, channel), end in zip(entries, ends):
        if channel not in channels:
            continue
        if not offset < end <= chunk.size:
            raise IndexDamagedError
        data = read(chunk.records + offset, end - offset)
        kind, length = _PREFIX.unpack_from(data)
        content = data[_PREFIX.size:_PREFIX.size + length]
        if (kind, len(content)) != (_MESSAGE, length) or struct.unpack_from(
                '<H', content) != (channel,):
            raise IndexDamagedError
        yield content


def _entries(index: bytes) -> Iterator[tuple[int, int]]:
    """Give the offset in the records, and the channel, of each message."""
    at = 0
    while at < len(index):
        kind, length = _PREFIX.unpack_from(index, at)
        if kind != _MESSAGE_INDEX:
            raise IndexDamagedError
        channel, size = struct.unpack_from('<HI', index, at + _PREFIX.size)
        first = at + _PREFIX.size + 6
        for _, offset in struct.iter_unpack('<QQ', index[first:first + size]):
            yield offset, channel
        at += _PREFIX.size + length
