"""Damaged bags: each goes through the reader, and every tenth through the whole of ``zoe run``."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
import shutil
from typing import Any, NamedTuple
import zlib

import bags
from bench.attack import child, zoe
import numpy as np
import raw_mcap
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from zoe_ros.bag import BagError, BagReader
from zoe_ros.headers import nanoseconds
from zoe_ros.images import decode_image, MessageError

SAMPLE = Path(__file__).resolve().parents[2] / 'zoe_ros' / 'data' / 'sample'
RUN_EVERY = 10
# The images as they were recorded, with or without a sentence; all that is left, and a sentence of
# what is missing; a sentence; or bytes changed that no checksum covers, which nobody can see.
GOOD = ('same', 'told', 'refused', 'unseen')


class Source(NamedTuple):
    """
    A whole bag.

    :param checked: what checksums in the file cover: 'nothing', 'pixels' or 'messages'.
    """

    path: Path
    checked: str = 'nothing'


@dataclass
class Found:
    """
    What a reader gave.

    :param images: time of recording -> stamp, frame, checksum of the pixels, and numbers of the
        CameraInfo, of each image of that time.
    :param said: its sentences.
    """

    images: Counter[tuple[Any, ...]]
    said: list[str]


def sources(folder: Path) -> dict[str, Source]:
    """Write whole bags of both storages, packed and unpacked, with and without checksums."""
    messages, png = camera(6), camera(6, encoding='png')
    records = [(recorded, raw_mcap.message(1 if topic == raw_mcap.INFO else 2, recorded,
                                           bags.ROSBAGS.to_bytes(message)))
               for topic, message, recorded in camera(6, raw_mcap.IMAGE, raw_mcap.INFO)]
    made = {'the sample bag, MCAP of JPEG images': Source(SAMPLE)}

    def write(name: str, data: bytes) -> Source:
        path = folder / name
        path.write_bytes(data)
        return Source(path, 'nothing' if 'plain' in name else 'messages')

    def rosbag(name: str, content: Any, storage: str, packed: str = 'NONE') -> Source:
        return Source(_written(folder / name, content, storage, packed),
                      'pixels' if content is png else 'nothing')

    made['MCAP'] = rosbag('mcap', messages, 'mcap')
    made['MCAP, PNG images'] = rosbag('mcap_png', png, 'mcap')
    made['MCAP, zstd in chunks'] = write(
        'zstd_plain.mcap', raw_mcap.whole(records, 4, 'zstd', checksums=False))
    made['MCAP, zstd in chunks, checksums'] = write(
        'zstd.mcap', raw_mcap.whole(records, 4, 'zstd'))
    made['MCAP, lz4 in chunks, checksums'] = write('lz4.mcap', raw_mcap.whole(records, 4, 'lz4'))
    made['MCAP without chunks, checksum'] = write('loose.mcap', raw_mcap.whole(records, 0))
    made['SQLite3'] = rosbag('sqlite', messages, 'sqlite3')
    made['SQLite3, PNG images, no metadata'] = Source(
        bags.storage_file(rosbag('sqlite_png', png, 'sqlite3').path), 'pixels')
    made['SQLite3, zstd of the file'] = rosbag('sqlite_file', messages, 'sqlite3', 'FILE')
    made['SQLite3, zstd of messages'] = rosbag('sqlite_message', messages, 'sqlite3', 'MESSAGE')
    return made


def camera(count: int, *topics: str, **form: str) -> list[tuple[str, Any, int]]:
    """Return messages of a camera that zooms: each image has a CameraInfo of its own."""
    messages = bags.camera_messages(count, *topics, **form)
    for number, (_, info, _) in enumerate(messages[::2]):
        info.k[0] += number
    return list(messages)


def _written(path: Path, messages: Any, storage: str, packed: str) -> Path:
    plugin = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}[storage]
    writer = Writer(path, version=8, storage_plugin=plugin)
    writer.set_compression(CompressionMode[packed], CompressionFormat.ZSTD)
    with writer:
        connections: dict[str, Any] = {}
        for topic, message, recorded in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(
                    topic, message.__msgtype__, typestore=bags.TYPESTORE)
            writer.write(connections[topic], recorded,
                         bags.TYPESTORE.serialize_cdr(message, message.__msgtype__))
    return path


# --- damage ---------------------------------------------------------------------------------


def damaged(data: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Return what was done to a file, and its new bytes."""
    changed = bytearray(data)
    # Half of all damage is where the structure of a file is dense: at its two ends.
    near = int(rng.choice((len(data), 400, 2500)))

    def place() -> int:
        at = int(rng.integers(min(near, len(data))))
        return at if rng.random() < 0.5 else len(data) - 1 - at

    how = str(rng.choice(('flip', 'flip', 'byte', 'bytes', 'cut', 'hole', 'noise', 'zeros')))
    at, length = place(), int(rng.choice((1, 8, 100, 5000)))
    if how == 'flip':
        changed[at] ^= 1 << int(rng.integers(8))
    elif how == 'byte':
        changed[at] = int(rng.choice((0, 1, 127, 128, 255)))
    elif how == 'bytes':
        for _ in range(8):
            changed[place()] = int(rng.integers(256))
    elif how == 'cut':
        del changed[at:]
    elif how == 'hole':
        del changed[at:at + length]
    else:
        end = min(at + length, len(data))
        changed[at:end] = rng.bytes(end - at) if how == 'noise' else bytes(end - at)
    return f'{how} at {at} of {len(data)}', bytes(changed)


