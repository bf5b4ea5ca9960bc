"""``zoe run`` over many bags: a folder for each, finished ones skipped, failed ones reported."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
import hashlib
import json
import logging
from pathlib import Path
import shutil
from typing import Any

import yaml

from zoe_ros.bag import is_bag
from zoe_ros.errors import first_line
from zoe_ros.files import whole_file
from zoe_ros.inference.engine import DepthEstimator
from zoe_ros.model.identity import known_weights, weights_identity
from zoe_ros.named_data import named
from zoe_ros.photos import find_photos
from zoe_ros.provenance import changed_inputs, data_digest, other_settings
from zoe_ros.run import CONFIG, FOUND, load_estimator, run, SUMMARY
from zoe_ros.run_table import DONE, EARLIER, FAILED, FIGURES, Outcome, Table, TABLE_NAME
from zoe_ros.settings import RunSettings
from zoe_ros.storage.recording import is_storage_name, METADATA
from zoe_ros.storage.remote import to_path

# Beside the results: name of an input -> SHA-256, see `inputs_of`.
INPUTS = 'inputs.json'
# Behind the name of the results: the folder of the parts of a bag.
CUT = '.cut'
# By which a run over a bag fails, as for the command.
PROBLEMS = (ValueError, OSError, RuntimeError)
# Makes the results of a run, and returns their folder.
Work = Callable[[RunSettings, DepthEstimator], Path]

log = logging.getLogger(__name__)


def find_data(given: Sequence[str], output: Path) -> list[Path]:
    """
    Return the paths that arguments name, sorted, each once; results of earlier runs are no data.

    :param given: see :func:`zoe_ros.named_data.named`.
    :param output: folder of the results.
    :raises ValueError: a pattern or a list names nothing, or no list can be read there.
    :raises OSError: another machine cannot be read.
    """
    found = {_one_name(path) for path in named(given)}
    own = {path for path in found if _is_result(path, _one_name(output))}
    if own == found:
        raise ValueError(f'nothing is named but results of earlier runs in {output}')
    if own:
        log.info('results of an earlier run are left out: %s',
                 ', '.join(sorted(path.name for path in own)))
    return sorted(found - own, key=str)     # remote paths of several kinds do not compare


def _one_name(path: Path) -> Path:
    """Return a path by the name that it has in any working folder: results have it in theirs."""
    if path.name == METADATA:
        path = path.parent
    path = path.absolute()
    if not isinstance(path, Path) or '..' not in path.parts:
        return path
    # Behind the last '..', links keep their names.
    last = len(path.parts) - path.parts[::-1].index('..')
    return Path(*path.parts[:last]).resolve().joinpath(*path.parts[last:])


def _is_result(path: Path, output: Path) -> bool:
    """Tell whether a path is, or is in, what earlier runs left in the folder of the results."""
    if path == output:      # photographs beside their results are data
        return path.is_dir() and not is_bag(path) and not find_photos(path)[0]
    if not isinstance(path, Path) or output not in path.parents:
        return False
    top = output / path.relative_to(output).parts[0]
    return (((top / CONFIG).is_file() and (top / SUMMARY).is_file())
            or top.suffix in ('.part', CUT) or bool(TABLE_NAME.fullmatch(top.name)))


def take_shard(data: list[Path], shard: str) -> list[Path]:
    """
    Return the part of the data that a process works on.

    :param shard: 'i/n' for the i-th of n parts, from 1; empty for all.
    :raises ValueError: the text is not such a part.
    """
    if not shard:
        return data
    number, _, count = shard.partition('/')
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ValueError(f"shard '{shard}' is not I/N with I = 1 ... N, like 1/4")
    return data[int(number) - 1::int(count)]


def run_many(data: list[Path], settings: RunSettings, shard: str = '') -> Iterator[str]:
    """
    Run over each of the data; yield texts for the user.

    :param settings: of all runs, but for ``data``.
    :param shard: see :func:`take_shard`; part of the name of the table.
    :raises ValueError: the model cannot be loaded, or some of the data failed.
    :raises OSError: the table cannot be written.
    """
    if not data:
        yield f'nothing to do in shard {shard}'
        return
    estimator = None
    with Table(Path(settings.output), shard) as table:
        for number, each in enumerate(data, start=1):
            one = replace(settings, data=str(each))
            log.info('%d of %d: %s', number, len(data), each)
            outcome = earlier(one)
            if outcome is None:
                estimator = estimator or load_estimator(settings)
                outcome = run_one(one, estimator)
            if outcome.error:
                log.error('failed: %s', outcome.error)
            table.outcomes.append(outcome)
    yield from closing_texts(table)


def closing_texts(table: Table) -> Iterator[str]:
    """
    Yield what the user is told after all runs.

    :raises ValueError: some of them failed.
    """
    yield f'\n{table.text()}\n{table.path} has this table'
    if table.failed():
        raise ValueError(table.failed())


def earlier(settings: RunSettings) -> Outcome | None:
    """
    Return the outcome where there are results already; None where there is work to do.

    :param settings: of one run; ``output`` is the folder that has the results of all.
    """
    folder = results_folder(Path(settings.output), to_path(settings.data))
    if not folder.exists():
        return None
    try:
        _require_same(folder, settings)
        _require_unchanged(folder, settings)
        _discard_unfinished(settings)   # of a process that was killed when these were complete
        return Outcome(settings.data, str(folder), EARLIER, _figures(folder))
    except (ValueError, OSError) as problem:
        return Outcome(settings.data, str(folder), FAILED, error=one_line(problem))


def run_one(settings: RunSettings, estimator: DepthEstimator, work: Work = run) -> Outcome:
    """
    Run over one of many data; a failure is an outcome, too.

    Results are in ``<output>/<name>-<hash of the path>``, which appears when they are complete.
    What a failed run wrote stays in ``...part`` until the next attempt.

    :param settings: of this run; ``output`` is the folder that has the results of all.
    :param work: makes the results.
    """
    folder = results_folder(Path(settings.output), to_path(settings.data))
    try:
        _run_into(folder, settings, estimator, work)
        return Outcome(settings.data, str(folder), DONE, _figures(folder))
    except PROBLEMS as problem:
        return failure(settings, problem)


def failure(settings: RunSettings, problem: BaseException | str) -> Outcome:
    """Return the outcome of a run that failed, for a reason in one sentence or by an error."""
    folder = results_folder(Path(settings.output), to_path(settings.data))
    return Outcome(settings.data, str(folder), FAILED, error=(
        problem if isinstance(problem, str) else one_line(problem)))


def cut_folder(settings: RunSettings) -> Path:
    """Return the folder of the parts of a bag that several workers share."""
    folder = results_folder(Path(settings.output), to_path(settings.data))
    return folder.with_name(folder.name + CUT)


def part_folder(settings: RunSettings) -> Path:
    """Return the folder of the results of a bag until they are complete."""
    folder = results_folder(Path(settings.output), to_path(settings.data))
    return folder.with_name(folder.name + '.part')


def _discard_unfinished(settings: RunSettings) -> None:
    """Remove what a bag with complete results does not need any more."""
    for folder in (part_folder(settings), cut_folder(settings)):
        shutil.rmtree(folder, ignore_errors=True)


def results_folder(output: Path, data: Path) -> Path:
    """Return the folder of the results: data of one name in two places have two folders."""
    place = hashlib.sha256(str(data).encode()).hexdigest()[:8]
    # No look at another machine for this.
    is_file = (data.is_file() if isinstance(data, Path) and data.exists()
               else is_storage_name(data.name))     # results outlive their bag
    return output / f'{data.stem if is_file else data.name}-{place}'


def _run_into(folder: Path, settings: RunSettings, estimator: DepthEstimator,
              work: Work) -> None:
    """Run, and give the results their name when they are complete."""
    part = part_folder(settings)
    shutil.rmtree(part, ignore_errors=True)     # of a run that failed or was killed
    inputs = inputs_of(settings, estimator)     # data that changes during the run has changed
    made = work(replace(settings, output=str(part)), estimator)
    with whole_file(made / INPUTS) as file:
        file.write_text(json.dumps(inputs, indent=1) + '\n', encoding='utf-8')
    made.replace(folder)
    _discard_unfinished(settings)


def inputs_of(settings: RunSettings, estimator: DepthEstimator) -> dict[str, str | None]:
    """Return the hashes of the data, of the weights and of their calibration."""
    return {'data': data_digest(to_path(settings.data)), **estimator.identity}


def _require_same(folder: Path, settings: RunSettings) -> None:
    """
    Compare the settings of finished results with those of now.

    :raises ValueError: they differ.
    """
    # The settings of the results have the choices that were made for these.
    open_ = [name for name in ('variant', 'precision', 'topic')
             if getattr(settings, name) in ('', 'auto')]
    other = other_settings(folder, settings, _config(folder), ('output', *open_), FOUND)
    if other:
        raise ValueError(f'{folder} was made with another {", ".join(other)}: choose another '
                         '--output or remove it')


def _require_unchanged(folder: Path, settings: RunSettings) -> None:
    """
    Compare the inputs of finished results with those of now.

    :raises ValueError: a bag, or a weights file, has other content under the same path.
    """
    path = folder / INPUTS
    if not path.exists():       # results of an earlier version
        return
    try:
        then = dict(json.loads(path.read_text(encoding='utf-8')))
    except (ValueError, TypeError) as error:
        raise _damaged(path, error) from None
    weights = known_weights(settings.variant or str(_config(folder).get('variant')),
                            settings.weights)
    changed = changed_inputs(then, {'data': data_digest(to_path(settings.data)),
                                    **(weights_identity(weights) if weights else {})})
    names = {'data': settings.data, 'weights': f'the content of {" and ".join(map(str, weights))}',
             'calibration': 'the calibration of the weights'}
    if changed:
        raise ValueError(f'{names[changed[0]]} has changed since {folder} was made: choose '
                         'another --output or remove that folder')


def _config(folder: Path) -> dict[str, Any]:
    try:
        return dict(yaml.safe_load((folder / CONFIG).read_text(encoding='utf-8')))
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise _damaged(folder / CONFIG, error) from None


def _figures(folder: Path) -> dict[str, Any]:
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding='utf-8'))
        return {name: summary[name] for name in FIGURES}
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(folder / SUMMARY, error) from None


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f'{path} is damaged ({type(error).__name__}): remove {path.parent} to run '
                      'over the bag again')


def one_line(problem: BaseException) -> str:
    """Return an error as one sentence, with the topics to choose from if there are several."""
    topics = getattr(problem, 'topics', ())
    return first_line(problem) + (f': name one with --topic: {", ".join(topics)}' if topics
                                  else '')
