"""Atmosphere over plain HTTP with two workers: each request of a client may come to either (cluster.md §5.1)."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.auth import Authenticator
from kafka_gateway.errors import Unauthorized
from kafka_gateway.hookspecs import hookimpl
from kafka_gateway.session import Principal
from kafka_gateway.testing.behaviour import (
    Connect,
    client,
    other,
    test_a_client_that_does_not_read_holds_back_its_own_stream_only,
    test_a_stream_of_a_topic,
    test_a_stream_that_breaks_tells_why_behind_its_payloads,
    test_a_waiting_read_answers_when_a_record_arrives,
    test_falsy_values_survive,
    test_leaving_ends_the_stream,
    test_max_bytes_cuts_and_loses_nothing,
    test_requests_are_served_while_a_stream_is_open,
    unique,
)
from kafka_gateway.testing.resources import Resources
from kafka_gateway.transports.envelope.tracking_ids import TrackingIds
from tests.behaviour.clients import AtmosphereClient, LongPollingClient, SseClient, StreamingClient
from tests.transports.listener import Listener, handshake, push, target
from tests.transports.stub_service import StubService
from tests.waiting import until
from tests.workers.pair import two_workers

__all__ = [
    "client",
    "other",
    "test_a_client_that_does_not_read_holds_back_its_own_stream_only",
    "test_a_stream_of_a_topic",
    "test_a_stream_that_breaks_tells_why_behind_its_payloads",
    "test_a_waiting_read_answers_when_a_record_arrives",
    "test_falsy_values_survive",
    "test_leaving_ends_the_stream",
    "test_max_bytes_cuts_and_loses_nothing",
    "test_requests_are_served_while_a_stream_is_open",
    "unique",
]

TRANSPORTS: dict[str, type[AtmosphereClient]] = {
    "long-polling": LongPollingClient,
    "sse": SseClient,
    "streaming": StreamingClient,
}
STREAMS = ["sse", "streaming"]
EXPIRY = {"transport.long-polling.expiry.ms": 1000, "shutdown.graceful.ms": 500}
LATER = {**EXPIRY, "transport.long-polling.expiry.ms": 5000}
"""For clients that must not be forgotten while they come again and again: on a busy machine that takes a second."""
PATIENCE_S = 60.0


@pytest.fixture
async def workers(tmp_path: Path, embedded: str) -> AsyncIterator[list[App]]:
    async with two_workers(tmp_path, embedded, (Resources(),), (Resources(),), **LATER) as apps:
        yield apps


@pytest.fixture
def app(workers: list[App]) -> App:
    """The one to which each client comes first."""
    return workers[0]


@pytest.fixture(params=sorted(TRANSPORTS))
def connect(request: pytest.FixtureRequest, workers: list[App]) -> Connect:
    """Clients whose requests go to one worker and to the other in turn."""
    kind = TRANSPORTS[request.param]

    class Wandering(kind):  # type: ignore[misc,valid-type]
        def __init__(self) -> None:
            super().__init__("")
            self._urls = itertools.cycle(each.addresses[0] for each in workers)

        @property
        def target(self) -> str:
            self._url = next(self._urls)
            return str(super().target)

    return lambda _: Wandering()


# --- what belongs to several workers --------------------------------------------------------------------------------


@pytest.fixture
async def pair(tmp_path: Path, embedded: str) -> AsyncIterator[tuple[list[App], list[StubService]]]:
    stubs = [StubService(), StubService()]
    async with two_workers(tmp_path, embedded, (stubs[0],), (stubs[1],), **EXPIRY) as apps:
        yield apps, stubs


def envelope(id: str, path: str) -> str:
    return json.dumps({"id": id, "method": "GET", "path": path})


@pytest.mark.parametrize("transport", STREAMS)
async def test_a_stream_is_taken_up_again_through_another_worker(
    pair: tuple[list[App], list[StubService]], transport: str
) -> None:
    """The id is that of the worker which made it; that one keeps the client, wherever its connections are."""
    apps, stubs = pair
    home, away = (each.addresses[0] for each in apps)
    async with await Listener.open(home, target(transport)) as first:
        id = first.id
        assert TrackingIds.of(apps[0].gateway).knows(id)
        assert not TrackingIds.of(apps[1].gateway).knows(id)
        async with await Listener.open(away, target(transport, id)) as again:
            await again.chunk()  # the first bytes of a stream
            assert "x-atmosphere-first-request" not in again.headers
            await first.rest()  # the newest connection replaces the one before
            assert (await push(away, target("polling", id), envelope("1", "/stub/echo"))).status == 200
            assert b'"id":"1"' in (await again.chunk()).replace(b" ", b"")
            assert len(stubs[0].requests) == 1
            assert not stubs[1].requests
        await until(lambda: not TrackingIds.of(apps[0].gateway).knows(id), PATIENCE_S)
    assert not stubs[1].requests


async def test_a_poll_may_wait_at_another_worker(pair: tuple[list[App], list[StubService]]) -> None:
    apps, _ = pair
    home, away = (each.addresses[0] for each in apps)
    id = await handshake(home)
    async with await Listener.open(away, target("long-polling", id)) as poll:
        assert poll.id == id
        assert (await push(home, target("polling", id), envelope("1", "/stub/echo"))).status == 200
        assert b"/stub/echo" in await poll.rest()
    assert (await push(away, target("polling", id), envelope("2", "/stub/text/5"))).status == 200
    async with await Listener.open(away, target("long-polling", id)) as poll:
        assert "é€😀xé".encode() in await poll.rest()
    # Whoever leaves while there is nothing to come back for is gone; who says so, too.
    async with await Listener.open(away, target("long-polling", id)):
        assert TrackingIds.of(apps[0].gateway).knows(id)
    await until(lambda: not TrackingIds.of(apps[0].gateway).knows(id), PATIENCE_S)
    id = await handshake(home)
    assert (await push(away, target("close", id))).status == 200
    assert not TrackingIds.of(apps[0].gateway).knows(id)


async def test_an_id_that_nobody_has_is_no_client(pair: tuple[list[App], list[StubService]]) -> None:
    apps, _ = pair
    home, away = (each.addresses[0] for each in apps)
    id = await handshake(home)
    gone = id[:9] + "0000-4000-8000-000000000000"
    for unknown in (gone, "6fb26239-bfec-4099-b42e-1b2339af6c2d"):
        for address in (home, away):
            reply = await push(address, target("polling", unknown, path="/stub/echo"), b"x")
            assert (reply.status, json.loads(reply.body)["body"]) == (200, "x")
            assert (await push(address, target("close", unknown))).status == 200
    # One that was made elsewhere, or before, is adopted by one and the same worker.
    adopted = "6fb26239-bfec-4099-b42e-1b2339af6c2d"
    async with await Listener.open(away, target("sse", adopted)) as stream:
        await stream.chunk()
        assert (await push(home, target("polling", adopted), envelope("3", "/stub/echo"))).status == 200
        assert '"path":"/stub/echo"' in await stream.event()


class Tokens(Authenticator):
    """``name-number``: the number is how long it counts, in thousands of seconds."""

    name = "TOKENS"

    async def authenticate(self, headers: Any, peer: str) -> Principal:
        if "authorization" not in headers:
            raise Unauthorized()
        name, _, number = headers["authorization"].partition("-")
        return Principal(name, until=time.monotonic() + 1000 * int(number))

    @hookimpl
    def gateway_authenticators(self) -> list[Authenticator]:
        return [self]


async def test_a_newer_proof_reaches_the_worker_that_keeps_the_client(tmp_path: Path, embedded: str) -> None:
    def plugins() -> tuple[object, ...]:
        return StubService(), Tokens()

    settings = {"authentication.method": "TOKENS", **EXPIRY}
    async with two_workers(tmp_path, embedded, plugins(), plugins(), **settings) as apps:
        home, away = (each.addresses[0] for each in apps)
        old, new, anothers = ({"Authorization": each} for each in ("ann-1", "ann-2", "ben-3"))
        async with await Listener.open(home, target("sse"), **old) as stream:
            id = stream.id
            await stream.chunk()
            (kept,) = [each for each in apps[0].gateway.sessions if each.transport == "sse"]
            # What is another principal's is nobody's: POST / answers {} to everybody.
            reply = await push(away, target("polling", id), envelope("1", "/stub/echo"), **anothers)
            assert (reply.status, reply.body) == (200, b"{}")
            assert kept.proof == {"authorization": "ann-1"}
            reply = await push(away, target("polling", id), envelope("2", "/stub/echo"), **new)
            assert (reply.status, reply.body) == (200, b"")
            assert '"id":"2"' in (await stream.event()).replace(" ", "")
            assert kept.proof == {"authorization": "ann-2"}
            assert kept.principal.until > time.monotonic() + 1500
