from __future__ import annotations

import asyncio

from kafka_gateway.kafka_errors import BrokerNotAvailable
from tests.services.conftest import Rest, Start
from tests.services.fake_kafka import FakeKafka


async def test_live_does_not_depend_on_kafka(rest: Rest, fake: FakeKafka) -> None:
    fake.fail("check", *[BrokerNotAvailable()] * 5)
    answer = await rest.get("/health/live", accept="text/html, */*")
    assert (answer.status, answer.media_type, answer.body) == (200, "application/json", {"status": "live"})
    assert fake.calls == []


async def test_ready_asks_kafka_once_a_second_however_many_ask(rest: Rest, fake: FakeKafka) -> None:
    answers = await asyncio.gather(*(rest.get("/health/ready") for _ in range(50)))
    assert {answer.status for answer in answers} == {200}
    assert (await rest.get("/health/ready")).body == {"status": "ready"}
    assert fake.calls == [("check", None)]


async def test_not_ready_says_why(rest: Rest, fake: FakeKafka) -> None:
    fake.fail("check", BrokerNotAvailable("No broker answers."))
    answer = await rest.get("/health/ready")
    assert (answer.status, answer.body) == (503, {"status": "not ready", "reason": "No broker answers."})


async def test_not_ready_while_stopping(rest: Rest) -> None:
    rest.services.drain()
    assert (await rest.get("/health/ready")).status == 503


async def test_health_can_be_switched_off(start: Start) -> None:
    assert (await start(health_enable="false").get("/health/live")).status == 404
