"""How the behaviour suite talks to a gateway: one small interface, a class for each transport."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp

from kafka_gateway.testing.client import V1, V2, Answer, Client, HttpClient, StreamError, encoded, v1, v2

__all__ = ["TRANSPORTS", "V1", "V2", "Answer", "Client", "EnvelopeClient", "HttpClient", "SseClient", "v1", "v2"]


class EnvelopeClient:
    """Requests in envelopes, replies by id (atmosphere-binding.md §1). A subclass moves the messages."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = aiohttp.ClientSession()
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self._streams: dict[str, asyncio.Queue[Any]] = {}
        self.room = asyncio.Event()
        self.room.set()
        self._parts: dict[str, bytes] = {}
        self._numbers = itertools.count()
        self._receiving: asyncio.Task[None] | None = None

    async def request(
        self, method: str, path: str, body: Any = None, *, content_type: str | None = None, accept: str | None = None
    ) -> Answer:
        id = await self._connected()
        head = {"id": id, "method": method, "path": path, "type": content_type, "accept": accept}
        answer = self._waiting[id] = asyncio.get_running_loop().create_future()
        await self.send(json.dumps(head).encode() + (encoded(body) or b""))
        return await answer

    @contextlib.asynccontextmanager
    async def stream(self, path: str) -> AsyncIterator[AsyncIterator[tuple[str, bytes]]]:
        """Its replies stay unread, and so does the connection, while more than a few wait."""
        id = await self._connected()
        self._streams[id] = asyncio.Queue()
        head = {"id": id, "method": "GET", "path": path, "accept": "text/event-stream"}
        await self.send(json.dumps(head).encode())
        yield self._payloads(self._streams[id])

    async def _payloads(self, queue: asyncio.Queue[Any]) -> AsyncIterator[tuple[str, bytes]]:
        while (found := await queue.get()) is not None:
            if not any(each.qsize() > FEW for each in self._streams.values()):
                self.room.set()
            name, answer = found
            if answer.status >= 400:
                raise StreamError(answer.message)
            yield name, answer.payload

    async def _connected(self) -> str:
        """The id of the next request, on a connection that is there."""
        if self._receiving is None:
            connected = asyncio.get_running_loop().create_future()
            self._receiving = asyncio.get_running_loop().create_task(self.receive(connected))
            self._receiving.add_done_callback(self._ended)
            await asyncio.wait({connected, self._receiving}, return_when=asyncio.FIRST_COMPLETED)
        return str(next(self._numbers))

    def _ended(self, receiving: asyncio.Task[None]) -> None:
        error = None if receiving.cancelled() else receiving.exception()
        for queue in self._streams.values():
            queue.put_nowait(None)
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(error or ConnectionError("the gateway ended the connection"))

    def take(self, message: str) -> None:
        """A message of the gateway: a reply, a part of one, or a heartbeat."""
        if message == "X":
            return
        head, end = json.JSONDecoder().raw_decode(message)
        if "heartbeat" in head:
            return
        payload = self._parts.pop(head["id"], b"") + message[end:].encode()
        if head.get("continue"):
            self._parts[head["id"]] = payload
        else:
            answer = Answer(head["code"], head.get("type", ""), payload)
            if (queue := self._streams.get(head["id"])) is not None:
                queue.put_nowait((head.get("event", ""), answer))
                if queue.qsize() > FEW:
                    self.room.clear()
            else:
                self._waiting.pop(head["id"]).set_result(answer)

    async def send(self, message: bytes) -> None:
        raise NotImplementedError

    async def receive(self, connected: asyncio.Future[None]) -> None:
        """Connects, says so, and takes every message until it is cancelled."""
        raise NotImplementedError

    async def close(self) -> None:
        if self._receiving is not None:
            self._receiving.cancel()
            await asyncio.wait({self._receiving})
        await self._session.close()


PART = 60_000
FEW = 20
"""Payloads of a stream that may wait before the connection is left unread."""


