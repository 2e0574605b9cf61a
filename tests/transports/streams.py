"""A gateway over a Kafka in memory, and the bytes of its streams as they come."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kafka_gateway.assembly.app import App
from tests.services.fake_kafka import FakeKafka
from tests.transports import conftest
from tests.transports.wire import Wire, request
from tests.waiting import PATIENCE_S


@contextlib.asynccontextmanager
async def serve(monkeypatch: pytest.MonkeyPatch, kafka: FakeKafka, **settings: Any) -> AsyncIterator[App]:
    """A running gateway whose Kafka is ``kafka``."""

    @contextlib.asynccontextmanager
    async def open_kafka(config: Any) -> AsyncIterator[FakeKafka]:
        yield kafka

    monkeypatch.setattr("kafka_gateway.assembly.app.open_kafka", open_kafka)
    async with conftest.gateway(transport_websocket_enable=True, **settings) as running:
        yield running


class HttpStream:
    """A response that does not end."""

    def __init__(self, wire: Wire, head: str) -> None:
        self.wire = wire
        first, *lines = head.split("\r\n")[:-2]
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        self._text = b""

    @classmethod
    async def open(cls, address: str, target: str, version: str = "1.1", **headers: str) -> HttpStream:
        """Returns when the head is there. ``_`` in names of headers stands for a hyphen."""
        wire = await Wire.open(address)
        await wire.send(request("GET", target, version=version, **headers))
        return await cls.on(wire)

    @classmethod
    async def on(cls, wire: Wire) -> HttpStream:
        async with asyncio.timeout(PATIENCE_S):
            return cls(wire, (await wire.reader.readuntil(b"\r\n\r\n")).decode("latin-1"))

    async def __aenter__(self) -> HttpStream:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.wire.writer.transport.abort()

    async def chunk(self) -> bytes:
        """What was written at once; empty when the response is over."""
        async with asyncio.timeout(PATIENCE_S):
            size = int(await self.wire.reader.readuntil(b"\r\n"), 16)
            return (await self.wire.reader.readexactly(size + 2))[:-2]

    async def line(self) -> bytes:
        """The next line of the body."""
        while b"\n" not in self._text:
            chunk = await self.chunk()
            if not chunk:
                raise EOFError(self._text)
            self._text += chunk
        line, _, self._text = self._text.partition(b"\n")
        return line

    async def event(self) -> dict[str, str]:
        """The next server-sent event, as a browser reads it (HTML standard §9.2.6); comments are passed over."""
        fields: dict[str, str] = {}
        while True:
            line = (await self.line()).removesuffix(b"\r").decode()
            if not line:
                if "data" in fields:
                    return fields
                fields = {}
                continue
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name:
                fields[name] = f"{fields[name]}\n{value}" if name == "data" and "data" in fields else value

    async def records(self, count: int) -> list[dict[str, Any]]:
        """So many records of an event stream; other events are passed over."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            event = await self.event()
            if "event" not in event:
                found += json.loads(event["data"])
        return found


def cursor(*offsets: int, topic: str = "t") -> str:
    """The token for partitions 0, 1 …"""
    each = [f'{{"topic":"{topic}","partition":{number},"offset":{offset}}}' for number, offset in enumerate(offsets)]
    return f"[{','.join(each)}]"
