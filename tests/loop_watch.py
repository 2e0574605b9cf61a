"""Fails a test when one callback held its event loop for more than 50 ms.

Use it in a conftest with ``from tests.loop_watch import loop_watch`` (the name in ``__all__``, or ``# noqa: F401``): every
test of that directory is watched while its own code runs, not while fixtures are set up or taken down. A test of which
one step is allowed to be slow takes the fixture and sets ``loop_watch.limit_s``.

What is measured. Each callback and each step of a task runs through ``asyncio.Handle._run``, which is replaced by one
that takes the time. Wall time would blame the gateway for a busy machine, so two other clocks decide:

* CPU time of the loop's thread (``time.thread_time``), less that of the garbage collector, which has the objects of
  the whole test run to look at. This is work.
* For callbacks that took long without work, a second thread that wakes up every 5 ms: if it was on time meanwhile, the
  machine was not the reason, and the callback was blocked (``time.sleep``, a blocking call of librdkafka). If it was
  late too, nobody can tell, and nobody is blamed.

uvloop's handles are not asyncio's and cannot be watched; the tests that measure run on asyncio's own loop.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

LIMIT_S = 0.05

_TICK_S = 0.005


class LoopWatch:
    """Collects the callbacks of this thread's event loop that held it for longer than ``limit_s``."""

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self.limit_s = limit_s
        self.longest_s = 0.0
        self.held: list[str] = []
        self._thread = threading.get_ident()
        self._collecting_since = 0.0
        self._collected_s = 0.0
        self._ticks: list[float] = []
        self._ticking = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="loop-watch", daemon=True)

    def start(self) -> None:
        self._original = original = asyncio.Handle._run  # type: ignore[attr-defined]

        def run(handle: asyncio.Handle) -> None:
            if threading.get_ident() != self._thread:
                original(handle)
                return
            collected, cpu, wall = self._collected_s, time.thread_time(), time.monotonic()
            try:
                original(handle)
            finally:
                worked = time.thread_time() - cpu - (self._collected_s - collected)
                self._judge(handle, worked, wall)

        asyncio.Handle._run = run  # type: ignore[attr-defined]
        gc.callbacks.append(self._on_collection)
        self._ticker.start()

    def stop(self) -> None:
        self._ticking.set()
        asyncio.Handle._run = self._original  # type: ignore[attr-defined]
        gc.callbacks.remove(self._on_collection)
        self._ticker.join()

    def reset(self) -> None:
        """Forgets what was seen so far: for a test whose preparation is slow."""
        self.longest_s = 0.0
        self.held.clear()

    def _judge(self, handle: asyncio.Handle, worked: float, began: float) -> None:
        self.longest_s = max(self.longest_s, worked)
        if worked > self.limit_s:
            self.held.append(f"{worked * 1000:.0f} ms of work in {handle!r}")
            return
        took = time.monotonic() - began
        if took - worked > self.limit_s and self._on_time(began, began + took):
            self.longest_s = max(self.longest_s, took)
            self.held.append(f"blocked for {(took - worked) * 1000:.0f} ms in {handle!r}")

    def _on_time(self, began: float, ended: float) -> bool:
        """Whether the other thread ran all the time between; then this one could have."""
        ticks = [began, *(tick for tick in self._ticks[-2000:] if began < tick < ended), ended]
        return max(after - before for before, after in zip(ticks, ticks[1:], strict=False)) < self.limit_s / 2

    def _tick(self) -> None:
        while not self._ticking.wait(_TICK_S):
            self._ticks.append(time.monotonic())

    def _on_collection(self, phase: str, info: dict[str, Any]) -> None:
        if threading.get_ident() == self._thread:
            if phase == "start":
                self._collecting_since = time.thread_time()
            else:
                self._collected_s += time.thread_time() - self._collecting_since


@pytest.fixture(autouse=True)
def loop_watch(request: pytest.FixtureRequest) -> LoopWatch:
    """Watches the test; see the module."""
    watch = LoopWatch()
    request.node.stash[_WATCH] = watch
    return watch


_WATCH = pytest.StashKey[LoopWatch]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Import it next to the fixture: it starts the watch when the fixtures are ready, and judges at the end."""
    watch = item.stash.get(_WATCH, None)
    if watch is None:
        return (yield)  # type: ignore[no-any-return]
    watch.start()
    try:
        result = yield
    finally:
        watch.stop()
    if watch.held:
        pytest.fail(f"the event loop was held for more than {watch.limit_s * 1000:.0f} ms: " + "; ".join(watch.held))
    return result


__all__ = ["LIMIT_S", "LoopWatch", "loop_watch", "pytest_runtest_call"]
