"""How a run fares, in words: what `progressbar.py` shows of it, and what is said at its end."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from batchmill.app.run.conduct import Ended
from batchmill.cli import words
from batchmill.cli.output import note
from batchmill.cli.progressbar import ProgressBar, Standing
from batchmill.clock import Clock
from batchmill.core.progress import Progress
from batchmill.fleet import EngineState, EngineStatus
from batchmill.model import Job, JobState, WaitingReason

LOG_SECONDS: Final = 5.0
_OVER_SECONDS: Final = 10.0
_ERRORS_SHOWN: Final = 5
_MESSAGE_CHARACTERS: Final = 160
_NO_ENGINE: Final = (WaitingReason.ENGINE_DOWN, WaitingReason.MODEL_NOT_SERVED)
_SAY_NOTHING: Final = (WaitingReason.QUEUED_BEHIND_JOBS, WaitingReason.NO_WORKER)
"""There is one job and one worker here: between two beats it may look like this."""


@dataclass
class Sights:
    """Shows each look at a run; the speed of its tokens is that of the last ten seconds."""

    bar: ProgressBar
    clock: Clock
    quiet: bool
    _tokens: deque[tuple[float, int]] = field(default_factory=deque)

    def said(self, line: str) -> None:
        if not self.quiet:
            note(line)

    def looked(
        self, job: Job | None, progress: Progress | None, engines: tuple[EngineStatus, ...]
    ) -> None:
        now = self.clock.boot()
        if job is None or progress is None:
            self.bar.show(Standing("taking the input in", 0, waiting=_engines_down(engines)), now)
            return
        reason = progress.waiting_reason
        waiting = None if reason in _SAY_NOTHING else words.reason(reason)
        if reason in _NO_ENGINE:
            waiting = _engines_down(engines) or waiting
        standing = Standing(
            job.state.value,
            job.total,
            job.succeeded,
            job.failed,
            progress.in_flight,
            progress.lines_per_second,
            self._tokens_per_second(progress, now),
            progress.estimated_seconds_left,
            waiting,
            {each.code: each.count for each in job.failures.summary},
        )
        self.bar.show(standing, now)

    def _tokens_per_second(self, progress: Progress, now: float) -> float | None:
        seen = self._tokens
        seen.append((now, progress.input_tokens + progress.output_tokens))
        while seen[0][0] < now - _OVER_SECONDS:
            seen.popleft()
        seconds, tokens = now - seen[0][0], seen[-1][1] - seen[0][1]
        return tokens / seconds if seconds > 0 and tokens > 0 else None


def _engines_down(engines: tuple[EngineStatus, ...]) -> str | None:
    """Which engines do not answer, and why; None where one does or none has been asked yet."""
    if any(each.state is EngineState.UP for each in engines):
        return None
    down = [each for each in engines if each.state is EngineState.DOWN]
    if not down:
        return None
    return "; ".join(f"{each.name} is down: {each.reason or 'no answer'}" for each in down)


def closing_lines(ended: Ended, command: str) -> Iterator[str]:
    """What is said at the end: what came of it, where it is, what went wrong, and what to do."""
    job = ended.job
    if job is None or ended.is_interrupted:
        yield from _interrupted(ended, command)
        return
    if ended.handed is None:
        yield from _refused(job)
        return
    yield f"{job.succeeded:,} of {words.plural(job.total, 'line')} answered, {job.failed:,} failed"
    if ended.handed.output is not None:
        yield f"results  {ended.handed.output}"
    if ended.handed.errors is not None:
        yield f"errors   {ended.handed.errors}"
    yield from _failures(job)
    bad = [(each, count) for each, count in ended.handed.standing.items() if each.is_bad]
    if bad:
        yield "bad answers: " + ", ".join(f"{count:,} {each.value}" for each, count in bad)
    if job.state is not JobState.COMPLETED:
        yield f"the job could not go on: {job.errors[0].message if job.errors else job.state.value}"


def _interrupted(ended: Ended, command: str) -> Iterator[str]:
    job = ended.job
    if job is not None:
        yield f"stopped with {job.total - job.left:,} of {words.plural(job.total, 'line')} done"
    if job is not None and ended.state.lasts:
        yield f"go on with the same command: {command}"
    else:
        yield "nothing was kept; the same command begins anew"


def _refused(job: Job) -> Iterator[str]:
    """The input is not what can be run."""
    yield f"the input was refused: {words.plural(job.errors_total, 'problem')}"
    for error in job.errors[:_ERRORS_SHOWN]:
        place = "" if error.line is None else f"line {error.line}: "
        field = "" if error.param is None else f"{error.param}: "
        yield f"  {place}{field}{words.clipped(error.message, _MESSAGE_CHARACTERS)}"
    left_out = job.errors_total - _ERRORS_SHOWN
    if left_out > 0:
        yield f"  and {left_out:,} more"
    if any(error.line is not None for error in job.errors):
        yield "correct these lines; or run the others with --on-invalid quarantine"


def _failures(job: Job) -> Iterator[str]:
    """The failed lines by code, each with an example."""
    most = sorted(job.failures.summary, key=lambda each: -each.count)
    for each in most[:_ERRORS_SHOWN]:
        example = words.clipped(each.message, _MESSAGE_CHARACTERS)
        yield f"  {each.count:,} {each.code}: {example}".rstrip(": ")
    if len(most) > _ERRORS_SHOWN:
        yield f"  and {len(most) - _ERRORS_SHOWN} other kinds"
