"""What Kafka has said of credentials, and who waits for whom to ask it. Brokers are played here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from kafka_gateway.errors import KafkaLoginRefused
from kafka_gateway.kafka.credentials import judge as judging
from kafka_gateway.kafka.credentials.credential import Credential
from kafka_gateway.kafka.credentials.judge import BrokerAccess, Judge
from kafka_gateway.wire.sasl import CredentialsRefused
from tests.waiting import PATIENCE_S, until


class Broker:
    """Takes those whose password is "good"; with the others it takes until ``slow`` is set. Nobody is connected before
    ``opens`` is."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.slow, self.opens = asyncio.Event(), asyncio.Event()
        self.slow.set()
        self.opens.set()

    async def connect(self, host: str, port: int, tls: object, sasl: Any, opened: Callable[[], None]) -> Broker:
        self.asked.append(sasl.password)
        await self.opens.wait()
        opened()
        if sasl.password != "good":
            await self.slow.wait()
            raise CredentialsRefused(sasl.username)
        return self

    def close(self) -> None:
        """As a connection."""


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    broker = Broker()
    monkeypatch.setattr(judging, "connect", broker.connect)
    for deadline in ("DEADLINE_S", "_CONNECT_S"):
        monkeypatch.setattr(judging, deadline, 60.0)
    return broker


def _judge() -> Judge:
    return Judge(lambda: BrokerAccess((("broker", 1),), None), 60.0, 60.0)


def _credential(user: str, password: str) -> Credential:
    return Credential("PLAIN", user, password)


async def _guess(judge: Judge, number: int) -> None:
    with pytest.raises(KafkaLoginRefused):
        await judge.judge(_credential("ann", f"guess-{number}"))


async def test_guesses_take_no_place_from_those_that_are_good(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "_KEPT", 20)
    judge, ann = _judge(), _credential("ann", "good")
    await judge.judge(ann)
    for number in range(21):
        await _guess(judge, number)
    assert judge.recall(ann) is not None
    assert judge.recall(_credential("ann", "guess-0")) is None  # made room for the last one
    with pytest.raises(KafkaLoginRefused):
        judge.recall(_credential("ann", "guess-20"))


async def test_who_was_good_does_not_wait_behind_guesses(broker: Broker) -> None:
    judge, ann = _judge(), _credential("ann", "good")
    await judge.judge(ann)
    broker.slow.clear()
    guesses = [asyncio.create_task(_guess(judge, number)) for number in range(200)]
    while len(broker.asked) <= judging._AT_ONCE:  # noqa: ASYNC110 (they wait for nothing but the loop)
        await asyncio.sleep(0)
    judge.forget(ann)
    assert judge.recall(ann) is None
    async with asyncio.timeout(PATIENCE_S):
        await judge.judge(ann)
    assert not any(each.done() for each in guesses)
    assert broker.asked.count("good") == 2
    broker.slow.set()
    await asyncio.gather(*guesses)


async def test_a_broker_s_no_to_a_client_leaves_kafka_s_no_as_it_is(broker: Broker) -> None:
    judge, wrong = _judge(), _credential("ann", "wrong")
    told: list[Credential] = []
    judge.refused = told.append
    for _ in range(3):
        with pytest.raises(KafkaLoginRefused):
            await judge.judge(wrong)
        judge.forget(wrong)
    assert broker.asked == ["wrong"]
    assert told == [wrong]


async def test_connections_are_opened_a_few_at_a_time(broker: Broker) -> None:
    """Those of many clients that come at once; who was good before waits for none of them."""
    judge = _judge()
    known = _credential("ann", "good")
    await judge.judge(known)
    judge.forget(known)
    broker.opens.clear()
    broker.asked.clear()
    news = [asyncio.create_task(_guess(judge, number)) for number in range(10)]
    await until(lambda: len(broker.asked) == judging._OPENING)
    again = asyncio.create_task(judge.judge(known))
    await until(lambda: "good" in broker.asked)
    assert broker.asked == [*(f"guess-{number}" for number in range(judging._OPENING)), "good"]
    broker.opens.set()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*news, again)
