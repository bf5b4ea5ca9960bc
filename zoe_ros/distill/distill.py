"""``zoe distill``: labels by a teacher, then training of a student, measured before and after."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
import json
from pathlib import Path
import shutil

from zoe_ros.command_settings import WorldSettings
from zoe_ros.counts import counted
from zoe_ros.datasets import Dataset
from zoe_ros.datasets.labels import open_labels
from zoe_ros.datasets.open import open_datasets
from zoe_ros.distill.label import check_bags, label_bags
from zoe_ros.distill.label_fleet import label_in_fleet
from zoe_ros.distill.recipe import DistillSettings
from zoe_ros.distill.student import mean_error, student_config, train_settings
from zoe_ros.distill.teacher import Teacher
from zoe_ros.extras import require
from zoe_ros.files import whole_file
from zoe_ros.fleet import Fleet
from zoe_ros.inference.choices import resolve_device
from zoe_ros.model.config import ZoeConfig
from zoe_ros.model.identity import weights_by_name, weights_identity
from zoe_ros.model.weights import load_model
from zoe_ros.provenance import changed_inputs, data_digest, other_settings
from zoe_ros.results import check_output
from zoe_ros.run_many import find_data
from zoe_ros.storage.remote import to_path
from zoe_ros.training.recipe import TrainSettings
from zoe_ros.training.start import start_identity, starting_model
from zoe_ros.training.trainer import MODEL, train
from zoe_ros.world.make import make_world

SETTINGS, SUMMARY = 'distill.json', 'summary.json'
_INPUTS = 'inputs'      # beside the settings: name -> hash
# Figures of the summary.
TEACHER, WORLD = 'REL to the teacher', 'REL on the world'
_FREE = ('device', 'workers', 'output')     # settings that do not change the result
# The world that is rendered if there is none: six minutes on two cores.
_SCENES, _HELD_OUT, _FRAMES = 200, 20, 3


class DistillError(ValueError):
    """A distillation that cannot start; the text says why."""


def distill(settings: DistillSettings, fleet: Fleet | None = None) -> Path:
    """
    Label the bags, train the student, and return the folder with its model and ``SUMMARY``.

    The same settings continue an interrupted run; a finished one is not done again.

    :param fleet: that labels the bags; None for this process alone.
    :raises ValueError, OSError: bags, weights, labels or a setting cannot be used.
    """
    output = Path(settings.output)
    check_output(output)
    bags = find_data(settings.data, output)
    named = replace(settings, data=tuple(map(str, bags)))
    inputs = _inputs(named)
    _check_folder(output, named, inputs)
    if (output / SUMMARY).is_file() and (output / MODEL).is_file():
        return output
    config = student_config(settings.start)
    run = train_settings(settings, config, output / 'training')
    check_bags(bags, settings)
    require('a training', 'train', 'matplotlib')    # told before the labels, as the next mistake
    starting_model(config, run)     # its weights may be missing, which is told before the labels
    # The workers of a fleet need the memory of the GPUs.
    teacher = Teacher(settings.teacher, 'cpu' if fleet else settings.device, settings.precision)
    _check_router(teacher, config)
    output.mkdir(parents=True, exist_ok=True)
    with whole_file(output / SETTINGS) as part:
        part.write_text(json.dumps({**asdict(named), _INPUTS: inputs}, indent=1) + '\n',
                        encoding='utf-8')
    labels = Path(settings.labels or output / 'labels').expanduser()
    # The order in which a mistake of the user is told earliest.
    world = _find_world(settings, output)
    folders = (label_in_fleet(bags, settings, labels, teacher, fleet) if fleet
               else label_bags(bags, settings, labels, teacher))
    del teacher         # its memory is needed
    _train_and_measure(run, config, output, folders, world)
    return output


def _train_and_measure(run: TrainSettings, config: ZoeConfig, output: Path,
                       folders: list[Path], world: list[str]) -> None:
    """Train the student on labels and world; write its model, and its errors before and after."""
    device = resolve_device(run.device)
    held_out = open_labels(folders, 'test')
    learnt = open_labels(folders, 'train')
    tests: dict[str, Sequence[Dataset]] = {TEACHER: held_out}
    if world:
        tests[WORLD] = open_datasets(world, 'test')
    before = starting_model(config, run).to(device)
    figures = {'before': {name: mean_error(before, data) for name, data in tests.items()}}
    del before
    model = train(run, [*learnt, *open_datasets(world, 'train')], held_out, config)
    after = load_model(config, model, device)
    figures['after'] = {name: mean_error(after, data) for name, data in tests.items()}
    with whole_file(output / MODEL) as part:
        shutil.copyfile(model, part)
    frames = {'learnt': sum(map(len, learnt)),
              **{name: sum(map(len, data)) for name, data in tests.items()}}
    with whole_file(output / SUMMARY) as part:
        part.write_text(json.dumps({'frames': frames, **figures}, indent=1) + '\n')


def report(folder: Path) -> str:
    """
    Return the summary of a finished run as text.

    :raises DistillError: the file is damaged.
    """
    try:
        summary = json.loads((folder / SUMMARY).read_text())
        frames = summary['frames']
        lines = [f'learnt from {counted(frames["learnt"], "frame")}', '',
                 f'{"held-out frames":20} before   after  images']
        lines += [f'{name:20} {summary["before"][name]:6.3f}  {summary["after"][name]:6.3f} '
                  f'{frames[name]:7}' for name in summary['before']]
    except (ValueError, TypeError, KeyError):
        raise DistillError(f'{folder / SUMMARY} is damaged: remove it, and the same command '
                           'writes it again') from None
    return '\n'.join(lines)


def _inputs(settings: DistillSettings) -> dict[str, str | None]:
    """Return the hashes of bags, teacher and initial weights, by their names in sentences."""
    teacher = weights_by_name(settings.teacher)
    return {**{bag: data_digest(to_path(bag)) for bag in settings.data},
            f'the teacher {settings.teacher}':
                ', '.join(weights_identity(teacher).values()) if teacher else None,
            f'the student {settings.start}':
                start_identity(settings.start, settings.encoder_weights)}


def _check_folder(output: Path, settings: DistillSettings,
                  inputs: dict[str, str | None]) -> None:
    """
    Compare settings and inputs with those of a run in the folder.

    :raises DistillError: the folder holds another run, or something else.
    """
    path = output / SETTINGS
    if not path.is_file():
        if output.exists() and any(item != path.with_name(f'{SETTINGS}.part')
                                   for item in output.iterdir()):
            raise DistillError(f'{output} holds something else than a run of zoe distill: choose '
                               'another --output')
        return
    try:
        theirs = dict(json.loads(path.read_text(encoding='utf-8')))
        then = dict(theirs.get(_INPUTS, {}))
    except (ValueError, TypeError):
        raise DistillError(f'{path} is damaged: choose another --output') from None
    other = [{'data': 'bags', 'start': 'from'}.get(name, name)
             for name in other_settings(output, settings, theirs, _FREE, (_INPUTS,))]
    if other:
        raise DistillError(f'{output} holds a run with another {" and ".join(other)}: choose '
                           'another --output, or the same settings to continue it')
    changed = changed_inputs(then, inputs)
    if changed:
        more = f' and {len(changed) - 1} more' if len(changed) > 1 else ''
        raise DistillError(f'{changed[0]}{more} changed since the run in {output} began: choose '
                           'another --output')


def _check_router(teacher: Teacher, config: ZoeConfig) -> None:
    """Raise a DistillError if nobody teaches the student's router."""
    if config.router is not None and len(teacher.heads) == 1:
        raise DistillError(f'the teacher {teacher.title} has no router, but the student '
                           f'{config.title} has one to learn: take a teacher with both heads, '
                           "like 'nk', or a student with one head")


def _find_world(settings: DistillSettings, output: Path) -> list[str]:
    """Return the folder of the world, rendered if there is none; nothing if the share is 0."""
    if not settings.world_share:
        return []
    if settings.world:
        open_datasets([settings.world], 'train')    # a mistake is told before hours of work
        return [settings.world]
    return [str(make_world(WorldSettings(
        folder=str(output / 'world'), recipe='varied', scenes=_SCENES, held_out=_HELD_OUT,
        frames=_FRAMES)))]
