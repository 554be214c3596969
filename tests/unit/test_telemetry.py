"""What becomes of log lines that nobody reads."""

from __future__ import annotations

import os
from io import StringIO

from batchmill.telemetry import LossyText

LINE = "x" * 999 + "\n"


def test_a_pipe_that_nobody_reads_stops_no_one_and_takes_lines_again_once_it_is_read() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader) as pipe, os.fdopen(writer, "w") as stream:
        log = LossyText(stream)
        for _ in range(100):
            assert log.write(LINE) == len(LINE)
        os.read(reader, 1 << 20)
        log.write("again\n")
        assert pipe.readline() == "again\n"


def test_what_cannot_be_written_is_dropped() -> None:
    stream = StringIO()
    stream.close()
    assert LossyText(stream).write(LINE) == len(LINE)
