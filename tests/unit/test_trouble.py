"""Telling early why records wait (F7). The test on real brokers is tests/acceptance/test_replicas.py."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from kafka_gateway.errors import ServiceError, UnknownTopicOrPartition
from kafka_gateway.kafka.admin.admin import KafkaAdmin
from kafka_gateway.kafka.credentials.client_sets import ClientSets
from kafka_gateway.kafka.credentials.credential import Credential
from kafka_gateway.kafka.credentials.shared_knowledge import SharedKnowledge
from kafka_gateway.kafka.ports.topics import ConfigEntry, PartitionInfo, TopicInfo
from kafka_gateway.kafka.producing import delivery_watch as trouble
from kafka_gateway.kafka.producing.delivery_watch import DeliveryWatch
from kafka_gateway.kafka_errors import BrokerNotAvailable, KafkaAuthorization
from tests.waiting import until

LOOK_S = 0.02


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trouble, "LOOK_S", LOOK_S)


@dataclasses.dataclass(eq=False)
class Batch:
    topic: str
    sent_at: float
    told: str = ""


class FakeAdmin:
    def __init__(self, *answers: str | ServiceError) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def trouble(self, topic: str) -> str:
        self.asked.append(topic)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, ServiceError):
            raise answer
        return answer


class OneLook(FakeAdmin):
    """Answers one look, and each further one when it ``may``."""

    def __init__(self, *answers: str | ServiceError) -> None:
        super().__init__(*answers)
        self.may = asyncio.Semaphore(1)

    async def trouble(self, topic: str) -> str:
        await self.may.acquire()
        return await super().trouble(topic)


class Bench:
    """A watch over an admin that answers as told; the last answer stays."""

    def __init__(self, *answers: str | ServiceError) -> None:
        self.admin = FakeAdmin(*answers)
        self.waiting: dict[Batch, None] = {}
        self.watch: DeliveryWatch[Batch] = DeliveryWatch(self.admin, self.waiting, self.tell)  # type: ignore[arg-type]

    def send(self, topic: str = "t") -> Batch:
        batch = Batch(topic, asyncio.get_running_loop().time())
        self.waiting[batch] = None
        self.watch.sent()
        return batch

    def tell(self, batch: Batch, error: ServiceError) -> None:
        del self.waiting[batch]
        batch.told = error.message

    async def looks(self, count: int) -> None:
        await until(lambda: len(self.admin.asked) >= count)
        await asyncio.sleep(LOOK_S / 4)  # time itself: behind the look, and before the next


async def test_it_tells_with_the_second_look() -> None:
    bench = Bench()
    bench.watch._admin = bench.admin = admin = OneLook("NOT_ENOUGH_REPLICAS: too few")  # type: ignore[assignment]
    batches = [bench.send(), bench.send()]
    await bench.looks(1)
    assert [batch.told for batch in batches] == ["", ""]
    admin.may.release()
    await bench.looks(2)
    text = "NOT_ENOUGH_REPLICAS: too few; the outcome is unknown: the record may have been stored"
    assert [batch.told for batch in batches] == [text, text]
    assert bench.admin.asked == ["t", "t"]


async def test_trouble_that_passes_is_not_told() -> None:
    bench = Bench("LEADER_NOT_AVAILABLE: a moment", "", "LEADER_NOT_AVAILABLE: another", "")
    batch = bench.send()
    await bench.looks(6)
    assert batch.told == ""
    bench.watch.close()


async def test_only_the_batches_of_that_topic_are_told() -> None:
    class TwoTopics(FakeAdmin):
        async def trouble(self, topic: str) -> str:
            self.asked.append(topic)
            if topic == "gone":
                raise UnknownTopicOrPartition
            return "NOT_ENOUGH_REPLICAS: too few" if topic == "bad" else ""

    bench = Bench("")
    bench.watch._admin = bench.admin = TwoTopics("")  # type: ignore[assignment]
    good, bad, gone = bench.send("good"), bench.send("bad"), bench.send("gone")
    await bench.looks(9)
    assert (good.told, gone.told) == ("", "")
    assert bad.told
    bench.watch.close()


async def test_a_kafka_that_does_not_answer_tells_nothing() -> None:
    bench = Bench("NOT_ENOUGH_REPLICAS: x", BrokerNotAvailable(), "NOT_ENOUGH_REPLICAS: x", BrokerNotAvailable())
    batch = bench.send()
    await bench.looks(5)
    assert batch.told == ""
    bench.watch.close()


async def test_it_asks_nothing_while_records_are_confirmed_in_time() -> None:
    bench = Bench("NOT_ENOUGH_REPLICAS: x")
    for _ in range(30):
        batch = bench.send()
        await asyncio.sleep(LOOK_S / 4)  # time itself: sooner than a look
        del bench.waiting[batch]
    await asyncio.sleep(LOOK_S * 3)  # time itself: nothing is asked
    assert bench.admin.asked == []
    assert bench.watch._timer is None


# --- what Kafka says --------------------------------------------------------------------------------------------------

Say = Callable[..., KafkaAdmin]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Say:
    """`say(*partitions, least="2")`: an admin that knows one topic, its partitions (leader, replicas, in sync)."""

    def make(*partitions: tuple[int, int, int], least: str | ServiceError | None = "2") -> KafkaAdmin:
        admin = KafkaAdmin.__new__(KafkaAdmin)
        admin._in_sync = {}
        infos = [
            PartitionInfo(number, leader, tuple(range(replicas)), tuple(range(in_sync)))
            for number, (leader, replicas, in_sync) in enumerate(partitions)
        ]

        async def topic(name: str) -> TopicInfo:
            return TopicInfo(name, False, tuple(infos))

        async def topic_configs(name: str) -> list[ConfigEntry]:
            asked.append(name)
            if isinstance(least, ServiceError):
                raise least
            return [ConfigEntry("min.insync.replicas", least, False)]

        monkeypatch.setattr(admin, "topic", topic)
        monkeypatch.setattr(admin, "topic_configs", topic_configs)
        return admin

    asked: list[str] = []
    make.asked = asked  # type: ignore[attr-defined]
    return make


async def test_trouble_of_a_topic(say: Say) -> None:
    assert await say((1, 3, 3), (2, 3, 2)).trouble("t") == ""
    assert await say((1, 3, 3), (-1, 3, 0)).trouble("t") == "LEADER_NOT_AVAILABLE: partition 1 of t has no leader"
    found = await say((1, 3, 1), (1, 3, 1), (1, 3, 2)).trouble("t")
    assert found == "NOT_ENOUGH_REPLICAS: partitions 0, 1 of t have fewer than min.insync.replicas=2 replicas in sync"
    many = await say(*[(-1, 1, 0)] * 9).trouble("t")
    assert many == "LEADER_NOT_AVAILABLE: partitions 0, 1, 2, 3, 4, … of t have no leader"


async def test_settings_are_asked_for_once_and_only_where_a_replica_is_missing(say: Say) -> None:
    asked: list[str] = say.asked  # type: ignore[attr-defined]
    await say((1, 3, 3)).trouble("t")
    assert asked == []
    admin = say((1, 3, 1))
    await admin.trouble("t")
    await admin.trouble("t")
    assert asked == ["t"]


@pytest.mark.parametrize("least", [KafkaAuthorization(), None])
async def test_settings_that_nobody_tells(say: Say, least: ServiceError | None) -> None:
    assert await say((1, 3, 1), least=least).trouble("t") == ""


async def test_a_broker_that_refuses_what_kafka_takes() -> None:
    """Why a client's records wait, once a broker has refused its login: its other brokers may be fine."""
    credentials = ClientSets(lambda _: pytest.fail("nothing is made"), 1, 1).of(Credential("PLAIN", "ann", "secret"))
    own: Any = FakeAdmin("")
    known = SharedKnowledge(own, lambda: own, lambda: credentials.is_doubted)
    assert await known.trouble("t") == ""
    assert credentials.ask_again()
    assert not credentials.ask_again()  # librdkafka tells it several times a second
    assert "refuses the credentials" in await known.trouble("t")
