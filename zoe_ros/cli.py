"""The command ``zoe``: arguments to settings, errors to one line and exit code 2."""
from __future__ import annotations

import argparse
from collections.abc import Sequence
import logging
import shlex
import sys
from typing import NoReturn

from zoe_ros import __version__
from zoe_ros.settings import ASPECTS, PRECISIONS, ROUTERS, RunSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    logging.basicConfig(level=logging.INFO, format='%(message)s', stream=sys.stdout)
    logging.getLogger('httpx').setLevel(logging.WARNING)    # one line for each request
    options = vars(_parser().parse_args(arguments))
    try:
        options.pop('command')(**options)
    except (ValueError, OSError, RuntimeError) as error:   # RuntimeError: torch, out of memory
        topics = getattr(error, 'topics', ())
        print(f'zoe: {error}' + ('; choose one:' if topics else ''), file=sys.stderr)
        for topic in topics:
            print(f'  zoe {shlex.join(arguments)} --topic {topic}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('zoe: interrupted; what was done until now is kept', file=sys.stderr)
        return 130
    return 0


def _run(**options: object) -> None:
    from zoe_ros.run import run  # here: help and usage errors need no torch

    folder = run(RunSettings(**options))  # type: ignore[arg-type]
    print(f'\nresults in {folder}')
    if (folder / 'overview.png').is_file():
        print(f'  look at {folder / "overview.png"}')
    if (folder / 'bag').is_dir():
        print(f'  open {folder / "bag"} in Foxglove or rerun, or: ros2 bag play {folder / "bag"}')


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog='zoe', description='Metric depth from one ordinary camera, by ZoeDepth.')
    parser.add_argument('--version', action='version', version=f'zoe_ros {__version__}')
    commands = parser.add_subparsers(title='commands', required=True, metavar='COMMAND')

    command = commands.add_parser(
        'run', help='depth and clouds of a photograph, a folder of them, or a bag',
        description='Metric depth of a photograph, a folder of photographs, or the images of a '
                    'rosbag2, with clouds where the bag has CameraInfo.')
    command.set_defaults(command=_run)
    command.add_argument('data', metavar='DATA', help='photograph, folder, rosbag2 folder, .mcap '
                                                      'or .db3')
    command.add_argument('--topic', help='image topic of a bag that has several')
    command.add_argument('--output', metavar='FOLDER', help='parent of the results (%(default)s)')
    command.add_argument('--variant', help='n (indoor), k (outdoor), nk (both and a router), or '
                                           'the model in the weights file (%(default)s)')
    command.add_argument('--weights', metavar='FILE', help='checkpoint; without it the released '
                                                           'weights are fetched once')
    command.add_argument('--device', help='auto, cpu, cuda or cuda:N (%(default)s)')
    command.add_argument('--precision', choices=PRECISIONS, help='(%(default)s)')
    command.add_argument('--aspect', choices=ASPECTS, help='stretch to the training resolution, '
                                                           'or keep the ratio (%(default)s)')
    command.add_argument('--pad', action='store_true', help='mirror a border around the image')
    command.add_argument('--flip', action='store_true', help='average with the mirrored image')
    command.add_argument('--router', choices=ROUTERS, help='which head (%(default)s: by image)')
    command.add_argument('--point-cloud-downsample', type=_positive, metavar='N',
                         help='the cloud takes every Nth row and column (%(default)s)')
    command.set_defaults(**{
        name: field.default for name, field in RunSettings.__dataclass_fields__.items()
        if name != 'data'})
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return int(text)


class _Parser(argparse.ArgumentParser):
    """A parser that answers a wrong argument with one line."""

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        self.exit(2, f'{self.prog}: {message} (see {self.prog} --help)\n')


if __name__ == '__main__':
    sys.exit(main())
