"""Fails a test when one callback held its event loop for more than 50 ms.

A conftest that imports ``loop_watch`` and ``pytest_runtest_call`` from here has every test of its directory watched,
while the test's own code runs and not while fixtures are set up or taken down. A test of which one step may be slow
takes the fixture and sets ``loop_watch.limit_s``, or puts the step into ``with loop_watch.paused()``.

What is measured. Each callback and each step of a task runs through ``asyncio.Handle._run``, which is replaced by one
that takes the time. Wall time would blame the gateway for a busy machine, so two other clocks decide:

* CPU time of the loop's thread (``time.thread_time``), less that of the garbage collector, which has the objects of
  the whole test run to look at. This is work. A processor that shares its core with another, or is slow, takes longer
  for the same work; so when a step is over the limit, a fixed piece of work is timed there and then, and the step's
  time is divided by how much longer than ``REFERENCE_S`` that took.
* For callbacks that took long without work, the time for which the system let this thread wait for a processor
  (Linux: schedstat) and that of the garbage collector are taken off. What is left may still be the machine's doing: the
  system's count of how often this thread was interrupted, and a second thread that wakes up every 5 ms, tell. If the
  one was not interrupted and the other was on time, the callback was blocked (``time.sleep``, a blocking call of
  librdkafka). Else nobody can tell, and nobody is blamed.

uvloop's handles are not asyncio's and cannot be watched; the tests that measure run on asyncio's own loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import resource
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.second_try import HELD

LIMIT_S = 0.05

REFERENCE_S = 0.0012
"""What `_reference` takes on the machine for which the limit is meant: a virtual core of a server, to itself."""

_SLOWEST = 4.0
"""A machine that is slower than this says nothing about 50 ms; it is not excused any further."""

_TICK_S = 0.005


class LoopWatch:
    """Collects the callbacks of this thread's event loop that held it for longer than ``limit_s``."""

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self.limit_s = limit_s
        self.held: list[str] = []
        self._paused = 0
        self._thread = threading.get_ident()
        self._collecting_since = self._collecting_from = 0.0
        self._collected_s = self._collecting_s = 0.0
        """Of the garbage collector: of the processor's time, and by the clock."""
        self._schedstat = -1
        self._system_at = self._waited = 0.0
        self._interrupted = 0
        """What the system said at most `_TICK_S` before a callback: asking it takes longer than most of them."""
        self._ticks: list[float] = []
        self._ticking = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="loop-watch", daemon=True)

    def start(self) -> None:
        self._original = original = asyncio.Handle._run

        def run(handle: asyncio.Handle) -> None:
            if threading.get_ident() != self._thread:
                original(handle)
                return
            began = time.monotonic()
            if began - self._system_at > _TICK_S:
                self._system_at, self._interrupted, self._waited = began, _interruptions(), self._waited_s()
            collected, collecting, cpu = self._collected_s, self._collecting_s, time.thread_time()
            try:
                original(handle)
            finally:
                # Of what took no longer than the limit there is nothing to judge: most callbacks cost two clocks.
                if time.monotonic() - began > self.limit_s:
                    worked = time.thread_time() - cpu - (self._collected_s - collected)
                    excused = self._waited_s() - self._waited + self._collecting_s - collecting
                    self._judge(handle, worked, began, excused, _interruptions() != self._interrupted)
                    self._system_at = 0.0

        with contextlib.suppress(OSError):
            self._schedstat = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        asyncio.Handle._run = run  # type: ignore[assignment,method-assign]
        gc.callbacks.append(self._on_collection)
        self._ticker.start()

    def stop(self) -> None:
        self._ticking.set()
        asyncio.Handle._run = self._original  # type: ignore[method-assign]
        gc.callbacks.remove(self._on_collection)
        self._ticker.join()
        if self._schedstat >= 0:
            os.close(self._schedstat)
            self._schedstat = -1

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Round what may take its time, such as the start of a gateway in the middle of a test."""
        self._paused += 1
        try:
            yield
        finally:
            # Of the callback that is running now the rest is not judged either.
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._paused -= 1

    def _judge(self, handle: asyncio.Handle, worked: float, began: float, excused: float, interrupted: bool) -> None:
        if self._paused:
            return
        if worked > self.limit_s:
            times = slowness()
            worked /= times
            if worked > self.limit_s:
                machine = f" (on a machine {times:.1f} times slower)" if times > 1 else ""
                self.held.append(f"{worked * 1000:.0f} ms of work{machine} in {handle!r}")
                return
        took = time.monotonic() - began
        blocked = took - worked - excused
        if blocked > self.limit_s and not interrupted and self._on_time(began, began + took):
            self.held.append(f"blocked for {blocked * 1000:.0f} ms in {handle!r}")

    def _on_time(self, began: float, ended: float) -> bool:
        """Whether the other thread ran all the time between; then this one could have."""
        ticks = [began, *(tick for tick in self._ticks[-2000:] if began < tick < ended), ended]
        return max(after - before for before, after in itertools.pairwise(ticks)) < self.limit_s / 2

    def _tick(self) -> None:
        while not self._ticking.wait(_TICK_S):
            self._ticks.append(time.monotonic())

    def _on_collection(self, phase: str, info: dict[str, Any]) -> None:
        if threading.get_ident() == self._thread:
            if phase == "start":
                self._collecting_since, self._collecting_from = time.thread_time(), time.monotonic()
            else:
                self._collected_s += time.thread_time() - self._collecting_since
                self._collecting_s += time.monotonic() - self._collecting_from

    def _waited_s(self) -> float:
        """For how long this thread has been ready to run and had no processor, ever; 0 where the system does not tell.

        A thread that waits for a lock and gets it is not interrupted: on a busy machine it waits 50 ms for its turn.
        """
        return int(os.pread(self._schedstat, 64, 0).split()[1]) / 1e9 if self._schedstat >= 0 else 0.0


def _reference() -> int:
    """A piece of work that never changes, of the kind that the interpreter does all day."""
    return sum(number * number for number in range(20_000))


def slowness() -> float:
    """How many times longer the reference takes now than on the machine that the limit is meant for, from 1 to 4."""
    taken = []
    for _ in range(3):
        began = time.thread_time()
        _reference()
        taken.append(time.thread_time() - began)
    return min(max(min(taken) / REFERENCE_S, 1.0), _SLOWEST)


def _interruptions() -> int:
    """How often the system took the processor from this thread; 0 where it does not tell."""
    who = getattr(resource, "RUSAGE_THREAD", None)
    return resource.getrusage(who).ru_nivcsw if who is not None else 0


@pytest.fixture(autouse=True)
def loop_watch(request: pytest.FixtureRequest) -> LoopWatch:
    """Watches the test; see the module."""
    watch = LoopWatch()
    request.node.stash[_WATCH] = watch
    return watch


def paused() -> contextlib.AbstractContextManager[None]:
    """``LoopWatch.paused`` of the test that is running; nothing if it is not watched."""
    return _running[-1].paused() if _running else contextlib.nullcontext()


_WATCH = pytest.StashKey[LoopWatch]()
_running: list[LoopWatch] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Import it next to the fixture: it starts the watch when the fixtures are ready, and judges at the end."""
    watch = item.stash.get(_WATCH, None)
    if watch is None:
        return (yield)
    watch.start()
    _running.append(watch)
    try:
        result = yield
    finally:
        _running.remove(watch)
        watch.stop()
    if watch.held:
        pytest.fail(f"{HELD} {watch.limit_s * 1000:.0f} ms: " + "; ".join(watch.held))
    return result


__all__ = ["LIMIT_S", "LoopWatch", "loop_watch", "paused", "pytest_runtest_call"]
