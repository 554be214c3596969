"""Reading results: in order of completion while the job runs, or in input order once it has ended.

Streams are read piece by piece in constant memory, and taken up again where they broke; for files
`content.py` does that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import Struct

from batchmill.client import objects
from batchmill.client.asking import FIRST_PAUSE, LONGEST_PAUSE, ask_json
from batchmill.client.content import PATIENCE, Content, open_stream
from batchmill.client.errors import NotFound, Refused, Unreachable, Unreadable
from batchmill.client.jobs import FILES, JOBS, get, quoted, wait
from batchmill.client.objects import Job, Result
from batchmill.client.steps import Close, Give, Lost, Pause, Read, Request, Steps, Stream


class _Named(Struct):
    custom_id: str | None = None


_NAMED: Final = msgspec.json.Decoder(_Named)
_BLANK: Final = b" \t\r\n"
_NUMBERED: Final = re.compile(r"batch-[^-]*-(\d+)-")
"""The id of a result line of Mistral's kind, with the number of its line in the job."""


class Lines:
    """The lines of one file of the server, read as they are wanted."""

    def __init__(self, file: str) -> None:
        self._content = Content(file)
        self._ready: list[bytes] = []
        self._rest: list[bytes] = []

    def next(self) -> Steps[bytes | None]:
        """The next line that is not blank, without its line break; None after the last."""
        while True:
            while self._ready:
                line = self._ready.pop()
                if line.strip(_BLANK):
                    return line
            piece = yield from self._content.next()
            if piece is None:
                last, self._rest = b"".join(self._rest), []
                if not last:
                    return None
                self._ready = [last]
                continue
            *whole, rest = piece.split(b"\n")
            if whole:
                whole[0] = b"".join((*self._rest, whole[0]))
                self._rest = []
                self._ready = whole[::-1]
            if rest:
                self._rest.append(rest)

    def close(self) -> Steps[None]:
        """Let go of the stream."""
        yield from self._content.close()


def lines_of(file: str) -> Steps[None]:
    """Gives the lines of a file."""
    lines = Lines(file)
    while (line := (yield from lines.next())) is not None:
        yield Give(line)


def as_completed(
    job: str, after: str | None = None, limit: int | None = None, *, follow: bool = False
) -> Steps[None]:
    """Gives results in the order in which they were made, from a cursor on; with `follow` until
    the job has ended, whatever happens to the server meanwhile."""
    place = _Place(f"{JOBS}/{quoted(job)}/results", after, limit, follow)
    breaks, has_ended = 0, False
    while place.limit != 0:
        before, why = place.after, "the connection broke"
        try:
            stream = yield from open_stream(place.request())
            end = yield from place.read(stream)
            yield Close(stream)
            if end is None and (not follow or (has_ended and place.after == before)):
                return
            if end is None and not has_ended:
                has_ended = (yield from get(job)).is_ended
                if has_ended:  # asked once more: what stands between may have ended the stream
                    continue
            why = end.why if end is not None else why
        except (Unreachable, Refused) as error:
            if not (follow and error.may_pass):
                raise
        breaks = breaks + 1 if place.after == before else 0
        if breaks == PATIENCE and not follow:
            raise Unreachable(why)
        yield Pause(min(FIRST_PAUSE * 2 ** min(breaks, 5), LONGEST_PAUSE))


@dataclass(slots=True)
class _Place:
    """How far the results of a job have been read."""

    path: str
    after: str | None
    limit: int | None
    follow: bool

    def request(self) -> Request:
        query = {"after": self.after} if self.after else {}
        query |= {"limit": str(self.limit)} if self.limit is not None else {}
        query |= {"follow": "true"} if self.follow else {}
        return Request("GET", self.path, query)

    def read(self, stream: Stream) -> Steps[Lost | None]:
        """Gives the results of a stream; `Lost` where it broke. Half a line is no result."""
        rest: list[bytes] = []
        while isinstance(piece := (yield Read(stream)), bytes):
            *whole, last = piece.split(b"\n")
            if whole:
                whole[0] = b"".join((*rest, whole[0]))
                rest = []
            rest.append(last)
            for line in whole:
                read = objects.result(line)
                self.after = read.cursor
                self.limit = None if self.limit is None else self.limit - 1
                yield Give(read)
        return piece if isinstance(piece, Lost) else None


