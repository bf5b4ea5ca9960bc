"""The command ``zoe``: arguments become settings, errors one line and exit code 2."""
from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields
import io
import logging
from pathlib import Path
import shlex
import sys
from typing import Any, NoReturn

from zoe_ros import __version__
from zoe_ros.command_settings import (
    BenchSettings,
    CalibrateSettings,
    EvalSettings,
    ExportSettings,
    WorldSettings,
)
from zoe_ros.distill.recipe import DistillSettings
from zoe_ros.inference.malloc import keep_freed_memory
from zoe_ros.settings import IMAGES_OF_A_PART, LEROBOT, RunSettings
from zoe_ros.stdout import Stdout
from zoe_ros.storage.remote import refuse_address
from zoe_ros.training.recipe import TrainSettings

# How the help calls the values of an option.
_KINDS = {str: 'TEXT', int: 'INTEGER', float: 'NUMBER'}
# Options of data with known depth: paths, patterns, lists.
_DATA = 'data', 'held_out'


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    keep_freed_memory()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file name may have letters that the terminal does not know.
        sys.stdout.reconfigure(errors='backslashreplace')
    stdout = Stdout()
    logging.basicConfig(format='%(message)s', handlers=[stdout])
    logging.getLogger('zoe_ros').setLevel(logging.INFO)     # others tell of warnings
    for chatty in ('onnxscript', 'onnx_ir'):    # a warning for each operator
        logging.getLogger(chatty).setLevel(logging.ERROR)
    options = vars(_parser().parse_args(arguments))
    command = options.pop('command')
    remote = ('address', *(('data',) if command in (_run, _fleet, _distill) else ()))
    try:
        _refuse_addresses(options, remote)
        for text in command(**options):
            stdout.say(text)
    except (ValueError, OSError, RuntimeError) as error:   # RuntimeError: torch, out of memory
        topics = getattr(error, 'topics', ())
        print(f'zoe: {error}' + ('; choose one:' if topics else ''), file=sys.stderr)
        for topic in topics:
            command, *others = arguments
            print(f'  zoe {shlex.join([command, "--topic", topic, *others])}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('zoe: interrupted; results so far are kept', file=sys.stderr)
        return 130
    return 2 if stdout.lost else 0


def _refuse_addresses(options: Mapping[str, object], allowed: Collection[str]) -> None:
    """Raise a ValueError if an option names another machine where a path of this one is needed."""
    for name, value in options.items():
        texts = value if isinstance(value, (list, tuple)) else [value]
        for text in texts if name not in allowed else []:
            if isinstance(text, str):
                refuse_address(text)


def _run(**options: object) -> Iterator[str]:
    data, shard = options.pop('data'), options.pop('shard')
    assert isinstance(data, list) and isinstance(shard, str)
    settings = RunSettings(data=data[0], **options)  # type: ignore[arg-type]
    from zoe_ros.named_data import is_many
    from zoe_ros.run_many import find_data, run_many, take_shard

    if shard or is_many(data):
        found = find_data(data, Path(settings.output))
        yield from run_many(take_shard(found, shard), settings, shard)
        return
    from zoe_ros.run import run  # here: help and usage errors need no torch

    folder = run(settings)
    yield f'\nresults in {folder}'
    if (folder / 'overview.png').is_file():
        yield f'  look at {folder / "overview.png"}'
    if (folder / 'bag').is_dir():
        yield f'  open {folder / "bag"} in Foxglove or rerun, or: ros2 bag play {folder / "bag"}'
    if (folder / LEROBOT).is_dir():
        yield f"  read it with LeRobotDataset('zoe/depth', root='{folder / LEROBOT}')"


def _fleet(**options: object) -> Iterator[str]:
    data, workers, address, cut = (
        options.pop(name) for name in ('data', 'workers', 'address', 'cut'))
    assert isinstance(data, list) and isinstance(workers, int) and isinstance(address, str)
    assert isinstance(cut, int)
    settings = RunSettings(data=data[0], **options)  # type: ignore[arg-type]
    from zoe_ros.fleet import run_fleet
    from zoe_ros.run_many import find_data

    yield from run_fleet(find_data(data, Path(settings.output)), settings, workers, address, cut)


def _bench(**options: object) -> Iterator[str]:
    settings = BenchSettings(**options)  # type: ignore[arg-type]
    from zoe_ros.benchmark import bench

    yield from bench(settings)


def _eval(**options: object) -> Iterator[str]:
    workers = _pop_fleet(options)
    settings = EvalSettings(**_with_data(options))  # type: ignore[arg-type]
    failed = ''
    if workers is not None:
        from zoe_ros.evaluate_fleet import evaluate_in_fleet
        from zoe_ros.fleet import Fleet

        folder, failed = evaluate_in_fleet(settings, Fleet(*workers))
    elif settings.temporal:
        from zoe_ros.temporal import run_temporal

        folder = run_temporal(settings)
    else:
        from zoe_ros.evaluate import run_evaluation

        folder = run_evaluation(settings)
    yield (folder / 'table.txt').read_text()
    yield f'metrics of each image and pictures in {folder}'
    if failed:
        raise ValueError(failed)


def _export(**options: object) -> Iterator[str]:
    settings = ExportSettings(**options)  # type: ignore[arg-type]
    from zoe_ros.export import export

    done = export(settings)
    yield f'{done.graph} agrees with torch to {done.difference:.1g}; {done.facts} describes it'


def _calibrate(**options: object) -> Iterator[str]:
    settings = CalibrateSettings(**_with_data(options))  # type: ignore[arg-type]
    from zoe_ros.calibrate import run_calibration

    yield run_calibration(settings)


def _train(**options: object) -> Iterator[str]:
    settings = TrainSettings(**_with_data(options))  # type: ignore[arg-type]
    from zoe_ros.training.trainer import run_training

    yield f'\nthe model is {run_training(settings)}'


def _distill(**options: object) -> Iterator[str]:
    workers = _pop_fleet(options)
    settings = DistillSettings(**options)  # type: ignore[arg-type]
    from zoe_ros.distill.distill import distill, report
    from zoe_ros.fleet import Fleet
    from zoe_ros.training.trainer import MODEL

    folder = distill(settings, None if workers is None else Fleet(*workers))
    yield f'\n{report(folder)}'
    yield f'\nthe model is {folder / MODEL}'


def _with_data(options: dict[str, object]) -> dict[str, object]:
    """
    Return options with the paths that those of data stand for.

    :raises ValueError: a pattern or a list names nothing, or another machine.
    """
    from zoe_ros.named_data import local_data

    return {name: local_data(value) if name in _DATA else value  # type: ignore[arg-type]
            for name, value in options.items()}


def _pop_fleet(options: dict[str, object]) -> tuple[int, str] | None:
    """
    Remove the options of :func:`_add_fleet`; return workers and address, None without --fleet.

    :raises ValueError: one of the others is given without --fleet.
    """
    fleet, workers, address = (
        options.pop(name) for name in ('fleet', 'fleet_workers', 'address'))
    assert isinstance(workers, int) and isinstance(address, str)
    if not fleet and (workers or address):
        raise ValueError(f'{"--address" if address else "--fleet-workers"} needs --fleet')
    return (workers, address) if fleet else None


def _world(**options: object) -> Iterator[str]:
    settings = WorldSettings(**options)  # type: ignore[arg-type]
    from zoe_ros.world.render import require_packages

    require_packages()      # before modules that import them
    from zoe_ros.world.make import make_world
    from zoe_ros.world.record import record_world

    yield f'\nthe world is in {(record_world if settings.bag else make_world)(settings)}'


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog='zoe', description='Metric depth from a single camera with ZoeDepth.')
    parser.add_argument('--version', action='version', version=f'zoe_ros {__version__}')
    commands = parser.add_subparsers(title='commands', required=True, metavar='COMMAND')

    command = commands.add_parser(
        'run', help='depth and point clouds for an image, a folder of images or a bag',
        description='Compute metric depth for an image, a folder of images, or the images of a '
                    'rosbag2; also point clouds if the bag has CameraInfo. The exit code is 2 if '
                    'the bag is damaged or cut off, even if all its images were read; the '
                    'results so far are kept. Several DATA, a pattern in quotes, or @FILE with '
                    'one path or pattern a line: each gets a folder in OUTPUT, finished ones '
                    'are skipped, and the others go on if one fails.')
    command.set_defaults(command=_run)
    command.add_argument('data', metavar='DATA', nargs='+', type=_path,
                         help='image, folder of images, rosbag2 folder, .mcap or .db3')
    command.add_argument('--shard', metavar='I/N', default='',
                         help='only the I-th of N parts of DATA, to share the work between '
                              'processes or machines; I = 1 ... N')
    _add_settings(command, RunSettings)

    command = commands.add_parser(
        'fleet', help='zoe run over many bags, by several processes or a cluster',
        description='Run over many bags as zoe run does, with one worker for each GPU, or several '
                    'on the CPU. Ray (https://ray.io) starts the workers, on this machine or on a '
                    'cluster. A worker that dies is started again; only its bag is run again.')
    command.set_defaults(command=_fleet)
    command.add_argument('data', metavar='DATA', nargs='+', type=_path,
                         help='bags, patterns in quotes, or @FILE with one path or pattern a line')
    command.add_argument('--workers', metavar='INTEGER', type=int, default=0,
                         help='the number of workers (default: one for each GPU; without a GPU, '
                              'one for every two processors)')
    command.add_argument('--address', metavar='TEXT', default='',
                         help="a running cluster of Ray: HOST:PORT, or 'auto' for that of this "
                              'machine (default: start Ray on this machine)')
    command.add_argument('--cut', metavar='INTEGER', type=int, default=IMAGES_OF_A_PART,
                         help='cut a bag that holds more images than the equal share of a worker '
                              'into parts of at least so many images; depth stays the same. 0: '
                              'cut no bag (default: %(default)s)')
    _add_settings(command, RunSettings)

    data: dict[str, Any] = {
        'metavar': 'DATA', 'nargs': '+', 'type': _path,
        'help': 'folder of a dataset or of zoe world, RGB-D folder or folder of such folders, or '
                'RGB-D bag; also a pattern in quotes, or @FILE with one path or pattern a line'}
    command = commands.add_parser(
        'eval', help='metrics of a model on data with known depth',
        description='Compute REL, RMSE, log10, SILog, deltas and the accuracy of the router with '
                    'the protocol of each dataset, and draw pictures. For RGB-D folders also '
                    'REL after scaling by medians, REL after alignment in disparity and the '
                    'rank correlation, for each source and group, beside baselines. With '
                    '--temporal, how steady the depth of bags is from frame to frame.')
    command.set_defaults(command=_eval)
    command.add_argument('data', **data)
    _add_fleet(command, 'share bags between')
    _add_settings(command, EvalSettings)

    command = commands.add_parser(
        'calibrate', help='fit the uncertainty of a model to its errors on data with known depth',
        description='Fit the predicted standard deviation of depth to the errors on data that the '
                    'model was not trained on. The result is written beside the weights, and '
                    'every command and the node use it.')
    command.set_defaults(command=_calibrate)
    command.add_argument('data', **data)
    _add_settings(command, CalibrateSettings)

    command = commands.add_parser(
        'train', help='train or fine-tune a model',
        description='Train with the recipe of the paper; under torchrun with several processes. '
                    'The same command resumes an interrupted run exactly.')
    command.set_defaults(command=_train)
    command.add_argument('--data', required=True, **data)
    _add_settings(command, TrainSettings)

    command = commands.add_parser(
        'distill', help='learn a fast model of your own robot from its bags, without labels',
        description='Label the images of bags by a large model, train a small model on these '
                    'labels, and state its REL to the large one on held-out frames, the last '
                    'fifth of each bag, before and after. Scenes of zoe world are mixed in so '
                    'that the small model forgets less. The same command resumes an interrupted '
                    'run exactly.')
    command.set_defaults(command=_distill)
    command.add_argument('data', metavar='BAG', nargs='+', type=_path,
                         help='rosbag2 folder, .mcap or .db3; also a pattern in quotes, or @FILE '
                              'with one path or pattern a line')
    _add_fleet(command, 'label bags by')
    _add_settings(command, DistillSettings)

    command = commands.add_parser(
        'world', help='render a synthetic dataset for training and evaluation',
        description='Render rooms and streets with exact depth, by ray casting on the CPU.')
    command.set_defaults(command=_world)
    command.add_argument('folder', metavar='FOLDER', type=_path, help='output folder')
    _add_settings(command, WorldSettings)

    command = commands.add_parser(
        'export', help='write a model for ONNX Runtime, OpenVINO or TensorRT',
        description='Write a model as an ONNX file for images of one size, and a JSON file that '
                    'describes inputs and outputs. ONNX Runtime must compute the same depth as '
                    'torch, else nothing is written.')
    command.set_defaults(command=_export)
    command.add_argument('folder', metavar='FOLDER', type=_path,
                         help='output folder, new or empty')
    _add_settings(command, ExportSettings)

    command = commands.add_parser(
        'bench', help='measure the speed of the estimator on this machine',
        description='Time the estimator and compare it with the matrix product of this machine. '
                    'Prints a table; the last line is JSON.')
    command.set_defaults(command=_bench)
    _add_settings(command, BenchSettings)
    return parser


