"""Reading the bodies of requests: bounded in bytes, in time and by the memory budget, and decompressed.

A small body has usually come with its head, and costs nothing here. Any other is counted in the memory budget while it
comes: when that is used up nothing more is read of it, and it may be given up.
"""

from __future__ import annotations

from typing import Any

from aiohttp import HttpVersion11

from kafka_gateway.arriving import ArrivingBody
from kafka_gateway.config import Config
from kafka_gateway.core import Gateway
from kafka_gateway.door.body_stream import arriving
from kafka_gateway.door.bounded_content import UNREADABLE, BodyPace, BoundedContent, unreadable
from kafka_gateway.door.inflate import CODINGS, inflate, too_large
from kafka_gateway.door.request import HttpRequest
from kafka_gateway.errors import (
    ExpectationFailed,
    PayloadTooLarge,
    RequestTimeout,
    Unavailable,
    UnsupportedMediaType,
)
from kafka_gateway.memory_budget import MemoryBudget


class BodyReader:
    """Reads the bodies of requests, within the limits of the configuration."""

    def __init__(self, config: Config) -> None:
        self._sent_max = config.integer("request.max.bytes")
        self._decoded_max = config.integer("request.decompressed.max.bytes")
        self.whole_max = min(self._sent_max, self._decoded_max)
        """Bytes of a body that is not packed."""
        self._timeout_s = config.seconds("request.body.timeout.ms")
        self._min_rate = config.integer("request.body.min.rate")

    async def read(self, request: HttpRequest, gateway: Gateway, raw_max: int | None = None) -> bytes:
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
            return await self._read(request, gateway, self.whole_max)
        body = await self._read(request, gateway, self._sent_max)
        with gateway.arriving():
            return await inflate(body, coding, self._decoded_max, gateway.memory)

    def open(self, request: HttpRequest, gateway: Gateway) -> ArrivingBody:
        """The body in pieces, as it arrives; for as long as the client sends, and of any length.

        A client that waits with its body is told to go on. Raises OutOfMemory, UnsupportedMediaType.
        """
        coding = _coding(request)
        gateway.memory.check()
        self._expect(request)
        return arriving(request, coding, gateway.memory)

    def bound(self, content: Any, memory: MemoryBudget) -> BoundedContent:
        """The stream of a body for a transport that reads it by itself."""
        memory.check()
        return self._bounded(content, self._sent_max, memory)

    def _bounded(self, content: Any, most: int, memory: MemoryBudget) -> BoundedContent:
        return BoundedContent(content, most, BodyPace(self._timeout_s, self._min_rate), memory)

    async def _read(self, request: HttpRequest, gateway: Gateway, body_max: int) -> bytes:
        length = request.content_length
        if length is not None and length > self._sent_max:
            raise PayloadTooLarge(
                f"The body has {length} bytes; at most {self._sent_max} are taken (request.max.bytes)."
            )
        if length is not None and length > body_max:
            raise too_large(body_max)
        content = request.arriving
        try:
            if content.is_eof():  # all of it came with the head, as small bodies usually do
                body: bytes = content.read_nowait()
                if len(body) > body_max:
                    raise too_large(body_max)
                return body
            gateway.memory.check()
            self._expect(request)
            with gateway.arriving():
                return await self._bounded(content, body_max, gateway.memory).read_counted()
        except UNREADABLE as error:
            raise unreadable(error) from None

    def _expect(self, request: HttpRequest) -> None:
        """Tells a client that waits with its body to go on (RFC 9110 §10.1.1); aiohttp's low-level server does not."""
        expectation = request.headers.get("Expect")
        if expectation is None or request.version < HttpVersion11:
            return
        if expectation.lower() != "100-continue":
            raise ExpectationFailed(f"The gateway cannot meet the expectation {expectation[:100]!r}.")
        transport = request.transport
        if transport is not None and not request.arriving.total_bytes:  # else the client did not wait
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _coding(request: HttpRequest) -> str:
    """The content coding of the body: one of CODINGS, or "". UnsupportedMediaType for any other."""
    coding = request._message.compression or ""
    named = request.headers.get("Content-Encoding", "identity")
    if coding not in CODINGS and named.lower() != "identity":
        raise UnsupportedMediaType(f"The body is {named[:100]!r}; the gateway can undo gzip, and deflate.")
    return coding
