"""That the log says why the gateway has ended a socket or cut a client off, once: its client sees no more than a
connection that is gone, and the access log has the same line as for one that has left."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.door.client_writer import ClientWriter
from kafka_gateway.memory_budget import MemoryBudget
from tests.waiting import until

OPENING = (
    "GET {} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SERVED = {"transport_websocket_enable": True, "embedded_topics": "orders"}
SOCKETS = ["/any", "/topics/orders/stream", "/socket/in?clientId=c&topic=orders", "/socket/out?clientId=c&topic=orders"]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    wanted = ("gateway.websocket", "gateway.host")
    return [each.getMessage() for each in caplog.records if each.name in wanted and "127.0.0.1" in each.getMessage()]


async def ended(app: App, path: str, sent: bytes) -> None:
    """Returns when the gateway has ended the socket on which this was sent."""
    host, port = app.addresses[0].removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(OPENING.format(path).encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    writer.write(sent)
    async with asyncio.timeout(30):
        await reader.read()
    writer.close()


@pytest.mark.parametrize("settings", [SERVED])
@pytest.mark.parametrize("path", SOCKETS)
async def test_a_client_that_breaks_the_protocol(app: App, path: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await ended(app, path, b"\x81\x05hello")
    (line,) = told(caplog)
    assert line.startswith("a socket of 127.0.0.1 is closed with 1002: ")


@pytest.mark.parametrize("settings", [SERVED | {"transport_websocket_ping_interval_ms": 100}])
async def test_a_client_from_which_no_pong_comes(app: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await ended(app, "/any", b"")
    assert told(caplog) == [
        "a socket of 127.0.0.1 is cut off: nothing has come from its client for 0.1 s, no pong either"
    ]


@pytest.mark.parametrize("settings", [SERVED | {"org_atmosphere_websocket_writeTimeout": 500}])
async def test_a_client_that_answers_no_pings_any_more(app: App, caplog: pytest.LogCaptureFixture) -> None:
    """It has answered the ping behind the first records that it was pushed, and then reads what comes, and no more."""
    caplog.set_level(logging.INFO)
    host, port = app.addresses[0].removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(OPENING.format("/any").encode())
    await reader.readuntil(b"\r\n\r\n")

    async def reply() -> bytes:
        first, length = await reader.readexactly(2)
        size = int.from_bytes(await reader.readexactly(2)) if length == 126 else length
        content = await reader.readexactly(size)
        return content if first == 0x81 else b"ping " + content

    def ask(head: str, content: str = "") -> None:
        message = (head + content).encode()
        writer.write(b"\x81\xfe" + len(message).to_bytes(2) + bytes(4) + message)

    kind = "application/vnd.kafka.json.v2+json"
    create = '{"name":"c","format":"json","auto.offset.reset":"earliest"}'
    produce = f'{{"id":"p","method":"POST","path":"/topics/orders","type":"{kind}"}}'
    ask('{"id":"1","method":"POST","path":"/consumers/g","type":"application/vnd.kafka.v2+json"}', create)
    assert b'"code":200' in await reply()
    path = "/consumers/g/instances/c"
    ask(
        f'{{"id":"2","method":"POST","path":"{path}/subscription","type":"application/vnd.kafka.v2+json"}}',
        '{"topics":["orders"]}',
    )
    assert b'"code":204' in await reply()
    ask(f'{{"id":"3","path":"/ws{path}/records","accept":"{kind}"}}')
    ask(produce, '{"records":[{"value":1}]}')
    async with asyncio.timeout(60):
        while not (found := await reply()).startswith(b"ping "):
            pass
        ping = found.removeprefix(b"ping ")
        writer.write(bytes([0x8A, 0x80 | len(ping)]) + bytes(4) + ping)
        ask(produce, '{"records":[{"value":2}]}')
        await reader.read()
    (line,) = told(caplog)
    assert line.endswith("is cut off: its client has not answered the ping behind what it was sent, for 0.5 s")
    writer.close()


class Stuck:
    """A transport whose client accepts nothing."""

    aborted = False

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return ("127.0.0.1", 1)

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 9

    def abort(self) -> None:
        self.aborted = True


async def test_a_client_that_accepts_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    transport, memory = Stuck(), MemoryBudget(1 << 20)
    writer = ClientWriter(cast(asyncio.Transport, transport), memory, 0.01, "http")
    writer.watch()
    await until(lambda: transport.aborted)
    assert told(caplog) == [
        "a connection of 127.0.0.1 (http) is cut off: its client accepts none of the 9 bytes that wait for it, "
        "for 0.01 s"
    ]
    assert memory.slow_clients["http"] == 1