def _path(text: str) -> str:
    """Refuse an empty path, which would mean this folder; a shell makes one of an unset name."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty: '.' is this folder")
    return text


def _add_fleet(command: argparse.ArgumentParser, purpose: str) -> None:
    """Add the options of a command whose bags workers can share."""
    command.add_argument('--fleet', action='store_true',
                         help=f'{purpose} workers, as zoe fleet does; needs Ray')
    command.add_argument('--fleet-workers', metavar='INTEGER', type=int, default=0,
                         help='the number of these workers, see --workers of zoe fleet')
    command.add_argument('--address', metavar='TEXT', default='',
                         help='a running cluster of Ray for --fleet, see zoe fleet')


def _add_settings(command: argparse.ArgumentParser, kind: type) -> None:
    """Add an option for each setting, with its description; the settings check the values."""
    for item in fields(kind):
        if not item.metadata or item.metadata['live']:
            continue
        flag = item.metadata['flag'] or '--' + item.name.replace('_', '-')
        text = item.metadata['text'].replace('%', '%%')
        if isinstance(item.default, bool):
            # Some versions of Python append the default to the help themselves.
            command.add_argument(
                flag, default=item.default, action=argparse.BooleanOptionalAction,
            ).help = f'{text} (default: {"yes" if item.default else "no"})'
            continue
        choices = item.metadata['choices']
        if isinstance(item.default, tuple):
            command.add_argument(flag, dest=item.name, help=text, default=item.default, nargs='+',
                                 metavar=item.metadata['metavar'])
            continue
        command.add_argument(
            flag, dest=item.name, type=type(item.default), default=item.default,
            choices=choices or None,
            metavar='|'.join(filter(None, choices)) or _KINDS[type(item.default)],
            help=text + (' (default: %(default)s)' if item.default != '' else ''))


class _Parser(argparse.ArgumentParser):
    """A parser that reports a wrong argument in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f'{self.prog}: {message} (see {self.prog} --help)\n')

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print; exit with code 2 if the help or the version cannot be written."""
        if file is not sys.stdout:
            super()._print_message(message, file)
            return
        stdout = Stdout()
        stdout.say(message.rstrip('\n'))
        if stdout.lost:
            self.exit(2)


if __name__ == '__main__':
    sys.exit(main())
