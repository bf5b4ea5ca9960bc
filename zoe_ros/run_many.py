"""``zoe run`` over many bags: a folder for each, finished ones skipped, failed ones reported."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
import csv
from dataclasses import asdict, replace
import glob
import hashlib
import io
import json
import logging
from pathlib import Path
import shutil
from typing import Any

import yaml

from zoe_ros.errors import first_line
from zoe_ros.files import whole_file
from zoe_ros.run import load_estimator, run
from zoe_ros.settings import RunSettings

# Before the path of a list, as compilers have it.
LIST = '@'
# Columns of the table; the figures are those of summary.json.
FIGURES = ('frames', 'rate_hz', 'latency_p50_ms', 'depth_p5_m', 'depth_p50_m', 'depth_p95_m',
           'share_without_depth')
COLUMNS = ('data', 'folder', 'state', *FIGURES, 'error')
DONE, EARLIER, FAILED = 'done', 'done earlier', 'failed'

log = logging.getLogger(__name__)


def is_many(given: Sequence[str]) -> bool:
    """Tell whether arguments may name several bags: several, a pattern, or a list of paths."""
    return len(given) > 1 or given[0].startswith(LIST) or _is_pattern(given[0])


def find_data(given: Sequence[str]) -> list[Path]:
    """
    Return the paths that arguments name, sorted, each once.

    :param given: paths, patterns, and ``@file`` for a file with one path or pattern a line.
    :raises ValueError: a pattern or a list names nothing.
    :raises OSError: a list cannot be read.
    """
    found: set[Path] = set()
    for text in given:
        if text.startswith(LIST):
            lines = Path(text[1:]).expanduser().read_text(encoding='utf-8').splitlines()
            named = [line.strip() for line in lines if line.strip()]
            if not named:
                raise ValueError(f'no path in {text[1:]}')
            found.update(find_data(named))
            continue
        path = Path(text).expanduser()
        matches = glob.glob(str(path), recursive=True) if _is_pattern(text) else [str(path)]
        if not matches:
            raise ValueError(f"nothing matches the pattern '{text}'")
        found.update(Path(match).absolute() for match in matches)
    return sorted(found)


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

    Results are in ``<output>/<name>-<hash of the path>``, which appears when they are complete.
    What a failed run wrote stays in ``...part`` until the next attempt.

    :param settings: of all runs, but for ``data``.
    :param shard: see :func:`take_shard`; part of the name of the table.
    :raises ValueError: the model cannot be loaded, or some of the data failed.
    :raises OSError: the table cannot be written.
    """
    if not data:
        yield f'nothing to do in shard {shard}'
        return
    output = Path(settings.output)
    rows: list[dict[str, Any]] = []
    estimator = None
    path = output / f'summary{"-" * bool(shard)}{shard.replace("/", "-of-")}.csv'
    try:
        for number, each in enumerate(data, start=1):
            folder = results_folder(output, each)
            one = replace(settings, data=str(each))
            if not folder.exists() and estimator is None:
                estimator = load_estimator(settings)
            log.info('%d of %d: %s', number, len(data), each)
            state, error = EARLIER, ''
            try:
                if folder.exists():
                    _require_same(folder, one)
                else:
                    state = DONE
                    _run_into(folder, one, estimator)
            except (ValueError, OSError, RuntimeError) as problem:  # as for the command
                state, error = FAILED, _one_line(problem)
                log.error('failed: %s', error)
            rows.append({'data': str(each), 'folder': str(folder), 'state': state,
                         **(_figures(folder) if state != FAILED else {}), 'error': error})
    finally:
        if rows:
            output.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as part:
                part.write_text(_as_csv(rows), encoding='utf-8')
    yield f'\n{_table(rows)}\n{path} has this table'
    failed = sum(row['state'] == FAILED for row in rows)
    if failed:
        raise ValueError(f'{failed} of {len(rows)} failed; the same command tries them again')


def results_folder(output: Path, data: Path) -> Path:
    """Return the folder of the results: data of one name in two places have two folders."""
    place = hashlib.sha256(str(data).encode()).hexdigest()[:8]
    return output / f'{data.stem if data.is_file() else data.name}-{place}'


def _run_into(folder: Path, settings: RunSettings, estimator: Any) -> None:
    """Run, and give the results their name when they are complete."""
    part = folder.with_name(folder.name + '.part')
    shutil.rmtree(part, ignore_errors=True)     # of a run that failed or was killed
    run(replace(settings, output=str(part)), estimator).replace(folder)
    shutil.rmtree(part)


def _require_same(folder: Path, settings: RunSettings) -> None:
    """
    Compare the settings of finished results with those of now.

    :raises ValueError: they differ.
    """
    then = yaml.safe_load((folder / 'config.yaml').read_text(encoding='utf-8'))
    # The settings of the results have the choices that were made for these.
    open_ = [name for name in ('variant', 'precision', 'topic')
             if getattr(settings, name) in ('', 'auto')]
    now = yaml.safe_load(yaml.safe_dump(asdict(settings)))      # YAML has no tuples
    other = [name for name, value in now.items()
             if name not in ('output', *open_) and then.get(name) != value]
    if other:
        raise ValueError(f'{folder} was made with another {", ".join(other)}: choose another '
                         '--output or remove it')


def _figures(folder: Path) -> dict[str, Any]:
    summary = json.loads((folder / 'summary.json').read_text(encoding='utf-8'))
    return {name: summary[name] for name in FIGURES}


def _one_line(problem: BaseException) -> str:
    topics = getattr(problem, 'topics', ())
    return first_line(problem) + (f': name one with --topic: {", ".join(topics)}' if topics
                                  else '')


def _is_pattern(text: str) -> bool:
    return glob.has_magic(text) and not Path(text).expanduser().exists()


def _as_csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval='', lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _table(rows: list[dict[str, Any]]) -> str:
    """Return a line for each of the data, for people."""
    lines = [('state', 'frames', 'frames/s', 'depth p5 - p95 [m]', 'data')]
    for row in rows:
        near, far = (_number(row.get(name)) for name in ('depth_p5_m', 'depth_p95_m'))
        lines.append((row['state'], str(row.get('frames', '-')), _number(row.get('rate_hz')),
                      f'{near} - {far}', row['error'] or row['data']))
    widths = [max(map(len, column)) for column in list(zip(*lines))[:-1]]
    return '\n'.join('  ' + '  '.join([*(cell.ljust(width) for cell, width in zip(line, widths)),
                                       line[-1]]) for line in lines)


def _number(value: float | None) -> str:
    return '-' if value is None else f'{value:.3g}'
