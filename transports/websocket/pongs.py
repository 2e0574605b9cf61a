"""Pongs as the proof that a client has what was sent before their pings (RFC 6455 §5.5.3)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from kafka_gateway.client_time import once_read

_FIRST_S = 1.0
"""How long a client may take for its first pong until it counts as one that sends none."""


class Pongs:
    """The pongs of one socket: who waits for which number, and whether the client answers pings at all."""

    __slots__ = ("_answers", "_called_back", "_count", "_late", "_loop", "_timer", "_waiting", "_within_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, within_s: float, late: Callable[[], None]) -> None:
        """``late`` is called where the pong that `ping` waits for has not come within that time."""
        self._loop = loop
        self._within_s, self._late = within_s, late
        self._count = 0
        self._waiting: dict[int, asyncio.Future[bool]] = {}
        """True: the pong has come; False: it has not, in time."""
        self._answers: bool | None = None
        """None: nobody knows yet."""
        self._called_back: deque[tuple[int, float, Sequence[Callable[[], None]]]] = deque()
        """Number and time of pings, and what is called when each is answered."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def come(self) -> bool:
        """Whether the client answers pings, as far as is known."""
        return self._answers is True

    def ping(self, calls: Sequence[Callable[[], None]]) -> bytes:
        """A ping, as a frame, for a client whose pongs `come`; these are called when it is answered.

        One timer sees to all of them: most pongs come long before it is due.
        """
        self._count += 1
        self._called_back.append((self._count, self._loop.time(), calls))
        if self._timer is None:
            self._look_in(self._within_s)
        number = b"%d" % self._count
        return b"\x89%c%b" % (len(number), number)

    def _look_in(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds, once_read, self._loop, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._called_back:
            left_s = self._called_back[0][1] + self._within_s - self._loop.time()
            if left_s > 0:
                self._look_in(left_s)
            else:
                self._late()

    def stop(self) -> None:
        """Nothing is called back any more."""
        self._called_back.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

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
            if self._waiting:
                for number, answered in self._waiting.items():
                    if number <= last and not answered.done():
                        answered.set_result(True)
            called_back = self._called_back
            while called_back and called_back[0][0] <= last:
                for call in called_back.popleft()[2]:
                    call()


def _give_up(answered: asyncio.Future[bool]) -> None:
    if not answered.done():
        answered.set_result(False)
