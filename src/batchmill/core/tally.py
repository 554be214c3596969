"""The errors of a validation: how many, and the first hundred in input order."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter

from batchmill.core.decode import shown
from batchmill.model import JobInput, LineError

KEPT_ERRORS = 100


@dataclass(slots=True)
class ErrorTally:
    """Counts bad lines of these inputs; where they are several, messages name the file."""

    inputs: Sequence[JobInput]
    total: int = 0
    _first: list[tuple[int, LineError]] = field(default_factory=list)

    def add(self, number: int, input: int, error: LineError) -> None:
        """Note what is wrong with the line of that number in the job, in that input."""
        self.total += 1
        if len(self._first) == KEPT_ERRORS and number > self._first[-1][0]:
            return
        if len(self.inputs) > 1:
            error = replace(error, message=f"{self.name(input)}: {error.message}")
        insort(self._first, (number, error), key=itemgetter(0))
        del self._first[KEPT_ERRORS:]

    def first(self) -> tuple[LineError, ...]:
        """The first hundred."""
        return tuple(error for _, error in self._first)

    def name(self, input: int) -> str:
        """What to call an input in a message."""
        return f"{self.inputs[input].filename} (input {input + 1})"


def repeated(custom_id: str, where: str, physical: int) -> LineError:
    """What is wrong with a line whose custom_id stands there already."""
    message = f"The custom_id {shown(custom_id)} stands on {where} already."
    return LineError("duplicate_custom_id", message, physical, "custom_id")
