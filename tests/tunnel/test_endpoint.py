"""The tunnel's end in the gateway, against brokers that misbehave and clients that do (bridges.md C4, C6; C8 6 to 11).

The brokers here are fakes with the ids 7 and 8, beside the embedded Kafka, which is the bootstrap server.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.auth import Authenticator
from kafka_gateway.config import ConfigError
from kafka_gateway.errors import Unauthorized
from kafka_gateway.session import Principal
from kafka_gateway.transport import hookimpl
from kafka_gateway.transports.tunnel import inflight_memory as gauge
from kafka_gateway.transports.tunnel.broker import connect
from kafka_gateway.transports.tunnel.counts import Counts
from kafka_gateway.wire.frames import compact_string, frame, string, uvarint
from tests.transports import peer
from tests.transports.conftest import gateway
from tests.transports.peer import BINARY, PING, PONG, TEXT, Refused
from tests.transports.wire import Wire
from tests.tunnel import replies
from tests.tunnel.fake_broker import Client, Connection, FakeBroker, reply, request
from tests.tunnel.local_process import free_range
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.slow  # a gateway for each test


@contextlib.asynccontextmanager
async def tunnel(*brokers: FakeBroker, **settings: Any) -> AsyncIterator[App]:
    """A gateway with a tunnel to these brokers, whose ids begin with 7."""
    known = ",".join(f"{7 + number}=127.0.0.1:{broker.port}" for number, broker in enumerate(brokers))
    async with gateway(tunnel_enable=True, tunnel_static_brokers=known, **settings) as app:
        yield app


@pytest.fixture
async def broker() -> AsyncIterator[FakeBroker]:
    async with FakeBroker() as fake:
        yield fake


@pytest.fixture
async def app(broker: FakeBroker) -> AsyncIterator[App]:
    async with tunnel(broker, tunnel_max_request_bytes=6 << 20) as app:
        yield app


@pytest.fixture
async def client(app: App) -> AsyncIterator[Client]:
    async with await Client.open(app.addresses[0]) as opened:
        yield opened


# --- handshake -------------------------------------------------------------------------------------------------------


async def refused(app: App, target: str, **headers: str) -> int:
    with pytest.raises(Refused) as caught:
        await Client.open(app.addresses[0], target, **headers)
    return caught.value.reply.status


async def test_off_by_default() -> None:
    async with gateway() as app, await Wire.open(app.addresses[0]) as wire:
        assert (await wire.ask("GET", "/kafka/brokers")).status == 404


async def test_a_plain_request_is_told_to_upgrade(app: App) -> None:
    async with await Wire.open(app.addresses[0]) as wire:
        for target in ("/kafka", "/kafka/brokers/7"):
            answer = await wire.ask("GET", target)
            assert (answer.status, answer.body) == (426, b"Expected Upgrade: websocket")
            assert answer.headers["upgrade"] == "websocket"
        assert (await wire.ask("POST", "/kafka")).status == 405
        assert (await wire.ask("GET", "/kafka/brokers/7/more")).status == 404
        assert (await wire.ask("GET", "/topics")).status == 200  # the REST API is as it was


async def test_the_list_of_brokers_names_no_host(app: App, broker: FakeBroker) -> None:
    async with await Wire.open(app.addresses[0]) as wire:
        answer = await wire.ask("GET", "/kafka/brokers")
    assert answer.json["brokers"] == [
        {"node_id": 1, "rack": None, "path": "/kafka/brokers/1"},
        {"node_id": 7, "rack": None, "path": "/kafka/brokers/7"},
    ]
    assert str(broker.port).encode() not in answer.body
    assert b"127.0.0.1" not in answer.body


async def test_upgrade_in_any_case_with_a_declined_extension(app: App) -> None:
    async with await Client.open(
        app.addresses[0], Upgrade="WebSocket", Sec_WebSocket_Extensions="permessage-deflate"
    ) as client:
        assert "sec-websocket-extensions" not in client.peer.headers
        await client.send(request(11, 0, 5, b"hello"))
        assert await client.message() == reply(5, request(11, 0, 5, b"hello")[12:])


REFUSED = [
    ("/kafka/brokers/9", 404),
    ("/kafka/brokers/x", 404),
    ("/kafka/brokers/-1", 404),
    ("/kafka/brokers/127.0.0.1:9092", 404),
    ("/kafka/brokers/127.0.0.1%3A9092", 404),
    ("/kafka/brokers/99999999999", 404),
    ("/kafka/brokers/7?advertise=a/b&base=1", 400),
    ("/kafka/brokers/7?advertise=a", 400),
    ("/kafka/brokers/7?advertise=a&base=0", 400),
    ("/kafka/brokers/7?advertise=a&base=65536", 400),
    ("/kafka/brokers/7?advertise=a&base=65530", 400),
    ("/kafka/brokers/7?advertise=a&base=1&map=7:0", 400),
    ("/kafka/brokers/7?advertise=a&base=1&map=seven:7", 400),
    ("/kafka/brokers/7?advertise=" + "a" * 256 + "&base=1", 400),
]


async def test_what_is_refused_before_anything_is_dialled(app: App, broker: FakeBroker) -> None:
    """S13: no host and no port of a client is ever connected to."""
    found = [(target, await refused(app, target)) for target, _ in REFUSED]
    assert found == REFUSED
    assert broker.connections == []


async def test_foreign_pages_are_refused(app: App, broker: FakeBroker) -> None:
    for origin in ("https://evil.example", "null", "http://localhost.evil.example"):
        assert await refused(app, "/kafka/brokers/7", Origin=origin) == 403
    assert broker.connections == []


async def test_a_body_behind_the_handshake_is_refused(app: App) -> None:
    assert await refused(app, "/kafka/brokers/7", Content_Length="5") == 400


async def test_a_dead_broker_is_502_and_a_silent_one_504(caplog: pytest.LogCaptureFixture) -> None:
    async with FakeBroker() as gone:
        pass
    async with tunnel(gone, tunnel_connect_timeout_ms=300) as app:
        for _ in range(3):
            assert await refused(app, "/kafka/brokers/7") == 502
    assert [each.levelname for each in caplog.records if "cannot be reached" in each.message] == ["WARNING"]
    # A listener whose queue is full drops what comes.
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        port = full.getsockname()[1]
        async with gateway(
            tunnel_enable=True, tunnel_static_brokers=f"7=127.0.0.1:{port}", tunnel_connect_timeout_ms=300
        ) as app:
            assert await refused(app, "/kafka/brokers/7") == 504
        # A bootstrap server that does not answer leaves time for the next.
        async with FakeBroker() as alive:
            silent, good = full.getsockname(), ("127.0.0.1", alive.port)
            (await connect([silent, good], None, 0.5, 1000)).close()


async def test_limits_of_connections(broker: FakeBroker) -> None:
    async with tunnel(broker, tunnel_max_connections=2) as app:
        async with await Client.open(app.addresses[0]), await Client.open(app.addresses[0]):
            with pytest.raises(Refused) as caught:
                await Client.open(app.addresses[0])
            assert caught.value.reply.status == 503
            assert caught.value.reply.headers["retry-after"] == "1"
        await until(lambda: app.gateway.state[Counts].open == 0)
        async with await Client.open(app.addresses[0]):
            pass
    for limit in ("tunnel_max_connections_per_ip", "tunnel_max_connections_per_principal"):
        async with tunnel(broker, **{limit: 1}) as app, await Client.open(app.addresses[0]):
            assert await refused(app, "/kafka/brokers/7") == 503
    async with tunnel(broker, tunnel_max_handshakes_per_sec=1) as app, await Client.open(app.addresses[0]):
        assert await refused(app, "/kafka/brokers/7") == 503


async def test_wrong_credentials_are_401(tmp_path: Path, broker: FakeBroker) -> None:
    users = tmp_path / "users"
    users.write_text(f"alice:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}:reader\n")
    settings = {"authentication.method": "BASIC", "authentication.basic.file": users, "listeners": "http://127.0.0.1:0"}
    async with tunnel(broker, **settings) as app:
        assert await refused(app, "/kafka/brokers/7") == 401
        assert await refused(app, "/kafka/brokers/7", Authorization="Basic YWxpY2U6d3Jvbmc=") == 401
        assert broker.connections == []
        async with await Client.open(app.addresses[0], Authorization="Basic YWxpY2U6c2VjcmV0"):
            pass


class Passport(Authenticator):
    """Lets everybody in for a moment, until ``valid`` is taken back."""

    name = "PASSPORT"
    valid = True

    async def authenticate(self, headers: Mapping[str, str], peer: str) -> Principal:
        if not self.valid:
            raise Unauthorized
        return Principal("traveller", until=time.monotonic() + 0.05)


async def test_credentials_that_end_end_the_tunnel(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kafka_gateway.door.proofs._LOOK_EVERY_S", 0.05)
    passport = Passport()

    class Plugin:
        @hookimpl
        def gateway_authenticators(self) -> list[Authenticator]:
            return [passport]

    known = {"tunnel.static.brokers": f"7=127.0.0.1:{broker.port}", "tunnel.enable": True}
    login = {"authentication.method": "PASSPORT", "listeners": "http://127.0.0.1:0"}
    async with gateway(Plugin(), **known, **login) as app, await Client.open(app.addresses[0]) as client:
        await asyncio.sleep(0.3)  # time itself: it is looked at many times, and goes on
        await client.send(request(11, 0, 1))
        await client.message()
        passport.valid = False
        assert await client.closed() == (1008, "The proof of identity is not valid any more.")


# --- relay -----------------------------------------------------------------------------------------------------------


async def test_frames_cross_unchanged(app: App, broker: FakeBroker, client: Client) -> None:
    sent = [request(11, 0, number, bytes([number]) * number) for number in range(50)]
    for each in sent:
        await client.send(each)
    assert [await client.message() for _ in sent] == [reply(number, sent[number][12:]) for number in range(50)]
    assert (await broker.connection()).frames == sent


async def test_large_frames_and_fragments(client: Client, broker: FakeBroker) -> None:
    big = request(11, 0, 1, bytes(5 << 20))
    await client.send(big)
    assert await client.message() == reply(1, big[12:])
    whole = request(11, 0, 2, b"in three fragments")
    await client.send(whole[:3], final=False)
    await client.peer.send(whole[3:9], 0, final=False)
    await client.peer.send(b"", PING)
    await client.peer.send(whole[9:], 0)
    assert (await client.peer.frame()).opcode == PONG
    assert await client.message() == reply(2, whole[12:])


async def test_a_reply_of_60_mib_passes(app: App) -> None:
    async def answer(connection: Connection, key: int, version: int, correlation_id: int, data: bytes) -> None:
        for part in range(60):
            connection.send(frame(struct.pack(">i", correlation_id), bytes(60 << 20))[:8] if not part else b"")
            connection.send(bytes([part]) * (1 << 20))
            await connection.writer.drain()

    async with FakeBroker(answer) as broker, tunnel(broker) as app, await Client.open(app.addresses[0]) as client:
        await client.send(request(1, 4, 9))
        message = await client.message()
        assert len(message) == 8 + (60 << 20)
        assert message[8:] == b"".join(bytes([part]) * (1 << 20) for part in range(60))


async def test_a_long_fetch_reply_passes_without_its_hint() -> None:
    """Nobody learns a real address of it, and the records arrive as they were."""
    records = bytes(range(256)) * 4096

    async def answer(connection: Connection, key: int, version: int, correlation_id: int, data: bytes) -> None:
        connection.send(replies.fetch(17, lambda node: (b"kafka-2.internal", 9092), (2,), b"rack", records))
        connection.send(reply(8))

    target = "/kafka/brokers/7?advertise=gw&base=100"
    async with (
        FakeBroker(answer) as broker,
        tunnel(broker) as app,
        await Client.open(app.addresses[0], target) as client,
    ):
        await client.send(request(1, 17, 7))
        await client.send(request(11, 0, 8))
        message = await client.message()
        whole = replies.fetch(17, lambda node: (b"kafka-2.internal", 9092), (2,), b"rack", records)
        assert len(message) == len(whole)
        assert records in message
        assert b"kafka-2.internal" not in message
        assert await client.message() == reply(8)


async def test_replies_cut_anywhere_arrive_whole() -> None:
    """Byte by byte: small ones, and one that is looked into."""
    found = replies.metadata(12, lambda node: (b"kafka-1.internal", 9092), (7,))
    told = replies.metadata(12, lambda node: (b"gw", 107), (7,))

    async def answer(connection: Connection, key: int, version: int, correlation_id: int, data: bytes) -> None:
        if correlation_id == 8:
            for byte in reply(6, b"x" * 20) + found + reply(8):
                connection.send(bytes([byte]))
                await asyncio.sleep(0)

    async with FakeBroker(answer) as broker, tunnel(broker) as app:
        target = "/kafka/brokers/7?advertise=gw&base=100"
        async with await Client.open(app.addresses[0], target) as client:
            for key, version, number in ((11, 0, 6), (3, 12, 7), (11, 0, 8)):
                await client.send(request(key, version, number))
            assert await client.message() == reply(6, b"x" * 20)
            assert await client.message() == told
            assert await client.message() == reply(8)


BAD_MESSAGES = [
    (b"", 1007),
    (b"\0\0\0\1x", 1007),
    (b"\0\0\0", 1007),
    (request(11, 0, 1)[:-1], 1007),
    (request(11, 0, 1) + b"x", 1007),
    (b"\xff\xff\xff\xff" + bytes(20), 1007),
    (b"\x7f\xff\xff\xff" + bytes(20), 1007),
    (b"\0\0\0\x0a" + struct.pack(">hhih", 11, 0, 1, 500), 1007),
    (b"\0\0\0\x0a" + struct.pack(">hhih", 0, 9, 1, 0), 1007),
    (request(4, 0, 1), 1008),
    (request(7, 0, 1), 1008),
    (request(56, 0, 1), 1008),
    (request(1234, 0, 1), 1008),
    (b"\0\0\0\x14" + b"\x60\x82" + bytes(18), 1008),
    (bytes((6 << 20) + 5), 1009),
]


async def test_bad_messages_are_closed_with_a_code(app: App, broker: FakeBroker) -> None:
    async with await Client.open(app.addresses[0]) as other:
        for number, (message, code) in enumerate(BAD_MESSAGES):
            async with await Client.open(app.addresses[0]) as client:
                await client.send(message)
                found, reason = await client.closed()
            assert (message[:20], found) == (message[:20], code)
            assert reason.isascii()
            assert "127.0.0.1" not in reason
            connection = await broker.connection(1 + number)
            async with asyncio.timeout(PATIENCE_S):
                await connection.ended.wait()
            assert connection.frames == []
        await other.send(request(11, 0, 1))
        await other.message()


async def test_text_is_1003(client: Client) -> None:
    await client.peer.send("hello", TEXT)
    assert (await client.closed())[0] == 1003


async def test_a_denied_api_of_the_operator(broker: FakeBroker) -> None:
    async with tunnel(broker, tunnel_denied_apis="20,21") as app, await Client.open(app.addresses[0]) as client:
        await client.send(request(19, 0, 1))
        await client.message()
        await client.send(request(20, 0, 2))
        assert (await client.closed())[0] == 1008


async def test_a_thousand_requests_in_flight() -> None:
    """Answered only when all are there, in their order (C-10)."""

    async def answer(connection: Connection, key: int, version: int, correlation_id: int, data: bytes) -> None:
        if correlation_id == 1999:
            connection.send(b"".join(reply(number) for number in range(2000)))

    async with FakeBroker(answer) as broker, tunnel(broker) as app, await Client.open(app.addresses[0]) as client:
        for number in range(2000):
            client.peer.write(request(11, 0, number), BINARY)
        await client.peer.wire.writer.drain()
        assert [await client.message() for _ in range(2000)] == [reply(number) for number in range(2000)]


def produce(version: int, correlation_id: int, acks: int) -> bytes:
    if version >= 9:
        body = uvarint(0) + compact_string(b"txn") + struct.pack(">h", acks) + bytes(5)
    elif version >= 3:
        body = string(b"txn") + struct.pack(">h", acks) + bytes(8)
    else:
        body = struct.pack(">h", acks) + bytes(8)
    return request(0, version, correlation_id, body, client_id=None if version == 3 else b"id")


async def test_long_requests_of_all_tunnels_share_a_budget(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those for which there is no room wait, nobody is dropped; unless one does not come to an end (C-13)."""
    monkeypatch.setattr(gauge, "PATIENCE_S", 0.3)
    async with tunnel(broker, tunnel_max_buffered_bytes=1 << 20) as app:
        slow, waiting, small = [await Client.open(app.addresses[0]) for _ in range(3)]
        long = request(11, 0, 1, bytes(900 << 10))
        wire = peer.frame(long, BINARY)
        await slow.peer.wire.send(wire[:-1])
        connection = await broker.connection(1)
        await asyncio.sleep(0.1)  # time itself: it is slow, and has its time
        await slow.peer.wire.send(wire[-1:])
        assert len(await slow.message()) == len(long) - 4
        # Now one that never ends: the next one waits until its time is up.
        await slow.peer.wire.send(wire[:-1])
        await asyncio.sleep(0.05)  # time itself: nothing tells that it has been read
        await waiting.send(long)
        await small.send(request(11, 0, 2, b"x"))
        await small.message()
        assert connection.frames == []
        assert (await slow.closed())[0] == 1013
        assert len(await waiting.message()) == len(long) - 4
        for client in (slow, waiting, small):
            client.peer.kill()
        # All is given back: others find room, those who leave while they wait or are let in, too.
        for number in range(12):
            client = await Client.open(app.addresses[0])
            await client.peer.wire.send(wire[: -1 - number])
            client.peer.kill()
        async with await Client.open(app.addresses[0]) as client:
            await client.send(long)
            assert len(await client.message()) == len(long) - 4


