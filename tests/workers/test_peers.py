"""Two processes of a cluster over loopback, by TCP, TLS and Unix sockets, and strangers at their doors (cluster.md §9,
§14). Both are ends of one gateway, which stands for the two that would each have their own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kafka_gateway import jsonio
from kafka_gateway.assembly.app import App
from kafka_gateway.cluster.ports import PeerLost, Process
from kafka_gateway.errors import InstanceUnavailable
from kafka_gateway.memory_budget import OutOfMemory
from kafka_gateway.messages import Request
from kafka_gateway.session import Principal, Session
from kafka_gateway.stream import Payload
from kafka_gateway.workers.frames import PIECE_MAX, Ask, Asker, FrameReader, Hello, Proof, frame
from kafka_gateway.workers.greeting import Greeting
from kafka_gateway.workers.peer_settings import peer_faults
from kafka_gateway.workers.peers import ClusterPeers, open_peers
from tests.logged import logged
from tests.transports.authority import Authority
from tests.transports.conftest import gateway
from tests.transports.stub_service import StubService
from tests.waiting import until

PATIENCE_S = 60.0
NO_FIELDS = jsonio.Raw(b"{}")
SECRET = "a secret of thirty-two bytes, or more"
CONNECT = {"cluster.peer.connect.timeout.ms": 30_000}
"""For all but what is about silence: on a busy machine nobody is taken for dead."""


@pytest.fixture
async def stub() -> StubService:
    return StubService()


@pytest.fixture
async def app(stub: StubService) -> AsyncIterator[App]:
    async with gateway(stub) as running:
        yield running


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    return path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def settings(way: str, folder: Path, secret: Path) -> dict[str, Any]:
    """Of a process that listens that way."""
    if way == "unix":
        return CONNECT | {"cluster.peer.dir": folder / "peers"}
    found: dict[str, Any] = CONNECT | {"cluster.peer.listener": f"{way}://127.0.0.1:{free_port()}"}
    if way == "tcp":
        return found | {"cluster.peer.secret.file": secret}
    return found | certificate(Authority(folder))


def certificate(authority: Authority, *hosts: str) -> dict[str, Any]:
    path = authority.server(*hosts).write(authority.folder / "server.pem")
    return {"cluster.peer.tls.cert": path, "cluster.peer.tls.key": path, "cluster.peer.tls.ca": authority.path}


@contextlib.asynccontextmanager
async def process(app: App, number: int, values: dict[str, Any], cluster: str = "c") -> AsyncIterator[ClusterPeers]:
    config = app.gateway.config.with_values(values)
    async with open_peers(config, app.gateway, Process(cluster, f"gw-{number}/0", f"boot-{number}")) as peers:
        yield peers


@contextlib.asynccontextmanager
async def two(app: App, one: dict[str, Any], other: dict[str, Any]) -> AsyncIterator[tuple[ClusterPeers, ClusterPeers]]:
    """Two that know each other's claims."""
    async with process(app, 1, one) as first, process(app, 2, other) as second:
        first.know("gw-2/0", "", second.addresses)
        second.know("gw-1/0", "", first.addresses)
        yield first, second


def another(values: dict[str, Any]) -> dict[str, Any]:
    """The same for a process beside it."""
    if "cluster.peer.listener" not in values:
        return values
    scheme = values["cluster.peer.listener"].partition(":")[0]
    return values | {"cluster.peer.listener": f"{scheme}://127.0.0.1:{free_port()}"}


def asked(line: str, body: bytes = b"", **more: Any) -> Request:
    session = Session("http", "http", "192.0.2.7", Principal("alice", frozenset({"readers"}), attributes={"team": "a"}))
    return Request.of(
        session, line, {"X-Own": "é", "Authorization": "Basic secret"}, body, base_url="http://front", **more
    )


