"""The watch itself: it finds what holds a loop, and blames nobody for what it cannot know."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import loop_watch
from tests.loop_watch import LoopWatch

pytest_plugins = ["pytester"]


def watched(work: Callable[[], object], limit_s: float = 0.03) -> list[str]:
    async def main() -> None:
        await asyncio.sleep(0)
        work()
        await asyncio.sleep(0)

    watch = LoopWatch(limit_s)
    watch.start()
    try:
        asyncio.run(main())
    finally:
        watch.stop()
    return watch.held


def busy(seconds: float = 0.15) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_work_is_found() -> None:
    (found,) = watched(busy)
    assert "ms of work" in found
    assert "main()" in found or "TaskStepMethWrapper" in found or "Task" in found


def test_work_is_measured_by_what_the_machine_does_in_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_watch, "slowness", lambda: 4.0)
    assert watched(lambda: busy(0.1)) == []
    (found,) = watched(lambda: busy(0.2))
    assert "on a machine 4.0 times slower" in found


def test_a_blocking_call_is_found() -> None:
    """On a machine that is too busy to tell it may be missed: it is enough that it is found once in ten times."""
    # time itself: it blocks
    assert any("blocked for" in line for _ in range(10) for line in watched(lambda: time.sleep(0.1)))


def test_the_wait_for_a_processor_is_nobodys_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the time is such a wait here; without that it is blamed (the test above)."""
    monkeypatch.setattr(LoopWatch, "_waited_s", lambda _: time.monotonic())
    assert watched(lambda: time.sleep(0.1)) == []  # time itself: it blocks


def test_what_waits_properly_is_let_pass() -> None:
    async def main() -> None:
        await asyncio.sleep(0.1)  # time itself: it waits properly
        await asyncio.to_thread(time.sleep, 0.1)

    watch = LoopWatch(0.03)
    watch.start()
    try:
        asyncio.run(main())
    finally:
        watch.stop()
    assert [line for line in watch.held if "main" in line] == []


@pytest.mark.slow
def test_the_garbage_collector_is_not_counted() -> None:
    garbage = [[number] for number in range(300_000)]

    def collect() -> None:
        for _ in range(10):
            gc.collect()

    assert watched(collect, 0.05) == []
    assert garbage


def test_what_is_paused_is_not_judged() -> None:
    async def main(watch: LoopWatch) -> None:
        with watch.paused():
            busy()
        await asyncio.sleep(0)

    watch = LoopWatch(0.03)
    watch.start()
    try:
        asyncio.run(main(watch))
    finally:
        watch.stop()
    assert watch.held == []


def test_it_puts_everything_back() -> None:
    before, callbacks = asyncio.Handle._run, list(gc.callbacks)  # type: ignore[attr-defined]
    watched(busy)
    assert asyncio.Handle._run is before  # type: ignore[attr-defined]
    assert gc.callbacks == callbacks


def test_a_test_that_holds_the_loop_fails(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    pytester.makeconftest("from tests.loop_watch import loop_watch, pytest_runtest_call")
    pytester.makepyfile(
        """
        import asyncio, time
        async def test_holds():
            end = time.thread_time() + 0.1
            while time.thread_time() < end:
                pass
        async def test_holds_not():
            await asyncio.sleep(0.1)
        """
    )
    result = pytester.runpytest_subprocess("-o", "asyncio_mode=auto")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*the event loop was held for more than 50 ms*"])