async def test_acks_0_is_not_waited_for() -> None:
    async def answer(connection: Connection, key: int, version: int, correlation_id: int, data: bytes) -> None:
        if data != produce(version, correlation_id, 0) or correlation_id == 77:  # 77: some brokers answer
            connection.send(reply(correlation_id))

    async with FakeBroker(answer) as broker, tunnel(broker) as app, await Client.open(app.addresses[0]) as client:
        number = 0
        for version in range(14):
            await client.send(produce(version, number, 0))
            await client.send(produce(version, number + 1, 1))
            assert await client.message() == reply(number + 1)
            number += 2
        await client.send(produce(9, 77, 0))
        assert await client.message() == reply(77)
        (session,) = [each for each in app.gateway.sessions if each.transport == "tunnel"]
        assert session.on_close is not None
        (connection,) = broker.connections
        connection.writer.close()  # nothing is open: a clean end
        assert (await client.closed())[0] == 1000


async def test_a_reply_out_of_order_is_1011() -> None:
    async def answer(connection: Connection, key: int, version: int, correlation_id: int, data: bytes) -> None:
        if correlation_id == 2:
            connection.send(reply(2))

    async with FakeBroker(answer) as broker, tunnel(broker) as app, await Client.open(app.addresses[0]) as client:
        await client.send(request(11, 0, 1))
        await client.send(request(11, 0, 2))
        assert (await client.closed())[0] == 1011