@pytest.mark.parametrize("way", ["tcp", "tls", "unix"])
async def test_requests_are_answered_by_another_process(
    app: App, stub: StubService, tmp_path: Path, secret: Path, way: str
) -> None:
    values = settings(way, tmp_path, secret)
    async with two(app, values, another(values)) as (one, other):
        assert [each.partition(":")[0] for each in other.addresses] == [way]
        body = b"\xc3\xa9" * 300_000
        for caller, called in ((one, "gw-2/0"), (other, "gw-1/0")):
            reply = await caller.call(called, asked("POST /stub/echo?a=b", body))
            assert isinstance(reply.body, bytes)
            found = jsonio.decode_value(reply.body)
            assert (reply.status, found["body"], found["query"]) == (200, body.decode(), {"a": "b"})
            assert found["base_url"] == "http://front"
            assert "authorization" not in found["headers"]
            session = stub.requests[-1].session
            assert session.forwarded
            principal = session.principal
            assert (principal.name, principal.roles, principal.attribute("team")) == ("alice", {"readers"}, "a")
            assert session.peer == "192.0.2.7"
        await streams_and_leaves(one, stub)
        assert len(app.gateway.sessions) == 0


async def streams_and_leaves(one: ClusterPeers, stub: StubService) -> None:
    """A stream goes payload by payload; who leaves is gone there, too."""
    reply = await one.call("gw-2/0", asked("GET /stub/stream/s"))
    assert not isinstance(reply.body, bytes)
    assert await stub.waiting.get() == "s"
    for text in (b"one", b"two"):
        stub.streams["s"].put(Payload(text))
        assert (await anext(reply.body)).data == text
    stub.end("s")
    with pytest.raises(Exception, match="it ended"):
        await anext(reply.body)
    assert await stub.waiting.get() == "s closed"
    waiting = asyncio.ensure_future(one.call("gw-2/0", asked("GET /stub/gate/g")))
    assert await stub.waiting.get() == "g"
    waiting.cancel()
    await until(lambda: stub.cancelled == ["g"], PATIENCE_S)


async def test_a_process_that_stops_answers_what_it_was_asked(
    app: App, stub: StubService, tmp_path: Path, secret: Path
) -> None:
    values = settings("tcp", tmp_path, secret)
    async with process(app, 1, values) as one:
        async with process(app, 2, another(values)) as other:
            one.know("gw-2/0", "", other.addresses)
            waiting = asyncio.ensure_future(one.call("gw-2/0", asked("GET /stub/gate/last")))
            assert await stub.waiting.get() == "last"
            asyncio.get_running_loop().call_later(0.05, lambda: stub.gates["last"].set())
        reply = await waiting
        assert (reply.status, reply.body) == (200, b'{"gate":"last"}')


async def test_what_was_asked_of_one_that_is_gone(app: App, stub: StubService, tmp_path: Path, secret: Path) -> None:
    values = settings("tcp", tmp_path, secret) | {"cluster.peer.connect.timeout.ms": 300}
    async with process(app, 1, values) as one:
        with pytest.raises(PeerLost) as unknown:
            await one.call("gw-2/0", asked("GET /stub/echo"))
        assert not unknown.value.sent
        async with process(app, 2, another(values)) as other:
            one.know("gw-2/0", "", other.addresses)
            reply = await one.call("gw-2/0", asked("GET /stub/stream/x"))
            waiting = asyncio.ensure_future(one.call("gw-2/0", asked("GET /stub/gate/x")))
            assert [await stub.waiting.get(), await stub.waiting.get()] == ["x", "x"]
            for each in list(other._answering):
                each.close()
            with pytest.raises(PeerLost) as lost:
                await waiting
            assert lost.value.sent
            assert not isinstance(reply.body, bytes)
            with pytest.raises(InstanceUnavailable):
                await anext(reply.body)
            # The next call opens a connection anew.
            assert (await one.call("gw-2/0", asked("GET /stub/echo"))).status == 200
        with pytest.raises(PeerLost) as refused:
            await one.call("gw-2/0", asked("GET /stub/echo"))
        assert not refused.value.sent


@pytest.mark.parametrize("breaks", [False, True])
async def test_whether_a_reply_was_delivered_is_told_or_never_known(
    app: App, stub: StubService, tmp_path: Path, secret: Path, breaks: bool
) -> None:
    """The process that asked may have given it to its client before it was cut off, stood still or died."""
    values = settings("tcp", tmp_path, secret)
    async with two(app, values, another(values)) as (one, other):
        reply = await one.call("gw-2/0", asked("GET /stub/settle", settles=True))
        stream = (await one.call("gw-2/0", asked("GET /stub/stream/s"))).body
        assert reply.settle is not None
        assert not isinstance(stream, bytes)
        if breaks:
            for each in list(other._answering):
                each.close()
        else:
            reply.settle(False)
            await stream.aclose()
        async with asyncio.timeout(PATIENCE_S):
            assert await stub.settled.get() is (None if breaks else False)
            assert [await stub.waiting.get(), await stub.waiting.get()] == ["s", "s closed"]
        assert stub.streams["s"].is_lost is breaks


