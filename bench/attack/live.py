"""Stamps that jump, live: a node of its own process, asked over DDS."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bags
from bench.attack import stamps, zoe
from bench.attack.kills import Judged
import numpy as np
from ros_support import Client, READY, ROS, running_node, tiny, USUAL

_SETTLE = 0.05      # [s] for CameraInfo to arrive before its image, which another topic carries


def attack(folder: Path, count: int, seed: int) -> Iterator[Judged]:
    """
    Ask a node for the depth of images with stamps that jump, each with a CameraInfo of its own.

    :return: of each the name, the stamp, the class of the result and a remark.
    """
    with running_node(**tiny(zoe.weights(folder))) as node, \
            Client(node, compressed=False) as client:
        node.wait_for(READY)
        client.wait_for_match()
        for number, stamp in enumerate(stamps.sequence(count, np.random.default_rng(seed))):
            kind, text = _ask(client, number, stamp)
            if node.process.poll() is not None or 'Traceback' in node.output:
                kind, text = 'crash', node.output
            yield 'live', str(stamp), kind, text
            if kind in ('crash', 'hang'):
                return
        ended = node.end()
        yield 'live', 'end', 'same' if ended == 0 else 'crash', node.output if ended else ''


def _ask(client: Any, number: int, stamp: stamps.Stamp) -> tuple[str, str]:
    info = stamps.info(ROS, number, stamp)
    image = stamps.stamped(ROS, ROS.photo(bags.picture(*stamps.SIZE, seed=number)), stamp)
    client.infos.publish(info)
    client.spin(_SETTLE)
    try:
        client.ask(image, info)
    except AssertionError as error:
        return 'hang', f'{error}'
    answers = [client.received[name][-1] for name in USUAL]
    if any(answer.header != image.header for answer in answers):
        return 'wrong', f'{[answer.header for answer in answers]}'
    focal = answers[1].k[0]
    return ('same', '') if focal == 100 + number else ('wrong', f'CameraInfo {focal - 100:g}')
