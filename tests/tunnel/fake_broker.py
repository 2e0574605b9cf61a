"""A broker that does what a test wants, and a client of the tunnel that sends what a test wants."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import Any

from kafka_gateway.wire.frames import frame, string
from tests.transports.peer import BINARY, CLOSE, PING, PONG, Peer
from tests.waiting import PATIENCE_S

Answer = Callable[["Connection", int, int, int, bytes], Awaitable[None]]


def request(key: int, version: int, correlation_id: int, body: bytes = b"", client_id: bytes | None = b"me") -> bytes:
    """A frame with a request header; flexible versions get their tag buffer from the test's body."""
    name = string(client_id) if client_id is not None else b"\xff\xff"
    return frame(struct.pack(">hhi", key, version, correlation_id), name, body)


def reply(correlation_id: int, body: bytes = b"") -> bytes:
    return frame(struct.pack(">i", correlation_id), body)


class Connection:
    """One connection to the fake broker; ``frames`` are those that came."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.frames: list[bytes] = []
        self.ended = asyncio.Event()

    async def frame(self) -> bytes:
        size = await self.reader.readexactly(4)
        return size + await self.reader.readexactly(int.from_bytes(size, "big"))

    def send(self, data: bytes) -> None:
        self.writer.write(data)


_STRANGER = b"confluent-kafka-python"
"""Said by the librdkafka of another test in this process, whose broker had this port before it was gone."""


class FakeBroker:
    """Answers each request with its correlation id and the request's body, unless a test gives another ``answer``."""

    def __init__(self, answer: Answer | None = None, reads: bool = True, tls: ssl.SSLContext | None = None) -> None:
        self._answer = answer or _echo
        self._reads, self._tls = reads, tls
        self.connections: list[Connection] = []
        self.port = 0
        self._arrived = asyncio.Event()

    async def __aenter__(self) -> FakeBroker:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for each in self.connections:
            each.writer.transport.abort()
        await asyncio.sleep(0)

    async def connection(self, number: int = 0) -> Connection:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.connections) <= number:
                self._arrived.clear()
                await self._arrived.wait()
        return self.connections[number]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        self.connections.append(connection)
        self._arrived.set()
        try:
            while self._reads:
                data = await connection.frame()
                if _STRANGER in data:
                    self.connections.remove(connection)
                    writer.transport.abort()
                    return
                connection.frames.append(data)
                if len(data) >= 12:
                    key, version, correlation_id = struct.unpack_from(">hhi", data, 4)
                    await self._answer(connection, key, version, correlation_id, data)
            await asyncio.Event().wait()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            connection.ended.set()
            writer.close()


async def _echo(connection: Connection, key: int, version: int, correlation_id: int, data: bytes) -> None:
    connection.send(reply(correlation_id, data[12:]))


class Client:
    """A tunnel opened by hand."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    @classmethod
    async def open(cls, address: str, target: str = "/kafka/brokers/7", **headers: str) -> Client:
        return cls(await Peer.open(address, target, **headers))

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.peer.kill()

    async def send(self, data: bytes, **more: Any) -> None:
        await self.peer.send(data, BINARY, **more)

    async def message(self) -> bytes:
        """The next binary message, put together from its fragments. A gateway that hears nothing for a while asks
        whether its client is there."""
        parts: list[bytes] = []
        while True:
            part = await self.peer.frame()
            if part.opcode == PING:
                await self.peer.send(part.payload, PONG)
                continue
            assert part.opcode == (BINARY if not parts else 0), part
            parts.append(part.payload)
            if part.final:
                return b"".join(parts)

    async def closed(self) -> tuple[int, str]:
        """Code and reason of the close frame, whatever comes before it."""
        while True:
            part = await self.peer.frame()
            if part.opcode == CLOSE:
                return part.close_code, part.payload[2:].decode()
