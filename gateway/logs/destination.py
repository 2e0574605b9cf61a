"""Where the lines of the log go: a file that can be rotated, or standard error."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from typing import Final

from kafka_gateway.line_file import LineFile

_PIPE_BUF: Final = 4096


class Destination(LineFile):
    """Usable from any thread. ``path`` "" is standard error; there it is told, too, that lines are lost. ``shared``:
    other processes write to it as well."""

    def __init__(self, path: str, shared: bool = False) -> None:
        super().__init__(path, "log.file", _tell, _lost_line)
        self._in_pieces = shared and not path

    def write(self, lines: bytes, count: int = 1) -> None:
        if self._in_pieces and len(lines) > _PIPE_BUF:
            for piece in _whole_lines(lines):
                super().write(piece, piece.count(b"\n"))
        else:
            super().write(lines, count)


def _whole_lines(data: bytes) -> Iterator[bytes]:
    """The lines in pieces that a pipe takes in one go (pipe(7): PIPE_BUF); a longer line is a piece of its own."""
    start = 0
    while start < len(data):
        end = len(data)
        if end - start > _PIPE_BUF:
            end = data.rfind(b"\n", start, start + _PIPE_BUF) + 1 or data.find(b"\n", start) + 1 or end
        yield data[start:end]
        start = end


def _tell(text: str) -> None:
    try:
        sys.stderr.write(f"kafka-gateway: {text}\n")
        sys.stderr.flush()
    except (OSError, ValueError):  # nobody is there to be told
        return


def _lost_line(lost: int, like: bytes) -> bytes:
    text = f"{lost} lines of the log were lost"
    if like[:1] == b"{":
        at = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        return f'{{"time":"{at}","level":"ERROR","logger":"gateway.log","message":"{text}"}}\n'.encode()
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())},000 ERROR gateway.log: {text}\n".encode()


class DestinationHandler(logging.Handler):
    """Formats records and writes them to the destination."""

    def __init__(self, destination: Destination) -> None:
        super().__init__()
        self.destination = destination

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
        else:
            self.destination.write(f"{line}\n".encode("utf-8", "backslashreplace"))
