"""The short way of plain HTTP: a head that came before is known by its bytes, and nothing else is taken for granted."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import itertools
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.at_once import RequestsAtOnce
from kafka_gateway.door import known_heads
from kafka_gateway.door.known_heads import KnownHeads
from tests.transports.conftest import Connect, gateway
from tests.transports.wire import JSON_V2, V2, Wire, produce, request
from tests.waiting import until

LIST = request("GET", "/topics")


def heads(app: App) -> dict[bytes, Any]:
    """The heads that the only listener knows."""
    (offer,) = app.host._offers.values()
    return offer.heads._heads


def shape(value: Any) -> Any:
    """Its members, for an object: offsets grow."""
    return list(value) if isinstance(value, dict) else value


async def warm(wire: Wire, data: bytes) -> None:
    """Has the head of this request known."""
    for _ in range(KnownHeads.sights + 1):
        await wire.send(data)
        assert (await wire.reply()).status < 300


async def test_both_ways_answer_alike(app: App, wire: Wire, topic: str) -> None:
    for data in (LIST, produce(topic), request("GET", f"/topics/{topic}"), request("GET", "/topics/none", Accept=V2)):
        replies = []
        for _ in range(4):
            await wire.send(data)
            reply = await wire.reply()
            reply.headers.pop("date")
            assert reply.headers.pop("x-request-id")
            replies.append(reply)
        assert heads(app).keys() >= {data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"}
        for reply in replies:
            assert (reply.status, reply.headers) == (replies[0].status, replies[0].headers)
            assert shape(reply.json) == shape(replies[0].json)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each request that could be begun without a task, whether it was."""
    seen: list[bool] = []
    begin = RequestsAtOnce.begin

    def watched(*args: Any) -> bool:
        seen.append(begin(*args))
        return seen[-1]

    monkeypatch.setattr(RequestsAtOnce, "begin", watched)
    return seen


async def test_produces_on_a_kept_connection_need_no_task(wire: Wire, topic: str, begun: list[bool]) -> None:
    await warm(wire, produce(topic))
    for _ in range(3):
        await wire.send(produce(topic))
        assert (await wire.reply()).status == 200
    assert begun[-2:] == [True, True]


async def test_a_long_reply_to_one_is_compressed(wire: Wire, topic: str, begun: list[bool]) -> None:
    body = b'{"records":[' + b",".join([b'{"value":1}'] * 100) + b"]}"
    for _ in range(KnownHeads.sights + 4):
        await wire.send(produce(topic, body, Accept_Encoding="gzip"))
        reply = await wire.reply()
        assert (reply.status, reply.headers["content-encoding"]) == (200, "gzip")
        assert len(json.loads(gzip.decompress(reply.body))["offsets"]) == 100
    assert begun[-1]


async def test_one_that_is_refused_leaves_its_connection_open(wire: Wire, topic: str, begun: list[bool]) -> None:
    await warm(wire, produce(topic))
    await wire.send(produce(topic))
    assert (await wire.reply()).status == 200
    bad = produce(topic, b"{" + b" " * (len(produce(topic).partition(b"\r\n\r\n")[2]) - 1))
    for data, status in ((bad, 400), (produce(topic), 200)):
        await wire.send(data)
        assert (await wire.reply()).status == status
    assert begun[-2:] == [True, True]


async def test_the_records_are_those_that_were_sent(wire: Wire, topic: str) -> None:
    """Two bodies of one length have the same head."""
    where = f"/topics/{topic}/partitions/0"
    for number in range(6):
        body = b'{"records":[{"value":%d}]}' % number
        await wire.send(request("POST", where, body, Content_Type=JSON_V2))
        assert (await wire.reply()).json["offsets"][0]["offset"] == number
    found: list[int] = []
    while len(found) < 6:
        read = where + "/messages?offset=0&count=6"
        reply = await wire.ask("GET", read, Accept="application/vnd.kafka.json.v1+json")
        found = [row["value"] for row in reply.json]
    assert found == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("cut", [1, 20, -30, -1])
async def test_a_known_request_in_two_pieces(app: App, wire: Wire, topic: str, cut: int) -> None:
    data = produce(topic)
    await warm(wire, data)
    await wire.send(data[:cut])
    await until(lambda: any(each._rest for each in connections(app)))
    await wire.send(data[cut:])
    assert (await wire.reply()).status == 200
    await wire.send(LIST)
    assert (await wire.reply()).status == 200


def connections(app: App) -> list[Any]:
    (server,) = app.host._servers.values()
    return list(server.connections)


async def test_a_large_body_comes_again_and_again(app: App, wire: Wire, topic: str) -> None:
    """More than aiohttp takes of a body that nobody reads."""
    data = produce(topic, b'{"records":[{"value":"%b"}]}' % (b"x" * 300_000))
    for _ in range(5):
        await wire.send(data)
        assert (await wire.reply()).status == 200
    await wire.send(LIST)
    assert (await wire.reply()).status == 200


