"""
MCAP files (https://mcap.dev/spec): by their index, or record by record where that is missing.

A recording that was cut off has no index, and its last chunk is incomplete.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
import heapq
import os
from pathlib import Path
import struct
from zlib import crc32

from lz4.frame import LZ4FrameDecompressor

from zoe_ros.errors import first_line
from zoe_ros.storage import Channel, EVER, ros_type, StorageError, zstd
from zoe_ros.storage.mcap_index import (
    ChunkIndex,
    IndexDamagedError,
    parse_chunk_index,
    read_messages,
)
from zoe_ros.storage.remote import open_file

MAGIC = b'\x89MCAP0\r\n'
# Kinds of records.
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK = range(2, 7)
_CHUNK_INDEX, _STATISTICS, _DATA_END = 0x08, 0x0B, 0x0F
_PREFIX = struct.Struct('<BQ')          # of a record: its kind and its length
_MESSAGE_HEAD = struct.Struct('<HIQQ')  # channel, sequence, times of recording and publishing [ns]
_CHUNK_HEAD = struct.Struct('<QQQI')    # first and last time [ns], size and CRC-32 uncompressed
_FOOTER_SIZE = 37                       # with the magic behind it [bytes]
_DATA_END_SIZE = 13
_LZ4_RATIO = 255                        # of sizes; no LZ4 is packed more tightly
_BLOCK = 1 << 20                        # [bytes] that are read at once
_CUT = 'the end of the file is missing'


class _DamagedError(Exception):
    """Records that cannot be followed any further."""


@dataclass
class _Chunk:
    """
    Where a chunk is.

    :param start, end: times of its first and its last message [ns].
    :param offset: of its content in the file, ``length`` bytes.
    :param counts: channel -> messages in it, or 1 where only its presence is known.
    :param index: where the offsets of its messages are, if these can be read one by one.
    """

    start: int
    end: int
    offset: int
    length: int
    counts: Counter[int]
    index: ChunkIndex | None = None


class McapFile:
    """The messages of an MCAP file; see :class:`zoe_ros.storage.Storage`."""

    def __init__(self, path: Path) -> None:
        """
        Open a file.

        :raises StorageError: it is no MCAP, or of ROS 1.
        """
        self.channels: dict[int, Channel] = {}
        self.defects: list[str] = []
        self._name = path.name
        self._schemas: dict[int, str] = {}
        self._names: dict[int, tuple[str, str, str]] = {}   # topic, type, encoding
        self._chunks: list[_Chunk] = []
        self._loose: list[tuple[int, int, int, int]] = []   # time, offset, length, channel
        self._counts: Counter[int] = Counter()
        self._data_end = 0, 0       # where the messages end, and the CRC-32 of all before or 0
        self._unchecked = False     # messages were given that no other checksum covers
        self._in_parts = not isinstance(path, Path)     # a remote file
        self._file = open_file(path)
        try:
            self._size = self._file.seek(0, os.SEEK_END)
            if self._read(0, len(MAGIC)) != MAGIC:
                raise StorageError(f'{path.name} is no MCAP file')
            if not self._read_summary():
                self._scan()
            self.channels = {number: Channel(*names, self._counts[number])
                             for number, names in self._names.items()}
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def verify(self) -> None:
        """Compare the checksum of the file, where it alone covers messages; not if remote."""
        end, expected = self._data_end
        if self._in_parts or not (expected and self._unchecked):
            return
        if self._checksum(0, end) != expected:
            self._add_defect('its checksum is wrong, any message may be damaged')

    def messages(self, channels: Collection[int], start: int = 0,
                 stop: int = EVER) -> Iterator[tuple[int, bytes]]:
        """Give messages in the order of recording; see :class:`zoe_ros.storage.Storage`."""
        wanted = frozenset(channels)
        self._unchecked |= bool(self._loose)
        loose = ((time, self._read(offset, length)) for time, offset, length, channel
                 in sorted(self._loose) if channel in wanted and start <= time < stop)
        yield from heapq.merge(self._chunked(wanted, start, stop), loose,
                               key=lambda message: message[0])

    def span(self, channels: Collection[int]) -> tuple[int, int] | None:
        """Return times around all messages; see :class:`zoe_ros.storage.Storage`."""
        wanted = frozenset(channels)
        times = [(chunk.start, chunk.end) for chunk in self._chunks
                 if wanted & chunk.counts.keys()]
        times += [(time, time) for time, _, _, channel in self._loose if channel in wanted]
        if not times:
            return None
        return min(first for first, _ in times), max(last for _, last in times)

    def _chunked(self, wanted: frozenset[int], start: int,
                 stop: int) -> Iterator[tuple[int, bytes]]:
        """Give the messages of the chunks, of which some may overlap in time."""
        waiting: list[tuple[int, int, bytes]] = []
        number = 0      # keeps those of one time in the order of the file
        for chunk in sorted(self._chunks, key=lambda chunk: chunk.start):
            if chunk.end < start or (chunk.counts and not wanted & chunk.counts.keys()):
                continue
            if chunk.start >= stop:
                break
            while waiting and waiting[0][0] < chunk.start:
                time, _, data = heapq.heappop(waiting)
                yield time, data
            for kind, content in self._candidates(chunk, wanted):
                if kind != _MESSAGE or len(content) < _MESSAGE_HEAD.size:
                    continue
                channel, _, time, _ = _MESSAGE_HEAD.unpack_from(content)
                if channel in wanted and start <= time < stop:
                    data = bytes(content[_MESSAGE_HEAD.size:])
                    heapq.heappush(waiting, (time, number, data))
                    number += 1
        while waiting:
            time, _, data = heapq.heappop(waiting)
            yield time, data

    def _candidates(self, chunk: _Chunk, wanted: frozenset[int]
                    ) -> Iterator[tuple[int, memoryview]]:
        """
        Give kind and content of records of a chunk, at least of the wanted messages.

        Of a remote file as little as possible is read: the checksum of a chunk is then not used.
        """
        if chunk.index is not None:
            try:
                yield from [(_MESSAGE, memoryview(content)) for content in
                            read_messages(self._read, chunk.index, wanted)]
                return
            except (IndexDamagedError, struct.error):
                pass
        yield from self._records_in(chunk)

    # --- the way through the file ---

    def _read(self, offset: int, length: int) -> bytes:
        """Read as many of these bytes as there are."""
        self._file.seek(offset)
        return self._file.read(min(length, max(self._size - offset, 0)))

    def _checksum(self, start: int, end: int) -> int:
        """Return the CRC-32 of a part of the file."""
        found = 0
        for at in range(start, end, _BLOCK):
            found = crc32(self._read(at, min(_BLOCK, end - at)), found)
        return found

    def _walk(self, offset: int) -> Iterator[tuple[int, int, int]]:
        """
        Give kind, offset and length of the content of each record from ``offset`` to the footer.

        :raises _DamagedError: the file ends before, or holds something else.
        """
        while True:
            prefix = self._read(offset, _PREFIX.size)
            if len(prefix) < _PREFIX.size:
                raise _DamagedError(_CUT)
            kind, length = _PREFIX.unpack(prefix)
            offset += _PREFIX.size
            if kind == 0:
                raise _DamagedError(f'there is no record at byte {offset - _PREFIX.size}')
            yield kind, offset, length
            if offset + length > self._size:
                raise _DamagedError(_CUT)
            if kind == _FOOTER:
                return
            offset += length

    def _read_summary(self) -> bool:
        """Read the index at the end of the file; tell whether it is there and complete."""
        footer = self._read(self._size - _FOOTER_SIZE, _FOOTER_SIZE)
        if (len(footer) < _FOOTER_SIZE or footer[-len(MAGIC):] != MAGIC
                or footer[:_PREFIX.size] != _PREFIX.pack(_FOOTER, 20)):
            return False
        start, _, checksum = struct.unpack_from('<QQI', footer, _PREFIX.size)
        if not len(MAGIC) < start < self._size - _FOOTER_SIZE:
            return False
        # The checksum covers the footer, too, as far as itself.
        if checksum and self._checksum(start, self._size - len(MAGIC) - 4) != checksum:
            return False
        statistics = None
        try:
            self._note_data_end(start - _DATA_END_SIZE)
            for kind, offset, length in self._walk(start):
                if kind in (_SCHEMA, _CHANNEL):
                    self._note(kind, self._read(offset, length))
                elif kind == _CHUNK_INDEX:
                    self._note_chunk_index(self._read(offset, length))
                elif kind == _STATISTICS:
                    statistics = self._read(offset, length)
            if statistics is not None:
                messages, _, channels, _, _, chunks = struct.unpack_from('<QHIIII', statistics)
                counts = memoryview(statistics)[46:46 + struct.unpack_from('<I', statistics,
                                                                           42)[0]]
                self._counts = Counter(dict(struct.iter_unpack('<HQ', counts)))
                if (chunks == len(self._chunks) and channels == len(self._names)
                        and (chunks or not messages) and self._counts.total() == messages):
                    return True
        except (_DamagedError, struct.error):
            pass    # then record by record
        self._schemas, self._names, self._chunks = {}, {}, []
        self._counts = Counter()
        return False

    def _note_chunk_index(self, content: bytes) -> None:
        start, end, offset, length, indexes = struct.unpack_from('<QQQQI', content)
        present = dict.fromkeys((channel for channel, _ in struct.iter_unpack(
            '<HQ', content[36:36 + indexes])), 1)
        if offset + length > self._size:
            raise _DamagedError('a chunk lies beyond its end')
        self._chunks.append(_Chunk(
            start, end, offset + _PREFIX.size, length - _PREFIX.size, Counter(present),
            parse_chunk_index(content) if self._in_parts else None))

    def _scan(self) -> None:
        """Look at each record of a file without a complete index."""
        try:
            for kind, offset, length in self._walk(len(MAGIC)):
                if kind in (_SCHEMA, _CHANNEL):
                    self._note(kind, self._read(offset, length))
                elif kind == _MESSAGE and offset + length <= self._size:
                    channel, _, time, _ = _MESSAGE_HEAD.unpack(
                        self._read(offset, _MESSAGE_HEAD.size))
                    self._counts[channel] += 1
                    self._loose.append((time, offset + _MESSAGE_HEAD.size,
                                        length - _MESSAGE_HEAD.size, channel))
                elif kind == _CHUNK and offset + _CHUNK_HEAD.size < self._size:
                    start, end, _, _ = _CHUNK_HEAD.unpack(self._read(offset, _CHUNK_HEAD.size))
                    self._chunks.append(_Chunk(start, end, offset, length, Counter()))
                elif kind == _DATA_END:
                    self._note_data_end(offset - _PREFIX.size)
                    break
        except (_DamagedError, struct.error) as error:
            self._add_defect(first_line(error))
        for chunk in self._chunks:
            # The message indexes behind it have no checksum: one that is damaged would hide it.
            self._look_into(chunk)
            self._counts += chunk.counts

    def _look_into(self, chunk: _Chunk) -> None:
        """Learn the channels of a chunk and its times, and count its messages."""
        first, last = EVER, 0
        for kind, content in self._records_in(chunk):
            if kind in (_SCHEMA, _CHANNEL):
                try:
                    self._note(kind, bytes(content))
                except (_DamagedError, struct.error) as error:
                    self._add_defect(first_line(error))
            elif kind == _MESSAGE and len(content) >= _MESSAGE_HEAD.size:
                channel, _, time, _ = _MESSAGE_HEAD.unpack_from(content)
                chunk.counts[channel] += 1
                first, last = min(first, time), max(last, time)
        chunk.start, chunk.end = first, last

    def _note_data_end(self, offset: int) -> None:
        """Keep the checksum of all records before ``offset``."""
        kind, length, checksum = struct.unpack('<BQI', self._read(offset, _DATA_END_SIZE))
        if (kind, length) == (_DATA_END, 4):
            self._data_end = offset, checksum

    def _note(self, kind: int, content: bytes) -> None:
        """Keep a schema or a channel."""
        if kind == _SCHEMA:
            number, = struct.unpack_from('<H', content)
            self._schemas[number] = ros_type(_text(content, 2)[0])
            return
        number, schema = struct.unpack_from('<HH', content)
        topic, offset = _text(content, 4)
        encoding, _ = _text(content, offset)
        self._names[number] = topic, self._schemas.get(schema, ''), encoding

    # --- chunks ---

    def _records_in(self, chunk: _Chunk) -> Iterator[tuple[int, memoryview]]:
        """Give kind and content of the records of a chunk that can be read."""
        try:
            records, whole = self._decompressed(chunk)
        except (_DamagedError, struct.error) as error:
            self._add_defect(f'the chunk at byte {chunk.offset} is damaged: {first_line(error)}')
            return
        data, at = memoryview(records), 0
        while at + _PREFIX.size <= len(data):
            kind, length = _PREFIX.unpack_from(data, at)
            at += _PREFIX.size
            if at + length > len(data):
                break
            yield kind, data[at:at + length]
            at += length
        if at != len(data) and whole:
            self._add_defect(f'the chunk at byte {chunk.offset} is damaged: it ends in a record')

    def _decompressed(self, chunk: _Chunk) -> tuple[bytes, bool]:
        """
        Return the records of a chunk, and whether these are all: it may be cut off.

        :raises _DamagedError: they are not those that were written.
        """
        content = self._read(chunk.offset, chunk.length)
        _, _, size, checksum = _CHUNK_HEAD.unpack_from(content)
        compression, at = _text(content, _CHUNK_HEAD.size)
        length, = struct.unpack_from('<Q', content, at)
        data = content[at + 8:at + 8 + length]
        try:
            records = _decompress(data, compression, size)
        except Exception as error:  # each library has its own
            raise _DamagedError(first_line(error)) from None
        if len(content) < chunk.length:
            self._add_defect(_CUT)
            return records, False
        if len(records) != size:
            raise _DamagedError(f'{len(records)} bytes instead of {size}')
        self._unchecked |= not checksum
        if checksum and crc32(records) != checksum:
            raise _DamagedError('its checksum is wrong')
        return records, True

    def _add_defect(self, text: str) -> None:
        text = f'{self._name}: {text}'
        if text not in self.defects:
            self.defects.append(text)


def _text(content: bytes, offset: int) -> tuple[str, int]:
    """Return a text of a record, and the offset behind it."""
    length, = struct.unpack_from('<I', content, offset)
    start, end = offset + 4, offset + 4 + length
    if end > len(content):
        raise _DamagedError('a text is cut off')
    return content[start:end].decode(errors='replace'), end


def _decompress(data: bytes, compression: str, size: int) -> bytes:
    """Return at most ``size`` bytes; of data that is cut off, those that can be had."""
    if not compression or not data:
        return data
    if compression == 'lz4':
        # It reserves all that it may return, and the size may be damaged.
        return bytes(LZ4FrameDecompressor().decompress(data, min(size, _LZ4_RATIO * len(data))))
    if compression == 'zstd':
        return zstd.unpack(data, size)
    raise _DamagedError(f"compression '{compression}' is not one of lz4, zstd")
