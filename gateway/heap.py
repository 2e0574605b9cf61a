"""Giving memory back to the system after much of it was freed.

What clients and consumers are sent lives in small pieces in the arenas of the C library, which keeps what is freed:
after 500 consumers had each read a little of a backlog, 1 GB stayed with the process although their queues were empty,
and after 40 clients that had sent 14 MiB each up to 500 MiB. ``malloc_trim`` gives it back. It takes up to 0.3 s and
holds an arena at a time, so it is rare, not for a little, and on a thread that exists for it alone.
"""

from __future__ import annotations

import ctypes
import threading
import time

MUCH = 64 * 1024 * 1024
"""Bytes that must have been freed since the last time."""
CONSUMER_BYTES = -(-MUCH // 50)
"""What a consumer of Kafka has fetched, about."""
CLIENT_BYTES = 600 * 1024
"""What a consumer of Kafka is itself: 500 that had left their groups left 290 MiB behind."""
EVERY_S = 10.0
SETTLED_S = 1.0
"""Nothing may have been freed for this long: more usually follows."""


class Trimmer:
    """Usable from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._let_go = 0
        self._not_before = 0.0
        self._is_watched = False
        """Whether a thread waits for the time to give memory back."""
        # glibc has it, musl and macOS have not.
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)

    def let_go(self, size_bytes: int = CONSUMER_BYTES) -> None:
        """Counts bytes that were freed: by default as many as a consumer fetches ahead."""
        if self._trim is None:
            return
        with self._lock:
            self._let_go += size_bytes
            self._not_before = max(self._not_before, time.monotonic() + SETTLED_S)
            begins = self._let_go >= MUCH and not self._is_watched
            self._is_watched |= begins
        if begins:
            # By itself, because nothing else may be freed for a long time.
            threading.Thread(target=self._watch, name="heap-trimmer", daemon=True).start()

    def _watch(self) -> None:
        while True:
            with self._lock:
                now = time.monotonic()
                left_s = self._not_before - now
                if left_s <= 0:
                    self._let_go = 0
                    self._not_before = now + EVERY_S
                    self._is_watched = False
                    break
            time.sleep(left_s)
        if self._trim is not None:
            self._trim(0)  # without the interpreter's lock


trimmer = Trimmer()
"""The process has one heap, so there is one."""
