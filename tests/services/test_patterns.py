"""Topic patterns: reliability.md S2, kafka-rest-http.md §6.5."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time

import pytest

from kafka_gateway.errors import Unprocessable
from kafka_gateway.kafka_errors import KafkaRetriable
from kafka_gateway.services.common.patterns import TopicPattern
from tests.services.conftest import V2, Rest, Start
from tests.services.fake_kafka import FakeKafka
from tests.waiting import settled, until

# What glibc's regcomp took seconds and gigabytes for, or died of (reliability.md §2.2).
KILLERS = ["^(a{0,100}){0,100}", "^(a{0,255}){0,255}", "^((a{0,255}){0,255}){0,255}", "^a{0,32767}"]
HARD = [
    "(a*)*b", "(a|a)*b", "(x+x+)+y", "a{1000}", "(a{10}){100}", "((a{0,10}){0,10}){0,10}", ".*" * 400, r"(\pL+)*",
    "(?i)" + "[a-z]*" * 100, "(" * 300 + "a" + ")" * 300, "|".join(["a" * 9] * 99), "(.{1,30}){1,30}", "[^a]*" * 99,
]  # fmt: skip
NONE = ["", "(", "[", "*", "a++", "(?!a)b", r"(a)\1", "a" * 1001, "\\", "(?<=a)b", "a{2,1}"]


@pytest.mark.timing
@pytest.mark.parametrize("text", KILLERS + HARD)
async def test_no_pattern_holds_the_gateway(text: str) -> None:
    names = [f"topic-{number}" for number in range(300)] + ["a" * 249]
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with contextlib.suppress(Unprocessable):
        await TopicPattern(text).matches(names)
    assert time.process_time() - began < 0.05  # about 1 ms; a busy machine is allowed for
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096  # KiB


@pytest.mark.parametrize("text", KILLERS + NONE)
def test_refused(text: str) -> None:
    with pytest.raises(Unprocessable, match="topic_pattern"):
        TopicPattern(text)


@pytest.mark.parametrize(
    ("text", "matched"),
    [
        ("metrics-.*", ["metrics-a", "metrics-b"]),
        ("metrics-", []),  # the whole name must fit
        ("^metrics-a$", ["metrics-a"]),
        (".*-b|logs", ["metrics-b", "logs"]),
        (r"[\w-]+", ["metrics-a", "metrics-b", "logs"]),
        ("logs.", []),
    ],
)
async def test_matches(text: str, matched: list[str]) -> None:
    assert await TopicPattern(text).matches(["metrics-a", "metrics-b", "logs"]) == matched


async def test_many_topics_do_not_hold_the_loop() -> None:
    names = [f"topic-{number}" for number in range(20_000)]
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    ticking = asyncio.create_task(tick())
    assert len(await TopicPattern(".*9").matches(names)) == 2000
    ticking.cancel()
    assert ticks >= 30


async def topics(rest: Rest, instance: str) -> list[str]:
    return list((await rest.get(f"{instance}/subscription")).body["topics"])


async def follow(rest: Rest, pattern: str, name: str = "c") -> str:
    instance = await rest.instance("g", name)
    answer = await rest.post(f"{instance}/subscription", {"topic_pattern": pattern}, V2)
    assert answer.status == 204, answer.body
    return instance


async def test_kafka_is_told_names_only(rest: Rest, fake: FakeKafka) -> None:
    fake.add_topic("__consumer_offsets")
    fake.add_topic("hidden")
    fake.internal.add("hidden")
    fake.put("u", b"1")
    instance = await follow(rest, ".*")
    assert fake.consumers[0].subscribed == ("t", "u")  # internal topics are never among them
    assert await topics(rest, instance) == []  # observed: shown after a read only
    assert [row["topic"] for row in (await rest.read(instance)).body] == ["u"]
    assert await topics(rest, instance) == ["t", "u"]


async def test_new_topics_are_found(rest: Rest, fake: FakeKafka) -> None:
    instance = await follow(rest, "new-.*")
    assert (await rest.read(instance, "?timeout=1")).body == []
    assert list(fake.consumers[0].subscribed) == []
    fake.add_topic("new-1")
    await rest.services.subscriptions.refresh()
    assert await topics(rest, instance) == ["new-1"]
    fake.add_topic("new-2")
    await rest.services.subscriptions.refresh()
    await rest.services.subscriptions.refresh()
    subscribed = [argument for name, argument in fake.calls if name == "subscribe"]
    assert subscribed == [["new-1"], ["new-1", "new-2"]]  # and not again for what is known
    del fake.logs["new-1"], fake.logs["new-2"]
    await rest.services.subscriptions.refresh()
    assert list(fake.consumers[0].subscribed) == []
    assert (await rest.read(instance, "?timeout=1")).body == []


async def test_a_waiting_read_gets_the_records_of_a_new_topic(start: Start, fake: FakeKafka) -> None:
    rest = start(consumer_request_timeout_ms=20_000)
    instance = await follow(rest, "new")
    reading = asyncio.create_task(rest.read(instance))
    await settled()
    fake.add_topic("new")
    fake.put("new", b"1")
    await rest.services.subscriptions.refresh()
    assert [row["value"] for row in (await asyncio.wait_for(reading, 10)).body] == [1]


async def test_a_read_of_a_pattern_without_topics_can_be_ended(start: Start) -> None:
    rest = start(consumer_request_timeout_ms=20_000)
    instance = await follow(rest, "new")
    reading = asyncio.create_task(rest.read(instance))
    await settled()
    assert (await rest.delete(instance)).status == 204
    assert (await asyncio.wait_for(reading, 10)).body == []


async def test_one_pattern_replaces_another(rest: Rest, fake: FakeKafka) -> None:
    instance = await follow(rest, "t")
    await rest.post(f"{instance}/subscription", {"topic_pattern": "u"}, V2)
    assert list(fake.consumers[0].subscribed) == ["u"]
    await rest.post(f"{instance}/subscription", {"topic_pattern": "none"}, V2)
    assert list(fake.consumers[0].subscribed) == []
    await rest.delete(f"{instance}/subscription")
    await rest.services.subscriptions.refresh()
    assert fake.calls[-1][0] != "topics"  # nobody follows a pattern any more


async def test_failures_of_kafka_are_survived(rest: Rest, fake: FakeKafka, caplog: pytest.LogCaptureFixture) -> None:
    instance = await follow(rest, "new-.*")
    fake.add_topic("new-1")
    fake.fail("topics", KafkaRetriable("soon"))
    await rest.services.subscriptions.refresh()
    assert "cannot be listed, trying again: soon" in caplog.text
    fake.fail("subscribe", KafkaRetriable("later"))
    await rest.services.subscriptions.refresh()
    assert "stay as they are: later" in caplog.text
    await rest.services.subscriptions.refresh()
    await rest.read(instance, "?timeout=1")
    assert await topics(rest, instance) == ["new-1"]


async def test_the_lifespan_follows_patterns_whatever_happens(
    rest: Rest, fake: FakeKafka, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest.services.subscriptions, "_refresh_s", 0.01)
    fake.failures["topics"] = []
    async with rest.services.lifespan():
        await follow(rest, "new")
        fake.failures["topics"].append(RuntimeError("a bug"))  # type: ignore[arg-type]
        fake.add_topic("new")
        await until(lambda: list(fake.consumers[0].subscribed) == ["new"])
    assert "could not be looked for" in caplog.text


async def test_closed_instances_are_forgotten(rest: Rest, fake: FakeKafka) -> None:
    await rest.delete(await follow(rest, "t"))
    await rest.services.subscriptions.refresh()
    assert [name for name, _ in fake.calls].count("topics") == 1
