"""Counts the long messages of a client while they arrive, so that all of them together stay within a bound.

aiohttp puts a message together before anybody sees it, and a frame of Kafka may have 100 MiB. Each frame's header says
how long it is; a long one is let in when the budget of all tunnels has room for it, and waits in the network until
then. A client that keeps others waiting because its message does not come to an end is given up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from transports.tunnel.memory_budget import ACCOUNT_FROM, Budget

PATIENCE_S = 30.0
"""How long a long message may take while others wait for its memory."""


class Gauge:
    """Stands before aiohttp's parser and lets all bytes through (RFC 6455 §5.2); what is wrong the parser finds."""

    def __init__(
        self, connection: Any, parser: Any, budget: Budget, message_max: int, give_up: Callable[[], None]
    ) -> None:
        self._connection, self._parser, self._budget = connection, parser, budget
        self._message_max, self._give_up = message_max, give_up
        self._patience: asyncio.TimerHandle | None = None
        self._head = b""
        self._left = 0
        """Bytes of the payload under way."""
        self._final = True
        self._control = False
        self._message = 0
        """Bytes of the message so far, all of its fragments."""
        self._account = 0
        """What was taken for it."""
        self._arrived: deque[tuple[int, int]] = deque()
        """Length and account of the long messages that are complete and not done with."""
        self._waiting = False
        self._before = 0
        """What was taken before that for which it waits."""

    def feed_eof(self) -> None:
        self._parser.feed_eof()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """As aiohttp's: (whether the connection is to end, what is not used)."""
        self._follow(data)
        result: tuple[bool, bytes] = self._parser.feed_data(data)
        if self._waiting:
            self._connection.pause_reading()
        return result

    def done_with(self, length: int) -> int:
        """The bytes that were taken for the message of that length, which is the next in order; to be given back."""
        if self._arrived and self._arrived[0][0] == length:
            return self._arrived.popleft()[1]
        return 0

    def close(self) -> None:
        """Gives back all that is taken."""
        if self._patience is not None:
            self._patience.cancel()
        if self._waiting:
            self._waiting = False
            self._account = self._before
            self._budget.forget(self._granted)
        taken, self._account = self._account, 0
        taken += sum(account for _, account in self._arrived)
        self._arrived.clear()
        if taken:
            self._budget.give_back(taken)

    def _follow(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        at, end = 0, len(data)
        while at < end:
            if self._left:
                step = min(self._left, end - at)
                at += step
                self._left -= step
                if not self._left:
                    self._frame_ended()
                continue
            begin = self._begin(data, at, end)
            if not begin:
                self._head = data[at:]
                return
            at = begin

    def _begin(self, data: bytes, at: int, end: int) -> int:
        """Reads a frame's header; where its payload begins, 0 if some of the header is missing."""
        if end - at < 2:
            return 0
        first, second = data[at], data[at + 1]
        length, size = second & 0x7F, 2
        if length == 126:
            size = 4
        elif length == 127:
            size = 10
        if second & 0x80:
            size += 4
        if end - at < size:
            return 0
        if length >= 126:
            length = int.from_bytes(data[at + 2 : at + (4 if length == 126 else 10)], "big")
        self._control, self._final, self._left = bool(first & 0x08), bool(first & 0x80), length
        if not self._control:
            self._message += length
            self._take()
        if not length:
            self._frame_ended()
        return at + size

    def _take(self) -> None:
        more = self._message - self._account
        # What is over the limit the parser refuses at once.
        if ACCOUNT_FROM <= self._message <= self._message_max and more > 0 and not self._waiting:
            self._before, self._account = self._account, self._message
            if self._budget.take(more, self._granted):
                self._be_patient()
            else:
                self._waiting = True

    def _granted(self) -> None:
        self._waiting = False
        self._be_patient()
        self._connection.resume_reading()

    def _be_patient(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._patience = asyncio.get_running_loop().call_later(PATIENCE_S, self._check)

    def _check(self) -> None:
        if self._budget.pressed:
            self._give_up()
        else:
            self._be_patient()

    def _frame_ended(self) -> None:
        if self._final and not self._control:
            if self._account:
                self._arrived.append((self._message, self._account))
                if self._patience is not None:
                    self._patience.cancel()
            self._message = self._account = 0
