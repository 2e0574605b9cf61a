"""Standard output that may be a pipe whose reader leaves: ``kafka-gateway --check --json | head -1``."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from typing import TextIO


class LineHandler(logging.Handler):
    """Logs to standard output, for commands whose output is their log."""

    def emit(self, record: logging.LogRecord) -> None:
        write_line(self.format(record))


def write_line(line: str, out: TextIO | None = None) -> None:
    """Writes the line at once, to standard output unless told otherwise.

    Where nobody reads any more, this line and all after it go nowhere: a reader that has seen enough is no failure.
    """
    out = out or sys.stdout
    try:
        out.write(f"{line}\n")
        out.flush()
    except BrokenPipeError:
        _discard(out)


def _discard(out: TextIO) -> None:
    # What Python still holds for the pipe would be tried again, and fail, at the very end (exit code 120).
    with contextlib.suppress(io.UnsupportedOperation):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, out.fileno())
        os.close(nowhere)
