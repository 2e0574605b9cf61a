"""The watch itself: it finds what holds a loop, and blames nobody for what it cannot know."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests import loop_watch
from tests.loop_watch import LoopWatch
from tests.watched_loop import WatchedLoop, watches

pytest_plugins = ["pytester"]


def on_the_loop(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=WatchedLoop) as runner:
        runner.run(work)


def watched(work: Callable[[], object], limit_s: float = 0.03) -> list[str]:
    async def main() -> None:
        await asyncio.sleep(0)
        work()
        await asyncio.sleep(0)

    watch = LoopWatch(limit_s)
    watch.start()
    try:
        on_the_loop(main())
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
    assert "main()" in found


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
        on_the_loop(main())
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
        on_the_loop(main(watch))
    finally:
        watch.stop()
    assert watch.held == []


def test_it_puts_everything_back() -> None:
    callbacks = list(gc.callbacks)
    watched(busy)
    assert watches == []
    assert gc.callbacks == callbacks


class Slow(asyncio.Protocol):
    """Holds the loop when it is sent something."""

    def data_received(self, data: bytes) -> None:
        busy()


@pytest.mark.parametrize("way", ["call_soon", "call_later", "call_at", "call_soon_threadsafe", "data_received"])
def test_every_way_to_the_loop_is_seen(way: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def work() -> None:
            busy()
            done.set()

        match way:
            case "call_soon":
                loop.call_soon(work)
            case "call_later":
                loop.call_later(0.01, work)
            case "call_at":
                loop.call_at(loop.time() + 0.01, work)
            case "call_soon_threadsafe":
                loop.call_soon_threadsafe(work)
            case _:
                server = await loop.create_server(Slow, "127.0.0.1", 0)
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                writer.write(b"x")
                writer.write_eof()
                assert await reader.read() == b""  # it has closed the connection, behind what was sent
                server.close()
                writer.close()
                done.set()
        await done.wait()

    watch = LoopWatch(0.03)
    watch.start()
    try:
        on_the_loop(main())
    finally:
        watch.stop()
    (found,) = watch.held
    assert "ms of work" in found


def test_a_test_that_holds_the_loop_fails(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    pytester.makeconftest(
        """
        from tests.conftest import pytest_asyncio_loop_factories
        from tests.loop_watch import loop_watch, pytest_runtest_call
        """
    )
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
