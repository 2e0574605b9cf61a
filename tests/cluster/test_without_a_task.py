"""Requests that another process answers and that no task of this one waits for: of clients with a proof, and envelopes
(gateway/forwarded_at_once.py, transports/envelope/forwarded.py)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from kafka_gateway.cluster.ports import PeerLost
from kafka_gateway.config import load
from kafka_gateway.errors import GONE, CloseReason, ProofEnded
from kafka_gateway.messages import Reply
from kafka_gateway.session import Session
from kafka_gateway.transports.envelope.session import EnvelopeSession
from kafka_gateway.transports.envelope.settings import EnvelopeSettings
from tests.cluster.test_store import HASH, SLOT, Endless, Setup, request
from tests.keys import BUILTIN_KEYS
from tests.waiting import settled

ENDED = CloseReason.of(ProofEnded())
PROOF = {"authorization": "Basic YQ=="}


@pytest.fixture
async def setup() -> Setup:
    """A request is held as long as a test may take."""
    return Setup(load(BUILTIN_KEYS, overrides=["cluster.hold.ms=60000"]))


class Client:
    """One with a proof, whose request needs no task."""

    def __init__(self, setup: Setup) -> None:
        self.replies: list[Reply | None] = []
        self.gateway = setup.gateway
        self.gateway.homes = setup.homes
        setup.homes.elsewhere = lambda *_: HASH  # type: ignore[method-assign]
        setup.claim("a/0", SLOT)
        self.request = request()
        self.session = self.request.session
        self.session.proof = PROOF
        self.begun = self.gateway.at_once.forward(self.request, HASH, self.replies.append)
        assert self.begun is not None

    def nothing_is_left(self) -> None:
        assert (self.gateway.running, self.gateway.entrusted.sent, set(self.session.waiting)) == (0, set(), set())
        assert sum(way.running for way in self.gateway.counters.ways.values()) == 0


async def test_a_client_with_a_proof_is_answered(setup: Setup) -> None:
    setup.others.answers = [Reply(200, "", b"x")]
    client = Client(setup)
    assert client.session.stays, "its proof is looked at meanwhile"
    await settled()
    (reply,) = client.replies
    assert reply is not None
    assert reply.body == b"x"
    client.nothing_is_left()


@pytest.mark.parametrize("when", ["sent", "held"])
async def test_whoever_has_no_proof_any_more_is_told(setup: Setup, when: str) -> None:
    if when == "held":
        setup.others.answers = [PeerLost("a/0", True)]
    client = Client(setup)
    await setup.others.called.wait()
    if when == "held":
        while not setup.homes.held:  # noqa: ASYNC110  # it waits for nothing but the loop
            await asyncio.sleep(0)
    await client.session.aclose(ENDED)
    await settled()
    (reply,) = client.replies
    assert reply is not None
    assert reply.status == 401
    client.nothing_is_left()
    assert (setup.homes._calls, setup.homes.held) == (set(), 0)
    assert sorted(client.gateway.counters.requests) == [("http", "", "", 401)]


@pytest.mark.parametrize("when", ["sent", "held"])
async def test_with_a_session_that_is_over_its_requests_are(setup: Setup, when: str) -> None:
    if when == "held":
        setup.others.answers = [PeerLost("a/0", True)]
    client = Client(setup)
    assert client.begun is not None
    await setup.others.called.wait()
    if when == "held":
        while not setup.homes.held:  # noqa: ASYNC110  # it waits for nothing but the loop
            await asyncio.sleep(0)
    await client.session.aclose(GONE)
    client.begun.cancel()  # its connection is lost in the same moment
    await settled()
    assert client.replies == [None]
    client.nothing_is_left()
    assert (setup.homes._calls, setup.homes.held) == (set(), 0)
    assert sorted(client.gateway.counters.requests) == [("http", "", "", 499)]


# --- envelopes --------------------------------------------------------------------------------------------------------


class Socket:
    """The channel of a client that takes what it is sent, as soon as it is not ``behind``."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.behind = False
        self.room = asyncio.Event()
        self.held = False

    def send(self, payload: bytes, binary: bool = False) -> None:
        self.sent.append(payload)

    async def written(self) -> None:
        if self.behind:
            await self.room.wait()

    drain = written

    def has_written(self) -> bool:
        return not self.behind

    def hold(self) -> None:
        self.held = True

    def release(self) -> None:
        self.held = False


