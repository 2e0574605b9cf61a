"""What a process knows of its way to the others, how often it tries it, and how often the log says so."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.cluster.ports import PeerLost, Process, Reach
from kafka_gateway.state_log import StateLog
from kafka_gateway.workers import peer as peer_module
from kafka_gateway.workers import peers as peers_module
from kafka_gateway.workers.frames import frame
from kafka_gateway.workers.greeting import Greeting
from kafka_gateway.workers.peer_settings import PeerTls
from kafka_gateway.workers.peers import ClusterPeers
from tests.logged import logged
from tests.transports.authority import Authority
from tests.waiting import until
from tests.workers.test_peers import (
    PATIENCE_S,
    SECRET,
    STRANGERS,
    Stranger,
    another,
    app,
    asked,
    certificate,
    process,
    secret,
    settings,
    stub,
    who,
)

__all__ = ["app", "secret", "stub"]

WORKERS = "gateway.workers"


@pytest.fixture(autouse=True)
async def _gone() -> AsyncIterator[None]:
    yield
    while STRANGERS:
        await STRANGERS.pop().leave()


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are looked at at once."""
    for module in (peer_module, peers_module):
        monkeypatch.setattr(module, "LOOK_S", 0.02)


def of_gw2(peers: ClusterPeers) -> Reach:
    found = peers.reach("gw-2/0")
    assert found is not None
    return found


@pytest.mark.usefixtures("often")
async def test_a_process_that_goes_and_comes_back_is_one_line_each(
    app: App, tmp_path: Path, secret: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, WORKERS)
    values = settings("tcp", tmp_path, secret) | {"cluster.peer.connect.timeout.ms": 1000}
    second = another(values)
    async with process(app, 1, values) as one:
        assert one.reach("gw-2/0") is None
        assert one.reach("gw-1/0") == Reach(True, 0.0, "")
        async with process(app, 2, second) as other:
            one.know("gw-2/0", "first", other.addresses)
            assert of_gw2(one) == Reach(None, None, "")
            one.watch()
            await until(lambda: of_gw2(one).reachable is True, PATIENCE_S)
            assert of_gw2(one).trouble == ""
        await until(lambda: of_gw2(one).reachable is False, PATIENCE_S)  # nobody has asked it anything
        assert "Connection refused" in of_gw2(one).trouble
        first_s = of_gw2(one).unreached_s
        heard = of_gw2(one).heard_ago_s
        assert heard is not None
        for _ in range(20):
            with pytest.raises(PeerLost):
                await one.call("gw-2/0", asked("GET /stub/echo"))
        assert (of_gw2(one).heard_ago_s or 0) >= heard
        assert (of_gw2(one).unreached_s or 0) > (first_s or 0) > 0, "since the first attempt that failed"
        async with process(app, 2, second) as other:
            one.know("gw-2/0", "second", other.addresses)
            await until(lambda: of_gw2(one).reachable is True, PATIENCE_S)
            assert (await one.call("gw-2/0", asked("GET /stub/echo"))).status == 200
            assert of_gw2(one).unreached_s is None
        lines = [line for line in logged(caplog, logging.INFO) if "process gw-2/0" in line]
        assert len(lines) >= 2, lines
        assert "process gw-2/0 cannot be reached: tcp://" in lines[0]
        assert "process gw-2/0 is reached again, at tcp://" in lines[1]
        assert not [line for line in lines[2:] if "again" in line], lines


async def test_when_a_process_was_heard_outlives_the_connection_that_it_had_opened(
    app: App, tmp_path: Path, secret: Path
) -> None:
    """Also where it has never been reached from here."""
    values = settings("tcp", tmp_path, secret)
    async with process(app, 1, values) as one:
        one.know("gw-2/0", "", ["tcp://127.0.0.1:1"])
        async with process(app, 2, another(values)) as other:
            other.know("gw-1/0", "", one.addresses)
            assert (await other.call("gw-1/0", asked("GET /stub/echo"))).status == 200
            assert of_gw2(one).heard_ago_s is not None
        await until(lambda: not one._answering, PATIENCE_S)
        assert of_gw2(one).heard_ago_s is not None
        assert of_gw2(one).reachable is None