LF_ONLY = b"GET /topics HTTP/1.1\nHost: a\n\n"
CHUNKED = (
    b"POST /topics/none HTTP/1.1\r\nHost: a\r\nContent-Type: application/vnd.kafka.json.v2+json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n"
)
SENT = [
    LIST,
    LIST,
    request("GET", "/topics/none"),
    request("POST", "/topics/none", b"nonsense", Content_Type=JSON_V2),
    request("POST", "/topics/none", b"GET /topics HTTP/1.1\r\nHost: gateway\r\n\r\n", Content_Type=JSON_V2),
    request("GET", "/topics", b"a body"),
    CHUNKED,
    b"\r\n" + LIST,
    LIST.replace(b"Host", b"hOST"),
]
BROKEN = [
    LF_ONLY,
    b"POST /topics/none HTTP/1.1\r\nHost: a\r\nContent-Length: 54\n\n" + LIST,
    b"POST /topics/none HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
    b"POST /topics/none HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /topics HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n",
    b"GET /topics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"nonsense\r\n\r\n",
]


async def test_both_ways_see_the_same_requests(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams of requests, in pieces that begin and end anywhere, some of them broken: what is answered, and that the
    connection closes, must not depend on the way (RFC 9112 §11.2)."""
    chance = random.Random(20261129)
    (offer,) = app.host._offers.values()
    monkeypatch.setattr(KnownHeads, "sights", 1)
    for _ in range(150):
        requests = chance.choices(SENT, k=chance.randint(1, 6))
        if chance.random() < 0.4:
            requests.append(chance.choice(BROKEN))  # behind it comes nothing that would reset the connection
        pieces = cut(b"".join(requests), chance) if chance.random() < 0.6 else requests
        answers = []
        for find in (offer.heads.find, lambda head: None):
            with monkeypatch.context() as patched:
                patched.setattr(offer.heads, "find", find)
                if find is not offer.heads._heads.get:
                    patched.setattr(KnownHeads, "sights", 1_000_000_000)
                answers.append(await answered(app.addresses[0], pieces))
        assert answers[0] == answers[1], pieces


def cut(data: bytes, chance: random.Random) -> list[bytes]:
    places = sorted(chance.randint(0, len(data)) for _ in range(chance.randint(0, 5)))
    return [data[a:b] for a, b in itertools.pairwise([0, *places, len(data)]) if a < b]


async def answered(address: str, pieces: list[bytes]) -> list[tuple[int, bytes]]:
    """What comes back for the pieces, each sent when the gateway has nothing more to say; the end of the connection is
    the last of them."""
    async with await Wire.open(address) as wire:
        replies: list[tuple[int, bytes]] = []
        reading = asyncio.create_task(read(wire, replies))
        with contextlib.suppress(OSError):  # the gateway has closed already
            for piece in pieces:
                await wire.send(piece)
                await asyncio.sleep(0.002)  # time itself: so that the pieces come as segments of their own
            wire.writer.write_eof()
        await reading
        return replies


async def read(wire: Wire, replies: list[tuple[int, bytes]]) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            reply = await wire.reply()
            replies.append((reply.status, reply.body))


async def test_known_requests_in_one_piece_are_answered_in_order(wire: Wire, topic: str) -> None:
    first, second = produce(topic), request("GET", f"/topics/{topic}/partitions")
    await warm(wire, first)
    await warm(wire, second)
    await wire.send(first + second + LIST + first)
    replies = [await wire.reply() for _ in range(4)]
    assert [next(iter(reply.json)) if isinstance(reply.json, dict) else "list" for reply in replies] == [
        "offsets",
        "list",
        "list",
        "offsets",
    ]


async def test_what_comes_while_a_known_request_waits_is_answered_behind_it(app: App, wire: Wire) -> None:
    body = b'{"name":"i","format":"json","consumer.request.timeout.ms":"1000"}'
    assert (await wire.ask("POST", "/consumers/waiting", body, Content_Type=V2)).status == 200
    where = "/consumers/waiting/instances/i"
    assigned = b'{"partitions":[{"topic":"quiet","partition":0}]}'
    assert (await wire.ask("POST", "/topics/quiet", b'{"records":[{"value":1}]}', Content_Type=JSON_V2)).status == 200
    assert (await wire.ask("POST", where + "/assignments", assigned, Content_Type=V2)).status == 204
    read = request("GET", where + "/records?timeout=300", Accept=JSON_V2)
    await warm(wire, read)
    await warm(wire, LIST)
    await wire.send(read)
    await until(lambda: any(each._at_work for each in connections(app)))
    await wire.send(LIST)
    assert (await wire.reply()).json == []
    assert "quiet" in (await wire.reply()).json


async def test_a_known_read_ends_with_its_client(app: App, connect: Connect, wire: Wire) -> None:
    other = await connect()
    body = b'{"name":"i","format":"json"}'
    assert (await wire.ask("POST", "/consumers/leaving", body, Content_Type=V2)).status == 200
    where = "/consumers/leaving/instances/i"
    assert (await wire.ask("POST", "/topics/leaving", b'{"records":[{"value":1}]}', Content_Type=JSON_V2)).status == 200
    assigned = b'{"partitions":[{"topic":"leaving","partition":0}]}'
    assert (await wire.ask("POST", where + "/assignments", assigned, Content_Type=V2)).status == 204
    await warm(other, request("GET", where + "/records?timeout=20", Accept=JSON_V2))
    waits = request("GET", where + "/records?timeout=20000", Accept=JSON_V2)
    (offer,) = app.host._offers.values()
    for _ in range(KnownHeads.sights):
        offer.heads.is_due(waits)
    await other.send(waits)
    await until(lambda: app.gateway.running == 1)
    other.writer.transport.abort()
    await until(lambda: app.gateway.running == 0)


async def test_a_client_that_closes_its_side_gets_the_reply(connect: Connect, wire: Wire) -> None:
    await warm(wire, LIST)
    other = await connect()
    await other.send(LIST)
    other.writer.write_eof()
    assert (await other.reply()).status == 200
    assert await other.closed() == b""


@pytest.mark.parametrize("rest", [-1, -10, 40])
async def test_a_request_that_its_client_cut_off_costs_no_reply(connect: Connect, topic: str, rest: int) -> None:
    """The one before it is stored, and told so, also when both came at once."""
    for whole in (1, 2):
        wire = await connect()
        data = produce(topic)
        await wire.send(data * whole + data[:rest])
        wire.writer.write_eof()
        for _ in range(whole):
            assert (await wire.reply()).status == 200
        assert await wire.closed() == b""


@pytest.mark.parametrize(
    "differs",
    [
        produce("t", Connection="close"),
        produce("t", Expect="100-continue"),
        produce("t", Transfer_Encoding="chunked"),
        request("POST", "/topics/t", b"x", Content_Encoding="gzip", Content_Type=JSON_V2),
        request("GET", "/topics", version="1.0"),
        request("GET", "/topics", Upgrade="h2c"),
        request("GET", "/topics/t/stream", Accept="text/event-stream"),
        request("OPTIONS", "/topics"),
        request("HEAD", "/topics"),
        request("GET", "/topics", X=("x" * 2048)),
    ],
)
async def test_what_takes_the_long_way(app: App, connect: Connect, differs: bytes) -> None:
    for _ in range(3):
        wire = await connect()
        await wire.send(differs)
        with_body = not differs.startswith(b"HEAD")
        if b"chunked" in differs or b"stream" in differs:
            wire.writer.transport.abort()
        else:
            await wire.reply(head_only=not with_body)
    assert heads(app) == {}


async def test_heads_that_come_once_are_not_kept(app: App, wire: Wire) -> None:
    for number in range(50):
        await wire.ask("GET", f"/topics/t{number}")
    assert heads(app) == {}


async def test_no_more_are_kept_than_may_be(app: App, wire: Wire, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_heads, "_HEADS_MAX", 8)
    monkeypatch.setattr(known_heads, "_SEEN_MAX", 8)
    (offer,) = app.host._offers.values()
    for number in range(40):
        for _ in range(2):
            await wire.ask("GET", f"/topics/t{number}")
        assert len(heads(app)) <= 8
        assert len(offer.heads._seen) <= 8
    assert heads(app)


async def test_a_reload_forgets_them(app: App, wire: Wire) -> None:
    await warm(wire, LIST)
    assert heads(app)
    app.gateway.reload()
    assert heads(app) == {}


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[tuple[App, Path]]:
    """A gateway that asks who comes, and its file of users."""
    users = tmp_path / "users"
    users.write_text(line("ann", "right"))
    async with gateway(
        authentication_method="BASIC",
        authentication_roles="*",
        **{"authentication.basic.file": str(users)},
    ) as app:
        yield app, users


def line(user: str, password: str) -> str:
    return f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}:user\n"


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def test_a_known_head_needs_its_proof_each_time(guarded: tuple[App, Path]) -> None:
    app, users = guarded
    asks = request("GET", "/topics", Authorization=basic("ann", "right"))
    wrong = request("GET", "/topics", Authorization=basic("ann", "wrong"))
    async with await Wire.open(app.addresses[0]) as wire, await Wire.open(app.addresses[0]) as other:
        await warm(wire, asks)
        for _ in range(3):
            await other.send(wrong)
            assert (await other.reply()).status == 401
            await other.send(LIST)
            assert (await other.reply()).status == 401
        await other.send(asks)
        assert (await other.reply()).status == 200
        await other.send(wrong)  # on a connection that has a session
        assert (await other.reply()).status == 401
        users.write_text(line("bob", "right"))

        async def refused() -> bool:
            await wire.send(asks)
            return (await wire.reply()).status == 401

        await until(refused)


async def test_a_gateway_that_stops_says_so_to_known_heads(app: App, wire: Wire) -> None:
    await warm(wire, LIST)
    app.gateway.stopping = True
    await wire.send(LIST)
    reply = await wire.reply()
    assert reply.closes
    assert await wire.closed() == b""