BAD_REPLIES = [
    (b"\x7f\xff\xff\xff", 1009),
    (struct.pack(">i", (1 << 20) + 1), 1009),
    (b"\xff\xff\xff\xff", 1011),
    (b"\0\0\0\2xx", 1011),
    (frame(struct.pack(">i", 1), b"\xff" * 30), 1011),
]


async def test_bad_replies_are_closed_with_a_code() -> None:
    async def answer(connection: Connection, key: int, version: int, correlation_id: int, data: bytes) -> None:
        connection.send(BAD_REPLIES[len(bad.connections) - 1][0])

    target = "/kafka/brokers/7?advertise=gw&base=100"
    async with FakeBroker(answer) as bad, tunnel(bad, tunnel_max_response_bytes=1 << 20) as app:
        for _, code in BAD_REPLIES:
            async with await Client.open(app.addresses[0], target) as client:
                await client.send(request(3, 12, 1, b"\0"))
                assert (await client.closed())[0] == code


async def test_a_version_beyond_the_table_is_1011(broker: FakeBroker) -> None:
    target = "/kafka/brokers/7?advertise=gw&base=100"
    async with tunnel(broker) as app, await Client.open(app.addresses[0], target) as client:
        await client.send(request(3, 14, 1, b"\0"))
        assert (await client.closed())[0] == 1011


