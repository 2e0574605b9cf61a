"""The event loop of the tests: uvloop's, as in the program. A watch sees every step of it (tests/loop_watch.py).

uvloop runs its callbacks in C, where nobody can take the time, so they are wrapped when they are handed to it: what is
to be called soon or later, each step of a task among it, and what a connection calls of its protocol. Not seen is the
protocol that takes a connection over from another (``DoorConnection.hand_over``).
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVarTuple

import uvloop

Step = Callable[..., Any]
Ts = TypeVarTuple("Ts")

watches: list[Callable[[Step, tuple[Any, ...]], Any]] = []
"""Each calls the step with the arguments and gives what it gives. The last one counts."""


def run_step(step: Step, *args: Any) -> Any:
    """Calls it, seen by the watch."""
    return watches[-1](step, args) if watches else step(*args)


class WatchedLoop(uvloop.Loop):
    """uvloop's loop, whose steps go through `watches`."""

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        return super().call_soon(run_step, callback, *args, context=context)

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        return super().call_soon_threadsafe(run_step, callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return super().call_later(delay, run_step, callback, *args, context=context)  # call_at comes here as well

    async def create_server(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        return await super().create_server(_seen(protocol_factory), *args, **options)

    async def create_connection(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        return await super().create_connection(_seen(protocol_factory), *args, **options)

    async def create_unix_server(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        return await super().create_unix_server(_seen(protocol_factory), *args, **options)

    async def connect_accepted_socket(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        return await super().connect_accepted_socket(_seen(protocol_factory), *args, **options)


def _seen(protocol_factory: Callable[[], Any]) -> Callable[[], Any]:
    def make() -> Any:
        protocol = protocol_factory()
        protocol.__class__ = _seen_class(type(protocol))
        return protocol

    return make


@functools.cache
def _seen_class(kind: type) -> type:
    """A class like that, with the same name, whose methods that a connection calls are seen."""
    calls = ("connection_made", "connection_lost", "data_received", "buffer_updated", "eof_received")
    methods = {name: _seen_method(getattr(kind, name)) for name in (*calls, "resume_writing") if hasattr(kind, name)}
    return type(kind.__name__, (kind,), {"__slots__": (), "__module__": kind.__module__, **methods})


def _seen_method(method: Step) -> Step:
    @functools.wraps(method)
    def seen(self: Any, *args: Any) -> Any:
        return run_step(method, self, *args)

    return seen
