"""Waiting in tests, in one place: for a condition that no event announces, and for what is ready to go on.

A test waits for what it needs and not for a time that should be enough: `tests/contract/test_sleeps.py` sees to it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

PATIENCE_S = 60.0
"""Only a test that fails waits for so long. Machines differ by ten times, and most do other work beside."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.005, 0.1


def _pauses() -> Iterator[float]:
    pause = _FIRST_PAUSE_S
    while True:
        yield pause
        pause = min(pause * 1.5, _LONGEST_PAUSE_S)


async def until(
    condition: Callable[[], Any], within_s: float = PATIENCE_S, *, but: type[Exception] | tuple[()] = ()
) -> Any:
    """What the condition gives when that is true for the first time; it may be a coroutine function.

    ``but``: an exception that means "not yet". TimeoutError after the time.
    """
    pauses = _pauses()
    async with asyncio.timeout(within_s):
        while True:
            try:
                found = condition()
                if isinstance(found, Awaitable):
                    found = await found
            except but:
                found = None
            if found:
                return found
            await asyncio.sleep(next(pauses))


def wait_until(
    condition: Callable[[], Any],
    within_s: float = PATIENCE_S,
    *,
    but: type[Exception] | tuple[()] = (),
    what: Callable[[], object] = str,
) -> Any:
    """As ``until``, for a thread without an event loop; ``what`` tells in the TimeoutError what there was instead."""
    ends, pauses = time.monotonic() + within_s, _pauses()
    while True:
        try:
            found = condition()
        except but:
            found = None
        if found:
            return found
        if time.monotonic() > ends:
            raise TimeoutError(f"not within {within_s:g} s: {what()}")
        time.sleep(next(pauses))


async def settled(turns: int = 20) -> None:
    """Gives everything its turn that is ready to go on: it waits for nothing but the event loop."""
    for _ in range(turns):
        await asyncio.sleep(0)
