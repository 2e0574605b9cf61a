"""Topics that are made while the cluster's controller moves: tried once more, or a 503 that says what to do."""

from __future__ import annotations

from typing import Any, cast

import pytest

from kafka_gateway.errors import Unavailable
from kafka_gateway.kafka.admin.broker_questions import BrokerQuestions
from kafka_gateway.kafka.admin.topic_changes import TopicChanges
from kafka_gateway.kafka.ports.administration import Created, TopicToCreate
from kafka_gateway.kafka_errors import KafkaRefused
from kafka_gateway.wire.apis import Api

NOT_CONTROLLER, TIMED_OUT, EXISTS = 41, 7, 36
CONTROLLER = 3


class Brokers:
    def __init__(self) -> None:
        self.forgotten = 0

    def forget_nodes(self) -> None:
        self.forgotten += 1


class Scripted(BrokerQuestions):
    """Answers creations with these error codes, one after the other."""

    def __init__(self, *codes: int) -> None:
        self._codes = list(codes)
        self.asked: list[int | None] = []
        self._brokers = cast(Any, Brokers())

    async def ask(self, api: Api, body: dict[str, Any], node: int | None = None) -> dict[str, Any]:
        self.asked.append(node)
        code = self._codes.pop(0)
        made = {"error_code": code, "error_message": None, "num_partitions": 2, "replication_factor": 1}
        return {"topics": [made]}


async def create(questions: Scripted) -> Created:
    async def controller() -> int:
        return CONTROLLER

    return await TopicChanges(cast(Any, None), questions).create(TopicToCreate("t", 2, 1), False, controller)


async def test_any_broker_will_do() -> None:
    questions = Scripted(0)
    assert await create(questions) == Created(2, 1)
    assert questions.asked == [None]


async def test_the_controller_is_asked_where_others_refuse() -> None:
    questions = Scripted(NOT_CONTROLLER, 0)
    assert await create(questions) == Created(2, 1)
    assert questions.asked == [None, CONTROLLER]
    assert questions.brokers.forgotten == 1  # type: ignore[attr-defined]


async def test_it_is_tried_once_more_and_no_further() -> None:
    questions = Scripted(NOT_CONTROLLER, NOT_CONTROLLER, 0)
    with pytest.raises(Unavailable, match="the topic was not made; send the request again") as refused:
        await create(questions)
    assert (refused.value.status, len(questions.asked)) == (503, 2)


async def test_a_creation_that_may_have_happened_is_not_tried_again() -> None:
    questions = Scripted(TIMED_OUT, EXISTS)
    with pytest.raises(Unavailable, match="look whether the topic is there") as refused:
        await create(questions)
    assert (refused.value.status, len(questions.asked)) == (503, 1)


async def test_other_refusals_are_passed_on() -> None:
    with pytest.raises(KafkaRefused):
        await create(Scripted(EXISTS))
