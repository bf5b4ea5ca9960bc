"""The table of many runs: a line for each, as CSV, as Parquet and for people."""
from __future__ import annotations

import csv
from dataclasses import dataclass, field
from importlib.util import find_spec
import io
from pathlib import Path
import re
from types import TracebackType
from typing import Any

from zoe_ros.files import whole_file
from zoe_ros.results import check_output

DONE, EARLIER, FAILED = 'done', 'done earlier', 'failed'
# Figures of summary.json that the table repeats.
FIGURES = ('frames', 'rate_hz', 'latency_p50_ms', 'depth_p5_m', 'depth_p50_m', 'depth_p95_m',
           'share_without_depth')
COLUMNS = ('data', 'folder', 'state', *FIGURES, 'error')
# Names of its files.
TABLE_NAME = re.compile(r'summary(-\d+-of-\d+)?\.(csv|parquet)')
# All others are real numbers.
_TEXTS, _INTEGERS = ('data', 'folder', 'state', 'error'), ('frames',)


@dataclass(frozen=True)
class Outcome:
    """
    How the run over one bag ended.

    :param data: path of the bag; :param folder: of the results, which exists unless it failed.
    :param state: DONE, EARLIER or FAILED; :param error: one sentence, if it failed.
    :param figures: FIGURES, unless it failed.
    """

    data: str
    folder: str
    state: str
    figures: dict[str, Any] = field(default_factory=dict)
    error: str = ''

    def cells(self) -> dict[str, Any]:
        """Return the line of the table: column -> value, figures without a value left out."""
        own = {'data': self.data, 'folder': self.folder, 'state': self.state, 'error': self.error}
        return {**own, **self.figures}


class Table:
    """
    The outcomes of many runs; a context manager that writes them, however the runs end.

    The files are ``summary.csv``, and ``summary.parquet`` where pyarrow is installed.
    """

    def __init__(self, output: Path, shard: str = '') -> None:
        """
        Start without outcomes.

        :param output: folder of the files.
        :param shard: 'i/n', which becomes part of their names; empty for all of the data.
        """
        self.outcomes: list[Outcome] = []
        self.path = output / f'summary{"-" * bool(shard)}{shard.replace("/", "-of-")}.csv'

    def __enter__(self) -> Table:
        """
        Return self.

        :raises OSError: the folder cannot be written.
        """
        check_output(self.path.parent)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """
        Write the files, unless there is no outcome.

        :raises OSError: a file cannot be written.
        """
        if not self.outcomes:
            return
        self.outcomes.sort(key=lambda outcome: outcome.data)    # a fleet ends in any order
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(self.path) as part:
            part.write_text(self._as_csv(), encoding='utf-8')
        if find_spec('pyarrow') is not None:
            with whole_file(self.path.with_suffix('.parquet')) as part:
                _write_parquet([outcome.cells() for outcome in self.outcomes], part)

    def failed(self) -> str:
        """Return a sentence about failed runs; empty without any."""
        count = sum(outcome.state == FAILED for outcome in self.outcomes)
        return (f'{count} of {len(self.outcomes)} failed; the same command tries them again'
                if count else '')

    def text(self) -> str:
        """Return the table for people."""
        lines = [('state', 'frames', 'frames/s', 'depth p5 - p95 [m]', 'data')]
        for outcome in self.outcomes:
            figures = outcome.figures
            near, far = (_number(figures.get(name)) for name in ('depth_p5_m', 'depth_p95_m'))
            lines.append((outcome.state, str(figures.get('frames', '-')),
                          _number(figures.get('rate_hz')), f'{near} - {far}',
                          outcome.error or outcome.data))
        widths = [max(map(len, column)) for column in list(zip(*lines))[:-1]]
        return '\n'.join(
            '  ' + '  '.join([*(cell.ljust(width) for cell, width in zip(line, widths)), line[-1]])
            for line in lines)

    def _as_csv(self) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, restval='', lineterminator='\n')
        writer.writeheader()
        writer.writerows(outcome.cells() for outcome in self.outcomes)
        return text.getvalue()


def _write_parquet(rows: list[dict[str, Any]], path: Path) -> None:
    """
    Write rows with the same types of columns whatever they hold, so that tables can be joined.

    :raises OSError: the file cannot be written.
    """
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema([
        (name, pyarrow.string() if name in _TEXTS else pyarrow.int64() if name in _INTEGERS
         else pyarrow.float64()) for name in COLUMNS])
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema), path)


def _number(value: float | None) -> str:
    return '-' if value is None else f'{value:.3g}'
