"""The time from a subscription of a consumer until its group has answered, and who waits for that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from kafka_gateway.kafka.consuming.client import GroupClient
from kafka_gateway.kafka.consuming.read_queue import ReadQueue
from kafka_gateway.kafka.consuming.reads import Read

Answer = Callable[[asyncio.Future[Any], Any, Exception | None], None]


class Joining:
    """Belongs to the thread of the consumer."""

    def __init__(self, client: GroupClient, reads: ReadQueue, answer: Answer) -> None:
        """``answer``: `Questions.answer`."""
        self._client = client
        self._reads = reads
        self._answer = answer
        self._topics: frozenset[str] = frozenset()
        """Those that were subscribed to, while the group has not answered: a new one takes three seconds to form."""
        self._waiting: list[asyncio.Future[None]] = []

    def begin(self, topics: Sequence[str]) -> None:
        """The group has been asked, and has given nothing yet."""
        self._topics = frozenset(topics)

    def give_time(self, read: Read) -> None:
        """A read that begins may wait for the group."""
        if self._topics:
            read.deadline = max(read.deadline, time.monotonic() + read.limits.group_s)

    def wait(self, done: asyncio.Future[None]) -> None:
        """Answers ``done`` when the group has answered, or will not; who waits no longer cancels it."""
        if self._topics:
            self._waiting.append(done)
        else:
            self._answer(done, None, None)

    @property
    def is_open(self) -> bool:
        """Whether the group has not answered; on any thread."""
        return bool(self._topics)

    @property
    def is_waited_for(self) -> bool:
        """Whether somebody waits who is no read: the group is to be served without delay."""
        if self._waiting:
            self._waiting = [each for each in self._waiting if not each.done()]
        return bool(self._waiting)

    @property
    def is_in_vain(self) -> bool:
        """Whether no group is formed: there are no such topics, or another client has the place in it."""
        return bool(self._topics) and (bool(self._client.fatal) or self._client.missing >= self._topics)

    def end(self) -> None:
        """The group has answered, or will not: from now on reads that waited for it have their own time."""
        if self._topics:
            self._topics = frozenset()
            now = time.monotonic()
            for read in self._reads.waiting:
                read.deadline = min(read.deadline, now + read.limits.timeout_s)
        self.release()

    def release(self) -> None:
        """Nobody but reads waits any more."""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            self._answer(each, None, None)
