"""What clients make the gateway hold, and that it lets go of it when they leave, with no help of the garbage collector.

The program itself, on uvloop, with its own collector thresholds, which no round of these tests ever reaches.
"""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from tests.gateway_process import GatewayProcess
from tests.waiting import PATIENCE_S, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

MIB = 1024 * 1024
QUIET = "access.log.enable=false"
TUNNEL = ("tunnel.enable=true", "tunnel.max.buffered.bytes=1073741824")
CLIENTS = 40
HELD = 14 * MIB
"""What each client has the gateway hold before it leaves."""
KEPT_MAX = 60 * MIB
"""Of the 560 MiB of all, what may stay with the process: pieces of the C library's heap."""
JSON = "application/vnd.kafka.json.v2+json"
V2 = "application/vnd.kafka.v2+json"


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
    client.send(post(target, "", HELD + 1, JSON))
    client.send(b" " * HELD)
    return client


def make_topic(url: str) -> None:
    """The embedded Kafka has a topic when a record was sent to it."""
    assert told(url, "/topics/t", '{"records":[{"value":1}]}', JSON) == b"200"


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
        time.sleep(0.5)  # time itself: what the first one held is given back
        before = gateway.rss_bytes()
        clients = [leaver(gateway.url, target.format(n=number)) for number in range(CLIENTS)]
        peak = gateway.rss_bytes()
        for client in clients:
            client.leave()
        kept = settles(lambda: gateway.rss_bytes() - before, KEPT_MAX)
        print(f"{kind}: {before / MIB:.0f} MiB, {peak / MIB:.0f} with them, {kept / MIB:.0f} kept")
        assert peak - before > CLIENTS * HELD * 0.5
        assert kept <= KEPT_MAX


def settles(measure: Callable[[], int], most: int) -> int:
    """The measure when it is low enough, or after all patience."""
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: measure() <= most)
    return measure()


def settled(measure: Callable[[], object], wanted: object, patience_s: float = PATIENCE_S) -> object:
    """The measure when it is what is wanted, or after all patience."""
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: measure() == wanted, patience_s)
    return measure()


def answer(url: str, target: str) -> bytes:
    """The head of the reply to a GET."""
    client = Client(url)
    client.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")
    head = client.head()
    client.leave()
    return head


def post(target: str, body: str, length: int, media_type: str) -> str:
    return f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n{body}"


BUDGET = 200 * MIB
ROUND_IT = 80 * MIB
"""What the process may hold beside the budget: pieces of the heap, what the system has handed over and nobody read."""


def test_bodies_that_fall_silent_before_their_end() -> None:
    """80 of 16 MiB, all but the last byte: within the budget, 503 for others, and over after the time-out."""
    length = 16777206
    with (
        GatewayProcess(QUIET, f"memory.max.bytes={BUDGET}", "request.body.timeout.ms=4000") as gateway,
        contextlib.ExitStack() as clients,
    ):
        before = gateway.rss_bytes()
        bodies = []
        for _ in range(80):
            client = Client(gateway.url)
            clients.callback(client.leave)
            client.socket.settimeout(0.05)
            bodies.append(client)
            with contextlib.suppress(OSError):  # refused, or not read any more
                client.send(post("/topics/t", " " * (length - 1), length, JSON))
            assert gateway.rss_bytes() - before < BUDGET + ROUND_IT
            assert b" 200 " in answer(gateway.url, "/health/live")
        assert settles(lambda: gateway.rss_bytes() - before, KEPT_MAX) <= KEPT_MAX, "silence ends a body"
        for client in bodies:
            client.socket.settimeout(PATIENCE_S)
            with contextlib.suppress(ConnectionError):  # it was told while its body was still on its way
                assert client.head()[9:12] in (b"408", b"503")
        make_topic(gateway.url)


def test_replies_that_are_not_read() -> None:
    """15 readers of a topic of 20 MB that read nothing: those that hold the most are given up, others are served."""
    value = base64.b64encode(os.urandom(15000)).decode()
    records = '{"records":[' + ",".join([f'{{"value":"{value}","partition":0}}'] * 50) + "]}"
    limit = 100 * MIB
    with GatewayProcess(QUIET, f"memory.max.bytes={limit}") as gateway, contextlib.ExitStack() as clients:
        for _ in range(20):
            assert told(gateway.url, "/topics/t", records, JSON) == b"200"
        before = gateway.rss_bytes()
        place = '{"partitions":[{"topic":"t","partition":0}]}'
        for number in range(15):
            instance = f"/consumers/g/instances/i{number}"
            for target, body in (
                ("/consumers/g", f'{{"name":"i{number}","format":"json"}}'),
                (f"{instance}/assignments", place),
                (f"{instance}/positions/beginning", place),
            ):
                while (status := told(gateway.url, target, body, V2)) == b"503":
                    time.sleep(0.1)  # time itself: there is room again soon
                assert status[:1] == b"2"
            reader = Client(gateway.url)
            clients.callback(reader.leave)
            reader.send(f"GET {instance}/records?timeout=3000 HTTP/1.1\r\nHost: x\r\nAccept: {JSON}\r\n\r\n")
            assert reader.socket.recv(12, socket.MSG_WAITALL)[9:] in (b"200", b"503")
            assert gateway.rss_bytes() - before < limit + ROUND_IT
        assert settled(lambda: answer(gateway.url, "/topics")[9:12], b"200") == b"200"


def told(url: str, target: str, body: str, media_type: str) -> bytes:
    """The status of the reply to a POST."""
    client = Client(url)
    client.send(post(target, body, len(body), media_type))
    status = client.head()[9:12]
    client.leave()
    return status


@pytest.mark.timing
def test_a_message_in_fragments_is_complete_within_5_s() -> None:
    """websocket-proxy.md §1.9."""
    with GatewayProcess(QUIET) as gateway, contextlib.ExitStack() as clients:
        make_topic(gateway.url)
        client = open_socket(gateway.url, "/socket/in?clientId=c&topic=t&valType=string")
        clients.callback(client.leave)
        client.send(frame_head(1, 0x01) + b"{")
        began = time.monotonic()
        while (head := client.socket.recv(2, socket.MSG_WAITALL)) == b"\x8a\x00":  # signs of life
            pass
        assert 4.5 < time.monotonic() - began < 8
        assert head[0] == 0x88
        assert int.from_bytes(client.socket.recv(2, socket.MSG_WAITALL), "big") == 1008