async def test_a_creation_is_carried_out_though_the_connection_breaks(
    app: App, stub: StubService, tmp_path: Path, secret: Path
) -> None:
    """It may be asked for again, by its uid; what only answers is not."""
    values = settings("tcp", tmp_path, secret)
    async with two(app, values, another(values)) as (one, other):
        asking = [
            asyncio.ensure_future(one.call("gw-2/0", asked(f"GET /stub/gate/{name}", creation=uid)))
            for name, uid in (("kept", "uid"), ("left", ""))
        ]
        assert {await stub.waiting.get(), await stub.waiting.get()} == {"kept", "left"}
        (answering,) = other._answering
        answering.close()
        for each in asking:
            with pytest.raises(PeerLost):
                await each
        await until(lambda: bool(stub.cancelled), PATIENCE_S)
        stub.gates["kept"].set()
        await until(lambda: not other._answering, PATIENCE_S)
        assert stub.cancelled == ["left"]


async def test_more_requests_than_are_agreed_wait_at_the_one_that_asks(
    app: App, stub: StubService, tmp_path: Path, secret: Path
) -> None:
    values = settings("tcp", tmp_path, secret) | {"cluster.peer.max.requests": 1, "cluster.hold.ms": 600_000}
    async with two(app, values, another(values)) as (one, other):
        asking = [asyncio.ensure_future(one.call("gw-2/0", asked(f"GET /stub/gate/{name}"))) for name in "abc"]
        for name in "abc":
            assert await stub.waiting.get() == name
            assert stub.waiting.empty()
            stub.gates[name].set()
        assert [(await each).status for each in asking] == [200, 200, 200]
        values["cluster.hold.ms"] = 0
        async with process(app, 3, another(values)) as three:
            three.know("gw-2/0", "", other.addresses)
            first = asyncio.ensure_future(three.call("gw-2/0", asked("GET /stub/gate/d")))
            assert await stub.waiting.get() == "d"
            with pytest.raises(PeerLost) as full:
                await three.call("gw-2/0", asked("GET /stub/echo"))
            assert not full.value.sent
            stub.gates["d"].set()
            await first


@pytest.mark.parametrize("way", ["tcp", "tls", "unix"])
async def test_a_long_body_and_a_long_reply_hold_up_nobody_else(
    app: App, stub: StubService, tmp_path: Path, secret: Path, way: str
) -> None:
    values, memory = settings(way, tmp_path, secret), app.gateway.memory
    async with two(app, values, another(values)) as (one, other):
        body = bytes(range(256)) * (16 << 12)
        line = "POST /stub/back"
        long = asyncio.ensure_future(one.call("gw-2/0", asked(line, body)))
        await at_once(lambda: memory.held > PIECE_MAX)
        assert (await one.call("gw-2/0", asked(line, b"first"))).body == b"first"
        assert not long.done(), "the small one was not behind the long body"
        found = len(other._answering)
        [answering] = other._answering
        await at_once(lambda: bool(answering._outgoing))
        assert memory.held > len(body) // 2  # of the two ends together, which have one budget here
        assert (await one.call("gw-2/0", asked(line, b"second"))).body == b"second"
        assert not long.done(), "nor behind the long reply"
        assert (await long).body == body
        assert (memory.held, len(other._answering)) == (0, found)
        # Whoever leaves in the middle leaves nothing behind, whichever way it is under way.
        for under_way in (answering._arriving, answering._outgoing):
            leaving = asyncio.ensure_future(one.call("gw-2/0", asked(line, body)))
            await at_once(partial(bool, under_way))
            leaving.cancel()
            await at_once(lambda: memory.held == 0)
            assert (await one.call("gw-2/0", asked(line, b"third"))).body == b"third"
        # Nor does one whose reply is too much for the memory.
        short = asyncio.ensure_future(one.call("gw-2/0", asked(line, body)))
        await at_once(lambda: bool(answering._outgoing) and memory.held > len(body))
        for claim in list(memory._claims):
            if claim._give_up is not None:
                claim._give_up()
        with pytest.raises(OutOfMemory):
            await short
        await at_once(lambda: memory.held == 0)
        # A payload of a stream.
        reply = await one.call("gw-2/0", asked("GET /stub/stream/long"))
        assert await stub.waiting.get() == "long"
        assert not isinstance(reply.body, bytes)
        stub.streams["long"].put(Payload(body))
        assert (await anext(reply.body)).data == body
        await reply.body.aclose()


