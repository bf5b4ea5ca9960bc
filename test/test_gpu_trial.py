"""The trial on a GPU, dry: every step runs on the CPU with the tiny model and leaves facts."""
import argparse
import json
import os
from pathlib import Path
import subprocess
import sys
import time
from types import SimpleNamespace

from bench.trial.__main__ import Runner, Step, STEPS
from bench.trial.facts import LONGEST, summary, write_fact
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
ON_CPU = [name for name, step in STEPS.items() if not step.cuda]


def trial(out, *arguments):
    """Run the command; return what it printed, its exit code, and its facts."""
    done = subprocess.run(
        [str(ROOT / 'bench' / 'gpu_trial'), '--device', 'cpu', '--tiny', *arguments],
        capture_output=True, text=True, timeout=400,
        # One thread, because the tiny model is too small for more.
        env={**os.environ, 'OUT': str(out), 'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1'})
    results = out / 'results.jsonl'
    facts = [json.loads(line) for line in results.read_text().splitlines()] \
        if results.exists() else []
    return done, facts


@pytest.fixture(scope='module')
def dry_run(tmp_path_factory):
    """Return the facts of a trial of all steps, what it printed, and its folder."""
    out = tmp_path_factory.mktemp('trial')
    done, facts = trial(out)
    log = (out / 'log.txt').read_text() if (out / 'log.txt').exists() else ''
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:] + log[-4000:]
    return SimpleNamespace(facts=facts, printed=done.stdout, out=out)


@pytest.mark.parametrize('step', ['weights', *ON_CPU])
def test_each_step_leaves_facts(dry_run, step):
    facts = [fact for fact in dry_run.facts if fact['step'] == step]
    assert [fact['ended'] for fact in facts if 'ended' in fact] == [0]
    assert any('name' in fact for fact in facts)
    assert not any('error' in fact for fact in facts)


def test_what_the_facts_say(dry_run):
    def rows(name):
        return [fact for fact in dry_run.facts if fact.get('name') == name]

    assert [row['batch'] for row in rows('predict bf16')] == [1, 2]
    assert all(row['l2'] < 1e-6 for row in rows('golden fp32'))
    assert all(0 < row['l2'] < 0.05 for row in rows('golden bf16') + rows('golden fp16'))
    assert len(rows('golden fp32')) == 2
    assert [row['l2'] < 1e-6 for row in rows('da-n fp32')] == [True]
    assert all(0 < row['l2'] < 0.05 for row in rows('da-n bf16') + rows('da-n fp16'))
    assert all(abs(row['loss'] / row['on_cpu'] - 1) < 1e-4 for row in rows('nano fp32'))
    assert [row['of'] for row in rows('whole run')] == ['nano']
    assert {row['part'] for row in rows('parts, batch 1')} >= {'backbone', 'decoder', 'network'}
    tests, = rows('GPU tests')
    assert tests['counts']['passed'] > 0
    assert (dry_run.out / 'profile.txt').read_text().count('one frame in order') == 2


def test_the_summary_names_each_step(dry_run):
    table = dry_run.printed[-12_000:]
    for step in ON_CPU:
        assert f'\n{step}: 0 after ' in table
    assert 'failed or left out' not in dry_run.printed


def test_steps_that_do_not_fit_are_named(tmp_path):
    done, facts = trial(tmp_path, '--budget', '5', 'race', 'env')
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].endswith('to run them: bench/gpu_trial env race')
    assert not any(fact['step'] in ('env', 'race') for fact in facts)


def test_an_unknown_step(tmp_path):
    done, facts = trial(tmp_path, 'warp')
    assert done.returncode == 2
    assert 'no step warp: there are env, smoke' in done.stderr
    assert not facts


def stuck(trial):
    """Start a process and never end."""
    child = subprocess.Popen(['sleep', '60'])
    trial.fact('child', pid=child.pid)
    child.wait()


def broken(trial):
    """Fail in one attempt, and go on to the next."""
    with trial.attempt('first'):
        raise ValueError('no such thing')
    trial.fact('second', reached=True)


def test_a_step_that_is_stuck_or_broken_costs_only_itself(tmp_path, monkeypatch):
    monkeypatch.setitem(STEPS, 'stuck', Step(sys.modules[__name__], 1.5))
    monkeypatch.setitem(STEPS, 'broken', Step(sys.modules[__name__], 20))
    runner = Runner(argparse.Namespace(out=tmp_path, device='cpu', tiny=True, budget=100))
    begin = time.monotonic()
    for name, code in (('stuck', 'limit'), ('broken', 1)):
        runner.start(name, STEPS[name])
        assert runner.finish(name) == code
    assert time.monotonic() - begin < 20
    table = summary(tmp_path / 'results.jsonl')
    facts = [json.loads(line) for line in (tmp_path / 'results.jsonl').read_text().splitlines()]
    child = next(fact['pid'] for fact in facts if fact.get('name') == 'child')
    assert not is_alive(child)
    assert 'stuck: limit after' in table and 'second: reached True' in table
    assert table.splitlines()[-1] == '  broken, first: ValueError: no such thing'


def is_alive(pid):
    """Tell whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


@pytest.mark.parametrize('rows', [3, 3000])
def test_a_long_summary_is_cut(rows, tmp_path):
    """Of a few long rows the ends are left out, of very many rows the first."""
    for number in range(3000):
        write_fact(tmp_path, 'step', 0.0, name=f'row {number % rows}', ms=0.123456789)
    begin = (tmp_path / 'results.jsonl').stat().st_size
    write_fact(tmp_path, 'step', 0.0, name='last', ms={'p50': 0.5})
    table = summary(tmp_path / 'results.jsonl')
    assert LONGEST / 4 < len(table) <= LONGEST
    assert table.endswith('last: ms p50 0.5')
    assert ('  row 0: ms 0.123457 | ms' in table) == (rows == 3)
    assert summary(tmp_path / 'results.jsonl', begin) == (
        'step: did not end\n  last: ms p50 0.5')