async def test_the_end_of_either_side_ends_the_other(app: App, broker: FakeBroker) -> None:
    async with await Client.open(app.addresses[0]) as client:
        connection = await broker.connection(0)
        connection.writer.close()
        assert (await client.closed())[0] == 1000
    async with await Client.open(app.addresses[0]) as client:
        connection = await broker.connection(1)
        broker._answer = _silent
        await client.send(request(1, 4, 1))
        await until(lambda: connection.frames)
        connection.writer.transport.abort()
        assert (await client.closed())[0] == 1014
    client = await Client.open(app.addresses[0])
    connection = await broker.connection(2)
    client.peer.kill()
    async with asyncio.timeout(PATIENCE_S):
        await connection.ended.wait()
    await until(lambda: app.gateway.state[Counts].open == 0)
    assert app.gateway.state[Counts].closed == {1000: 1, 1014: 1, 1006: 1}


async def _silent(connection: Connection, key: int, version: int, correlation_id: int, data: bytes) -> None:
    """Answers nothing."""


async def test_what_was_sent_before_the_client_left_arrives(app: App, broker: FakeBroker) -> None:
    """acks=0 and good-bye."""
    broker._answer = _silent
    client = await Client.open(app.addresses[0])
    for number in range(200):
        client.peer.write(produce(9, number, 0), BINARY)
    client.peer.write(struct.pack("!H", 1000), 8)
    await client.peer.wire.writer.drain()
    assert (await client.closed())[0] == 1000
    connection = await broker.connection()
    async with asyncio.timeout(PATIENCE_S):
        await connection.ended.wait()
    assert len(connection.frames) == 200
    client.peer.kill()