@pytest.mark.usefixtures("often")
async def test_one_that_hangs_is_known_as_that_though_it_is_asked_nothing(
    app: App, tmp_path: Path, secret: Path
) -> None:
    """It has greeted and then says nothing: as a process that is stopped."""
    values = settings("tcp", tmp_path, secret) | {"cluster.peer.connect.timeout.ms": 200}

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stranger = Stranger(reader, writer)
        if len(STRANGERS) == 1:
            await stranger.greet(Greeting(Process("c", "gw-2/0", ""), asks=False, secret=SECRET.encode()))

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    async with server, process(app, 1, values) as one:
        one.know("gw-2/0", "", [f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"])
        one.watch()
        await until(lambda: of_gw2(one).reachable is True, PATIENCE_S)
        await until(lambda: of_gw2(one).reachable is False, PATIENCE_S)
        assert "no answer" in of_gw2(one).trouble


@pytest.mark.usefixtures("often")
async def test_one_that_refuses_is_told_apart_from_one_that_is_not_there(
    app: App, tmp_path: Path, secret: Path
) -> None:
    """By which a process knows that it is the one that is wrong (cluster.md §7)."""
    values = settings("tcp", tmp_path, secret) | {"cluster.peer.connect.timeout.ms": 1000}
    wrong = tmp_path / "wrong"
    wrong.write_text("another secret of thirty-two bytes, or more")
    wrong.chmod(0o600)
    async with process(app, 1, values) as one:
        async with process(app, 2, another(values) | {"cluster.peer.secret.file": wrong}) as other:
            one.know("gw-2/0", "", other.addresses)
            one.look("gw-2/0")
            await until(lambda: of_gw2(one).refused, PATIENCE_S)
            one.know("gw-3/0", "", other.addresses)  # where another one listens now
            one.look("gw-3/0")
            await until(lambda: (found := one.reach("gw-3/0")) and found.reachable is False, PATIENCE_S)
            found = one.reach("gw-3/0")
            assert found is not None
            assert not found.refused
        one.know("gw-2/0", "again", other.addresses)
        await until(lambda: "Connection refused" in of_gw2(one).trouble, PATIENCE_S)
        assert not of_gw2(one).refused


async def test_attempts_come_at_growing_distances_however_many_wait(
    app: App, tmp_path: Path, secret: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = settings("tcp", tmp_path, secret) | {"cluster.peer.connect.timeout.ms": 100}
    came: list[float] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(time.monotonic())
        writer.transport.abort()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server, process(app, 1, values) as one:
        addresses = [f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"]
        one.know("gw-2/0", "boot", addresses)

        async def ask() -> None:
            while len(came) < 5:
                with pytest.raises(PeerLost) as lost:
                    await one.call("gw-2/0", asked("GET /stub/echo"))
                assert not lost.value.sent
                await asyncio.sleep(0.01)  # time itself: clients ask all the time, and must not cause more attempts

        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(ask() for _ in range(5)))
            gaps = [later - earlier for earlier, later in itertools.pairwise(came)]
            for number, gap in enumerate(gaps[:4]):
                assert gap > 0.08 * 2**number, gaps  # a slow machine makes them longer only
            [line] = logged(caplog, logging.WARNING)
            assert "its log says why" in line
            # What it tells of itself anew is a reason to try at once.
            known = one._known["gw-2/0"]
            assert known._next_at > asyncio.get_running_loop().time()
            one.know("gw-2/0", "another boot", addresses)
            assert known._next_at == 0


async def test_what_is_wrong_with_those_that_connect_is_told_when_it_changes(
    app: App, tmp_path: Path, secret: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, WORKERS)
    values = settings("tls", tmp_path, secret)
    authority = Authority(tmp_path)
    async with process(app, 1, values | certificate(authority)) as one:
        one.know("gw-9/0", "", ["tls://127.0.0.1:1"])
        for host in ["elsewhere.example"] * 3 + ["127.0.0.1"] * 2 + ["elsewhere.example"] * 2:
            stranger = await Stranger.at(one, authority.context(authority.server(host)))
            if host == "127.0.0.1":
                await stranger.greet(who(secret=""))
                await until(lambda: bool(one._answering), PATIENCE_S)
                continue
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await stranger.send(frame(who(secret="").hello))
            await stranger.is_cut_off()
            await until(lambda: not one._strangers, PATIENCE_S)
        wrong, back, again = logged(caplog, logging.INFO)
        assert "its certificate is not one of 127.0.0.1" in wrong
        assert "process gw-9/0 is let in again, at 127.0.0.1:" in back
        assert "its certificate is not one of 127.0.0.1" in again


async def test_the_end_of_a_certificate_is_told_once_before_and_once_after(
    app: App, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And at once when there is a new one: as where a node runs on while its certificate ends."""
    authority = Authority(tmp_path)
    file = authority.sign("CN=x", hosts=["gw-1"], ends_s=3 * 86400).write(tmp_path / "peer.pem")
    names = {"cluster.peer.tls.cert": file, "cluster.peer.tls.key": file, "cluster.peer.tls.ca": authority.path}
    caplog.set_level(logging.INFO, WORKERS)
    tls, states = PeerTls(app.gateway.config.with_values(names), "gw-1"), StateLog(logging.getLogger(WORKERS))
    tls.look_at_end(states)
    tls.look_at_end(states)
    tls.ends_at = time.time() - 1
    tls.look_at_end(states)
    tls.look_at_end(states)
    authority.sign("CN=x", hosts=["gw-2"], ends_s=30 * 86400).write(file)  # which others would refuse
    tls.look_at_end(states)
    tls.look_at_end(states)
    authority.sign("CN=x", hosts=["gw-1"], ends_s=30 * 86400).write(file)
    tls.look_at_end(states)
    soon, ended, refused, loaded, good = logged(caplog, logging.INFO)
    assert "the certificate ends on " in soon
    assert "the certificate has ended" in ended
    assert "the certificates stay as they were: the new one names DNS:gw-2 and not gw-1" in refused
    assert "loaded" in loaded
    assert "the certificate is good until" in good


def test_a_state_is_told_when_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now = 0.0
    states = StateLog(logging.getLogger("gateway.states"), lambda: now)

    def told() -> list[str]:
        lines = logged(caplog, logging.INFO)
        caplog.clear()
        return lines

    def trouble(subject: object, kind: str) -> None:
        states.trouble(subject, kind, logging.WARNING, "%s: %s", subject, kind)

    states.well("a", text="all is well from the start, which is nothing to tell")
    for kind in ("x", "x", "y", "x", "y"):
        trouble("a", kind)
    trouble("b", "x")
    assert told() == ["a: x", "a: y", "b: x"]
    states.well("a", "c", text="%s is well", values=("a",))
    states.well("a", text="%s is well", values=("a",))
    trouble("a", "x")
    assert told() == ["a is well", "a: x"]
    for at in (599.0, 1100.0):  # found again and again: it is the same trouble
        now = at
        trouble("a", "x")
    assert told() == []
    now = 2000
    trouble("a", "x")
    assert told() == ["a: x"]
    # Whoever chooses its own troubles and names does not fill log or memory.
    for number in range(100):
        trouble("c", f"kind {number}")
    assert len(told()) == 16
    for number in range(2000):
        trouble(number, "x")
    assert len(states._troubles) == 1024
