"""Decompressing the bodies of requests, within limits and in small steps, between which the event loop serves others.

aiohttp would unpack a body while it arrives, before anybody knows whose it is; the bodies of some paths must stay as
they were sent, so its own is switched off for all (gateway/door/host.py).
"""

from __future__ import annotations

import asyncio
import zlib

from kafka_gateway.errors import BadRequest, PayloadTooLarge
from kafka_gateway.memory_budget import Claim, MemoryBudget

CODINGS = frozenset({"gzip", "deflate"})

_PIECE = 64 * 1024
"""Bytes that are unpacked, or come out, in one step."""
_PAUSE_AFTER = 512 * 1024
"""Bytes that may be unpacked in one go: under 2 ms."""
_MEMBERS_MAX = 1000
"""gzip members of one body. Each costs the setting up of a decoder, however little is in it."""


async def inflate(body: bytes, coding: str, most: int, memory: MemoryBudget) -> bytes:
    """The body without its gzip or deflate coding. BadRequest if it is broken, PayloadTooLarge over ``most`` bytes.

    What comes out counts in the memory budget until it is complete; OutOfMemory if that is used up meanwhile.
    """
    if not body:
        return body
    claim = memory.claim()
    try:
        return await _inflate(body, coding, most, memory, claim)
    finally:
        claim.release()


async def _inflate(body: bytes, coding: str, most: int, memory: MemoryBudget, claim: Claim) -> bytes:
    # What calls itself deflate is often without the zlib header of RFC 1950; that one's low bits are always 8.
    wbits = 31 if coding == "gzip" else 15 if body[0] & 15 == 8 else -15
    decoder, members = zlib.decompressobj(wbits), 1
    out: list[bytes] = []
    size = since_pause = place = 0
    rest = b""
    while True:
        if not rest:
            rest = body[place : place + _PIECE]
            place += len(rest)
        try:
            if decoder.eof:
                if not rest:
                    return b"".join(out)
                members += 1
                if members > _MEMBERS_MAX or wbits != 31:
                    raise BadRequest("The body cannot be decoded: too much stands behind its compressed data.")
                decoder = zlib.decompressobj(wbits)
            ended = not rest
            piece = decoder.decompress(rest, _PIECE)
        except zlib.error as error:
            raise BadRequest(f"The body is not {coding}: {error}") from None
        if ended and not piece and not decoder.eof:
            raise BadRequest(f"The body is not {coding}: its end is missing.")
        since_pause += len(piece) + len(rest)
        rest = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
        since_pause -= len(rest)
        size += len(piece)
        if size > most:
            raise too_large(most)
        out.append(piece)
        if since_pause >= _PAUSE_AFTER:
            since_pause = 0
            claim.set_to(len(body) + size)
            memory.check()
            await asyncio.sleep(0)


def too_large(limit: int) -> PayloadTooLarge:
    """The refusal of a body with more bytes than that."""
    return PayloadTooLarge(f"The body has more than {limit} bytes (request.max.bytes, request.decompressed.max.bytes).")
