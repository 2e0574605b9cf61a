"""How the behaviour suite talks to a gateway: one small interface, a class for each transport."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple, Protocol

import aiohttp

V1 = "application/vnd.kafka.v1+json"
V2 = "application/vnd.kafka.v2+json"
EVENTS = "text/event-stream"


def v1(fmt: str) -> str:
    """The media type of an embedded format, in v1."""
    return f"application/vnd.kafka.{fmt}.v1+json"


def v2(fmt: str) -> str:
    """The media type of an embedded format, in v2."""
    return f"application/vnd.kafka.{fmt}.v2+json"


class Answer(NamedTuple):
    """A reply: status, media type, payload."""

    status: int
    media_type: str
    payload: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.payload)

    @property
    def error_code(self) -> int:
        code: int = self.json["error_code"]
        return code

    @property
    def message(self) -> str:
        text: str = self.json["message"]
        return text


class StreamError(Exception):
    """A stream was refused, or ended with this error; the text is the gateway's message."""


class Client(Protocol):
    """A connected client of the transport under test. ``body`` is JSON-encoded unless it is bytes; None sends none."""

    async def request(
        self, method: str, path: str, body: Any = None, *, content_type: str | None = None, accept: str | None = None
    ) -> Answer: ...

    def stream(self, path: str) -> contextlib.AbstractAsyncContextManager[AsyncIterator[tuple[str, bytes]]]:
        """Opens the stream of ``GET path`` (with ``Accept: text/event-stream``), and leaves it at the end of the block.

        The iterator yields (name, data) for each payload, and takes no more from the connection than it must while
        nobody iterates. It raises StreamError for an error that ends the stream, StopAsyncIteration or ConnectionError
        where the gateway ends the stream or the connection without one.
        """

    async def close(self) -> None: ...


def encoded(body: Any) -> bytes | None:
    """The bytes of a body."""
    if body is None or isinstance(body, bytes):
        return body
    return json.dumps(body).encode()


class HttpClient:
    """Plain HTTP with keep-alive: the suite's second client, beside the one of the transport under test."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout())

    async def request(
        self, method: str, path: str, body: Any = None, *, content_type: str | None = None, accept: str | None = None
    ) -> Answer:
        headers = {"Content-Type": content_type} if content_type else {}
        if accept:
            headers["Accept"] = accept
        skip = () if content_type else ("Content-Type",)
        async with self._session.request(
            method, self._url + path, data=encoded(body), headers=headers, skip_auto_headers=skip
        ) as response:
            return Answer(response.status, response.headers.get("Content-Type", ""), await response.read())

    @contextlib.asynccontextmanager
    async def stream(self, path: str) -> AsyncIterator[AsyncIterator[tuple[str, bytes]]]:
        async with self._session.get(self._url + path, headers={"Accept": EVENTS}) as response:
            if response.status != 200:
                raise StreamError((await response.json(content_type=None))["message"])
            try:
                yield _events(response) if response.content_type == EVENTS else _lines(response)
            finally:
                response.close()

    async def close(self) -> None:
        await self._session.close()


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, bytes]]:
    name, data = "record", b""
    async for line in response.content:
        if line.startswith(b"event:"):
            name = line[6:].strip().decode()
        elif line.startswith(b"data:"):
            data = line[5:].strip()
        elif not line.strip() and data:
            if name == "error":
                raise StreamError(json.loads(data)["message"])
            yield name, data
            name, data = "record", b""


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, bytes]]:
    async for line in response.content:
        if line.startswith(b'{"error_code"'):
            raise StreamError(json.loads(line)["message"])
        yield "", line
