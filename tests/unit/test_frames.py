"""What a socket knows of its writing: offsets are committed by it (websocket-proxy.md §3.5)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from kafka_gateway.transports.websocket.message_frames import text_frame
from kafka_gateway.transports.websocket.socket import Socket


class Transport:
    """asyncio's, as far as it is asked: it forgets what waits when the connection is lost."""

    waiting = 0
    lost = False

    def write(self, data: bytes) -> None:
        self.waiting += len(data)

    def get_write_buffer_size(self) -> int:
        return 0 if self.lost else self.waiting

    def is_closing(self) -> bool:
        return self.lost


class _Protocol:
    writing_paused = False


class _Loop:
    def time(self) -> float:
        return 0.0


def a_socket(transport: Transport) -> Any:
    socket: Any = Socket.__new__(Socket)
    socket._transport, socket._protocol, socket._loop = transport, _Protocol(), _Loop()
    socket._out, socket._out_bytes, socket._writer = [], 0, SimpleNamespace(written_bytes=0)
    socket._ended = False
    return socket


def test_what_waits_in_this_process_has_not_gone() -> None:
    transport = Transport()
    socket = a_socket(transport)
    first = socket.send_frames(text_frame(b"one"))
    second = socket.send_frames(text_frame(b"two"))
    assert not socket.gone(first)
    transport.waiting -= 5
    assert socket.gone(first)
    assert not socket.gone(second)
    transport.waiting = 0
    assert socket.gone(second)


def test_nothing_goes_through_a_lost_connection() -> None:
    transport = Transport()
    socket = a_socket(transport)
    before = socket.send_frames(text_frame(b"waits"))
    transport.lost = True
    after = socket.send_frames(text_frame(b"late"))
    assert not socket.gone(before)
    assert not socket.gone(after)