def damaged_copy(source: Path, target: Path, rng: np.random.Generator) -> tuple[str, Path]:
    """Copy a bag, damage one of its files; return what was done, and the path of the copy."""
    if source.is_file():
        target.mkdir()
        path = target / source.name
        shutil.copyfile(source, path)
        files = [path]
    else:
        shutil.copytree(source, target)
        path = target
        files = [file for file in sorted(target.iterdir()) if file.suffix != '.md']
    # The metadata get a quarter.
    storages = [file for file in files if file.name != 'metadata.yaml']
    file = storages[0] if rng.random() < 0.75 or len(files) == 1 else target / 'metadata.yaml'
    how, data = damaged(file.read_bytes(), rng)
    file.write_bytes(data)
    return f'{file.name}: {how}', path


# --- reading --------------------------------------------------------------------------------


def read(path: Path) -> Found:
    """Read the images of a bag and the CameraInfo of each, as ``zoe run`` does."""
    images: Counter[tuple[Any, ...]] = Counter()
    try:
        bag = BagReader(path)
    except BagError as error:
        return Found(images, [str(error)])
    with bag:
        said = list(bag.notes)
        try:
            for item in bag:
                try:
                    images[_seen(bag, item)] += 1
                except MessageError as error:
                    said.append(str(error))
        except BagError as error:
            said.append(str(error))
        return Found(images, said)


def _seen(bag: BagReader, item: Any) -> tuple[Any, ...]:
    header = item.message.header
    image = decode_image(item.message)
    info = bag.info_of(header, item.recorded)
    numbers = () if info is None else (
        info.height, info.width, info.distortion_model,
        *(zlib.crc32(bytes(np.asarray(part))) for part in (info.d, info.k, info.r, info.p)))
    return (item.recorded, nanoseconds(header.stamp), header.frame_id, image.shape,
            zlib.crc32(image), numbers)


# --- judging --------------------------------------------------------------------------------


def judge(whole: Found, end: child.End, checked: str) -> tuple[str, str]:
    """Return the class of a result, and what there is to say about it."""
    if end.kind != 'returned':
        return {'raised': 'crash', 'died': 'crash', 'hung': 'hang'}.get(end.kind, end.kind), str(
            end.value)
    found = end.value
    for text in found.said:
        if not text or '\n' in text or len(text) > 600:
            return 'crash', f'not one sentence: {text!r}'
    lost, strange = whole.images - found.images, found.images - whole.images
    if not found.images:
        return ('refused', found.said[0]) if found.said else ('wrong', 'nothing, not a word')
    if not lost and not strange:
        return ('told', found.said[0]) if found.said else ('same', '')
    if lost.total() > strange.total() and not found.said:
        return 'wrong', f'{lost.total() - strange.total()} images less, not a word'
    if strange:
        text = f'{strange.total()} images differ: {sorted(strange)[0]}; {found.said}'
        if found.said:
            return 'told', text
        pixels = {seen[3:5] for seen in whole.images}
        changed = any(seen[3:5] not in pixels for seen in strange)
        covered = checked == 'messages' or (checked == 'pixels' and changed)
        return ('wrong' if covered else 'unseen'), text
    return 'told', found.said[0]


def attack(folder: Path, count: int, seed: int) -> Iterator[tuple[str, str, str, str]]:
    """
    Read ``count`` damaged bags.

    :return: of each the source, what was done, the class of the result and a remark.
    """
    made = sources(folder)
    wholes = {name: read(source.path) for name, source in made.items()}
    weights = zoe.weights(folder)
    names = list(made)
    for number in range(count):
        name = names[number % len(names)]
        source = made[name]
        rng = np.random.default_rng((seed, number))
        target = folder / f'damaged_{number}'
        how, path = damaged_copy(source.path, target, rng)
        kind, text = judge(wholes[name], child.call(read, path), source.checked)
        if number % RUN_EVERY == 0 and kind not in ('crash', 'hang'):
            kind, text = _run(path, folder, weights, kind, text)
        shutil.rmtree(target)
        yield name, how, kind, text


def _run(path: Path, folder: Path, weights: Path, kind: str, text: str) -> tuple[str, str]:
    """Let ``zoe run`` do what the reader did; return a class that is as bad or worse."""
    log, output = folder / 'log.txt', folder / 'results'
    arguments = (path, '--output', output, '--router-time-constant', 0)
    end = child.call(partial(zoe.main, weights, *arguments), log=log)
    said = log.read_text(errors='replace')
    lines = [line for line in said.splitlines() if line.startswith('zoe: ')]
    if end.kind != 'returned' or 'Traceback' in said or 'Error ---' in said:
        return 'crash', f'zoe run: {end.value}\n{said}'
    if end.value not in (0, 2) or len(lines) != (end.value == 2):
        return 'crash', f'zoe run: code {end.value}\n{said}'
    bag = output / 'latest' / 'bag'
    if kind == 'same' and (end.value or not bag.is_dir()):
        return 'wrong', f'zoe run refuses a bag that is read: {said}'
    if bag.is_dir():
        bags.read_bag(bag)
    shutil.rmtree(output, ignore_errors=True)
    return kind, text
