"""Whether the client is gone of a connection that is not read (gateway/door/absence.py)."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

import pytest

from kafka_gateway.door.absence import has_left
from tests.waiting import until

RESETS = struct.pack("ii", 1, 0)


def stays(client: socket.socket) -> None:
    pass


def half_closes(client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)


def resets(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
    client.close()


CASES: dict[str, tuple[Callable[[socket.socket], None], int, bool]] = {
    "is there": (stays, 100, False),
    "has sent all of it": (half_closes, 50, False),
    "has sent a part of it": (half_closes, 51, True),
    "has sent who knows how much": (half_closes, -1, False),
    "has reset the connection": (resets, -1, True),
}


@pytest.mark.parametrize("name", CASES)
async def test_a_client(name: str) -> None:
    leaves, missing, gone = CASES[name]
    made: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()

    class Unread(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            transport.pause_reading()
            made.set_result(transport)

    server = await asyncio.get_running_loop().create_server(Unread, "127.0.0.1", 0)
    client = socket.create_connection(server.sockets[0].getsockname())
    transport = await made
    try:
        client.sendall(b"x" * 50)
        leaves(client)
        if gone:
            await until(lambda: has_left(transport, missing))
        else:
            await asyncio.sleep(0.05)  # time itself: nothing tells that nothing happens
            assert not has_left(transport, missing)
    finally:
        client.close()
        transport.abort()
        server.close()
