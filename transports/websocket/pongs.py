"""Pongs as the proof that a client has what was sent before their pings (RFC 6455 §5.5.3)."""

from __future__ import annotations

import asyncio
from functools import partial

from kafka_gateway.client_time import once_read

_FIRST_S = 1.0
"""How long a client may take for its first pong until it counts as one that sends none."""


class Pongs:
    """The pongs of one socket: who waits for which number, and whether the client answers pings at all."""

    __slots__ = ("_answers", "_count", "_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._count = 0
        self._waiting: dict[int, asyncio.Future[bool]] = {}
        """True: the pong has come; False: it has not, in time."""
        self._answers: bool | None = None
        """None: nobody knows yet."""

    def expect(self) -> int:
        """A number for the next ping. ``forget`` it in the end."""
        self._count += 1
        self._waiting[self._count] = self._loop.create_future()
        return self._count

    async def wait(self, number: int, within_s: float) -> bool:
        """Returns when the pong has come; at once for a client that sends none, against RFC 6455 §5.5.2: it has to be
        content with what was written. False for one that did answer and does not any more, within that time.
        """
        if self._answers is False:
            return True
        answered = self._waiting[number]
        # Not asyncio.timeout(), which costs four times as much: every push waits so.
        late = self._loop.call_later(
            within_s if self._answers else _FIRST_S, once_read, self._loop, partial(_give_up, answered)
        )
        try:
            if await answered:
                return True
        finally:
            late.cancel()
        if self._answers:
            return False
        self._answers = False
        return True

    def forget(self, number: int) -> None:
        del self._waiting[number]

    def take(self, payload: bytes) -> None:
        """A pong has come. One with a number answers all pings up to that."""
        if payload.isdigit():
            self._answers = True
            last = int(payload)
            for number, answered in self._waiting.items():
                if number <= last and not answered.done():
                    answered.set_result(True)


def _give_up(answered: asyncio.Future[bool]) -> None:
    if not answered.done():
        answered.set_result(False)
