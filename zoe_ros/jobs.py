"""The bags of a fleet on their way: whole, or in parts that are joined at the end."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
import logging
from pathlib import Path
import shutil
from typing import Any, NamedTuple

from zoe_ros.cuts import Part, plan
from zoe_ros.kept_parts import discard, keep_plan, kept_plan
from zoe_ros.run_many import CUT, cut_folder, failure
from zoe_ros.run_table import Outcome
from zoe_ros.settings import RunSettings

log = logging.getLogger(__name__)


class Step(NamedTuple):
    """
    One call to a worker.

    :param method: of :class:`zoe_ros.fleet.Worker`; :param arguments: of the method.
    """

    job: AnyJob
    method: str
    arguments: tuple[Any, ...]


class Job:
    """
    One bag of ``zoe fleet``.

    :ivar parts: into which it is cut; empty where it is run whole.
    :ivar outcome: of the bag, as soon as it is known.
    :ivar remarks: for the user, each once.
    """

    def __init__(self, settings: RunSettings, parts: Sequence[Part]) -> None:
        """
        Begin without an outcome.

        :param parts: which an earlier fleet may have completed.
        """
        self.settings, self.parts = settings, parts
        self.outcome: Outcome | None = None
        self.remarks: list[str] = []
        self._missing = len(parts)
        self._keeps_parts = False

    def first_steps(self) -> list[Step]:
        """Return the steps that can begin at once."""
        return ([Step(self, 'run_part', (self.settings, part)) for part in self.parts]
                or [Step(self, 'run', (self.settings,))])

    def end(self, outcome: Outcome | None, remarks: Sequence[str]) -> list[Step]:
        """
        Take the end of a step; return the steps that can begin now.

        :param outcome: of the bag; None for a part that is complete.
        """
        self.remarks += [text for text in remarks if text not in self.remarks]
        self._missing -= 1
        self.outcome = self.outcome or outcome      # the first part that failed tells why
        if self.outcome is None and self._missing == 0:
            return [Step(self, 'join', (self.settings, len(self.parts)))]
        return []

    def died(self, reason: str) -> Outcome:
        """Return the outcome of a bag whose workers died; its parts are kept."""
        self._keeps_parts = True
        return failure(self.settings, reason)

    def complete_parts(self) -> int:
        """Return the number of parts that are there."""
        return sum((cut_folder(self.settings) / str(part.number)).exists() for part in self.parts)

    def discard_parts(self) -> None:
        """Remove the parts, after the last step, unless the same command can go on from them."""
        if self.parts and not self._keeps_parts:
            shutil.rmtree(cut_folder(self.settings), ignore_errors=True)


def jobs_of(waiting: Sequence[RunSettings], workers: int, least: int) -> list[Job]:
    """
    Return the jobs of bags. Where an earlier fleet has cut a bag, the places of the cuts stay.

    Parts of other settings, of another bag, or of other cuts are removed if the bag is cut anew.
    Where it is run whole, or cannot be read now, they stay until there are results.

    :param waiting, workers, least: see :func:`zoe_ros.cuts.plan`.
    :raises OSError: parts cannot be removed, or the plan cannot be written.
    """
    jobs = []
    for settings, parts in zip(waiting, plan(waiting, workers, least)):
        folder = cut_folder(settings)
        kept = kept_plan(folder, settings, least)
        if parts and not kept:
            discard(folder)
            keep_plan(folder, settings, least, parts)
        job = Job(settings, kept or parts)
        if job.parts:
            log.info('%s is cut into %d parts, of which %d are there', settings.data,
                     len(job.parts), job.complete_parts())
        jobs.append(job)
    return jobs


def tell_kept(output: Path) -> None:
    """Tell the user of parts that are left in the folder of all results, by any fleet."""
    for folder in sorted(output.glob(f'*{CUT}')):
        count = sum(path.name.isdecimal() for path in folder.glob('*'))     # 0 of a file
        if count:
            log.warning('complete parts that are kept in %s: %d; the command that made them goes '
                        'on from them; to give them up, remove this folder', folder, count)


@dataclass(frozen=True)
class Done:
    """
    How the work on a bag ended.

    :param error: one sentence, if it failed.
    """

    result: Any = None
    error: str = ''


class BagJob:
    """
    One bag that is labelled or evaluated, see :class:`zoe_ros.fleet.Task`.

    :ivar outcome: as soon as it is known; :ivar remarks: for the user.
    """

    parts: tuple[Part, ...] = ()

    def __init__(self, work: Callable[[Any, Path], Any], bag: Path) -> None:
        """Begin without a result."""
        self.bag = bag
        self.outcome: Done | None = None
        self.remarks: list[str] = []
        self._work = work

    def first_steps(self) -> list[Step]:
        """Return the one step."""
        return [Step(self, 'do', (self._work, self.bag))]

    def end(self, outcome: Done, remarks: Sequence[str]) -> list[Step]:
        """Take the end of the step."""
        self.outcome, self.remarks = outcome, list(remarks)
        return []

    def died(self, reason: str) -> Done:
        """Return how the work ended if the workers died."""
        return Done(error=reason)

    def discard_parts(self) -> None:
        """Do nothing: there are no parts."""


AnyJob = Job | BagJob
