"""Requests that are begun without a task (gateway/at_once.py): when they are, when not, that they count like others.

What they answer is in test_produce.py, whose tests run over both ways.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kafka_gateway.errors import NotAuthorized
from kafka_gateway.messages import NOTHING, Reply, Request
from kafka_gateway.plans import Plan
from kafka_gateway.rights import Rights
from kafka_gateway.session import Session
from kafka_gateway.transports.envelope.session import EnvelopeSession
from kafka_gateway.transports.envelope.settings import EnvelopeSettings
from tests.services.conftest import Rest, embedded
from tests.services.fake_kafka import FakeKafka, FakeProducer

JSON = embedded("json")
BODY = b'{"records":[{"value":1}]}'


def produce(rest: Rest, topic: str = "t", body: bytes = BODY, query: Any = NOTHING, **headers: str) -> Request:
    fields = {"content-type": JSON, **headers}
    return Request(rest.session, "POST", f"/topics/{topic}", query, fields, body, rest.base_url)


def sent_values(fake: FakeKafka) -> list[bytes]:
    """What has reached Kafka, in its order."""
    return [record.value for name, call in fake.calls if name == "send" for record in call[1]]  # type: ignore[index]


async def planned(rest: Rest, request: Request) -> Plan | None:
    await rest.gateway.dispatch(produce(rest, request.path.rpartition("/")[2]))
    return rest.gateway.at_once.plan(request)


async def begun(rest: Rest, request: Request) -> Reply | None:
    """The reply; None if the request was left to dispatch."""
    plan = await planned(rest, request)
    assert plan is not None
    answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    if not rest.gateway.at_once.begin(plan, request, answered.set_result):
        return None
    return await answered


async def test_it_counts_like_dispatch(rest: Rest) -> None:
    reply = await begun(rest, produce(rest))
    assert reply is not None
    assert (reply.status, reply.route) == (200, "/topics/{topic}")
    assert reply.request_id
    counts = rest.gateway.counters.requests["test", "/topics/{topic}", "POST", 200]
    assert counts.count == 2  # the first by dispatch
    assert rest.gateway.running == 0


async def test_a_refused_body_counts_and_leaves_nothing_at_work(rest: Rest) -> None:
    reply = await begun(rest, produce(rest, body=b"{"))
    assert reply is not None
    assert reply.status == 400
    assert rest.gateway.counters.requests["test", "/topics/{topic}", "POST", 400].count == 1
    assert rest.gateway.running == 0
    assert rest.gateway.counters.refused["head"] == 1  # as dispatch counts what was refused before its handler


async def test_rights_are_asked_for(rest: Rest, monkeypatch: pytest.MonkeyPatch, fake: FakeKafka) -> None:
    def forbid(*_: object) -> None:
        raise NotAuthorized("no")

    request = produce(rest)
    plan = await planned(rest, request)
    assert plan is not None
    fake.calls.clear()
    rest.session.guarded = True
    monkeypatch.setattr(rest.gateway.admission, "admit", forbid)
    replies: list[Reply] = []
    assert rest.gateway.at_once.begin(plan, request, replies.append)
    rest.gateway.at_once.work()
    assert [reply.status for reply in replies] == [403]
    assert not [name for name, _ in fake.calls if name == "send"]


async def test_what_comes_in_one_turn_is_answered_each_for_itself(
    rest: Rest, fake: FakeKafka, caplog: pytest.LogCaptureFixture
) -> None:
    request = produce(rest)
    plan = await planned(rest, request)
    assert plan is not None
    fake.calls.clear()
    replies: list[Reply] = []
    last: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def broken(reply: Reply) -> None:
        raise RuntimeError("this one cannot be told")

    bodies = [b'{"records":[{"value":%d}]}' % number for number in range(3)]
    for body, answered in ((bodies[0], replies.append), (b"{", replies.append), (bodies[1], broken)):
        assert rest.gateway.at_once.begin(plan, produce(rest, body=body), answered)
    assert rest.gateway.at_once.begin(plan, produce(rest, body=bodies[2]), last.set_result)
    assert rest.gateway.running == 4
    assert not fake.calls, "in another turn"
    replies.append(await last)
    assert sorted(reply.status for reply in replies) == [200, 200, 400]
    assert len({reply.request_id for reply in replies}) == 3
    assert sent_values(fake) == [b"0", b"1", b"2"]
    assert "this one cannot be told" in caplog.text
    assert rest.gateway.running == 0
    assert rest.gateway.counters.requests["test", "/topics/{topic}", "POST", 200].count == 4  # one of them planned


async def test_what_is_dispatched_later_does_not_overtake_it(rest: Rest, fake: FakeKafka) -> None:
    """Both in one turn of the event loop, on one connection."""
    request = produce(rest)
    plan = await planned(rest, request)
    assert plan is not None
    fake.calls.clear()
    replies: list[Reply] = []
    assert rest.gateway.at_once.begin(plan, produce(rest, body=b'{"records":[{"value":"first"}]}'), replies.append)
    await rest.gateway.dispatch(produce(rest, body=b'{"records":[{"value":"second"}]}'))
    assert sent_values(fake) == [b'"first"', b'"second"']


LEFT_TO_DISPATCH: dict[str, Callable[[Rest], object]] = {
    "the gateway stops": lambda rest: setattr(rest.gateway, "stopping", True),
    "requests.max are at work": lambda rest: setattr(rest.gateway, "requests_max", 0),
    "memory is used up": lambda rest: setattr(rest.gateway.memory, "used_up", True),
    "the configuration was read again": lambda rest: rest.gateway.plans.forget(),
    "an admin listener": lambda rest: setattr(rest.session, "admin", True),
    "a request before waits for its schema": lambda rest: setattr(rest.session, "preparing", object()),
    "the session was let in for an open path": lambda rest: setattr(rest.session, "proven", False),
}


@pytest.mark.parametrize("change", LEFT_TO_DISPATCH.values(), ids=LEFT_TO_DISPATCH)
async def test_what_is_left_to_dispatch(rest: Rest, fake: FakeKafka, change: Callable[[Rest], object]) -> None:
    request = produce(rest)
    plan = await planned(rest, request)
    assert plan is not None
    fake.calls.clear()
    change(rest)
    assert not rest.gateway.at_once.begin(plan, request, lambda reply: pytest.fail(f"answered {reply.status}"))
    assert rest.gateway.running == 0
    assert not fake.calls
    rest.gateway.stopping = False  # for its end


@pytest.mark.parametrize("body", [b"", b'{"records":[{"value":"' + b"x" * 70_000 + b'"}]}'], ids=["none", "long"])
async def test_bodies_that_are_left_to_dispatch(rest: Rest, body: bytes) -> None:
    assert await begun(rest, produce(rest, body=body)) is None


async def test_other_listeners_than_those_of_operators_begin_them_too(rest: Rest) -> None:
    """With ``admin.listeners`` each session knows on which side it came in."""
    rest.session.admin = False
    reply = await begun(rest, produce(rest))
    assert reply is not None
    assert reply.status == 200


async def test_topics_that_are_not_known_are_left_to_dispatch(rest: Rest, fake: FakeKafka) -> None:
    request = produce(rest)
    plan = await planned(rest, request)
    assert plan is not None
    del fake.logs["t"]
    assert not rest.gateway.at_once.begin(plan, request, lambda reply: None)


async def test_requests_that_have_no_plan(rest: Rest) -> None:
    assert await planned(rest, produce(rest, query={"dry_run": "true"})) is None
    assert await planned(rest, produce(rest, **{"x-request-id": "mine"})) is None
    rest.gateway.at_once.enabled = False
    assert await planned(rest, produce(rest)) is None


# --- envelopes --------------------------------------------------------------------------------------------------------


class Channel:
    def __init__(self) -> None:
        self._sent: asyncio.Queue[bytes] = asyncio.Queue()
        self.next = self._sent.get

    def send(self, payload: bytes, binary: bool = False) -> None:
        self._sent.put_nowait(payload)

    def hold(self) -> None:
        pass

    def release(self) -> None:
        pass


class Slow(FakeProducer):
    """Its topics take a while to be known, until ``known`` is set."""

    def __init__(self, kafka: FakeKafka) -> None:
        super().__init__(kafka)
        self.known = asyncio.Event()

    def ready(self, topic: str, rights: Rights) -> Awaitable[None] | None:
        return None if self.known.is_set() else self._wait()

    async def _wait(self) -> None:
        await self.known.wait()


def envelope(id: int, value: int) -> bytes:
    head = {"id": str(id), "method": "POST", "path": "/topics/t", "type": JSON}
    return json.dumps(head).encode() + json.dumps({"records": [{"value": value}]}).encode()


async def test_an_envelope_does_not_overtake_one_that_waits(fake: FakeKafka, start: Callable[..., Rest]) -> None:
    slow = fake.producer = Slow(fake)
    rest = start()
    session, channel = Session("test"), Channel()
    client = EnvelopeSession(EnvelopeSettings.of(rest.gateway.config), channel, session, rest.gateway, {}, "")  # type: ignore[arg-type]
    slow.known.set()
    for number in range(3):  # the third is begun without a task
        client.take(envelope(number, number))
        assert bool(session.tasks) == (number < 2)
        await channel.next()
    slow.known.clear()
    client._known.sets.clear()
    client.take(envelope(3, 3))
    client.take(envelope(4, 4))  # which could be begun: its topic is known, and so is what it is begun with
    await asyncio.sleep(0)
    slow.known.set()
    await channel.next()
    await channel.next()
    assert sent_values(fake) == [b"0", b"1", b"2", b"3", b"4"]