class WebSocketClient(EnvelopeClient):
    """Bare envelopes on one socket, without the Atmosphere protocol."""

    _socket: aiohttp.ClientWebSocketResponse

    async def send(self, message: bytes) -> None:
        try:
            text = message.decode()
        except UnicodeDecodeError:
            await self._socket.send_bytes(message)  # what is no text travels as bytes
            return
        head, end = json.JSONDecoder().raw_decode(text)
        while len(text) - end > PART:  # at most 65536 characters a message (atmosphere-binding.md §1.7)
            await self._socket.send_str(json.dumps({**head, "continue": True}) + text[end : end + PART])
            head, end = {"id": head["id"]}, end + PART
        await self._socket.send_str(json.dumps(head) + text[end:])

    async def receive(self, connected: asyncio.Future[None]) -> None:
        async with self._session.ws_connect(self._url, max_msg_size=0) as self._socket:
            connected.set_result(None)
            async for message in self._socket:
                self.take(message.data)
                await self.room.wait()


class AtmosphereClient(EnvelopeClient):
    """As atmosphere.js does it over HTTP: a stream, or polls, and a request of its own for every message."""

    transport = ""
    id = "0"

    @property
    def target(self) -> str:
        return (
            f"{self._url}/?X-Atmosphere-tracking-id={self.id}&X-Atmosphere-Framework=5.0.7&X-Atmosphere-Transport="
            f"{self.transport}&X-atmo-protocol=true&X-Atmosphere-TrackMessageSize=true"
        )

    async def send(self, message: bytes) -> None:
        async with self._session.post(self.target, data=message, skip_auto_headers=("Content-Type",)) as response:
            answer = (response.status, await response.read())
            assert answer == (200, b""), answer

    def messages(self, text: str) -> str:
        """Takes what begins ``text``, which is messages behind their lengths; what is left of it."""
        while (length := text.partition("|")[0]) != text:
            units = text[len(length) + 1 :].encode("utf-16-le")
            size = 2 * int(length)
            if len(units) < size:
                break
            message, text = units[:size].decode("utf-16-le"), units[size:].decode("utf-16-le")
            if message.endswith("|0|X|"):
                self.id = message.partition("|")[0]
            else:
                self.take(message)
        return text


class StreamingClient(AtmosphereClient):
    transport = "streaming"

    async def receive(self, connected: asyncio.Future[None]) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")()
        text = ""
        async with self._session.get(self.target, timeout=aiohttp.ClientTimeout()) as response:
            async for chunk in response.content.iter_any():
                text = self.messages(text + decoder.decode(chunk))
                await self.room.wait()
                if self.id != "0" and not connected.done():
                    connected.set_result(None)


class SseClient(AtmosphereClient):
    transport = "sse"

    async def receive(self, connected: asyncio.Future[None]) -> None:
        data: list[str] = []
        async with self._session.get(self.target, timeout=aiohttp.ClientTimeout(), read_bufsize=1 << 23) as response:
            async for raw in response.content:
                line = raw.decode().removesuffix("\n").removesuffix("\r")
                if line.startswith("data:"):
                    data.append(line[5:].removeprefix(" "))
                elif not line and data:
                    assert self.messages("\n".join(data)) == ""
                    data = []
                    if not connected.done():
                        connected.set_result(None)
                    await self.room.wait()


class LongPollingClient(AtmosphereClient):
    transport = "long-polling"

    async def receive(self, connected: asyncio.Future[None]) -> None:
        while True:
            async with self._session.get(self.target, timeout=aiohttp.ClientTimeout()) as response:
                assert response.status == 200
                assert self.messages(await response.text("utf-8")) == ""
            if not connected.done():
                connected.set_result(None)
            await self.room.wait()


TRANSPORTS: dict[str, Callable[[str], Client]] = {
    "http": HttpClient,
    "long-polling": LongPollingClient,
    "sse": SseClient,
    "streaming": StreamingClient,
    "websocket": WebSocketClient,
}