async def test_every_socket_has_a_connection_of_its_own(app: App, broker: FakeBroker) -> None:
    clients = [await Client.open(app.addresses[0]) for _ in range(100)]
    for number, client in enumerate(clients):
        await client.send(request(11, 0, number))
    for number, client in enumerate(clients):
        assert (await client.message())[4:8] == struct.pack(">i", number)
        client.peer.kill()
    assert len(broker.connections) == 100
    assert [len(each.frames) for each in broker.connections] == [1] * 100


async def test_the_gateway_stops_when_requests_are_answered(broker: FakeBroker) -> None:
    release = asyncio.Event()

    async def answer(connection: Connection, key: int, version: int, correlation_id: int, data: bytes) -> None:
        await release.wait()
        connection.send(reply(correlation_id))

    broker._answer = answer
    async with contextlib.AsyncExitStack() as stack:
        app = await stack.enter_async_context(tunnel(broker))
        busy, idle = await Client.open(app.addresses[0]), await Client.open(app.addresses[0])
        await busy.send(request(11, 0, 5))
        connection = await broker.connection()
        await until(lambda: connection.frames)
        stopping = asyncio.create_task(stack.aclose())
        assert (await idle.closed())[0] == 1001
        idle.peer.kill()
        assert not stopping.done()
        release.set()
        assert await busy.message() == reply(5)
        assert (await busy.closed())[0] == 1001
        busy.peer.kill()
        await stopping


