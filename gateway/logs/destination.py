"""Where the lines of the log go: a file that can be rotated, or standard error.

A destination that takes nothing (a full disk, a file that cannot be opened) never stops the gateway: lines are lost,
which is said on standard error once a minute, and in the log as soon as it takes lines again.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Final

TELL_EVERY_S: Final = 60.0


class Destination:
    """Usable from any thread. ``path`` "" is standard error."""

    def __init__(self, path: str) -> None:
        self._path = path
        # A handler of a signal may log while this very thread writes a line.
        self._lock = threading.RLock()
        self._file: int | None = None
        self._lost = 0
        self._tell_at = 0.0

    @property
    def is_file(self) -> bool:
        return bool(self._path)

    def open(self) -> None:
        """Opens the file, and its directory if need be. OSError: it cannot be had."""
        if self._path and self._file is None:
            self._file = _open(self._path)

    def reopen(self) -> None:
        """The file was moved away: lines go into a new one. If that cannot be had, they go on into the old one."""
        if not self._path:
            return
        try:
            opened = _open(self._path)
        except OSError as error:
            self._tell(f"log.file: {self._path} cannot be opened: {error.strerror}; the old file is used on")
            return
        with self._lock:
            before, self._file = self._file, opened
        if before is not None:
            os.close(before)

    def write(self, lines: bytes, count: int = 1) -> None:
        """Writes whole lines, their ends included. Never raises."""
        with self._lock:
            try:
                if self._lost and self._path:
                    note = f"{self._lost} lines of the log were lost"
                    self._put(_plain_line(note, lines))
                    self._lost = 0
                self._put(lines)
            except (OSError, ValueError) as error:
                self._lost += count
                reason = error.strerror if isinstance(error, OSError) else str(error)
                if self._path:
                    self._tell(f"log.file: {self._path} cannot be written: {reason}; {self._lost} lines are lost")

    def _put(self, data: bytes) -> None:
        if self._file is None:
            sys.stderr.buffer.write(data)
            sys.stderr.buffer.flush()
            return
        written = os.write(self._file, data)
        if written < len(data):  # a disk that is nearly full takes a part
            os.write(self._file, data[written:])

    def _tell(self, text: str) -> None:
        now = time.monotonic()
        if now >= self._tell_at:
            self._tell_at = now + TELL_EVERY_S
            try:
                sys.stderr.write(f"kafka-gateway: {text}\n")
                sys.stderr.flush()
            except (OSError, ValueError):  # nobody is there to be told
                return

    def close(self) -> None:
        """Ends it; what is written after that goes to standard error."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None


def _open(path: str) -> int:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)


def _plain_line(text: str, like: bytes) -> bytes:
    """A line of the same form as the one that comes behind it."""
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
