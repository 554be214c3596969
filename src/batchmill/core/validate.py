"""Validation: every input of a job is streamed once, judged line by line and cut into shards.

    read      chunk after chunk, the CPU work in a thread             (`Reading`)
    judge     each line by its dialect                                (`decode.py`)
    cut       into shards, each with its dispatch order               (`plan.py`, `order.py`)
    find      lines that are the same request as an earlier one       (`bodies.py`, where asked for)
    compare   custom_ids, once all are known                          (`repeats.py`)

Memory does not grow with the job but for 8 bytes a line, and some 30 where it is looked for
duplicates. I/O goes through `Blobs` alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from batchmill.core.bodies import Bodies, place_of
from batchmill.core.decode import InputLine, LineForm, custom_id_of, decode, glance_all, is_plain
from batchmill.core.lines import Block, LineRules, Splitter
from batchmill.core.names import order_name
from batchmill.core.order import BadLine, ShardOrder
from batchmill.core.plan import ShardCutter
from batchmill.core.repeats import CustomIds, mark_repeats
from batchmill.core.tally import ErrorTally
from batchmill.errors import BlobMissing
from batchmill.jsontext import json_string
from batchmill.model import BlobName, Job, JobInput, LineError, Shard
from batchmill.ports import Blobs, Plan

ORDERS_AT_ONCE = 16
JUDGED_BYTES = 256 * 1024
"""How much is judged at once: what bounds the objects that are alive meanwhile."""


async def validate(job: Job, inputs: Sequence[JobInput], blobs: Blobs, rules: LineRules) -> Plan:
    """Judge every line and plan the shards over all of them, good and bad.

    Bad lines stand in the shards' order blobs, which are durable when it returns, and the first
    100 in the plan. A plan without shards cannot run whatever its job does with bad lines: its
    one error has no line number. Raises `BlobMissing` where an input is not there or shorter
    than it was.
    """
    reading = Reading(job, inputs, rules)
    for number, source in enumerate(inputs):
        reading.begin(number)
        await _read(source, reading, blobs)
        if reading.is_over_limit:
            message = (
                f"The input has more than {rules.max_lines:,} lines, the most a batch may have."
            )
            return _refused("too_many_tasks", message)
    await blobs.put_many(reading.take_orders())
    if not reading.lines:
        message = "The input file is empty; a batch needs at least one request."
        return _refused("empty_file", message)
    await mark_repeats(job.id, reading.ids, reading.shards, inputs, blobs, reading.errors)
    return Plan(
        tuple(reading.shards),
        reading.lines,
        reading.errors.first(),
        reading.errors.total,
        reading.model,
    )


def no_such_input(job: Job) -> LineError:
    """What is wrong with a job whose input file was never there for its tenant."""
    asked = ", ".join(job.input_files)
    message = f"Cannot find file {asked}, or this API key has no access to it."
    return LineError("invalid_request", message, param="file_id")


async def _read(source: JobInput, reading: Reading, blobs: Blobs) -> None:
    size_bytes = 0
    async for chunk in blobs.read(source.blob):
        size_bytes += len(chunk)
        await asyncio.to_thread(reading.feed, chunk)
        if reading.is_over_limit:
            return
        if len(reading.orders) >= ORDERS_AT_ONCE:
            await blobs.put_many(reading.take_orders())
    if size_bytes != source.size_bytes:
        raise BlobMissing(
            f"Blob {source.blob} has {size_bytes:,} bytes and should have "
            f"{source.size_bytes:,}; it is damaged.",
            name=source.blob,
        )
    await asyncio.to_thread(reading.finish)


class Reading:
    """The inputs of one job as far as they have been read; blocks for as long as a chunk takes."""

    def __init__(self, job: Job, inputs: Sequence[JobInput], rules: LineRules) -> None:
        self._job, self._rules = job, rules
        self._form = LineForm.of(
            job, replace(rules, can_serve=lru_cache(maxsize=1024)(rules.can_serve))
        )
        self._cutter = ShardCutter(rules.shard)
        self._order = ShardOrder()
        self._splitter = Splitter(rules.max_line_bytes)
        self.ids = CustomIds(rules.max_lines)
        self._bodies = Bodies(job.endpoint) if job.dedupe else None
        self.errors = ErrorTally(inputs)
        self.shards: list[Shard] = []
        self.orders: list[tuple[BlobName, list[bytes]]] = []
        self.model: str | None = None
        self.is_over_limit = False

    @property
    def lines(self) -> int:
        """Lines so far, good and bad."""
        return self._cutter.lines

    def begin(self, number: int) -> None:
        """Go on to the input of that number."""
        self._cutter.input = number
        self._splitter = Splitter(self._rules.max_line_bytes)

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk of the input."""
        for start in range(0, len(chunk), JUDGED_BYTES):
            self._take(self._splitter.feed(chunk[start : start + JUDGED_BYTES]))

    def finish(self) -> None:
        """The input has ended, and with it a shard."""
        self._take(self._splitter.finish())
        if not self._cutter.is_empty:
            self._cut()

    def take_orders(self) -> list[tuple[BlobName, list[bytes]]]:
        """The order blobs that are ready to be written."""
        orders, self.orders = self.orders, []
        return orders

    def _take(self, block: Block) -> None:
        room = self._rules.max_lines - self.lines
        if len(block.texts) > room:
            self.is_over_limit = True
            return
        judged = self._judge(block)
        at = 0
        while at < len(judged):
            first, end = self.lines, self._cutter.take(block, at)
            self._append(block, at, judged[at:end], first)
            if self._bodies is not None:
                self._find_same(self._bodies, block.texts[at:end], judged[at:end], first)
            if end < len(judged):
                self._cut()
            at = end

    def _judge(self, block: Block) -> list[InputLine | LineError]:
        """The lines as they are, or what is wrong with them."""
        fits, longest = self._form.fits, self._rules.max_line_bytes
        texts = block.texts
        glances = glance_all(texts)
        is_clean = is_plain(b"\n".join(texts), glances)
        return [
            line
            if line is not None
            and fits(line)
            and (is_clean or is_plain(text, (line,)))
            and len(text) <= longest
            else decode(text, self._form, physical)
            for line, text, physical in zip(glances, texts, block.physicals, strict=True)
        ]

    def _append(
        self, block: Block, at: int, judged: Sequence[InputLine | LineError], first: int
    ) -> None:
        """Add lines to the shard being filled; the first of them has that number in the job."""
        note_id, note_order = self.ids.add, self._order.add
        for number, line in enumerate(judged, first):
            if isinstance(line, LineError):
                self._refuse(block.texts[at + number - first], number, line)
            else:
                note_id(line.custom_id, number)
                note_order(line.body.prompt_texts(), line.body.expected_tokens())
                if self.model is None:
                    self.model = line.body.model

    def _find_same(
        self,
        bodies: Bodies,
        texts: Sequence[bytes],
        judged: Sequence[InputLine | LineError],
        first: int,
    ) -> None:
        """Note which of the lines that were appended last are the same as an earlier one."""
        shard_begins = first + len(judged) - self._order.lines
        for number, (text, line) in enumerate(zip(texts, judged, strict=True), first):
            if isinstance(line, LineError):
                continue
            original = bodies.first(text, number)
            if original is not None:
                place = place_of(original, self.shards, self._cutter.shards, shard_begins)
                self._order.same[number - shard_begins] = place

    def _refuse(self, text: bytes, number: int, error: LineError) -> None:
        self.errors.add(number, self._cutter.input, error)
        custom_id = custom_id_of(text)
        if custom_id is None:
            self._order.add_bad(BadLine(error))
        else:
            self.ids.add(custom_id, number)
            self._order.add_bad(BadLine(error, json_string(custom_id)))

    def _cut(self) -> None:
        shard = self._cutter.cut()
        self.shards.append(shard)
        self.orders.append((order_name(self._job.id, shard.n), [self._order.encode()]))
        self._order = ShardOrder()


def _refused(code: str, message: str) -> Plan:
    return Plan((), 0, (LineError(code, message),), 1)
