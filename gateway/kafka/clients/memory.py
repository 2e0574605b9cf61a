"""Giving memory back to the system after many consumers have let go of what they had fetched.

Fetched records live in small pieces in the arenas of the C library, which keeps what is freed: after 500 consumers had
each read a little of a backlog, 1 GB stayed with the process although their queues were empty, and ``malloc_trim`` took
it to 0.6 MiB each. It takes up to 0.3 s and holds an arena at a time, so it is rare and not for a few consumers.
"""

from __future__ import annotations

import ctypes
import threading
import time

MANY = 50
"""So many consumers must have let go since the last time."""
EVERY_S = 10.0
SETTLED_S = 1.0
"""None may have let go for this long: more of them usually follow."""


class Trimmer:
    """Usable from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._not_before = 0.0
        # glibc has it, musl and macOS have not.
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)

    def let_go(self) -> None:
        """A consumer has dropped what it had fetched."""
        with self._lock:
            self._count += 1
            self._not_before = max(self._not_before, time.monotonic() + SETTLED_S)

    def trim_if_due(self) -> None:
        """Gives memory back if it is worth it; blocks the calling thread, without the interpreter's lock."""
        if self._count < MANY or self._trim is None:
            return
        with self._lock:
            now = time.monotonic()
            if self._count < MANY or now < self._not_before:
                return
            self._count = 0
            self._not_before = now + EVERY_S
        self._trim(0)


trimmer = Trimmer()
"""The process has one heap, so there is one."""