# --- ApiVersions, routes, modes --------------------------------------------------------------------------------------


async def test_what_clients_are_told_of_apis(broker: FakeBroker) -> None:
    rows = [(0, 0, 15), (1, 4, 18), (4, 0, 5), (17, 0, 1), (36, 0, 2), (200, 0, 1)]

    async def answer(connection: Connection, key: int, version: int, correlation_id: int, data: bytes) -> None:
        packed = [struct.pack(">hhh", *row) for row in rows]
        connection.send(reply(correlation_id, replies.i16(0) + replies.array(packed)))

    async def told(**settings: Any) -> set[tuple[int, ...]]:
        async with tunnel(broker, **settings) as app, await Client.open(app.addresses[0]) as client:
            await client.send(request(18, 0, 1))
            message = await client.message()
            return {struct.unpack_from(">hhh", message, at) for at in range(14, len(message), 6)}

    broker._answer = answer
    assert await told() == {(0, 0, 13), (1, 4, 18), (17, 0, 1), (36, 0, 2)}
    assert await told(tunnel_clamp_fetch=True, tunnel_unknown_apis="show", tunnel_denied_apis="17") == {
        (0, 0, 13),
        (1, 4, 15),
        (36, 0, 2),
        (200, 0, 1),
    }


async def test_routes_are_learned_from_replies(broker: FakeBroker) -> None:
    """Node 8 is heard of through node 7, and can be reached from then on (C-18)."""
    async with FakeBroker() as eighth:

        async def answer(connection: Connection, key: int, version: int, correlation_id: int, data: bytes) -> None:
            where = {7: broker.port, 8: eighth.port}
            connection.send(replies.metadata(12, lambda node: (b"127.0.0.1", where[node]), (7, 8)))

        broker._answer = answer
        async with tunnel(broker) as app:
            assert await refused(app, "/kafka/brokers/8") == 404
            async with await Client.open(app.addresses[0], "/kafka/brokers/7?advertise=gw&base=100") as client:
                await client.send(request(3, 12, 7))
                assert await client.message() == replies.metadata(12, lambda node: (b"gw", 100 + node), (7, 8))
            async with await Client.open(app.addresses[0], "/kafka/brokers/8") as client:
                await client.send(request(11, 0, 1))
                await client.message()
            assert len(eighth.connections) == 1


