"""Metrics of this process: how late its event loop is, its threads, the garbage collector, and what runs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import platform
import threading
import time
from collections.abc import AsyncIterator, Mapping

from kafka_gateway.metrics.families import counter, gauge, histogram, info
from kafka_gateway.metrics.numbers import DELAY_SECONDS, Histogram
from kafka_gateway.metrics.registry import Families
from kafka_gateway.version import VERSION

_LOOK_S = 0.25
"""How often the lateness of the loop is measured."""


class ProcessMetrics:
    """Belongs to the event loop. ``libraries`` are further labels of ``build_info``: name → version."""

    def __init__(self, libraries: Mapping[str, str]) -> None:
        self._build = {"version": VERSION, "python": platform.python_version(), **libraries}
        self._started_at = time.time()
        self._lag = Histogram(DELAY_SECONDS)
        self._gc_s = 0.0
        self._gc_began = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def families(self) -> Families:
        """A source of `Metrics`."""
        yield info("build", "What runs", self._build)
        yield gauge("start_time_seconds", "When this process began to serve (Unix time)", (), [((), self._started_at)])
        yield histogram("loop_lag_seconds", "How late the event loop is for its timers", (), [((), self._lag)])
        yield gauge("threads", "Threads of this process, those of librdkafka included", (), [((), _threads())])
        yield counter("gc_seconds", "Time that the collector of garbage has taken", (), [((), self._gc_s)])

    @contextlib.asynccontextmanager
    async def measuring(self) -> AsyncIterator[None]:
        """Measures for as long as the context is open."""
        loop = asyncio.get_running_loop()

        def look(due: float) -> None:
            now = loop.time()
            self._lag.add(max(0.0, now - due))
            self._timer = loop.call_at(now + _LOOK_S, look, now + _LOOK_S)

        look(loop.time())
        gc.callbacks.append(self._collecting)
        try:
            yield
        finally:
            gc.callbacks.remove(self._collecting)
            if self._timer is not None:
                self._timer.cancel()

    def _collecting(self, phase: str, _: Mapping[str, int]) -> None:
        if phase == "start":
            self._gc_began = time.perf_counter()
        else:
            self._gc_s += time.perf_counter() - self._gc_began


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:  # no /proc: those of Python at least
        return threading.active_count()
