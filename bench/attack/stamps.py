"""Stamps that jump: in bags through ``zoe run``, and live through a node."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import shutil
from typing import Any

import bags
from bench.attack import child, zoe
from bench.attack.kills import Judged
import numpy as np

IMAGE, INFO = '/camera/image_raw', '/camera/camera_info'
SIZE = (48, 64)
_LATEST, _EARLIEST, _NANOSECONDS = 2 ** 31 - 1, -2 ** 31, 2 ** 32 - 1

Stamp = tuple[int, int]     # seconds and nanoseconds, as a header has them


def sequence(count: int, rng: np.random.Generator) -> list[Stamp]:
    """Return stamps that step, stand still, and jump anywhere that fits into a header."""
    second, nanosecond = 1_700_000_000, 0
    stamps = []
    for _ in range(count):
        jump = str(rng.choice(('step', 'step', 'step', 'equal', 'back', 'ahead', 'zero',
                               'edge', 'overflow')))
        if jump == 'back':
            second -= int(rng.integers(1, 10 ** 6))
        elif jump == 'ahead':
            second += int(rng.integers(1, 10 ** 6))
        elif jump == 'step':
            second, nanosecond = second + (nanosecond + 10 ** 8) // 10 ** 9, (
                nanosecond + 10 ** 8) % 10 ** 9
        special = {
            'zero': (0, 0), 'overflow': (second, int(rng.integers(10 ** 9, _NANOSECONDS))),
            'edge': ((_LATEST, _NANOSECONDS), (_EARLIEST, 0), (-1, 999_999_999), (0, 1))[
                int(rng.integers(4))]}
        stamps.append(special.get(jump, (second, nanosecond)))
    return stamps


def stamped(family: bags.Family, message: Any, stamp: Stamp) -> Any:
    """Return a message with a stamp, whether that is normal or not."""
    message.header.stamp = family.classes('builtin_interfaces/msg/Time')(
        sec=stamp[0], nanosec=stamp[1])
    return message


def info(family: bags.Family, number: int, stamp: Stamp) -> Any:
    """Return the CameraInfo of an image, with a focal length of its own."""
    focal = 100.0 + number
    return stamped(family, family.info(*SIZE, k=(focal, 0, 32, 0, focal, 24, 0, 0, 1)), stamp)


def attack(folder: Path, count: int, seed: int) -> Iterator[Judged]:
    """
    Run over ``count`` bags of 12 images, each with a CameraInfo of its own.

    :return: of each the name, the stamps, the class of the result and a remark.
    """
    weights = zoe.weights(folder)
    for number in range(count):
        stamps = sequence(12, np.random.default_rng((seed, number)))
        storage = ('mcap', 'sqlite3')[number % 2]
        path, output = folder / f'bag_{number}', folder / 'results'
        write(path, stamps, storage)
        log = folder / 'log.txt'
        end = child.call(zoe.main, weights, path, '--output', output, log=log)
        said = log.read_text()
        kind, text = 'same', ''
        if end != child.End('returned', 0) or 'Traceback' in said:
            kind, text = ('hang' if end.kind == 'hung' else 'crash'), f'{end}\n{said}'
        elif (wrong := wrong_pairs(output / 'latest' / 'bag', stamps)):
            kind, text = 'wrong', wrong
        shutil.rmtree(output, ignore_errors=True)
        yield f'bag, {storage}', str(stamps), kind, text


def write(path: Path, stamps: list[Stamp], storage: str) -> None:
    """Write a bag of one image for each stamp, its CameraInfo just before."""
    messages = []
    for number, stamp in enumerate(stamps):
        recorded = bags.START + number * bags.SECOND // 10
        image = stamped(bags.ROSBAGS, bags.ROSBAGS.photo(bags.picture(*SIZE, seed=number)), stamp)
        messages += [(INFO, info(bags.ROSBAGS, number, stamp), recorded),
                     (IMAGE, image, recorded + bags.SECOND // 100)]
    bags.write_bag(path, messages, storage)


def wrong_pairs(bag: Path, stamps: list[Stamp]) -> str:
    """Return the frames of a bag of results whose stamp or CameraInfo is not that of the image."""
    found = bags.read_bag(bag)
    wrong = []
    for name in ('/depth/image', '/depth/camera_info', '/depth/points'):
        given = [(message.header.stamp.sec, message.header.stamp.nanosec)
                 for _, message in found.get(name, ())]
        if given != stamps:
            wrong.append(f'{name} has the stamps {given}')
    focal = [float(message.k[0]) for _, message in found.get('/depth/camera_info', ())]
    wrong += [f'image {number} of stamp {stamps[number]} has CameraInfo {value - 100:g}'
              for number, value in enumerate(focal) if value != 100 + number]
    return '; '.join(wrong)
