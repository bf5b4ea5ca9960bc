"""Run the steps of the trial one after another, each in a process of its own with a limit."""
from __future__ import annotations

import argparse
from contextlib import suppress
from importlib import import_module
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import NamedTuple, TextIO

from bench.trial.facts import summary, write_fact


class Step(NamedTuple):
    """
    A step: a function of this name in a module of this package.

    :ivar limit: [s].
    :ivar model: it waits for the weights, which are written beside the steps before it.
    :ivar cuda: it says nothing on a CPU.
    """

    module: str
    limit: float
    model: bool = False
    cuda: bool = False


# The most valuable first: what does not fit into the time is left out at the end.
STEPS = {
    'env': Step('card', 45),
    'smoke': Step('network', 70),
    'attention': Step('card', 60),
    'parity': Step('network', 100, model=True),
    'race': Step('network', 100, model=True),
    'profile': Step('kernels', 60, model=True),
    'tests': Step('product', 80),
    'shapes': Step('network', 80, model=True),
    'bench': Step('product', 90, model=True),
    'node': Step('product', 60, model=True),
    'micro': Step('card', 40),
    'sanitizer': Step('card', 60, cuda=True),
}
WEIGHTS = Step('models', 120)
SHORTEST = 15.0     # no step is begun with less time than this [s]


def main() -> int:
    """Run the trial, or inside of it, one step."""
    parser = argparse.ArgumentParser(prog='gpu_trial', description=__doc__)
    parser.add_argument('steps', nargs='*', metavar='STEP', help=f'of {", ".join(STEPS)}')
    parser.add_argument('--out', type=Path, required=True, help='folder of the results')
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--tiny', action='store_true', help='dry run with the tiny model')
    parser.add_argument('--budget', type=float, default=520, help='of all steps [s] (%(default)g)')
    # What a step's process is told: when the trial began, and when the step will be killed.
    parser.add_argument('--within', nargs=2, type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = set(options.steps) - {*STEPS, *(['weights'] if options.within else [])}
    if unknown:
        parser.error(f'no step {", ".join(sorted(unknown))}: there are {", ".join(STEPS)}')
    options.out.mkdir(parents=True, exist_ok=True)
    if options.within:
        return run_step(options.steps[0], options)
    return run_all(options)


def run_step(name: str, options: argparse.Namespace) -> int:
    """Run a step in this process; return 1 if an attempt in it failed."""
    import torch

    from bench.trial.record import Trial
    trial = Trial(name, options.out.resolve(), torch.device(options.device), options.tiny,
                  *options.within)
    module = (STEPS | {'weights': WEIGHTS})[name].module
    getattr(import_module(f'bench.trial.{module}'), name)(trial)
    return int(bool(trial.failures))


def run_all(options: argparse.Namespace) -> int:
    """Run the steps that fit into the time, print the summary; return 1 if one failed."""
    zero = time.time()
    # Results of an earlier run stay in the file; the summary is of this one.
    results = options.out / 'results.jsonl'
    earlier = results.stat().st_size if results.exists() else 0
    wanted = [name for name, step in STEPS.items()
              if name in (options.steps or STEPS) and (options.device != 'cpu' or not step.cuda)]
    again = []
    with (options.out / 'log.txt').open('a', encoding='utf-8') as log:
        runner = Runner(options, log, zero)
        if any(STEPS[name].model for name in wanted):
            runner.start('weights', WEIGHTS)
        for name in wanted:
            step = STEPS[name]
            if step.model:
                runner.finish('weights')
            if runner.left < SHORTEST:
                print(f'-- {name}: left out', flush=True)
                again.append(name)
                continue
            runner.start(name, step)
            if runner.finish(name) != 0:
                again.append(name)
    print(summary(results, earlier))
    if again:
        print(f'failed or left out; to run them: bench/gpu_trial {" ".join(again)}')
    return int(bool(again))


class Runner:
    """The processes of the steps."""

    def __init__(self, options: argparse.Namespace, log: TextIO, zero: float) -> None:
        """Start nothing yet."""
        self._options, self._log, self._zero = options, log, zero
        self._running: dict[str, tuple[subprocess.Popen, float, float]] = {}

    @property
    def left(self) -> float:
        """Return what is left of the time of the trial [s]."""
        return self._zero + self._options.budget - time.time()

    def start(self, name: str, step: Step) -> None:
        """Start the process of a step."""
        begin = time.time()
        end = begin + min(step.limit, self.left)
        print(f'== {name}: at {begin - self._zero:.0f} s, at most {end - begin:.0f} s', flush=True)
        process = subprocess.Popen(
            [sys.executable, '-m', 'bench.trial', name, '--out', self._options.out, '--device',
             self._options.device, *(['--tiny'] if self._options.tiny else []), '--within',
             str(self._zero), str(end)],
            stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True)
        self._running[name] = process, begin, end

    def finish(self, name: str) -> int | str:
        """Wait for the end of a step, or bring it about; return its exit code or 'limit'."""
        if name not in self._running:
            return 0
        process, begin, end = self._running.pop(name)
        code: int | str
        try:
            code = process.wait(max(0.0, end - time.time()))
        except subprocess.TimeoutExpired:
            code = 'limit'
        # Also what the step has started and left behind.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        write_fact(self._options.out, name, self._zero, ended=code,
                   s=round(time.time() - begin, 1))
        return code


if __name__ == '__main__':
    sys.exit(main())
