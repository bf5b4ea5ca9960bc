"""Run the steps of the trial one after another, each in a process of its own with a limit."""
from __future__ import annotations

import argparse
from contextlib import suppress
from multiprocessing import get_context
import os
from pathlib import Path
import signal
import sys
import time
from typing import Any, NamedTuple

from bench.trial import card, kernels, models, network, product, training
from bench.trial.facts import summary, write_fact
from bench.trial.record import Trial
import torch


class Step(NamedTuple):
    """
    A step: the function of this name in a module.

    :ivar limit: [s].
    :ivar model: it waits for the weights, which are written beside the steps before it.
    :ivar cuda: it says nothing on a CPU.
    """

    module: Any
    limit: float
    model: bool = False
    cuda: bool = False


# The most valuable first: what does not fit into the time is left out at the end.
STEPS = {
    'env': Step(card, 45),
    'smoke': Step(network, 70),
    'attention': Step(card, 60),
    'parity': Step(network, 100, model=True),
    'race': Step(network, 100, model=True),
    'profile': Step(kernels, 60, model=True),
    'tests': Step(product, 80),
    'shapes': Step(network, 80, model=True),
    'bench': Step(product, 90, model=True),
    'node': Step(product, 60, model=True),
    'train': Step(training, 90, model=True),
    'anything': Step(network, 110),
    'micro': Step(card, 40),
    'sanitizer': Step(card, 60, cuda=True),
}
WEIGHTS = Step(models, 120)
SHORTEST = 15.0     # no step is begun with less time than this [s]


def main() -> int:
    """Run the steps that fit into the time, print the summary; return 1 if one failed."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    # Results of an earlier run stay in the file; the summary is of this one.
    results = options.out / 'results.jsonl'
    earlier = results.stat().st_size if results.exists() else 0
    wanted = [name for name, step in STEPS.items()
              if name in (options.steps or STEPS) and (options.device != 'cpu' or not step.cuda)]
    again = []
    runner = Runner(options)
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


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='gpu_trial', description=__doc__)
    parser.add_argument('steps', nargs='*', metavar='STEP', help=f'of {", ".join(STEPS)}')
    parser.add_argument('--out', type=Path, required=True, help='folder of the results')
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--tiny', action='store_true', help='dry run with the tiny model')
    parser.add_argument('--budget', type=float, default=520, help='of all steps [s] (%(default)g)')
    options = parser.parse_args()
    unknown = sorted(set(options.steps) - STEPS.keys())
    if unknown:
        parser.error(f'no step {", ".join(unknown)}: there are {", ".join(STEPS)}')
    return options


class Runner:
    """Processes of steps, and the time that is left for them."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Find out how the processes of steps are started."""
        self._options, self._zero = options, time.time()
        self._running: dict[str, tuple[Any, float, float]] = {}
        # A fork has imported torch already. That works as long as nothing has used the device in
        # this process, which the import of some package might do.
        probe = get_context('fork').Process(target=_use, args=(options.device,))
        probe.start()
        probe.join(60)
        probe.kill()
        self._context: Any = get_context('spawn' if probe.exitcode else 'fork')

    @property
    def left(self) -> float:
        """Return what is left of the time of the trial [s]."""
        return self._zero + self._options.budget - time.time()

    def start(self, name: str, step: Step) -> None:
        """Start the process of a step."""
        begin = time.time()
        end = begin + min(step.limit, self.left)
        print(f'== {name}: at {begin - self._zero:.0f} s, at most {end - begin:.0f} s', flush=True)
        trial = Trial(name, self._options.out.resolve(), torch.device(self._options.device),
                      self._options.tiny, self._zero, end)
        process = self._context.Process(target=_run, args=(trial,))
        process.start()
        self._running[name] = process, begin, end

    def finish(self, name: str) -> int | str:
        """Wait for the end of a step, or end the step; return its exit code or 'limit'."""
        if name not in self._running:
            return 0
        process, begin, end = self._running.pop(name)
        process.join(max(0.0, end - time.time()))
        code = 'limit' if process.exitcode is None else process.exitcode
        # Also what the step has started and left behind.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()
        write_fact(self._options.out, name, self._zero, ended=code,
                   s=round(time.time() - begin, 1))
        return code


def _use(device: str) -> None:
    torch.ones(1, device=device).sum().item()


def _run(trial: Trial) -> None:
    """Run a step in this process, which is new; exit with 1 if an attempt in it failed."""
    os.setsid()
    with (trial.out / 'log.txt').open('a', encoding='utf-8') as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    print(f'\n===== {trial.step}', flush=True)
    getattr((STEPS | {'weights': WEIGHTS})[trial.step].module, trial.step)(trial)
    sys.exit(int(bool(trial.failures)))


if __name__ == '__main__':
    sys.exit(main())
