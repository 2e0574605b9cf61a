"""Reading the bodies of requests: so many bytes at most, at a least speed, within the memory there is, and unpacked.

A small body has usually come with its head, and costs nothing here. Any other is counted in the memory budget while it
comes: when that is used up nothing more is read of it, and it may be given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_exceptions import HTTPException

from kafka_gateway.config import Config
from kafka_gateway.core import Gateway
from kafka_gateway.door.body_stream import pieces
from kafka_gateway.door.inflate import CODINGS, inflate, too_large
from kafka_gateway.errors import (
    BadRequest,
    ExpectationFailed,
    PayloadTooLarge,
    RequestTimeout,
    Unavailable,
    UnsupportedMediaType,
)
from kafka_gateway.memory_budget import Claim, MemoryBudget, OutOfMemory

RATE_OVER_S = 10.0
"""``request.body.min.rate`` is looked at over so many seconds: a pause of a network is no reason to end a body."""


class BodyReader:
    """Reads the bodies of requests, within the limits of the configuration."""

    def __init__(self, config: Config) -> None:
        self._sent_max = config.integer("request.max.bytes")
        self._decoded_max = config.integer("request.decompressed.max.bytes")
        self._timeout_s = config.seconds("request.body.timeout.ms")
        self._min_rate = config.integer("request.body.min.rate")

    async def read(self, request: web.BaseRequest, gateway: Gateway, raw_max: int | None = None) -> bytes:
        """The body, unpacked; PayloadTooLarge or RequestTimeout as soon as it is, OutOfMemory if there is no room.

        With ``raw_max`` the body as it was sent, of so many bytes at most, whatever its Content-Encoding; one that is
        too slow is Unavailable then: senders of raw bodies throw away what a 408 answers (bridges.md A2.4).
        """
        if raw_max is not None:
            most = min(self._sent_max, raw_max)
            try:
                return await self._read(request, gateway, most)
            except PayloadTooLarge:
                raise PayloadTooLarge(f"The body has more than {most} bytes; this path takes no more.") from None
            except RequestTimeout as error:
                raise Unavailable(error.message) from None
        coding = _coding(request)
        if not coding:
            return await self._read(request, gateway, min(self._sent_max, self._decoded_max))
        body = await self._read(request, gateway, self._sent_max)
        with gateway.arriving():
            return await inflate(body, coding, self._decoded_max)

    def open(self, request: web.BaseRequest, gateway: Gateway) -> AsyncIterator[bytes]:
        """The body in pieces, as it arrives; for as long as the client sends, and of any length.

        A client that waits with its body is told to go on. Raises OutOfMemory, UnsupportedMediaType.
        """
        coding = _coding(request)
        gateway.memory.check()
        self._expect(request)
        return pieces(request, coding, gateway.memory)

    async def _read(self, request: web.BaseRequest, gateway: Gateway, body_max: int) -> bytes:
        length = request.content_length
        if length is not None and length > self._sent_max:
            raise PayloadTooLarge(
                f"The body has {length} bytes; at most {self._sent_max} are taken (request.max.bytes)."
            )
        if length is not None and length > body_max:
            raise too_large(body_max)
        content = request.content
        try:
            if content.is_eof():  # all of it came with the head, which is the rule for small bodies
                body = content.read_nowait()
                if len(body) > body_max:
                    raise too_large(body_max)
                return body
            gateway.memory.check()
            self._expect(request)
            with gateway.arriving():
                incoming = _Incoming(gateway.memory, self._timeout_s, self._min_rate)
                return await incoming.read(content, body_max)
        except HttpProcessingError as error:
            raise BadRequest(f"The body cannot be read: {error.message}") from None
        except web.RequestPayloadError as error:
            raise BadRequest(f"The body is broken: {error}") from None
        except HTTPException as error:
            raise BadRequest(f"The body is not acceptable: {error.reason}") from None

    def _expect(self, request: web.BaseRequest) -> None:
        """Tells a client that waits with its body to go on (RFC 9110 §10.1.1); aiohttp's low-level server does not."""
        expectation = request.headers.get("Expect")
        if expectation is None or request.version < HttpVersion11:
            return
        if expectation.lower() != "100-continue":
            raise ExpectationFailed(f"The gateway cannot meet the expectation {expectation[:100]!r}.")
        transport = request.transport
        if transport is not None and not request.content.total_bytes:  # else the client did not wait
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _coding(request: web.BaseRequest) -> str:
    """How the body is packed: one of CODINGS, or "". UnsupportedMediaType for what cannot be undone."""
    coding = request._message.compression or ""
    named = request.headers.get("Content-Encoding", "identity")
    if coding not in CODINGS and named.lower() != "identity":
        raise UnsupportedMediaType(f"The body is {named[:100]!r}; the gateway can undo gzip, and deflate.")
    return coding


class _Incoming:
    """One body on its way.

    The whole of it may take the time-out. Beyond that it must keep the least rate: the clock begins anew whenever the
    bytes of a period have come, and what came faster is no credit for silence.
    """

    __slots__ = ("_given_up", "_latest", "_memory", "_min_rate", "_period_s", "_pieces", "_scope", "_timeout_s")

    def __init__(self, memory: MemoryBudget, timeout_s: float, min_rate: int) -> None:
        self._memory, self._timeout_s, self._min_rate = memory, timeout_s, min_rate
        self._period_s = min(timeout_s, RATE_OVER_S)
        self._pieces: list[bytes] = []
        self._scope = asyncio.timeout(timeout_s)
        self._latest = 0.0
        """When it must have come, or the bytes of a further period."""
        self._given_up = False

    async def read(self, content: Any, most: int) -> bytes:
        claim = self._memory.claim(self._give_up)
        try:
            async with self._scope:
                await self._receive(content, most, claim)
            return b"".join(self._pieces)
        except TimeoutError:
            if self._given_up:
                raise OutOfMemory from None
            raise RequestTimeout(
                "The body did not arrive in time (request.body.timeout.ms, request.body.min.rate)."
            ) from None
        finally:
            claim.release()
            self._pieces.clear()  # an error that is kept somewhere must not keep the body

    async def _receive(self, content: Any, most: int, claim: Claim) -> None:
        memory, now = self._memory, asyncio.get_running_loop().time
        self._latest = now() + self._timeout_s
        portion = int(self._min_rate * self._period_s)
        size = portion_end = 0
        while not content.at_eof():
            piece = await content.readany()
            length = len(piece)
            self._pieces.append(piece)
            piece = b""
            size += length
            if size > most:
                raise too_large(most)
            claim.add(length)
            if memory.used_up:
                self._scope.reschedule(None)
                await memory.room()
                self._set_latest(now() + self._period_s)
            elif portion and size >= portion_end:
                portion_end = size + portion
                self._set_latest(now() + self._period_s)

    def _set_latest(self, latest: float) -> None:
        if latest > self._latest or self._scope.when() is None:
            self._latest = max(latest, self._latest)
            self._scope.reschedule(self._latest)

    def _give_up(self) -> None:
        self._given_up = True
        self._scope.reschedule(asyncio.get_running_loop().time())