class Envelopes:
    """The envelopes of a client whose requests all are another process's."""

    def __init__(self, setup: Setup) -> None:
        self.setup, self.gateway, self.channel = setup, setup.gateway, Socket()
        self.gateway.homes = setup.homes
        setup.homes.elsewhere = lambda *_: HASH  # type: ignore[method-assign]
        setup.claim("a/0", SLOT)
        self.session = Session("websocket", proof=PROOF)
        self.session.keep_open(lambda _: None, None)
        settings = EnvelopeSettings.of(self.gateway.config)
        self.client = EnvelopeSession(settings, self.channel, self.session, self.gateway, {}, "")  # type: ignore[arg-type]

    def ask(self, id: int, method: str = "GET", **more: Any) -> None:
        head = {"id": str(id), "method": method, "path": "/consumers/g/instances/c/records", **more}
        self.client.take(json.dumps(head).encode())

    def codes(self) -> list[tuple[str, int]]:
        heads = [json.JSONDecoder().raw_decode(each.decode())[0] for each in self.channel.sent]
        return [(head["id"], head["code"]) for head in heads]

    def nothing_is_left(self) -> None:
        client, session = self.client, self.session
        assert (client._running, client._changing, client._unbegun, client._unanswered._reads) == (0, 0, 0, {})
        assert client._unanswered._changes == 0
        assert (session.tasks, set(session.waiting), self.gateway.running) == (set(), set(), 0)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_envelope_needs_no_task(setup: Setup, method: str) -> None:
    client = Envelopes(setup)
    setup.others.answers = [Reply(200, "", b"x"), Reply(204, "", b"")]
    client.ask(1, method)
    client.ask(2, method)
    assert (client.session.tasks, client.client._running, client.gateway.running) == (set(), 2, 2)
    await settled()
    assert client.codes() == [("1", 200), ("2", 204)]
    client.nothing_is_left()
    assert sorted(client.gateway.counters.requests) == [("websocket", "", "", 200), ("websocket", "", "", 204)]


async def test_many_envelopes_hold_their_client(setup: Setup) -> None:
    client = Envelopes(setup)
    most = client.client._settings.requests_max
    setup.others.answers = [Reply(200, "", b"x")] * most
    for number in range(most - 1):
        client.ask(number)
    assert not client.channel.held
    client.ask(most)
    assert client.channel.held
    await settled()
    assert (len(client.codes()), client.channel.held) == (most, False)
    client.nothing_is_left()


@pytest.mark.parametrize("behind", [False, True])
async def test_the_other_process_hears_what_its_client_has(setup: Setup, behind: bool) -> None:
    client = Envelopes(setup)
    taken: list[bool | None] = []
    setup.others.answers = [Reply(200, "", b"x", settle=taken.append)]
    client.channel.behind = behind
    client.ask(1)
    await settled()
    assert client.codes() == [("1", 200)]
    if behind:
        assert taken == []
        client.channel.room.set()
        await settled()
    assert taken == [True]
    client.nothing_is_left()


async def test_a_client_that_leaves_before_it_has_taken_all_has_not_got_it(setup: Setup) -> None:
    client = Envelopes(setup)
    taken: list[bool | None] = []
    client.channel.behind = True
    setup.others.answers = [Reply(200, "", b"x", settle=taken.append)]
    client.ask(1)
    await settled()
    await client.session.aclose(GONE)
    await settled()
    assert taken == [False]
    client.nothing_is_left()


async def test_a_stream_goes_on_with_a_task(setup: Setup) -> None:
    client = Envelopes(setup)
    setup.others.answers = [Reply(200, "", Endless())]
    client.ask(1, "POST")
    await settled()
    assert (len(client.session.tasks), len(client.session.streams), client.client._running) == (1, 1, 0)
    await client.session.aclose(GONE)
    await settled()
    assert client.session.tasks == set()
    client.nothing_is_left()


@pytest.mark.parametrize("reason", [GONE, ENDED])
async def test_with_its_socket_a_request_is_over(setup: Setup, reason: CloseReason) -> None:
    client = Envelopes(setup)
    client.ask(1)
    client.ask(2, "POST")
    await setup.others.called.wait()
    await client.session.aclose(reason)
    await settled()
    assert sorted(client.codes()) == ([] if reason is GONE else [("1", 401), ("2", 401)])
    client.nothing_is_left()
    assert setup.homes._calls == set()


async def test_no_envelope_overtakes_one_with_a_task_that_has_not_begun(setup: Setup) -> None:
    client = Envelopes(setup)
    setup.others.answers = [Reply(200, "", b"x"), Reply(204, "", b"")]
    client.ask(1, "POST", headers={"x-own": "a"})
    client.ask(2, "POST")
    assert len(client.session.tasks) == 2
    await settled()
    assert client.codes() == [("1", 200), ("2", 204)]
    client.nothing_is_left()