def failed_lines(job: str | Job) -> Steps[None]:
    """Gives the results of the error file, in input order, once the job has ended."""
    ended = yield from wait(job)
    if ended.error_file is not None:
        lines = Lines(ended.error_file)
        while (line := (yield from lines.next())) is not None:
            yield Give(objects.result(line))


def in_input_order(job: str | Job) -> Steps[None]:
    """Gives every result of a job, answered and failed, in input order, once it has ended."""
    ended = yield from wait(job)
    files = [each for each in (ended.output_file, ended.error_file) if each is not None]
    if len(files) < 2:
        for each in files:
            lines = Lines(each)
            while (line := (yield from lines.next())) is not None:
                yield Give(objects.result(line))
        return
    yield from _merged(_Side(files[0]), _Side(files[1]), ended)


class _Side:
    """One of the two result files, each of which is in input order."""

    def __init__(self, file: str) -> None:
        self._lines = Lines(file)
        self.result: Result | None = None
        self.number: int | None = None

    def advance(self) -> Steps[None]:
        """Read the next result; None after the last."""
        line = yield from self._lines.next()
        self.result = None if line is None else objects.result(line)
        found = None if self.result is None else _NUMBERED.match(self.result.id)
        self.number = None if found is None else int(found[1])

    def give(self) -> Steps[None]:
        """Give the result, and read the next."""
        yield Give(self.result)
        yield from self.advance()


def _merged(answered: _Side, failed: _Side, job: Job) -> Steps[None]:
    """The two files as one: by the number of the line in their ids; where those have none, the
    input says whose turn it is."""
    yield from answered.advance()
    yield from failed.advance()
    while answered.number is not None and failed.number is not None:
        yield from (answered if answered.number < failed.number else failed).give()
    for side, other in ((answered, failed), (failed, answered)):
        while side.number is not None and other.result is None:
            yield from side.give()
    if answered.result is not None or failed.result is not None:
        yield from _by_input(answered, failed, (yield from _inputs(job)))


def _by_input(answered: _Side, failed: _Side, inputs: Sequence[str]) -> Steps[None]:
    for each in inputs:
        lines = Lines(each)
        while (line := (yield from lines.next())) is not None:
            custom_id = _custom_id(line)
            out, err = answered.result, failed.result
            if out is not None and custom_id == out.custom_id:
                yield from answered.give()
            elif err is not None and (
                None in {custom_id, err.custom_id} or custom_id == err.custom_id
            ):
                yield from failed.give()
            else:
                break
    if answered.result is not None or failed.result is not None:
        raise Unreadable("The result files do not belong to the input; nothing can be joined.")


def _inputs(job: Job) -> Steps[Sequence[str]]:
    """The files that the job was made from. Raises `Unreadable` where one is gone."""
    inputs = job.input_files
    if not inputs:
        batch = yield from ask_json(Request("GET", f"/v1/batches/{quoted(job.id)}"))
        inputs = (str(batch.get("input_file_id")),)
    for each in inputs:
        try:
            yield from ask_json(Request("GET", f"{FILES}/{quoted(each)}"))
        except NotFound:
            raise Unreadable(
                f"The input of job {job.id} was deleted, and with it the order of its lines. "
                "Read the results in order of completion, or the two result files."
            ) from None
    return inputs


def _custom_id(line: bytes) -> str | None:
    """The custom_id of an input line, as far as it can be read; one that stands twice is none."""
    text = line.removeprefix(b"\xef\xbb\xbf")
    try:
        custom_id = _NAMED.decode(text).custom_id
        if text.count(b"custom_id") == 1 and b"\\u00" not in text:
            return custom_id
        names = [name for name, _ in json.loads(text, object_pairs_hook=list)]
    except (ValueError, RecursionError):
        return None
    return custom_id if names.count("custom_id") == 1 else None
