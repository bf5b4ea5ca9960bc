"""The bags of a fleet on their way: whole, or in parts that are joined at the end."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
import shutil
from typing import Any, NamedTuple

from zoe_ros.cuts import Part
from zoe_ros.run_many import cut_folder, failure
from zoe_ros.run_table import Outcome
from zoe_ros.settings import RunSettings


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
        Begin without results, also of parts.

        :raises OSError: those of a fleet that was killed cannot be removed.
        """
        self.settings, self.parts = settings, parts
        self.outcome: Outcome | None = None
        self.remarks: list[str] = []
        self._missing = len(parts)
        if cut_folder(settings).exists():
            shutil.rmtree(cut_folder(settings))

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
        """Return the outcome of a bag whose workers died."""
        return failure(self.settings, reason)

    def discard_parts(self) -> None:
        """Remove the parts, after the last step."""
        shutil.rmtree(cut_folder(self.settings), ignore_errors=True)


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
        """Do nothing: there are none."""


AnyJob = Job | BagJob
