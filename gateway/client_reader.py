"""What the clients of a port send, read as asyncio's StreamReader does, but within the bounds of every request's body.

A connection that is idle may be so for as long as it likes. What has begun to come must go on coming, may have
``request.max.bytes``, and counts in the memory budget while it is not complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from kafka_gateway.config import Config
from kafka_gateway.door.bounded_content import BodyPace
from kafka_gateway.errors import BadRequest, PayloadTooLarge
from kafka_gateway.memory_budget import Claim, MemoryBudget

PIECE: Final = 64 * 1024
"""Bytes that are read at once, and held of each client before any of them are asked for."""


class ClientReader:
    """Belongs to the event loop; one call at a time.

    Each method raises PayloadTooLarge for more than ``most`` bytes, RequestTimeout for what comes too slowly
    (``request.body.timeout.ms``, ``request.body.min.rate``) and OutOfMemory; while memory is used up it waits.
    """

    def __init__(
        self, reader: asyncio.StreamReader, config: Config, memory: MemoryBudget, most: int | None = None
    ) -> None:
        self._reader, self._memory = reader, memory
        self._most = config.integer("request.max.bytes") if most is None else most
        self._timeout_s = config.seconds("request.body.timeout.ms")
        self._min_rate = config.integer("request.body.min.rate")
        self._buffer = bytearray()

    async def readline(self) -> bytes:
        """The next line with its end; without one if the client has left, and empty if there is none."""
        try:
            return await self.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            return error.partial

    async def readuntil(self, separator: bytes) -> bytes:
        """All up to the separator, which is the end of it. asyncio.IncompleteReadError if the client has left."""
        buffer = self._buffer

        def end(looked: int) -> int:
            at = buffer.find(separator, max(0, looked - len(separator) + 1))
            return at if at < 0 else at + len(separator)

        return await self._arrived(end)

    async def readexactly(self, size: int) -> bytes:
        """So many bytes. asyncio.IncompleteReadError if the client has left; BadRequest for a size below 0."""
        if size < 0:
            raise BadRequest(f"A length cannot be {size}.")
        self._check(size)
        buffer = self._buffer
        return await self._arrived(lambda _: size if len(buffer) >= size else -1)

    async def _arrived(self, end: Callable[[int], int]) -> bytes:
        """All up to where ``end`` finds the end, or -1; it is told how much it has looked at before."""
        buffer = self._buffer
        pace: BodyPace | None = None
        claim: Claim | None = None
        looked = 0
        try:
            while (size := end(looked)) < 0:
                looked = len(buffer)
                self._check(looked)
                if not looked:
                    data = await self._reader.read(PIECE)
                else:
                    if pace is None or claim is None:
                        pace = BodyPace(self._timeout_s, self._min_rate)
                        claim = self._memory.claim(pace.give_up)
                        claim.add(looked)
                    if self._memory.used_up:
                        await pace.room(self._memory)
                    data = await pace.wait(self._reader.read(PIECE))
                    claim.add(len(data))
                if not data:
                    left = bytes(buffer)
                    buffer.clear()
                    raise asyncio.IncompleteReadError(left, None)
                buffer += data
            self._check(size)
            found = bytes(memoryview(buffer)[:size])
            del buffer[:size]
            return found
        finally:
            if claim is not None:
                claim.release()

    def _check(self, size: int) -> None:
        if size > self._most:
            raise PayloadTooLarge(f"A request has more than {self._most} bytes; no more are taken (request.max.bytes).")
