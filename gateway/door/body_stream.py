"""Bodies that are processed while they arrive: piece by piece, for as long as their client sends.

Nothing is counted in the memory budget here: what is kept of such a body is aiohttp's read buffer, which stops reading
when nobody takes what is in it. While the budget is used up nothing more is taken.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from typing import Any

from kafka_gateway.arriving import ArrivingBody, PacedBody, Patience
from kafka_gateway.door.bounded_content import UNREADABLE, unreadable
from kafka_gateway.door.request import HttpRequest
from kafka_gateway.errors import BadRequest
from kafka_gateway.memory_budget import MemoryBudget

_PIECE = 64 * 1024
_GZIP_OR_ZLIB = 47
"""zlib's window bits for "whichever it is"."""


def arriving(request: HttpRequest, coding: str, memory: MemoryBudget) -> ArrivingBody:
    """The body as it comes, unpacked. BadRequest if it is broken; ConnectionError if the client has left."""
    patience = Patience()
    return PacedBody(_pieces(request, coding, memory, patience), patience)


async def _pieces(request: HttpRequest, coding: str, memory: MemoryBudget, patience: Patience) -> AsyncIterator[bytes]:
    content: Any = request.arriving
    unpack = zlib.decompressobj(_GZIP_OR_ZLIB) if coding else None
    try:
        while not content.at_eof():
            piece = await patience.wait(content.readany())
            await memory.room()
            if unpack is None:
                if piece:
                    yield piece
                continue
            while piece:
                try:
                    plain = unpack.decompress(piece, _PIECE)
                except zlib.error as error:
                    raise BadRequest(f"The body is not {coding}: {error}") from None
                piece = unpack.unconsumed_tail
                if plain:
                    yield plain
                if unpack.eof:
                    piece, unpack = unpack.unused_data, zlib.decompressobj(_GZIP_OR_ZLIB)
                elif not plain and not piece:
                    break
    except UNREADABLE as error:
        raise unreadable(error) from None
