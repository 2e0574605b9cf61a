"""Bodies that are worked on while they arrive, and how long their clients may be silent.

Who works on such a body says for how long the next bytes may be waited for; only what reads from the client can count
that time, for between the two the gateway itself may hold the reading back: a quota is used up, or the memory is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from kafka_gateway.client_time import ClientTime

T = TypeVar("T")


class Patience:
    """How long a client may be silent."""

    __slots__ = ("most_s",)

    def __init__(self) -> None:
        self.most_s = 0.0
        """Seconds; 0: as long as it likes."""

    async def wait(self, reading: Awaitable[T]) -> T:
        """What is read. TimeoutError if nothing comes in time."""
        if not self.most_s:
            return await reading
        async with ClientTime(self.most_s):
            return await reading


class ArrivingBody(ABC):
    """The pieces of a body: an asynchronous iterator. Belongs to the event loop.

    The iteration raises TimeoutError if the client is silent for longer than ``patience`` says.
    """

    def __init__(self, patience: Patience) -> None:
        self.patience = patience

    @staticmethod
    def of(body: AsyncIterator[bytes]) -> ArrivingBody:
        """The body itself, or one made of an iterator that knows of no patience: all its waiting counts."""
        if isinstance(body, ArrivingBody):
            return body
        patience = Patience()
        return PacedBody(_waited_for(body, patience), patience)

    def through(self, step: Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]) -> ArrivingBody:
        """The body as the step gives it on. The time that the step takes is not the client's."""
        return PacedBody(step(self), self.patience)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    @abstractmethod
    def __anext__(self) -> Awaitable[bytes]: ...


class PacedBody(ArrivingBody):
    """A body of ``pieces``, which are waited for by ``patience`` where they come from the client."""

    def __init__(self, pieces: AsyncIterator[bytes], patience: Patience) -> None:
        super().__init__(patience)
        self._pieces = pieces

    def __anext__(self) -> Awaitable[bytes]:
        return anext(self._pieces)


async def _waited_for(body: AsyncIterator[bytes], patience: Patience) -> AsyncIterator[bytes]:
    pieces = aiter(body)
    while True:
        try:
            piece = await patience.wait(anext(pieces))
        except StopAsyncIteration:
            return
        yield piece