async def metadata_through(app: App, target: str, **headers: str) -> bytes:
    async with await Client.open(app.addresses[0], target, **headers) as client:
        await client.send(request(3, 12, 7))
        return await client.message()


async def test_modes_of_advertising(broker: FakeBroker) -> None:
    real = replies.metadata(12, lambda node: (b"127.0.0.1", broker.port), (7,))

    async def answer(connection: Connection, key: int, version: int, correlation_id: int, data: bytes) -> None:
        connection.send(real)

    def as_told(host: bytes, port: int) -> bytes:
        return replies.metadata(12, lambda node: (host, port), (7,))

    broker._answer = answer
    async with tunnel(broker) as app:  # none
        assert await metadata_through(app, "/kafka/brokers/7") == real
        asked = "/kafka/brokers/7?advertise=10.0.0.1&base=1&map=7:443,8:444"
        assert await metadata_through(app, asked) == as_told(b"10.0.0.1", 443)
    ports = {"tunnel_advertise_mode": "ports", "tunnel_advertise_host": "gw.example", "tunnel_advertise_port": 9000}
    async with tunnel(broker, **ports) as app:
        assert await metadata_through(app, "/kafka/brokers/7") == as_told(b"gw.example", 9007)
        assert await metadata_through(app, "/kafka/brokers/7?advertise=x&base=10") == as_told(b"x", 17)
    vhost = {
        "tunnel_advertise_mode": "vhost",
        "tunnel_advertise_host": "b{node}.kafka.example",
        "tunnel_advertise_port": 443,
    }
    async with tunnel(broker, **vhost) as app:
        for host in ("b7.kafka.example", "B7.kafka.example:443"):
            assert await metadata_through(app, "/", Host=host) == as_told(b"b7.kafka.example", 443)
        assert await refused(app, "/", Host="b9.kafka.example") == 404
        # Another host: not a tunnel.
        with pytest.raises(Refused):
            await Client.open(app.addresses[0], "/", Host="x.kafka.example")


