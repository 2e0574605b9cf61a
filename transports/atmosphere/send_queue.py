"""Messages that wait for a client that fetches them at its own pace. No I/O; belongs to one event loop."""

from __future__ import annotations

import asyncio
from collections import deque

from kafka_gateway.memory_budget import COUNT_FROM, Claim


class SendQueue:
    """A queue whose writers can wait until what they put is written, as streams do (atmosphere-binding.md §2.5)."""

    __slots__ = (
        "_claim",
        "_done_count",
        "_filled",
        "_loop",
        "_messages",
        "_put_count",
        "_waiting",
        "closed",
        "put_at",
        "size_bytes",
    )

    def __init__(self, claim: Claim | None = None) -> None:
        """``claim`` is where what waits counts, from COUNT_FROM bytes on."""
        self._claim = claim
        self._loop = asyncio.get_running_loop()
        self._messages: deque[bytes] = deque()
        self._put_count = self._done_count = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        """Callers that wait, and for how many messages to be written, in that order."""
        self._filled: asyncio.Future[None] | None = None
        self.size_bytes = 0
        """Of all that is not written."""
        self.put_at = self._loop.time()
        self.closed = False

    def __len__(self) -> int:
        """Messages that nobody has taken."""
        return len(self._messages)

    def put(self, message: bytes) -> None:
        """Adds a message; none once it is closed. Never waits: a caller with many checks ``size_bytes``, or drains."""
        if self.closed:
            return
        self._messages.append(message)
        self.size_bytes += len(message)
        self._count()
        self._put_count += 1
        self.put_at = self._loop.time()
        _wake(self._filled)

    async def filled(self) -> bool:
        """Returns when there is something to take; False if there will not be, because it is closed.

        A newer call takes the place of an older one, which returns False.
        """
        _wake(self._filled)
        self._filled = None
        if not self._messages and not self.closed:
            mine = self._filled = self._loop.create_future()
            await mine
            if self._filled is not mine:
                return False
            self._filled = None
        return bool(self._messages)

    def take(self, most_bytes: int = 0) -> list[bytes]:
        """The next message, and those behind it while all have at most ``most_bytes`` together.

        The caller says next that they are ``written``, or puts them ``back``.
        """
        out = [self._messages.popleft()]
        size = len(out[0])
        while self._messages and (size := size + len(self._messages[0])) <= most_bytes:
            out.append(self._messages.popleft())
        return out

    def written(self, out: list[bytes]) -> None:
        self._done_count += len(out)
        self.size_bytes -= sum(map(len, out))
        self._count()
        while self._waiting and self._waiting[0][0] <= self._done_count:
            _wake(self._waiting.popleft()[1])

    def back(self, out: list[bytes]) -> None:
        """Puts back what was taken, because it did not arrive: the next call of ``take`` gets it."""
        if out and not self.closed:
            self._messages.extendleft(reversed(out))
            _wake(self._filled)

    @property
    def is_written(self) -> bool:
        """Whether all that has been put is written."""
        return self._done_count == self._put_count

    async def drain(self) -> None:
        """Returns when all that has been put is written; ConnectionResetError if it will not be."""
        if self.is_written:
            return
        if self.closed:
            raise ConnectionResetError("the client left")
        written = self._loop.create_future()
        self._waiting.append((self._put_count, written))
        await written

    def close(self, drop: bool = True) -> None:
        """Takes no more. What waits is dropped, or can still be taken."""
        self.closed = True
        if drop:
            self.size_bytes -= sum(map(len, self._messages))
            self._messages.clear()
            self._count()
            while self._waiting:
                waiting = self._waiting.popleft()[1]
                if not waiting.done():
                    waiting.set_exception(ConnectionResetError("the client left"))
        _wake(self._filled)

    def _count(self) -> None:
        if self._claim is not None and (self._claim.held or self.size_bytes >= COUNT_FROM):
            self._claim.set_to(self.size_bytes)


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
