"""``request.content`` for transports that read a body by themselves: within the same limits as all other bodies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_exceptions import HTTPException

from kafka_gateway.client_time import ClientTime
from kafka_gateway.door.inflate import too_large
from kafka_gateway.errors import BadRequest, RequestTimeout
from kafka_gateway.memory_budget import MemoryBudget, OutOfMemory

RATE_OVER_S = 10.0
"""``request.body.min.rate`` is looked at over so many seconds: a pause of a network is no reason to end a body."""


UNREADABLE = (HttpProcessingError, web.RequestPayloadError, HTTPException)
"""What aiohttp raises where a body is no HTTP."""


def unreadable(error: Exception) -> BadRequest:
    """The error as the client is told it."""
    match error:
        case HttpProcessingError():
            return BadRequest(f"The body cannot be read: {error.message}")
        case HTTPException():
            return BadRequest(f"The body is not acceptable: {error.reason}")
    return BadRequest(f"The body is broken: {error}")


class BodyPace:
    """How long the next bytes of a body may be waited for, counting only the time of waiting.

    The whole body may take the time-out. Beyond that it must keep the minimum rate: the clock starts again whenever
    the bytes of a period have come, so a fast beginning is no credit for silence.
    """

    __slots__ = ("_given_up", "_left_s", "_period_s", "_portion", "_portion_left", "_scope")

    def __init__(self, timeout_s: float, min_rate: int) -> None:
        self._scope: ClientTime | None = None
        self._given_up = False
        self._left_s = timeout_s
        self._period_s = min(timeout_s, RATE_OVER_S)
        self._portion = self._portion_left = int(min_rate * self._period_s)

    async def wait(self, reading: Awaitable[bytes]) -> bytes:
        """What is read. RequestTimeout if it comes too slowly; OutOfMemory once the body is given up."""
        now = asyncio.get_running_loop().time
        began = now()
        try:
            async with ClientTime(0 if self._given_up else self._left_s) as self._scope:
                piece = await reading
        except UNREADABLE as error:
            raise unreadable(error) from None
        except TimeoutError:
            if self._given_up:
                raise OutOfMemory from None
            raise RequestTimeout(
                "The body did not arrive in time (request.body.timeout.ms, request.body.min.rate)."
            ) from None
        finally:
            self._scope = None
        self._left_s -= now() - began
        self._portion_left -= len(piece)
        if self._portion and self._portion_left <= 0:
            self._portion_left = self._portion
            self._left_s = max(self._left_s, self._period_s)
        return piece

    async def room(self, memory: MemoryBudget) -> None:
        """Returns when memory is not used up; OutOfMemory once the body is given up. That time does not count."""
        try:
            async with ClientTime(0 if self._given_up else None) as self._scope:
                await memory.room()
        except TimeoutError:
            raise OutOfMemory from None
        finally:
            self._scope = None

    def give_up(self) -> None:
        """Ends reading, because the memory is needed elsewhere."""
        self._given_up = True
        if self._scope is not None:
            self._scope.end()


class BoundedContent:
    """Reads of aiohttp's stream of a body. It raises PayloadTooLarge, RequestTimeout, OutOfMemory; while the memory
    budget is used up it waits. The bytes are as they were sent: `HttpRequest.read` unpacks them.
    """

    def __init__(self, content: Any, most: int, pace: BodyPace, memory: MemoryBudget) -> None:
        self._content, self._most, self._pace, self._memory = content, most, pace, memory
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)  # what reads nothing

    async def _take(self, read: Callable[[], Awaitable[bytes]]) -> bytes:
        if self._memory.used_up:
            await self._pace.room(self._memory)
        return self._count(await self._pace.wait(read()))

    def _count(self, piece: bytes) -> bytes:
        self._size += len(piece)
        if self._size > self._most:
            raise too_large(self._most)
        return piece

    async def readany(self) -> bytes:
        return await self._take(self._content.readany)

    async def read(self, n: int = -1) -> bytes:
        """Up to ``n`` bytes; all of them if ``n`` is negative."""
        if n >= 0:
            return await self._take(partial(self._content.read, n))
        pieces = []
        while piece := await self.readany():
            pieces.append(piece)
        return b"".join(pieces)

    async def read_counted(self) -> bytes:
        """All of it, counted in the memory budget while it comes. It may be given up then: OutOfMemory."""
        claim = self._memory.claim(self._pace.give_up)
        pieces: list[bytes] = []
        try:
            while not self._content.at_eof():
                piece = await self.readany()
                pieces.append(piece)
                claim.add(len(piece))
            return b"".join(pieces)
        finally:
            claim.release()
            pieces.clear()  # an error that is kept somewhere must not keep the body
            piece = b""

    async def readexactly(self, n: int) -> bytes:
        """Exactly so many; asyncio.IncompleteReadError if the body ends before."""
        pieces: list[bytes] = []
        missing = n
        while missing > 0:
            piece = await self.read(missing)
            if not piece:
                raise asyncio.IncompleteReadError(b"".join(pieces), n)
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    async def readline(self) -> bytes:
        return await self._take(self._content.readline)

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        return await self._take(partial(self._content.readuntil, separator))

    async def readchunk(self) -> tuple[bytes, bool]:
        ends = False

        async def read() -> bytes:
            nonlocal ends
            piece: bytes
            piece, ends = await self._content.readchunk()
            return piece

        return await self._take(read), ends

    def read_nowait(self, n: int = -1) -> bytes:
        return self._count(self._content.read_nowait(n))

    async def iter_any(self) -> AsyncIterator[bytes]:
        while piece := await self.readany():
            yield piece

    async def iter_chunked(self, n: int) -> AsyncIterator[bytes]:
        while piece := await self.read(n):
            yield piece

    async def iter_chunks(self) -> AsyncIterator[tuple[bytes, bool]]:
        while (chunk := await self.readchunk()) != (b"", False):
            yield chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while line := await self.readline():
            yield line
