"""A file of whole lines that may be rotated and may be full: of the log, and of the audit log.

One that takes nothing (a full disk, a file that cannot be opened) never stops the gateway: lines are lost, which is
told once a minute, and in the file itself as soon as it takes lines again.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

TELL_EVERY_S: Final = 60.0


class LineFile:
    """Usable from any thread. ``path`` "" is standard error.

    Args:
        key: the property that names the file, for what is told.
        tell: is called with what is wrong, at most once in `TELL_EVERY_S`; it must not raise.
        lost_line: the line, its end included, that says how many lines were lost; of the same form as the second
            argument, which comes behind it.
    """

    def __init__(
        self, path: str, key: str, tell: Callable[[str], None], lost_line: Callable[[int, bytes], bytes]
    ) -> None:
        self._path, self._key = path, key
        self._told, self._lost_line = tell, lost_line
        # A handler of a signal may log while this very thread writes a line.
        self._lock = threading.RLock()
        self._file: int | None = None
        self._is_torn = False
        """Whether the last write ended in the middle of a line, of a file that cannot be read, such as a pipe."""
        self._lost = 0
        self._tell_at = 0.0

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
            self._tell(f"{self._key}: {self._path} cannot be opened: {error.strerror}; the old file is used on")
            return
        with self._lock:
            before, self._file, self._is_torn = self._file, opened, False
        if before is not None:
            os.close(before)

    def write(self, lines: bytes, count: int = 1) -> None:
        """Writes so many whole lines, their ends included. Never raises."""
        with self._lock:
            try:
                if self._lost and self._path:
                    self._put(self._lost_line(self._lost, lines))
                    self._lost = 0
                self._put(lines)
            except (OSError, ValueError) as error:
                self._lost += count
                reason = error.strerror if isinstance(error, OSError) else str(error)
                if self._path:
                    self._tell(f"{self._key}: {self._path} cannot be written: {reason}; {self._lost} lines are lost")

    def _put(self, data: bytes) -> None:
        if self._file is None:
            sys.stderr.buffer.write(data)
            sys.stderr.buffer.flush()
            return
        if _is_half(self._file, self._is_torn):
            data = b"\n" + data
        while data:  # a disk that is nearly full takes a part
            written = os.write(self._file, data)
            self._is_torn = data[written - 1 : written] != b"\n"
            data = data[written:]

    def _tell(self, text: str) -> None:
        now = time.monotonic()
        if now >= self._tell_at:
            self._tell_at = now + TELL_EVERY_S
            self._told(text)

    def close(self) -> None:
        """Ends it; what is written after that goes to standard error."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None


def _open(path: str) -> int:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    kind = os.O_RDWR if os.path.isfile(path) or not os.path.exists(path) else os.O_WRONLY
    # Who may read it: nobody but the gateway's user and group, unless the operator made the file before.
    try:
        return os.open(path, kind | os.O_APPEND | os.O_CREAT, 0o640)
    except PermissionError:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)


def _is_half(file: int, otherwise: bool) -> bool:
    """Whether the file ends with a part of a line, which whoever wrote before may have left: another process, or one
    before this that was killed or met a full disk. ``otherwise``: the answer for a file that cannot be read."""
    try:
        end = os.lseek(file, 0, os.SEEK_END)
        return end > 0 and os.pread(file, 1, end - 1) != b"\n"
    except OSError:  # a pipe, a terminal, or a file that may be written only
        return otherwise
