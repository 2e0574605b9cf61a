"""What moves a stream into the connection of its client, payload by payload: `Gateway.deliver`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol, cast, runtime_checkable

from kafka_gateway.errors import GONE, SLOW, CloseReason
from kafka_gateway.heartbeats import Heartbeating, HeartbeatTimer
from kafka_gateway.memory_budget import Claim, MemoryBudget, OutOfMemory
from kafka_gateway.session import Session
from kafka_gateway.stream import Counted, Payload, PushesAtOnce, Stream


class Sink(Protocol):
    """The writing half of a transport. ``send`` returns when the client's connection has room for more.

    A sink with an attribute ``takes_errors`` that is True gets the error that ends a record stream as its last payload;
    for all others `Gateway.deliver` raises it.
    """

    async def send(self, payload: Payload) -> None: ...


@runtime_checkable
class SendsAtOnce(Protocol):
    """A Sink that hears later what its client has."""

    async def send(self, payload: Payload) -> None: ...
    def send_at_once(self, data: bytes, delivered: Callable[[], None]) -> bool:
        """See `gateway.stream.PushAtOnce`."""


async def deliver(
    memory: MemoryBudget,
    heartbeats: HeartbeatTimer,
    stream: Stream,
    sink: Sink,
    session: Session,
    write_timeout_s: float | None,
    heartbeat_s: int,
) -> CloseReason:
    """See `Gateway.deliver`."""
    takes_errors = getattr(sink, "takes_errors", False)
    source = aiter(stream)
    claim: Claim | None = None
    if isinstance(source, Counted):
        claim = memory.claim(partial(_end_for_memory, source))
        source.count_in(claim)
    if isinstance(stream, PushesAtOnce) and isinstance(sink, SendsAtOnce):
        stream.push_with(partial(_push_at_once, sink, session))
    if heartbeat_s:
        heartbeats.add(cast(Heartbeating, sink), heartbeat_s)
    try:
        async for payload in source:
            if payload.error is not None and not takes_errors:
                raise payload.error
            try:
                if write_timeout_s is None:
                    await sink.send(payload)
                else:
                    async with asyncio.timeout(write_timeout_s):
                        await sink.send(payload)
            except TimeoutError:
                memory.slow_clients[session.transport] += 1
                return SLOW
            except ConnectionError:
                return GONE
            if session.guarded and session.allowance.consume_bytes is not None:
                pace = session.allowance.pace()
                pace.owe(len(payload))
                while session.closed is None and (wait_s := pace.pay()) > 0:  # noqa: ASYNC110  # nothing tells of permits
                    await asyncio.sleep(wait_s)
        return GONE
    finally:
        if heartbeat_s:
            heartbeats.remove(cast(Heartbeating, sink))
        session.streams.discard(stream)
        await stream.aclose()
        if claim is not None:
            claim.release()


def _push_at_once(sink: SendsAtOnce, session: Session, data: bytes, delivered: Callable[[], None]) -> bool:
    if session.guarded and session.allowance.consume_bytes is not None:
        return False  # it may have to wait for permits
    return sink.send_at_once(data, delivered)


def _end_for_memory(stream: Counted) -> None:
    stream.fail(OutOfMemory())
