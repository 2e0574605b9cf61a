"""The packaged suite as the author of a transport runs it: one small client class, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.testing.behaviour import *  # noqa: F403
from kafka_gateway.testing.client import Answer, StreamError, encoded

SOURCE = Path(__file__).parents[1] / "plugin_resp"


class RespClient:
    """One connection for requests; each stream has one of its own, for Redis' protocol has no ids."""

    def __init__(self, app: App) -> None:
        self._port = app.ports["resp"]
        self._connections: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._lock = asyncio.Lock()

    async def request(
        self, method: str, path: str, body: Any = None, *, content_type: str | None = None, accept: str | None = None
    ) -> Answer:
        async with self._lock:
            if not self._connections:
                await self._connect()
            reader, writer = self._connections[0]
            status, media_type, payload = await _ask(
                reader, writer, f"{method} {path}", encoded(body), content_type, accept
            )
        return Answer(int(status), media_type.decode(), payload)

    @contextlib.asynccontextmanager
    async def stream(self, path: str) -> AsyncIterator[AsyncIterator[tuple[str, bytes]]]:
        if not self._connections:
            await self._connect()
        reader, writer = await self._connect()
        status, _, payload = await _ask(reader, writer, f"GET {path}", b"", "", "text/event-stream")
        if status != b"200":
            raise StreamError(payload.decode())
        yield _payloads(reader)

    async def close(self) -> None:
        for _, writer in self._connections:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._connections.append(await asyncio.open_connection("127.0.0.1", self._port))
        return self._connections[-1]


async def _ask(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    line: str,
    body: bytes | None,
    content_type: str | None,
    accept: str | None,
) -> list[bytes]:
    words = [b"CALL", line.encode(), body or b"", (content_type or "").encode(), (accept or "").encode()]
    writer.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))
    return await _array(reader)


async def _array(reader: asyncio.StreamReader) -> list[bytes]:
    line = await reader.readline()
    if not line.startswith(b"*"):
        raise ConnectionError(line.decode())  # the gateway's farewell, or nothing
    parts = []
    for _ in range(int(line[1:])):
        size = int((await reader.readline())[1:])
        parts.append((await reader.readexactly(size + 2))[:-2])
    return parts


async def _payloads(reader: asyncio.StreamReader) -> AsyncIterator[tuple[str, bytes]]:
    while True:
        kind, *rest = await _array(reader)
        if kind == b"end":
            if rest[0]:
                raise StreamError(rest[0].decode())
            return
        yield rest[0].decode(), rest[1]


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    monkeypatch.syspath_prepend(str(SOURCE))
    return [importlib.import_module("kafka_gateway_resp")]


@pytest.fixture
def settings() -> dict[str, Any]:
    return {"transport.resp.port": 0}


@pytest.fixture
def connect() -> type[RespClient]:
    return RespClient
