"""Ends a test that hangs, on any event loop. Its setup, its call and its teardown have the time of its limit each.

pytest-timeout knows the limit (``timeout`` in pyproject.toml, the marker ``timeout``), but its alarm does not end every
test. It raises pytest's ``Failed`` out of a signal handler: event loops log what a callback raises, unless that is a
``SystemExit``, and uvloop runs signal handlers in a callback. And it is off once a test has failed, so that a teardown
after that may hang. This alarm raises what is both, rings until the phase has ended, and fails the phase also when
somebody has caught what it raised. The failure says what each task of the loop was waiting for.

tests/conftest.py has these hooks by importing them. Not ended is a call of C that looks at no signals.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from pytest_timeout import Settings, is_debugging

from tests import fetching

AGAIN_S = 30.0
"""After how long it rings again, if the limit is not shorter: cleaning up after the first alarm takes some time."""

_LIMIT = pytest.StashKey[float]()


class TimeIsUp(pytest.fail.Exception, SystemExit):  # type: ignore[name-defined]
    """The failure, in a form that event loops let through."""


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Settings) -> bool:
    item.stash[_LIMIT] = settings.timeout
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_cancel_timer(item: pytest.Item) -> bool:
    return True


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    fetching.wait_for(item)
    with _limited(item, "setup"):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with _limited(item, "call"):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    with _limited(item, "teardown"):
        return (yield)


@contextlib.contextmanager
def _limited(item: pytest.Item, phase: str) -> Iterator[None]:
    limit_s = item.stash.get(_LIMIT, 0.0)
    if not limit_s or threading.current_thread() is not threading.main_thread():
        yield
        return
    rung: list[str] = []

    def ring(signum: int, frame: FrameType | None) -> None:
        if is_debugging():
            return
        rung.append(f"Timeout (>{limit_s:g}s) in the test's {phase}. {_what_waits()}")
        raise TimeIsUp(rung[0])

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, limit_s, min(limit_s, AGAIN_S))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if rung:
        raise TimeIsUp(rung[0])


def _what_waits() -> str:
    """The tasks of the loop that runs in this thread, each with the lines that it stands at, the innermost last."""
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:
        return "No event loop was running."
    lines = (f"  {task.get_name()}: {' > '.join(_places(task.get_coro())) or 'no frames'}" for task in tasks)
    return "\n".join(["Tasks:", *sorted(lines)])


def _places(waits: Any) -> Iterator[str]:
    while waits is not None:
        for kind in ("cr", "ag", "gi"):
            if frame := getattr(waits, f"{kind}_frame", None):
                name = Path(frame.f_code.co_filename).name
                yield f"{frame.f_code.co_name} ({name}:{frame.f_lineno})"
                waits = getattr(waits, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
                break
        else:  # what `anext` gives knows its generator, but does not tell it
            waits = next((held for held in gc.get_referents(waits) if hasattr(held, "ag_frame")), None)
