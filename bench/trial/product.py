"""Steps that run what the project has already: its tests, its benchmark, its node."""
from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec
import json
import re
import subprocess
import sys
from typing import Any

from bench.trial import models
from bench.trial.record import Trial

from zoe_ros import benchmark
from zoe_ros.command_settings import BenchSettings

# The names of tests that are about a GPU; and how a file says that it has some.
GPU_TESTS = 'gpu or cuda or graph or there_and_back or fused or triton'
SIGN = 'torch.cuda.is_available()'
LIVE = 'bench/bench_live.py'
# What the summary shows of the benchmark.
FIGURES = ('ours_ms', 'theirs_ms', 'times_faster', 'difference_median', 'first_ms', 'p50_ms',
           'frames_per_s', 'stages_ms', 'share_of_peak', 'memory_mb')


def tests(trial: Trial) -> None:
    """Run the tests that need a GPU, then the others of the same files."""
    files = [str(path) for path in sorted((models.ROOT / 'test').rglob('test_*.py'))
             if SIGN in path.read_text(encoding='utf-8')]
    if trial.tiny:
        files = [path for path in files if path.endswith('test_device.py')]
    for name, choice in (('GPU tests', GPU_TESTS), ('other tests', f'not ({GPU_TESTS})')):
        if trial.tiny and choice != GPU_TESTS:
            continue        # the dry run is part of the suite
        with trial.attempt(name):
            _pytest(trial, name, ['-k', choice, *files])


def _pytest(trial: Trial, name: str, arguments: list[str]) -> None:
    log = trial.out / 'tests.txt'
    code: int | str = 'limit'
    with log.open('a', encoding='utf-8') as file:
        begin = file.tell()
        with suppress(subprocess.TimeoutExpired):
            code = subprocess.run(
                [sys.executable, '-m', 'pytest', '-v', '-rfEs', '--tb=short', '--color=no', '-p',
                 'no:cacheprovider', '-m', 'not full', *arguments],
                cwd=models.ROOT, stdout=file, stderr=subprocess.STDOUT, timeout=trial.left,
                check=False).returncode
    with log.open(encoding='utf-8') as file:
        file.seek(begin)
        text = file.read()
    # Counted from the lines of the tests: there is no last line where the time was up.
    counts = {word.lower(): len(re.findall(rf'^test\S*::.* {word}\b', text, re.MULTILINE))
              for word in ('PASSED', 'FAILED', 'ERROR', 'SKIPPED')}
    trial.fact(name, code=code, counts=counts)
    for failure in re.findall(r'^(?:FAILED|ERROR) test\S*/(\S+::.*)', text, re.MULTILINE)[:8]:
        trial.fact('failed tests', test=failure[:160])
    if code:
        raise RuntimeError(f'pytest ended with {code}: see tests.txt')


def bench(trial: Trial) -> None:
    """Run the project's benchmark: whole frames, and the network in turns with transformers'."""
    runs: list[dict[str, Any]] = [
        {'precision': 'bf16', 'frames': 20, 'against': 'transformers'},
        {'precision': 'fp16', 'frames': 20, 'against': 'transformers'},
        {'precision': 'bf16', 'frames': 30},
        {'precision': 'bf16', 'frames': 10, 'batch': 8}]
    if trial.tiny:
        runs = [{'frames': 1}]      # transformers has no model as small as that
    for run in runs:
        name = ' '.join(f'{key} {value}' for key, value in run.items())
        with trial.attempt(name):
            facts = json.loads(benchmark.bench(BenchSettings(
                models.variant(trial), str(models.weights_file(trial)),
                device=str(trial.device), **run))[-1])
            trial.fact(name, **{key: facts[key] for key in FIGURES if key in facts})


def node(trial: Trial) -> None:
    """Run the live node beside a camera that gets faster."""
    if find_spec('rclpy') is None:
        trial.fact('node', result='rclpy is not on this machine')
        return
    parameters = {'weights': models.weights_file(trial), 'variant': models.variant(trial),
                  'device': trial.device, 'precision': 'fp32' if trial.tiny else 'bf16'}
    with trial.attempt('node'):
        done = subprocess.run(
            [sys.executable, LIVE, '--seconds', '1' if trial.tiny else '4', '--',
             *(word for key, value in parameters.items() for word in ('-p', f'{key}:={value}'))],
            cwd=models.ROOT, capture_output=True, text=True, timeout=trial.left, check=False)
        print(done.stdout, done.stderr, flush=True)
        if done.returncode:
            raise RuntimeError(f'{LIVE} ended with {done.returncode}: {done.stderr[-300:]}')
        facts = json.loads(done.stdout.splitlines()[-1])
        trial.fact('node', **{key: facts[key] for key in ('start_s', 'peak_mb', 'capacity_hz')})
        for row in facts['rows']:
            trial.fact('node, factor of the capacity', **{
                key: value for key, value in row.items()
                if value is not None and not key.endswith('_p95') and key != 'age_p5'})
