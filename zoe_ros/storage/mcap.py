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

MAGIC = b'\x89MCAP0\r\n'
# Kinds of records.
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _MESSAGE_INDEX, _CHUNK_INDEX = range(2, 9)
_STATISTICS, _DATA_END = 0x0B, 0x0F
_PREFIX = struct.Struct('<BQ')          # of a record: its kind and its length
_MESSAGE_HEAD = struct.Struct('<HIQQ')  # channel, sequence, times of recording and publishing [ns]
_CHUNK_HEAD = struct.Struct('<QQQI')    # first and last time [ns], size and CRC-32 uncompressed
_CUT = 'the end of the file is missing'


class _DamagedError(Exception):
    """Records that cannot be followed any further."""


@dataclass
class _Chunk:
    """
    Where a chunk is.

    :param start: time of its first message [ns].
    :param offset: of its content in the file, ``length`` bytes.
    :param counts: channel -> messages in it, as the message indexes behind it say.
    """

    start: int
    offset: int
    length: int
    counts: Counter[int]


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
        self._file = path.open('rb')
        try:
            self._size = os.fstat(self._file.fileno()).st_size
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

    def messages(self, channels: Collection[int], start: int = 0,
                 stop: int = EVER) -> Iterator[tuple[int, bytes]]:
        """Give messages in the order of recording; see :class:`zoe_ros.storage.Storage`."""
        wanted = frozenset(channels)
        loose = ((time, self._read(offset, length)) for time, offset, length, channel
                 in sorted(self._loose) if channel in wanted and start <= time < stop)
        yield from heapq.merge(self._chunked(wanted, start, stop), loose,
                               key=lambda message: message[0])

    def _chunked(self, wanted: frozenset[int], start: int,
                 stop: int) -> Iterator[tuple[int, bytes]]:
        """Give the messages of the chunks, of which some may overlap in time."""
        waiting: list[tuple[int, int, bytes]] = []
        number = 0      # keeps those of one time in the order of the file
        for chunk in sorted(self._chunks, key=lambda chunk: chunk.start):
            if chunk.counts and not wanted & chunk.counts.keys():
                continue
            if chunk.start >= stop:
                break
            while waiting and waiting[0][0] < chunk.start:
                time, _, data = heapq.heappop(waiting)
                yield time, data
            for kind, content in self._records_in(chunk):
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

    # --- the way through the file ---

    def _read(self, offset: int, length: int) -> bytes:
        """Read as many of these bytes as there are."""
        self._file.seek(offset)
        return self._file.read(min(length, max(self._size - offset, 0)))

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
        footer = self._read(self._size - 37, 37)
        if (len(footer) < 37 or footer[-len(MAGIC):] != MAGIC
                or footer[:_PREFIX.size] != _PREFIX.pack(_FOOTER, 20)):
            return False
        start, = struct.unpack_from('<Q', footer, _PREFIX.size)
        if not len(MAGIC) < start < self._size - 37:
            return False
        statistics = None
        try:
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
        start, _, offset, length, indexes = struct.unpack_from('<QQQQI', content)
        present = dict.fromkeys((channel for channel, _ in struct.iter_unpack(
            '<HQ', content[36:36 + indexes])), 1)
        if offset + length > self._size:
            raise _DamagedError('a chunk lies beyond its end')
        self._chunks.append(_Chunk(start, offset + _PREFIX.size, length - _PREFIX.size,
                                   Counter(present)))

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
                    start, _, _, _ = _CHUNK_HEAD.unpack(self._read(offset, _CHUNK_HEAD.size))
                    self._chunks.append(_Chunk(start, offset, length, Counter()))
                elif kind == _MESSAGE_INDEX and self._chunks:
                    channel, size = struct.unpack('<HI', self._read(offset, 6))
                    self._chunks[-1].counts[channel] += size // 16
                elif kind == _DATA_END:
                    break
        except (_DamagedError, struct.error) as error:
            self._add_defect(first_line(error))
        for chunk in self._chunks:
            if not chunk.counts or not chunk.counts.keys() <= self._names.keys():
                self._look_into(chunk)
            self._counts += chunk.counts

    def _look_into(self, chunk: _Chunk) -> None:
        """Learn the channels of a chunk, and count its messages."""
        chunk.counts = Counter()
        for kind, content in self._records_in(chunk):
            if kind in (_SCHEMA, _CHANNEL):
                try:
                    self._note(kind, bytes(content))
                except (_DamagedError, struct.error) as error:
                    self._add_defect(first_line(error))
            elif kind == _MESSAGE and len(content) >= _MESSAGE_HEAD.size:
                chunk.counts[_MESSAGE_HEAD.unpack_from(content)[0]] += 1

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
        return bytes(LZ4FrameDecompressor().decompress(data, size))
    if compression == 'zstd':
        return zstd.unpack(data, size)
    raise _DamagedError(f"compression '{compression}' is not one of lz4, zstd")