async def test_the_root_of_a_listener_of_its_own(broker: FakeBroker) -> None:
    """Kafka WebSocket Shim's clients send no path (C2): / is any broker at one port, and broker 7 at another."""
    base = free_range(10)
    settings = {
        "listeners": f"http://127.0.0.1:{base + 7},http://127.0.0.1:{base + 9},SHIM://127.0.0.1:{base}",
        "listener.protocol.map": "SHIM:http",
        "listener.name.shim.transports": "tunnel",
        "tunnel.advertise.mode": "listeners",
        "tunnel.advertise.host": "gw",
        "tunnel.advertise.port": base,
    }
    async with tunnel(broker, **settings):
        async with await Client.open(f"http://127.0.0.1:{base}", "/") as client:
            await client.send(request(18, 0, 3))
            assert (await client.message())[4:10] == struct.pack(">ih", 3, 0)  # the embedded Kafka
        async with await Client.open(f"http://127.0.0.1:{base + 7}", "/") as client:
            await client.send(request(11, 0, 4))
            assert (await client.message())[4:8] == struct.pack(">i", 4)
        for address in (f"http://127.0.0.1:{base}/x", f"http://127.0.0.1:{base + 9}"):
            with pytest.raises(Refused):
                await Client.open(address, "/topics/1")
        assert len(broker.connections) == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"tunnel_upstream_auth": "inject"},
        {"tunnel_advertise_mode": "ports"},
        {"tunnel_advertise_mode": "vhost", "tunnel_advertise_host": "plain", "tunnel_advertise_port": 1},
        {"tunnel_advertise_mode": "ports", "tunnel_advertise_host": "b{node}", "tunnel_advertise_port": 1},
        {"tunnel_advertise_mode": "ports", "tunnel_advertise_host": "gw"},
        {"tunnel_static_brokers": "1=host"},
        {"tunnel_static_brokers": "one=host:1"},
        {"tunnel_denied_apis": "produce"},
        {"tunnel_path": "/"},
    ],
)
async def test_faulty_settings_are_told_at_start(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        async with gateway(**({"tunnel_enable": True} | settings)):
            pass
    assert caught.value.faults[0].key.startswith("tunnel.")


# --- SASL ------------------------------------------------------------------------------------------------------------

HANDSHAKE_V0 = bytes.fromhex("0000001200110000000000010001630005504c41494e")
TOKEN = bytes.fromhex("0000000400750070")


async def sasl_broker(connection: Connection, key: int, version: int, correlation_id: int, data: bytes) -> None:
    if key == 17:
        connection.send(frame(struct.pack(">ihi", correlation_id, 0, 0)))
    else:
        connection.send(reply(correlation_id, data[12:]))


async def test_a_login_without_headers() -> None:
    """SaslHandshake v0, a token each way, the server's with nothing in it, and ordinary requests (C-24)."""

    async def serve(connection: Connection) -> None:
        assert await connection.frame() == HANDSHAKE_V0
        connection.send(frame(struct.pack(">ihi", 1, 0, 0)))
        assert await connection.frame() == TOKEN
        connection.send(bytes(4))
        behind = await connection.frame()
        connection.send(reply(2, behind[12:]))

    broker = FakeBroker(reads=False)
    async with broker, tunnel(broker) as app, await Client.open(app.addresses[0]) as client:
        serving = asyncio.create_task(serve(await broker.connection()))
        await client.send(HANDSHAKE_V0)
        assert await client.message() == frame(struct.pack(">ihi", 1, 0, 0))
        await client.send(TOKEN)
        assert await client.message() == bytes(4)
        await client.send(request(11, 0, 2, b"after"))
        assert await client.message() == reply(2, request(11, 0, 2, b"after")[12:])
        await client.send(request(4, 0, 3))
        assert (await client.closed())[0] == 1008
        await serving


async def test_nothing_passes_unseen_behind_a_token() -> None:
    """A denied request right behind the last token is looked at all the same."""
    got: list[bytes] = []

    async def serve(connection: Connection) -> None:
        got.append(await connection.frame())
        connection.send(frame(struct.pack(">ihi", 1, 0, 0)))
        got.append(await connection.frame())
        await asyncio.sleep(0.1)  # time itself: the next request comes meanwhile
        connection.send(bytes(4))
        with contextlib.suppress(asyncio.IncompleteReadError):
            got.append(await connection.frame())

    broker = FakeBroker(reads=False)
    async with broker, tunnel(broker) as app, await Client.open(app.addresses[0]) as client:
        serving = asyncio.create_task(serve(await broker.connection()))
        for message in (HANDSHAKE_V0, TOKEN, request(4, 0, 3)):
            await client.send(message)
        assert (await client.closed())[0] == 1008
        await serving
    assert got == [HANDSHAKE_V0, TOKEN]


async def test_a_handshake_that_is_refused_changes_nothing(broker: FakeBroker) -> None:
    async def answer(connection: Connection, key: int, version: int, correlation_id: int, data: bytes) -> None:
        connection.send(frame(struct.pack(">ihi", correlation_id, 33, 0)))

    broker._answer = answer
    async with tunnel(broker) as app, await Client.open(app.addresses[0]) as client:
        await client.send(HANDSHAKE_V0)
        await client.message()
        await client.send(TOKEN)
        assert (await client.closed())[0] == 1007
