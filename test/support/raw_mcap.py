"""MCAP files record by record, right or wrong in every field; and ways to damage bags."""
from collections import Counter
import struct
import sys
from zlib import crc32

import bags
from lz4.frame import compress as lz4

if sys.version_info >= (3, 14):
    from compression.zstd import compress as zstd
else:
    from backports.zstd import compress as zstd

MAGIC = b'\x89MCAP0\r\n'
IMAGE, INFO = '/cam/image_raw', '/cam/camera_info'
IMAGE_TYPE, INFO_TYPE = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CameraInfo'


def text(value):
    """Return a text as a record holds it."""
    data = value.encode()
    return struct.pack('<I', len(data)) + data


def record(kind, content):
    """Return a record."""
    return struct.pack('<BQ', kind, len(content)) + content


def header(profile='ros2'):
    """Return the record at the start of a file."""
    return record(1, text(profile) + text('test'))


def schema(number, name, encoding='ros2msg', definition=''):
    """Return the record of a type."""
    return record(3, struct.pack('<H', number) + text(name) + text(encoding) + text(definition))


def channel(number, kind, topic, encoding='cdr'):
    """Return the record of a channel of the type with number ``kind``."""
    return record(4, struct.pack('<HH', number, kind) + text(topic) + text(encoding)
                  + struct.pack('<I', 0))


def message(number, time, data):
    """Return the record of a message."""
    return record(5, struct.pack('<HIQQ', number, 0, time, time) + data)


def chunk(records, times, compression='', checksum=0):
    """Return a chunk of records without indexes behind it."""
    packed = {'lz4': lz4, 'zstd': zstd, '': bytes}[compression](records)
    return record(6, struct.pack('<QQQI', min(times), max(times), len(records), checksum)
                  + text(compression) + struct.pack('<Q', len(packed)) + packed)


def index(number, count):
    """Return the index of a channel's messages in the chunk before; where they are is zero."""
    return record(7, struct.pack('<HI', number, 16 * count) + bytes(16 * count))


def end():
    """Return what stands at the end of a file without a summary."""
    return record(15, bytes(4)) + record(2, bytes(20)) + MAGIC


def whole(records, per_chunk=2, compression='', checksums=True):
    """
    Return a complete file of a camera, as recorders leave it: with index, counts and checksums.

    :param records: as of :func:`camera_records`.
    :param per_chunk: messages of a chunk; 0 for a file without chunks.
    """
    body, indexes = MAGIC + header(), b''
    if not per_chunk:
        body += camera_types() + b''.join(data for _, data in records)
    for at in range(0, len(records), per_chunk) if per_chunk else ():
        some = records[at:at + per_chunk]
        content = (b'' if at else camera_types()) + b''.join(data for _, data in some)
        times = [time for time, _ in some]
        made = chunk(content, times, compression, crc32(content) if checksums else 0)
        offsets = b''.join(struct.pack('<HQ', number, 0) for number in {
            _channel_of(data) for _, data in some})
        indexes += record(8, struct.pack('<QQQQI', min(times), max(times), len(body), len(made),
                                         len(offsets)) + offsets + struct.pack('<Q', 0)
                          + text(compression) + struct.pack('<QQ', len(made), len(content)))
        body += made
    checksum = crc32(body) if checksums and not per_chunk else 0
    body += record(15, struct.pack('<I', checksum))
    counts = Counter(_channel_of(data) for _, data in records)
    summary = camera_types() + indexes + record(11, struct.pack(
        '<QHIIIIQQI', len(records), 2, 2, 0, 0, -(-len(records) // per_chunk) if per_chunk else 0,
        records[0][0], records[-1][0], 10 * len(counts))
        + b''.join(struct.pack('<HQ', *pair) for pair in counts.items()))
    footer = struct.pack('<BQQQ', 2, 20, len(body), 0)
    checksum = crc32(summary + footer) if checksums else 0
    return body + summary + footer + struct.pack('<I', checksum) + MAGIC


def _channel_of(data):
    """Return the channel of a record of a message."""
    return struct.unpack_from('<H', data, 9)[0]


def camera_types(image='', info='', encoding='ros2msg'):
    """Return types and channels of a camera: 1 its CameraInfo, 2 its images."""
    return (schema(1, INFO_TYPE, encoding, info) + channel(1, 1, INFO)
            + schema(2, IMAGE_TYPE, encoding, image) + channel(2, 2, IMAGE))


def camera_records(count):
    """Return (time, record) of the messages of a camera, each CameraInfo before its image."""
    return [(recorded, message(1 if topic == INFO else 2, recorded, bags.ROSBAGS.to_bytes(sent)))
            for topic, sent, recorded in bags.camera_messages(count, IMAGE, INFO)]


def write(path, *parts):
    """Write a file of these records; return its path."""
    path.write_bytes(MAGIC + b''.join(parts))
    return path
