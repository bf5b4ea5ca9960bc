"""
``zoe fleet``: many bags by several processes, on this machine or on a cluster of Ray.

A worker is a process that has loaded the model once; Ray gives each a GPU of its own. It runs one
bag after the other, by the same function as ``zoe run``. If it dies, Ray starts it again, and only
its bag is run a second time. A bag that would keep one worker busy when the others are done is cut
into parts. The same workers label bags and evaluate models, see :func:`work_on_bags`.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
import logging
import os
from pathlib import Path
import sys
from typing import Any, NamedTuple

from zoe_ros.cluster import connected, import_ray
from zoe_ros.cuts import Part
from zoe_ros.errors import first_line
from zoe_ros.inference.malloc import keep_freed_memory
from zoe_ros.jobs import AnyJob, BagJob, Done, jobs_of, Step, tell_kept
from zoe_ros.parts import join_parts, run_part
from zoe_ros.run import load_estimator
from zoe_ros.run_many import closing_texts, earlier, failure, one_line, PROBLEMS, run_one
from zoe_ros.run_table import DONE, FAILED, Outcome, Table
from zoe_ros.settings import IMAGES_OF_A_PART, RunSettings

# How often a bag is run again whose worker died: the bag itself may be what kills workers.
RETRIES = 2
# A worker on a CPU gets these, if the user does not say how many workers there are.
CPUS_OF_A_WORKER = 2
_THREADS = 'OMP_NUM_THREADS'
_DIED = f'{RETRIES + 1} workers died while they ran this bag, perhaps for lack of memory'

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fleet:
    """
    Who does the work.

    :param workers: at most so many; 0 for one on each GPU or, without a GPU, one for every
        CPUS_OF_A_WORKER processors.
    :param address: of a cluster, 'auto' for the one of this machine; empty: start Ray here.
    """

    workers: int = 0
    address: str = ''


class Task(NamedTuple):
    """
    What workers do with bags.

    :param device: setting of the command.
    :param load: returns the model, once in each worker.
    :param work: (model, bag) -> result; a ValueError, OSError or RuntimeError is that of the bag.
    """

    device: str
    load: Callable[[], Any]
    work: Callable[[Any, Path], Any]


def run_fleet(data: list[Path], settings: RunSettings, workers: int = 0,
              address: str = '', least: int = IMAGES_OF_A_PART) -> Iterator[str]:
    """
    Run over each of the data; yield texts for the user.

    The results and the table are those of :func:`zoe_ros.run_many.run_many`.

    :param settings: of all runs, but for ``data``.
    :param workers, address: see :class:`Fleet`.
    :param least: number of images that a part of a bag has at least; 0: no bag is cut.
    :raises ValueError: Ray or the model cannot be used, or some of the data failed.
    :raises OSError: the table cannot be written.
    """
    if least < 0:
        raise ValueError(f'cut into parts of {least} images: give a positive number, or 0 to cut '
                         'no bag')
    ray = _ray_for(settings.device, Fleet(workers, address))
    with Table(Path(settings.output)) as table:
        waiting = []
        for each in data:
            one = replace(settings, data=str(each))
            outcome = earlier(one)
            if outcome is None:
                waiting.append(one)
            else:
                table.outcomes.append(outcome)
        try:
            for job in _run_waiting(ray, waiting, settings, Fleet(workers, address), least):
                table.outcomes.append(job.outcome)
                _report(job.outcome, job.remarks, len(table.outcomes), len(data))
        finally:
            tell_kept(Path(settings.output))
    yield from closing_texts(table)


def _run_waiting(ray: Any, waiting: Sequence[RunSettings], settings: RunSettings, fleet: Fleet,
                 least: int) -> Iterator[Any]:
    """Run over the bags that have no results; yield their jobs as they end."""
    if not waiting:
        return
    with connected(ray, fleet.address):
        nodes = _nodes(ray, settings.device)
        most, _ = team(nodes, fleet.workers, sys.maxsize)
        jobs = jobs_of(waiting, most, least)
        hired = _hire(ray, nodes, fleet.workers, jobs, partial(load_estimator, settings))
        yield from _share(ray, hired, jobs)


def work_on_bags(task: Task, bags: Sequence[Path], fleet: Fleet) -> Iterator[tuple[Path, Done]]:
    """
    Give each bag to a worker; yield it when the work has ended, well or not.

    :raises ValueError: Ray or the model cannot be used.
    """
    ray = _ray_for(task.device, fleet)
    jobs = [BagJob(task.work, bag) for bag in bags]
    with connected(ray, fleet.address):
        hired = _hire(ray, _nodes(ray, task.device), fleet.workers, jobs, task.load)
        for number, job in enumerate(_share(ray, hired, jobs), start=1):
            done = job.outcome
            _report(Outcome(str(job.bag), '', FAILED if done.error else DONE, error=done.error),
                    job.remarks, number, len(bags))
            yield job.bag, done


def _ray_for(device: str, fleet: Fleet) -> Any:
    """
    Import Ray.

    :raises ValueError: it is not installed, or the fleet cannot be as the user says.
    """
    if device.startswith('cuda:'):
        raise ValueError(f"device '{device}' names one GPU, and a fleet gives each worker another "
                         "one: say 'cuda' or 'auto'")
    if fleet.workers < 0:
        raise ValueError(f'{fleet.workers} workers: give a positive number, or 0 for one on each '
                         'GPU')
    return import_ray(alone=not fleet.address)


class Worker:
    """One process of a fleet, with its model; a class of which Ray makes actors."""

    def __init__(self, load: Callable[[], Any], folder: str, threads_chosen: bool) -> None:
        """
        Start without a model.

        :param load: returns the model.
        :param folder: working folder of the command, for relative paths.
        :param threads_chosen: the user has set the number of threads in the environment.
        """
        self._load, self._folder = load, folder
        self._model: Any = None
        keep_freed_memory()
        if not threads_chosen:
            # From Ray; torch has read it by now. It would count as a choice of the user, and keep
            # threads from adapting to busy processors, see threads.py.
            os.environ.pop(_THREADS, None)

    def load(self) -> Any:
        """
        Return the model, loaded once.

        :raises ValueError: it cannot be loaded, or this machine lacks the folder.
        """
        if self._model is None:
            try:
                os.chdir(self._folder)
                self._model = self._load()
            except (ValueError, OSError, RuntimeError) as error:
                # Of a type that surely comes through to the command.
                raise ValueError(str(error)) from None
        return self._model

    def prepare(self) -> None:
        """Load the model before the first bag."""
        self.load()

    def run(self, settings: RunSettings) -> tuple[Outcome, list[str]]:
        """Run over one bag; return the outcome, and the warnings for the user."""
        estimator = self.load()
        with _kept_warnings() as remarks:
            return run_one(settings, estimator), remarks

    def do(self, work: Callable[[Any, Path], Any], bag: Path) -> tuple[Done, list[str]]:
        """Work on a bag, see :class:`Task`; return how that ended, and the warnings."""
        model = self.load()
        with _kept_warnings() as remarks:
            try:
                return Done(work(model, bag)), remarks
            except PROBLEMS as problem:
                return Done(error=one_line(problem)), remarks

    def run_part(self, settings: RunSettings, part: Part) -> tuple[Outcome | None, list[str]]:
        """Run over a part of a bag; return the outcome of the bag if that fails, and warnings."""
        estimator = self.load()
        with _kept_warnings() as remarks:
            try:
                run_part(settings, part, estimator)
                return None, remarks
            except PROBLEMS as problem:
                return failure(settings, problem), remarks

    def join(self, settings: RunSettings, total: int) -> tuple[Outcome, list[str]]:
        """Join all parts of a bag; return its outcome, and the warnings for the user."""
        estimator = self.load()
        with _kept_warnings() as remarks:
            return join_parts(settings, total, estimator), remarks


@contextmanager
def _kept_warnings() -> Iterator[list[str]]:
    """Give a list that collects the warnings of the package: a worker has no terminal."""
    texts: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: texts.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger('zoe_ros')
    logger.addHandler(handler)
    try:
        yield texts
    finally:
        logger.removeHandler(handler)


def _report(outcome: Outcome, remarks: list[str], number: int, total: int) -> None:
    log.info('%d of %d: %s, %s', number, total, outcome.state, outcome.data)
    for remark in remarks:
        log.warning('%s: %s', outcome.data, remark)
    if outcome.error:
        log.error('failed: %s', outcome.error)


def _share(ray: Any, hired: list[Any], jobs: Sequence[AnyJob]) -> Iterator[Any]:
    """
    Give each worker a bag, or a part, whenever it is free; yield the jobs as they end.

    :raises ValueError: a model cannot be loaded.
    """
    # Bags that are cut come first: they are the longest.
    left = deque(step for job in sorted(jobs, key=lambda job: not job.parts)
                 for step in job.first_steps())
    # What each call to a worker is for; None while the worker prepares. Some may never start,
    # because others use the cluster: nobody waits for these.
    calls: dict[Any, tuple[Any, Step | None]] = {
        worker.prepare.remote(): (worker, None) for worker in hired}
    while left or any(step for _, step in calls.values()):
        call = ray.wait(list(calls), num_returns=1)[0][0]
        worker, step = calls.pop(call)
        result = _result(ray, call, step)
        if step is not None:
            job = step.job
            left.extendleft(job.end(*result))
            if job.outcome is not None:
                left = deque(other for other in left if other.job is not job)
                if not any(other and other.job is job for _, other in calls.values()):
                    job.discard_parts()
                    yield job
        if left:
            following = left.popleft()
            calls[getattr(worker, following.method).remote(*following.arguments)] = (
                worker, following)


def _result(ray: Any, call: Any, step: Step | None) -> Any:
    """
    Return what a worker returned, or the outcome of a bag whose workers died.

    :raises ValueError: a model cannot be loaded.
    """
    try:
        return ray.get(call)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        if step is None:
            raise ValueError(f'a worker died while it loaded the model: {first_line(error)}'
                             ) from None
        return step.job.died(_DIED), []


def team(nodes: list[tuple[int, int]], workers: int, bags: int) -> tuple[int, int]:
    """
    Return the number of workers, and how many processors each gets.

    :param nodes: the processors and the GPUs of each machine.
    :param workers: see :class:`Fleet`.
    :param bags: or parts of bags; more workers than these are not needed.
    """
    cpus, gpus = (sum(numbers) for numbers in zip(*nodes))
    if gpus:
        count = min(workers or gpus, gpus, bags)
        share = min(own // theirs for own, theirs in nodes if theirs)
    else:
        count = min(workers or max(1, cpus // CPUS_OF_A_WORKER), cpus, bags)
        # A worker that fits on no machine would never start.
        share = min(cpus // count, *(own for own, _ in nodes if own))
    # So many threads at most. A power of two: these round alike, see threads.py.
    return count, 1 << (max(1, share).bit_length() - 1)


def _nodes(ray: Any, device: str) -> list[tuple[int, int]]:
    """
    Return the processors and the GPUs of each machine.

    :param device: setting of the command.
    :raises ValueError: there is no GPU for a device 'cuda'.
    """
    nodes = [(int(node['Resources'].get('CPU', 0)), int(node['Resources'].get('GPU', 0)))
             for node in ray.nodes() if node['Alive']]
    if device == 'cpu':
        nodes = [(cpus, 0) for cpus, _ in nodes]
    if device == 'cuda' and not any(gpus for _, gpus in nodes):
        raise ValueError("device 'cuda': Ray finds no GPU")
    return nodes


def _hire(ray: Any, nodes: list[tuple[int, int]], workers: int, jobs: Sequence[AnyJob],
          load: Callable[[], Any]) -> list[Any]:
    """
    Start the workers.

    :param load: returns the model.
    """
    on_gpu = any(gpus for _, gpus in nodes)
    count, share = team(nodes, workers, sum(max(1, len(job.parts)) for job in jobs))
    log.info('workers: %d%s, processors of each: %d', count, ' with a GPU each' * on_gpu, share)
    actor = ray.remote(Worker).options(
        num_gpus=int(on_gpu), num_cpus=share, max_restarts=-1,
        max_task_retries=RETRIES)
    return [actor.remote(load, os.getcwd(), _THREADS in os.environ) for _ in range(count)]
