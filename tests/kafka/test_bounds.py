"""Questions for the bounds of a topic, by many at a time; no Kafka is needed."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import confluent_kafka
import pytest

from kafka_gateway.kafka.tails.log_offsets import LogOffsets, Lookups, TopicOffsets
from kafka_gateway.kafka_errors import BrokerNotAvailable, KafkaRetriable


async def test_a_thousand_questions_make_two_flights() -> None:
    asked = 0
    go_on = asyncio.Event()

    async def ask(key: str) -> int:
        nonlocal asked
        asked += 1
        mine = asked
        await go_on.wait()
        return mine

    lookups = Lookups(ask)
    first = asyncio.ensure_future(lookups.get("a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = [asyncio.ensure_future(lookups.get("a")) for _ in range(999)]
    await asyncio.sleep(0)
    others[0].cancel()
    go_on.set()
    assert await first == 1
    answers = await asyncio.gather(*others, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert set(answers[1:]) == {2}, "an answer is never older than its question"
    assert await lookups.get("a") == 3


async def test_a_failure_is_that_of_its_flight_alone() -> None:
    answers: Iterator[int | Exception] = iter([BrokerNotAvailable(), 7])

    async def ask(key: str) -> int:
        await asyncio.sleep(0)
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    lookups = Lookups(ask)
    first = asyncio.ensure_future(lookups.get("a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    second = asyncio.ensure_future(lookups.get("a"))
    with pytest.raises(BrokerNotAvailable):
        await first
    assert await second == 7


class FakeClient:
    """Answers the questions for offsets one after the other with what it was given."""

    def __init__(self, *answers: int) -> None:
        self._answers = list(answers)

    def list_offsets(self, asked: dict[confluent_kafka.TopicPartition, Any], **_: object) -> dict[Any, Any]:
        found = {}
        answer = self._answers.pop(0)
        for place in asked:
            future = found[place] = concurrent.futures.Future[Any]()
            future.set_result(SimpleNamespace(offset=answer))
        return found


class FakeAdmin:
    async def topic(self, name: str) -> Any:
        return SimpleNamespace(partitions=[SimpleNamespace(partition=number, leader=1) for number in range(2)])


def asking(*answers: int) -> TopicOffsets:
    return TopicOffsets(cast(Any, FakeAdmin()), cast(Any, FakeClient(*answers)), read_committed=True)


async def test_what_a_starting_broker_answers_is_asked_again() -> None:
    bounds = await asking(0, -1001, -1001, 10, 0, 10).bounds("topic")
    assert bounds == LogOffsets({0: 0, 1: 0}, {0: 10, 1: 10})
    assert await asking(-1).at_time(("topic", (0,), 5)) == {0: -1}
    with pytest.raises(KafkaRetriable):
        await asking(-1001).at_time(("topic", (0,), 5))
