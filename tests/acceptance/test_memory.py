"""What clients make the gateway hold, and that it lets go of it when they leave, with no help of the garbage collector.

The program itself, on uvloop, with its own collector thresholds, which no round of these tests ever reaches.
"""

from __future__ import annotations

import base64
import os
import socket
import struct
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from tests.gateway_process import GatewayProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

MIB = 1024 * 1024
QUIET = "access.log.enable=false"
TUNNEL = ("tunnel.enable=true", "tunnel.max.buffered.bytes=1073741824")
CLIENTS = 40
HELD = 14 * MIB
"""What each client has the gateway hold before it leaves."""
KEPT_MAX = 60 * MIB
"""Of the 560 MiB of a round, what may stay with the process: pieces of the C library's heap."""
PATIENCE_S = 10.0


class Client:
    """A connection that sends what it is told, and reads nothing unless asked."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), PATIENCE_S)

    def send(self, data: bytes | str) -> None:
        self.socket.sendall(data.encode() if isinstance(data, str) else data)

    def head(self) -> bytes:
        """What came up to the end of a head, and perhaps more."""
        got = b""
        while b"\r\n\r\n" not in got:
            piece = self.socket.recv(65536)
            assert piece, got
            got += piece
        return got

    def leave(self) -> None:
        """Without a word: the system resets the connection."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def open_socket(url: str, target: str) -> Client:
    client = Client(url)
    key = base64.b64encode(os.urandom(16)).decode()
    client.send(
        f"GET {target} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    head = client.head()
    assert b" 101 " in head, head
    return client


def frame_head(length: int, first: int) -> bytes:
    """The beginning of a client's frame of so many bytes, masked with zeros."""
    return struct.pack(">BBQI", first, 0xFF, length, 0)


def frame(url: str, target: str) -> Client:
    """A client that has sent all but the end of one frame."""
    client = open_socket(url, target)
    client.send(frame_head(HELD + 1, 0x82) + bytes(HELD))
    return client


def fragments(url: str, target: str) -> Client:
    """A client that has sent all but the last fragment of a message."""
    client = open_socket(url, target)
    for first in (0x01, 0x00):
        client.send(frame_head(HELD // 2, first) + bytes(HELD // 2))
    return client


def body(url: str, target: str) -> Client:
    """A client that has sent all but the end of a body."""
    client = Client(url)
    client.send(
        f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Type: application/vnd.kafka.json.v2+json\r\n"
        f"Content-Length: {HELD + 1}\r\n\r\n"
    )
    client.send(b" " * HELD)
    return client


def make_topic(url: str) -> None:
    """The embedded Kafka has a topic when a record was sent to it."""
    client = Client(url)
    data = '{"records":[{"value":1}]}'
    client.send(
        "POST /topics/t HTTP/1.1\r\nHost: x\r\nContent-Type: application/vnd.kafka.json.v2+json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n{data}"
    )
    assert b" 200 " in client.head()
    client.leave()


Leaver = tuple[Callable[[str, str], Client], str]
LEAVERS: dict[str, Leaver] = {
    "frame to /socket/in": (frame, "/socket/in?clientId=c{n}&topic=t&valType=string"),
    "fragments to /socket/in": (fragments, "/socket/in?clientId=c{n}&topic=t&valType=string"),
    "frame to /socket/out": (frame, "/socket/out?clientId=c{n}&groupId=g{n}&topic=t&valType=string"),
    "frame into the tunnel": (frame, "/kafka"),
    "body": (body, "/topics/t"),
}


@pytest.mark.parametrize("kind", LEAVERS)
def test_what_a_leaving_client_held_is_free_at_once(kind: str) -> None:
    leaver, target = LEAVERS[kind]
    with GatewayProcess(QUIET, *TUNNEL) as gateway:
        make_topic(gateway.url)
        leaver(gateway.url, target.format(n="first")).leave()
        time.sleep(0.5)
        before = gateway.rss_bytes()
        for _ in range(2):
            clients = [leaver(gateway.url, target.format(n=number)) for number in range(CLIENTS)]
            peak = gateway.rss_bytes()
            for client in clients:
                client.leave()
            kept = settles(lambda: gateway.rss_bytes() - before, KEPT_MAX)
            print(f"{kind}: {before / MIB:.0f} MiB, {peak / MIB:.0f} with them, {kept / MIB:.0f} kept")
            assert peak - before > CLIENTS * HELD * 0.8
            assert kept <= KEPT_MAX


def settles(measure: Callable[[], int], most: int) -> int:
    """The measure when it is low enough, or after all patience."""
    until = time.monotonic() + PATIENCE_S
    while (now := measure()) > most and time.monotonic() < until:
        time.sleep(0.05)
    return now
