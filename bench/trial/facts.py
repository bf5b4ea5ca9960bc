"""The facts of a trial: how they are written, and as a short table."""
from __future__ import annotations

import json
from pathlib import Path
import textwrap
import time
from typing import Any

WIDTH = 110
# What a table that is read at a glance does without.
HIDDEN = {'step', 'at', 'name', 'min_ms', 'p95_ms'}
LONGEST = 11_000        # characters; where the end of the output is seen, it is 12,000 of them
MOST = 12               # failures that are shown


def write_fact(out: Path, step: str, zero: float, **values: Any) -> None:
    """
    Append one line to results.jsonl and to the log.

    :param zero: when the trial began, by :func:`time.time`.
    """
    line = json.dumps({'step': step, 'at': round(time.time() - zero, 1), **values}, default=str)
    with (out / 'results.jsonl').open('a', encoding='utf-8') as file:
        file.write(line + '\n')
    print(line, flush=True)


def summary(results: Path, begin: int = 0) -> str:
    """
    Return the table: a line for each step, and in it a row for each name of facts.

    Where that is too long, the longest rows end in '...'.

    :param results: results.jsonl; :param begin: the byte at which the trial began.
    """
    steps: dict[str, dict[str, list[str]]] = {}
    ends: dict[str, str] = {}
    failures = []
    with results.open(encoding='utf-8') as file:
        file.seek(begin)
        for fact in map(json.loads, file):
            step = fact['step']
            rows = steps.setdefault(step, {})
            if 'ended' in fact:
                ends[step] = f'{fact["ended"]} after {fact["s"]:g} s'
            elif 'error' in fact:
                failures.append(f'{step}, {fact["name"]}: {fact["error"]}'[:240])
            else:
                rows.setdefault(fact['name'], []).append(_cell(fact))
    last = ['failed:', *(f'  {failure}' for failure in failures[:MOST])] if failures else []
    for longest in (LONGEST, 1600, 1200, 800, 400, 200, 100):
        lines = []
        for step, rows in steps.items():
            lines.append(f'{step}: {ends.get(step, "did not end")}')
            for name, cells in rows.items():
                lines += _row(f'{name}: ' + ' | '.join(cells), longest)
        text = '\n'.join([*lines, *last])
        if len(text) <= LONGEST:
            return text
    return text[-LONGEST:]


def _row(text: str, longest: int) -> list[str]:
    text = text if len(text) <= longest else f'{text[:longest]}...'
    return textwrap.wrap(text, WIDTH, initial_indent='  ', subsequent_indent='    ',
                         break_on_hyphens=False)


def _cell(fact: dict[str, Any]) -> str:
    return ' '.join(f'{key} {_value(value)}' for key, value in fact.items() if key not in HIDDEN)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ' '.join(f'{key} {_value(item)}' for key, item in value.items())
    return f'{value:g}' if isinstance(value, float) else str(value)
