"""SIGKILL at random moments of a run and of a training, and a second start after each."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
import shutil
import time
from typing import Any

import bags
from bench.attack import child, results, zoe
import numpy as np
import short_training

from zoe_ros.training.trainer import train

Judged = tuple[str, str, str, str]


def attack(folder: Path, runs: int, trainings: int, seed: int) -> Iterator[Judged]:
    """
    Kill runs and trainings.

    :return: of each the name, the moment, the class of the result and a remark.
    """
    weights = zoe.weights(folder)
    bag = bags.write_bag(folder / 'bag', bags.camera_messages(5, size=(240, 320)))

    def run(output: Path) -> Any:
        return zoe.main(weights, bag, '--output', output)

    yield from _kill('zoe run', run, _latest, folder / 'run', runs, seed)
    yield from _kill('zoe train', _train, Path, folder / 'train', trainings, seed + 1)


def _train(output: Path) -> int:
    train(short_training.settings(output, steps=3, checkpoint_steps=1), short_training.DATA,
          config=short_training.CONFIG)
    return 0


def _latest(output: Path) -> Path:
    return (output / 'latest').resolve()


def _kill(name: str, start: Callable[[Path], Any], result: Callable[[Path], Path], folder: Path,
          count: int, seed: int) -> Iterator[Judged]:
    folder.mkdir()
    log = folder / 'log.txt'
    begin = time.monotonic()
    end = child.call(start, folder / 'whole', log=log)
    seconds = time.monotonic() - begin
    if end != child.End('returned', 0):
        raise RuntimeError(f'{name} fails undisturbed: {end}\n{log.read_text()}')
    whole = results.contents(result(folder / 'whole'))
    rng = np.random.default_rng(seed)
    for number in range(count):
        output = folder / str(number)
        moment = float(rng.uniform(0, seconds))
        while not child.kill_after(moment, start, output):
            # It ended before: the machine is less busy now.
            shutil.rmtree(output)
            seconds *= 0.8
            moment *= 0.8
        how = f'killed after {moment:.3f} of {seconds:.3f} s'
        defects = results.unreadable(output)
        end = child.call(start, output, log=log)
        if defects:
            yield name, how, 'wrong', f'unreadable: {defects}'
        elif end != child.End('returned', 0):
            yield name, how, 'crash', f'the second start fails: {end}\n{log.read_text()}'
        elif (other := _difference(whole, results.contents(result(output)))):
            yield name, how, 'wrong', f'the second start differs in {other}'
        else:
            yield name, how, 'same', ''
        shutil.rmtree(output)


def _difference(whole: dict[str, Any], found: dict[str, Any]) -> list[str]:
    return sorted(name for name in whole.keys() | found.keys()
                  if whole.get(name) != found.get(name))
