"""Counts the long messages of a client while they arrive, so that all of them together stay within a bound.

A frame of Kafka may have 100 MiB. The head of each WebSocket frame says how long it is. A long one is read when the
memory of all tunnels has room for it, and waits in the network until then. A client whose message does not end while
others wait for that memory is given up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from kafka_gateway.memory_budget import COUNT_FROM, MemoryBudget, MemoryShare
from kafka_gateway.transports.websocket.incoming_frames import FrameRules, IncomingFrames

PATIENCE_S = 30.0
"""How long a long message may take while others wait for its memory."""


class InflightMemory(IncomingFrames):
    """`IncomingFrames` that counts long messages before they arrive, until the broker has them."""

    def __init__(
        self,
        connection: Any,
        parser: Any,
        queue: Any,
        memory: MemoryBudget,
        share: MemoryShare,
        message_max: int,
        give_up: Callable[[], None],
    ) -> None:
        super().__init__(connection, parser, queue, FrameRules(memory))
        self._share, self._message_max, self._end = share, message_max, give_up
        self._patience: asyncio.TimerHandle | None = None
        self._message = 0
        """Bytes of the message that arrives: of all its fragments so far, by their heads."""
        self._account = 0
        """How many bytes of the memory were taken for it."""
        self._arrived_whole: deque[tuple[int, int]] = deque()
        """(length, bytes taken) of the long messages that are complete and not yet with the broker."""
        self._waiting = False
        self._before = 0
        """``_account`` before the bytes for which it waits."""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        result = super().feed_data(data)
        if self._waiting:
            self._connection.pause_reading()
        return result

    def done_with(self, length: int) -> int:
        """How many bytes to give back for a message of that length, which must be the next in order."""
        if self._arrived_whole and self._arrived_whole[0][0] == length:
            return self._arrived_whole.popleft()[1]
        return 0

    def close(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        if self._waiting:
            self._waiting = False
            self._account = self._before
            self._share.forget(self._granted)
        taken, self._account = self._account, 0
        taken += sum(account for _, account in self._arrived_whole)
        self._arrived_whole.clear()
        if taken:
            self._share.give_back(taken)

    def _count(self) -> None:
        """Nothing to do: long messages are counted by their heads."""

    def _frame_began(self, length: int) -> None:
        super()._frame_began(length)
        self._message += length
        more = self._message - self._account
        # What is over the limit the parser refuses at once.
        if COUNT_FROM <= self._message <= self._message_max and more > 0 and not self._waiting:
            self._before, self._account = self._account, self._message
            if self._share.take(more, self._granted):
                self._be_patient()
            else:
                self._waiting = True

    def _message_ended(self) -> None:
        super()._message_ended()
        if self._account:
            self._arrived_whole.append((self._message, self._account))
            if self._patience is not None:
                self._patience.cancel()
        self._message = self._account = 0

    def _granted(self) -> None:
        self._waiting = False
        self._be_patient()
        self._connection.resume_reading()

    def _be_patient(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._patience = asyncio.get_running_loop().call_later(PATIENCE_S, self._check)

    def _check(self) -> None:
        if self._share.pressed:
            self._end()
        else:
            self._be_patient()
