"""Standard output that may be a pipe whose reader leaves: ``kafka-gateway --check --json | head -1``."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator
from typing import TextIO


class OutputFailed(OSError):
    """Standard output takes nothing more, as on a full disk: the message says why. Nothing is tried again."""


class LineHandler(logging.Handler):
    """Logs to standard output, for commands whose output is their log."""

    def emit(self, record: logging.LogRecord) -> None:
        write_line(self.format(record))


def write_line(line: str, out: TextIO | None = None) -> None:
    """Writes the line at once, to standard output unless told otherwise.

    If nobody reads any more, this line and all after it are dropped: a reader that has seen enough is no failure. Any
    other error raises `OutputFailed`.
    """
    out = out or sys.stdout
    with _told_once(out):
        out.write(f"{line}\n")
        out.flush()


def flush_output() -> None:
    """Writes what is left for standard output while a failure can still be reported. Raises `OutputFailed`."""
    if sys.stdout is not None:
        with _told_once(sys.stdout):
            sys.stdout.flush()


@contextlib.contextmanager
def _told_once(out: TextIO) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        _discard(out)
    except OSError as error:
        _discard(out)
        raise OutputFailed(f"the output cannot be written: {error.strerror or error}") from error


def _discard(out: TextIO) -> None:
    # What Python still holds for the pipe would be tried again, and fail, at the very end (exit code 120).
    with contextlib.suppress(io.UnsupportedOperation):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, out.fileno())
        os.close(nowhere)