async def at_once(condition: Callable[[], bool]) -> None:
    """Returns in the very turn of the loop in which this is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # it waits for nothing but the loop
            await asyncio.sleep(0)


async def test_one_that_is_silent_is_given_up(app: App, tmp_path: Path, secret: Path) -> None:
    """It has greeted and then says nothing: as a process that hangs, or a network that is cut."""
    values = settings("tcp", tmp_path, secret) | {"cluster.peer.connect.timeout.ms": 300}
    came: asyncio.Queue[Stranger] = asyncio.Queue()

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.put_nowait(Stranger(reader, writer))

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    async with server, process(app, 1, values) as one:
        one.know("gw-2/0", "", [f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"])
        waiting = asyncio.ensure_future(one.call("gw-2/0", asked("GET /stub/echo")))
        stranger = await came.get()
        await stranger.greet(Greeting(Process("c", "gw-2/0", ""), asks=False, secret=SECRET.encode()))
        with pytest.raises(PeerLost) as lost:
            async with asyncio.timeout(PATIENCE_S):
                await waiting
        assert lost.value.sent


# --- strangers -----------------------------------------------------------------------------------------------------


STRANGERS: list[Stranger] = []


@pytest.fixture(autouse=True)
async def _gone() -> AsyncIterator[None]:
    """No connection of a stranger outlives its test."""
    yield
    while STRANGERS:
        await STRANGERS.pop().leave()


class Stranger:
    """The bytes of an end that need not keep to anything."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.frames: list[Any] = []
        self._read = FrameReader()
        STRANGERS.append(self)

    @classmethod
    async def at(cls, peers: ClusterPeers, context: ssl.SSLContext | None = None) -> Stranger:
        host, _, port = peers.addresses[0].partition("://")[2].rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port), ssl=context))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Any:
        """Of the frame that comes next."""
        async with asyncio.timeout(PATIENCE_S):
            while not self.frames:
                data = await self.reader.read(65536)
                assert data, "the connection has ended"
                self.frames += [head for head, _ in self._read.feed(data)]
        return self.frames.pop(0)

    async def greet(self, greeting: Greeting) -> Greeting:
        await self.send(frame(greeting.hello))
        proof = greeting.take(await self.head())
        if proof is not None:
            await self.send(frame(proof))
            greeting.take(await self.head())
        return greeting

    async def is_cut_off(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                while await self.reader.read(65536):
                    pass

    async def leave(self) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()

    @property
    def name(self) -> str:
        host, port = self.writer.get_extra_info("sockname")[:2]
        return f"{host}:{port}"


def who(cluster: str = "c", id: str = "gw-9/0", secret: str = SECRET) -> Greeting:
    return Greeting(Process(cluster, id, ""), asks=True, secret=secret.encode())


async def wrong_proof(stranger: Stranger) -> None:
    await stranger.send(frame(who().hello))
    await stranger.head()
    await stranger.send(frame(Proof("00" * 32)))


async def wrong_secret(stranger: Stranger) -> None:
    with contextlib.suppress(Exception):
        await stranger.greet(who(secret="x" * 32))


async def wrong_cluster(stranger: Stranger) -> None:
    await stranger.send(frame(who("d").hello))


async def no_proof(stranger: Stranger) -> None:
    await stranger.send(
        frame(who().hello) + frame(Ask(1, jsonio.Raw(b"{}"), "GET", "/stub/echo", NO_FIELDS, NO_FIELDS))
    )


async def too_long(stranger: Stranger) -> None:
    await stranger.send(b"\xff\xff\xff\xff" + b"x" * 100)


async def too_long_later(stranger: Stranger) -> None:
    await stranger.greet(who())
    await stranger.send(b"\xff\xff\xff\xff" + b"x" * 100)


async def another_protocol(stranger: Stranger) -> None:
    await stranger.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")


async def flood(stranger: Stranger) -> None:
    await stranger.greet(who())
    asker = jsonio.Raw(jsonio.encode(Asker("mallory", "User")))
    with contextlib.suppress(ConnectionError):
        for id in range(1, 20):
            await stranger.send(frame(Ask(id, asker, "GET", "/stub/gate/flood", NO_FIELDS, NO_FIELDS)))


HOSTILE: list[tuple[Callable[[Stranger], Any], str]] = [
    (wrong_proof, "wrong proof"),
    (wrong_secret, "wrong proof"),
    (no_proof, "no proof"),
    (wrong_cluster, "cluster 'd'"),
    (too_long, "a length of 4294967295"),
    (too_long_later, "a length of 4294967295"),
    (another_protocol, "a length of"),
    (flood, "more than 16 open requests"),
]


async def test_strangers_end_their_own_connection_and_nothing_else(
    app: App, stub: StubService, tmp_path: Path, secret: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = settings("tcp", tmp_path, secret) | {"cluster.peer.max.requests": 16}
    async with two(app, values, another(values)) as (one, other):
        kept = asyncio.ensure_future(one.call("gw-2/0", asked("GET /stub/gate/kept")))
        for strange, reason in HOSTILE:
            caplog.clear()
            stranger = await Stranger.at(other)
            name = stranger.name
            await strange(stranger)
            await stranger.is_cut_off()
            if strange is not wrong_secret:  # which is told of that address already
                await until(lambda: bool(logged(caplog)), PATIENCE_S)
            lines = logged(caplog, logging.WARNING)
            assert len(lines) == (strange is not wrong_secret), strange
            for line in lines:
                assert name in line, strange
                assert reason in line, strange
                assert SECRET not in line
        assert not kept.done()
        assert (await one.call("gw-2/0", asked("GET /stub/echo"))).status == 200
        stub.gates["kept"].set()
        assert (await kept).status == 200
        await until(lambda: stub.cancelled == ["flood"] * 16, PATIENCE_S)


async def test_a_recorded_greeting_proves_nothing(
    app: App, tmp_path: Path, secret: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = settings("tcp", tmp_path, secret)
    async with process(app, 1, values) as one:
        honest = await Stranger.at(one)
        greeting = who()
        await honest.send(frame(greeting.hello))
        proof = greeting.take(await honest.head())
        assert proof is not None
        recorded = frame(greeting.hello) + frame(proof)
        await honest.send(frame(proof))
        assert isinstance(await honest.head(), Proof)  # it was let in
        replayed = await Stranger.at(one)
        await replayed.send(recorded)
        assert isinstance(await replayed.head(), Hello)
        await replayed.is_cut_off()
        await until(lambda: bool(logged(caplog)), PATIENCE_S)
        assert [line for line in logged(caplog) if "wrong proof" in line and replayed.name in line] == logged(caplog)
        await honest.leave()


async def test_one_that_says_nothing_does_not_stay(
    app: App, tmp_path: Path, secret: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = settings("tcp", tmp_path, secret) | {"cluster.peer.connect.timeout.ms": 3000}
    async with process(app, 1, values) as one:
        silent = [await Stranger.at(one) for _ in range(33)]
        for each in silent:
            await each.is_cut_off()
        lines = logged(caplog)
        assert sum("did not prove who it is within 3 s" in line for line in lines) == 1
        assert sum("32 connections from there have not proved yet" in line for line in lines) == 1
        assert len(lines) == 2
        later = await Stranger.at(one)
        await later.greet(who())
        await later.leave()


async def test_one_that_asks_and_gives_no_sign_of_life_any_more_is_left(
    app: App, stub: StubService, tmp_path: Path, secret: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with process(app, 1, settings("tcp", tmp_path, secret)) as one:
        stranger = await Stranger.at(one)
        me = Process("c", "gw-9/0", "")
        await stranger.greet(Greeting(me, asks=True, secret=SECRET.encode(), ping_s=0.05))
        asker = jsonio.Raw(jsonio.encode(Asker("alice", "User")))
        await stranger.send(frame(Ask(1, asker, "GET", "/stub/gate/left", NO_FIELDS, NO_FIELDS)))
        assert await stub.waiting.get() == "left"
        await stranger.is_cut_off()
        assert [line for line in logged(caplog) if "gw-9/0" in line and "no sign of life" in line] == logged(caplog)
        await until(lambda: stub.cancelled == ["left"], PATIENCE_S)


async def test_certificates_are_asked_for_and_judged(
    app: App, tmp_path: Path, secret: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = settings("tls", tmp_path, secret)
    for folder in ("ours", "theirs"):
        (tmp_path / folder).mkdir()
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    async with process(app, 1, values | certificate(ours)) as one:
        one.know("gw-9/0", "", ["tls://127.0.0.1:1"])
        for client, claimed, reason in (
            (None, "gw-9/0", "no TLS"),
            (theirs.server(), "gw-9/0", "no TLS"),
            (ours.server("elsewhere.example"), "gw-9/0", "its certificate is not one of 127.0.0.1"),
            (ours.server("127.0.0.1"), "gw-8/0", "has not told"),
        ):
            caplog.clear()
            stranger = await Stranger.at(one, ours.context(client))
            name = stranger.name
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await stranger.send(frame(who(id=claimed, secret="").hello))
            await stranger.is_cut_off()
            await until(lambda: bool(logged(caplog)), PATIENCE_S)
            [line] = logged(caplog)
            assert name in line
            assert reason in line
        welcome = await Stranger.at(one, ours.context(ours.server("127.0.0.1")))
        await welcome.greet(who(secret=""))
        await welcome.leave()


async def test_the_host_that_is_connected_to_is_judged_and_files_may_change(
    app: App, tmp_path: Path, secret: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = settings("tls", tmp_path, secret)
    authority = Authority(tmp_path)
    wrong = another(values) | certificate(authority, "elsewhere.example")
    wrong["cluster.peer.advertised"] = "tls://elsewhere.example:7885"
    one_file = authority.server().write(tmp_path / "one.pem")
    values |= {"cluster.peer.tls.cert": one_file, "cluster.peer.tls.key": one_file}
    async with process(app, 2, wrong) as other:
        async with process(app, 1, values | {"cluster.peer.connect.timeout.ms": 1000}) as one:
            one.know("gw-2/0", "", [wrong["cluster.peer.listener"]])
            other.know("gw-1/0", "", one.addresses)
            with pytest.raises(PeerLost):
                await one.call("gw-2/0", asked("GET /stub/echo"))
            assert any("certificate verify failed" in line for line in logged(caplog, logging.WARNING))
        certificate(authority, "127.0.0.1", "elsewhere.example")  # the same file
        async with process(app, 1, values) as one:
            one.know("gw-2/0", "", [wrong["cluster.peer.listener"]])
            assert (await one.call("gw-2/0", asked("GET /stub/echo"))).status == 200


async def test_what_a_client_says_of_itself_is_no_word_of_a_process(
    app: App, stub: StubService, tmp_path: Path, secret: Path
) -> None:
    values = settings("tcp", tmp_path, secret)
    own = ("Principal", "Client", "Host", "Proto", "Deadline-Ms", "Creation")
    async with two(app, values, another(values)) as (one, _):
        request = asked("GET /stub/echo")
        request.headers = {**request.headers, **{f"X-Gateway-{name}": "mallory" for name in own}}
        reply = await one.call("gw-2/0", request)
        assert reply.status == 200
        call = stub.requests[-1]
        assert (call.session.principal.name, call.session.peer, call.base_url) == ("alice", "192.0.2.7", "http://front")
        assert [name for name in call.request.headers if name.startswith("x-")] == ["x-own"]
        assert call.request.creation == ""


async def test_the_next_request_of_a_client_has_its_session_unless_the_rules_are_others(
    app: App, stub: StubService, tmp_path: Path, secret: Path
) -> None:
    values = settings("unix", tmp_path, secret)
    async with two(app, values, another(values)) as (one, _):

        async def session(request: Request) -> Session:
            assert (await one.call("gw-2/0", request)).status == 200
            assert not app.gateway.sessions
            return stub.requests[-1].session

        first, other = await session(asked("GET /stub/echo")), asked("GET /stub/echo")
        other.session.principal = Principal("bob")
        assert await session(asked("GET /stub/echo")) is first
        assert (await session(other)).principal.name == "bob"
        # What is at work or streams has one of its own.
        waiting = asyncio.ensure_future(one.call("gw-2/0", asked("GET /stub/gate/s")))
        assert await stub.waiting.get() == "s"
        assert await session_beside(one, stub) is not first
        stub.gates["s"].set()
        assert (await waiting).status == 200
        stream = (await one.call("gw-2/0", asked("GET /stub/stream/t"))).body
        assert not isinstance(stream, bytes)
        assert len(app.gateway.sessions) == 1
        await stream.aclose()
        await until(lambda: not app.gateway.sessions, PATIENCE_S)
        limited = app.gateway.config.with_values({"quota.requests.per.sec": 1000})
        app.gateway.admission.follow(limited)
        assert (await session(asked("GET /stub/echo"))).allowance.limits["requests.per.sec"] == 1000


async def session_beside(one: ClusterPeers, stub: StubService) -> Session:
    assert (await one.call("gw-2/0", asked("GET /stub/echo"))).status == 200
    return stub.requests[-1].session


async def test_credentials_for_kafka_never_go_over_tcp(app: App, tmp_path: Path, secret: Path) -> None:
    values = settings("tcp", tmp_path, secret) | {"cluster.peer.connect.timeout.ms": 300}
    async with process(app, 2, values) as other:
        unix = {"cluster.peer.dir": tmp_path / "peers", "cluster.peer.secret.file": secret}
        async with process(app, 1, unix | {"kafka.credentials": "client-or-gateway"}) as one:
            one.know("gw-2/0", "", other.addresses)
            with pytest.raises(PeerLost):
                await one.call("gw-2/0", asked("GET /stub/echo"))
            assert not other._answering


async def test_a_name_that_is_in_use_is_told_and_that_of_another_cluster_is_free(
    app: App, tmp_path: Path, secret: Path
) -> None:
    values = settings("unix", tmp_path, secret)
    path = tmp_path / "peers" / "c" / "gw-1" / "0.sock"
    async with process(app, 1, values):
        with pytest.raises(OSError, match=re.escape(f"cluster.node.id gw-1 is in use (socket {path})")):
            async with process(app, 1, values):
                pass
        async with process(app, 1, values, "d") as other:
            assert other.addresses == ("unix:d/gw-1/0.sock",)
        assert path.is_socket()
    async with process(app, 1, values):
        pass


# --- settings ------------------------------------------------------------------------------------------------------


async def test_faults_of_the_settings(app: App, tmp_path: Path, secret: Path) -> None:
    authority = Authority(tmp_path)
    tls = certificate(authority, "gw", "h", "10.0.0.1")
    short, wide = tmp_path / "short", tmp_path / "wide"
    short.write_text("0123456789")
    short.chmod(0o600)
    wide.write_text(SECRET)
    wide.chmod(0o644)
    listener, file = "cluster.peer.listener", "cluster.peer.secret.file"

    def told(**values: Any) -> str:
        config = app.gateway.config.with_values(values)
        return "\n".join(str(each) for each in peer_faults(config))

    assert told() == ""
    assert told(**{listener: "tcp://10.0.0.1:7885", file: secret}) == ""
    assert told(**{listener: "tls://0.0.0.0:7885", "cluster.peer.advertised": "tls://gw:7885", **tls}) == ""
    for values, reason in (
        ({listener: "http://h:1"}, "is not tls://HOST:PORT"),
        ({listener: "tcp://127.0.0.1:7885"}, "needs cluster.peer.secret.file"),
        ({listener: "tcp://10.0.0.1:7885", file: short}, "32 to 4096 bytes"),
        ({listener: "tcp://10.0.0.1:7885", file: wide}, "chmod 600"),
        ({listener: "tls://10.0.0.1:7885"}, "cluster.peer.tls.cert: is missing"),
        (
            {listener: "tls://10.0.0.1:7885", "cluster.peer.tls.cert": tls["cluster.peer.tls.cert"]},
            "tls.key: is missing",
        ),
        ({listener: "tls://10.0.0.1:7885", **tls, "cluster.peer.tls.ca": secret}, "cannot be used"),
        ({listener: "tls://0.0.0.0:7885", **tls}, "no address to connect to"),
        ({listener: "tls://h:7885", **tls, "cluster.peer.advertised": "tcp://h:7885"}, "must begin with tls://"),
        ({"cluster.peer.advertised": "tcp://h:7885"}, "has no effect without"),
        ({listener: "tcp://h:8082", file: secret, "port": 8082}, "has the port of http://"),
        ({listener: "tcp://h:8081", file: secret, "port": 8082, "workers": 2}, "has the port of http://"),
        ({listener: "tcp://h:65535", file: secret, "workers": 2}, "a port is at most 65535"),
        ({listener: "tcp://h:7885", file: secret, "kafka.credentials": "client"}, "in the clear; take tls://"),
    ):
        assert reason in told(**values), values
        assert SECRET not in told(**values)
