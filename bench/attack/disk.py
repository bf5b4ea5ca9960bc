"""A full disk at every write: small file systems in memory, of more and more bytes and files."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
import subprocess
from typing import Any

import bags
from bench.attack import child, results, zoe
from bench.attack.kills import Judged
import made_up
import short_training

from zoe_ros import cli
from zoe_ros.command_settings import WorldSettings
from zoe_ros.training.trainer import train
from zoe_ros.world.make import make_world

_PAGE = 4096
_WORLD = {'scenes': 1, 'held_out': 1, 'frames': 1, 'height': 32, 'width': 64, 'workers': 1}


def attack(folder: Path, steps: int) -> Iterator[Judged]:
    """
    Run each command on disks of up to ``steps`` sizes and as many numbers of files.

    :return: of each the name, the disk, the class of the result and a remark.
    """
    weights = zoe.weights(folder)
    bag = bags.write_bag(folder / 'bag', bags.camera_messages(3, size=(240, 320)))
    photos = folder / 'photos'
    photos.mkdir()
    for name in 'ab':
        (photos / f'{name}.png').write_bytes(bags.encoded(bags.picture(90, 120)))
    world = folder / 'world'
    make_world(WorldSettings(folder=str(world), **_WORLD))
    commands: dict[str, Callable[[Path], int]] = {
        'zoe run, bag': lambda disk: zoe.main(weights, bag, '--output', disk / 'out'),
        'zoe run, photographs': lambda disk: zoe.main(weights, photos, '--output', disk / 'out'),
        'zoe eval': lambda disk: cli.main([
            'eval', str(world), '--variant', 'tiny', '--weights', str(weights), '--device', 'cpu',
            '--output', str(disk / 'out')]),
        'zoe train': lambda disk: _train(disk / 'out'),
        'zoe world': lambda disk: cli.main([
            'world', str(disk / 'out'), *(word for name, value in _WORLD.items() for word in (
                f'--{name.replace("_", "-")}', str(value)))]),
        'zoe world --bag': lambda disk: cli.main([
            'world', str(disk / 'out'), '--bag', 'indoor', '--frames', '2', '--height', '240',
            '--width', '320']),
        'weights': lambda disk: _reported(made_up.write_tiny, disk / 'a.safetensors'),
    }
    for name, command in commands.items():
        yield from _fill(name, command, folder, steps)


def _train(output: Path) -> int:
    return _reported(train, short_training.settings(output, steps=2, checkpoint_steps=1),
                     short_training.DATA, (), short_training.CONFIG)


def _reported(function: Callable[..., Any], *arguments: Any) -> int:
    """Call what has no options of the tiny model in the command line; report as the command."""
    try:
        function(*arguments)
    except (ValueError, OSError, RuntimeError) as error:
        print(f'zoe: {error}')
        return 2
    return 0


def _fill(name: str, command: Callable[[Path], int], folder: Path, steps: int) -> Iterator[Judged]:
    with _disk(folder / 'disk', 'size=256m') as disk:
        end = child.call(command, disk, log=folder / 'log.txt')
        if end != child.End('returned', 0):
            raise RuntimeError(f'{name} fails: {end}\n{(folder / "log.txt").read_text()}')
        pages = sum(-(-path.stat().st_size // _PAGE) + 2 for path in disk.rglob('*'))
        files = sum(1 for _ in disk.rglob('*')) + 3
    sizes = sorted({1 + pages * number // steps for number in range(steps)})
    for option in [f'size={size * _PAGE}' for size in sizes] + [
            f'size=256m,nr_inodes={number}' for number in range(2, min(files, steps) + 1)]:
        with _disk(folder / 'disk', option) as disk:
            kept = disk / 'kept.txt'
            kept.write_text('whole\n')
            end = child.call(command, disk, log=folder / 'log.txt')
            said = (folder / 'log.txt').read_text(errors='replace')
            yield (name, option, *(_judge(end, said, disk) if kept.read_text() == 'whole\n'
                                   else ('wrong', 'a file from before is damaged')))


def _judge(end: child.End, said: str, disk: Path) -> tuple[str, str]:
    if end.kind != 'returned' or 'Traceback' in said or 'Error ---' in said:
        return 'crash', f'{end}\n{said[-1500:]}'
    defects = results.unreadable(disk)
    if defects:
        return 'wrong', f'unreadable: {defects}\n{said[-300:]}'
    if end.value == 0:
        return 'fits', ''
    lines = [line for line in said.splitlines() if line.startswith('zoe: ')]
    if end.value != 2 or len(lines) != 1 or str(disk) not in lines[0]:
        return 'wrong', f'no sentence that names the file: {end.value} {lines or said[-300:]}'
    return 'told', lines[0]


@contextmanager
def _disk(path: Path, options: str) -> Iterator[Path]:
    """Mount a file system in memory, which needs the rights of root."""
    path.mkdir(exist_ok=True)
    subprocess.run(['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(['umount', str(path)], check=True)
