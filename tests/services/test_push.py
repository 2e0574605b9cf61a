"""Push subscriptions: atmosphere-binding.md §2, kafka-rest-http.md §8, streams.md §1 (services/rest/push.py)."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Sequence
from typing import Any

import pytest

from kafka_gateway.errors import GONE, InstanceNotFound
from kafka_gateway.kafka.ports.topics import PartitionOffset
from kafka_gateway.kafka_errors import KafkaError, KafkaRetriable
from kafka_gateway.messages import Request
from kafka_gateway.services.instances import push_stream
from kafka_gateway.services.instances.instance import ConsumerInstance, InstanceKey
from kafka_gateway.session import Session
from tests.services.conftest import V1, V2, Rest, Start, embedded
from tests.services.fake_kafka import FakeConsumer, FakeKafka
from tests.services.pushed import JSON, Client, create, pushes
from tests.waiting import until

BINARY = embedded("binary", "v1")


def row(value: Any, offset: int, partition: int = 0) -> dict[str, Any]:
    return {"key": None, "value": value, "partition": partition, "offset": offset}


def instance_of(rest: Rest, generation: str = "v1", name: str = "c") -> ConsumerInstance:
    return rest.services.registry.find(InstanceKey(generation, "g", name), rest.session)


def reads(fake: FakeKafka) -> int:
    return [name for name, _ in fake.calls].count("read")


async def settle() -> None:
    """Lets everything happen that waits for nothing."""
    for _ in range(20):
        await asyncio.sleep(0)


# --- what is pushed (§2.3) -------------------------------------------------------------------------------------------


async def test_the_first_reply_may_be_empty_and_pushes_follow(rest: Rest, fake: FakeKafka) -> None:
    client = Client(rest)
    instance = await create(rest)
    reply = await client.ask("GET", pushes(instance))
    assert (reply.status, reply.media_type) == (200, JSON)
    client.start(reply.body)
    assert await client.has(1) == [[]]
    fake.put("t", b"0")
    assert await client.has(2) == [[], [row(0, 0)]]
    fake.put("t", b"1", b"2")
    assert (await client.has(3))[2:] == [[row(1, 1), row(2, 2)]]  # a burst is one array


async def test_the_first_reply_has_what_is_there_and_does_not_wait_for_more(start: Start, fake: FakeKafka) -> None:
    rest = start(consumer_request_timeout_ms=30_000)
    fake.put("t", b"0", b"1")
    client = await Client(rest).subscribe(pushes(await create(rest)))
    assert await client.has(1) == [[row(0, 0), row(1, 1)]]


async def test_no_empty_arrays_after_the_first_reply(
    rest: Rest, fake: FakeKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push_stream, "_WAIT_S", 0.01)
    client = await Client(rest).subscribe(pushes(await create(rest)))
    await client.has(1)
    before = reads(fake)
    await until(lambda: reads(fake) >= before + 3)
    fake.put("t", b"0")
    assert await client.has(2) == [[], [row(0, 0)]]


@pytest.mark.parametrize("generation", ["v1", "v2"])
async def test_a_push_has_the_bytes_of_a_read(rest: Rest, fake: FakeKafka, generation: str) -> None:
    fake.put("t", b'{"a": [1.10, "\xc3\xa4"]}', None, b'"x"')
    if generation == "v1":
        path, accept = await create(rest), JSON
        read_path, push_path = f"{path}/topics/t", pushes(path)
    else:
        path, accept = await rest.instance(), embedded("json")
        await rest.post(f"{path}/subscription", {"topics": ["t"]}, V2)
        read_path, push_path = f"{path}/records", f"/ws{path}/records"
    reader = Client(rest)
    read = await reader.ask("GET", read_path, accept)
    instance_of(rest, generation).consumer.assigned.clear()  # type: ignore[attr-defined]  # the fake starts anew
    client = await Client(rest).subscribe(push_path, accept)
    await client.has(1)
    assert [each.data for each in client.payloads] == [read.body]


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [(None, V1), ("*/*", V1), (V1, V1), ("application/json", "application/json"), (BINARY, BINARY)],
)
async def test_generic_media_types_mean_binary(
    rest: Rest, fake: FakeKafka, accept: str | None, media_type: str
) -> None:
    fake.put("t", b"x")
    instance = await create(rest, format="binary")
    plain = await rest.get(f"{instance}/topics/u", accept=accept)
    other = await create(rest, "other", format="binary")
    reply = await Client(rest).ask("GET", pushes(other), accept)
    assert reply.status == 200
    assert reply.media_type == plain.media_type
    assert media_type in (reply.media_type, V1)
    assert not isinstance(reply.body, bytes)


async def test_max_bytes_cuts_every_push(rest: Rest, fake: FakeKafka) -> None:
    fake.put("t", *[b"1" * 512] * 5, b"2" * 2000, b"3")
    client = await Client(rest).subscribe(pushes(await create(rest, format="binary")), BINARY, max_bytes="1024")
    assert [len(payload) for payload in await client.has(5)] == [2, 2, 1, 1, 1]
    assert [record["offset"] for record in client.records] == list(range(7))
    assert (await Client(rest).ask("GET", pushes("/consumers/g/instances/c"), BINARY, {"max_bytes": "x"})).status == 404


async def test_two_subscriptions_of_one_session_are_told_apart(rest: Rest, fake: FakeKafka) -> None:
    session = Session("test")
    one, two = Client(rest, session), Client(rest, session)
    await one.subscribe(pushes(await create(rest, "one", "g1")))
    await two.subscribe(pushes(await create(rest, "two", "g2"), "u"))
    await one.has(1)
    await two.has(1)
    one.room.clear()  # who does not read holds back its own subscription only
    fake.put("t", b"1")
    await one.sending.wait()
    fake.put("u", b"2")
    await two.has_values(2)
    fake.put("u", b"3")
    await two.has_values(2, 3)
    one.room.set()
    await one.has_values(1)
    assert (await rest.delete("/ws/consumers/g1/instances/one/topics/t")).status == 204
    fake.put("u", b"4")
    await two.has_values(2, 3, 4)  # other subscriptions go on (§7 no. 29)


async def test_nothing_is_read_while_the_client_does_not_take_what_was(rest: Rest, fake: FakeKafka) -> None:
    client = await Client(rest).subscribe(pushes(await create(rest)))
    await client.has(1)
    client.room.clear()
    fake.put("t", b"0")
    await client.sending.wait()
    before = reads(fake)
    fake.put("t", b"1")
    await settle()
    assert reads(fake) == before
    client.room.set()
    await client.has_values(0, 1)


# --- refusals (§2.4) -------------------------------------------------------------------------------------------------

UNKNOWN = (404, 40403, "Consumer instance not found.")


@pytest.mark.parametrize(
    ("path", "accept", "status", "code", "message"),
    [
        ("/ws/consumers/g/instances/none/topics/t", JSON, *UNKNOWN),
        ("/ws/consumers/none/instances/c/topics/t", JSON, *UNKNOWN),
        ("/ws/consumers/g/instances/c/records", embedded("json"), *UNKNOWN),  # that is where v2 instances push
        (
            "/ws/consumers/g/instances/c/topics/t",
            BINARY,
            406,
            40601,
            "The requested embedded data format does not match the deserializer for this consumer instance",
        ),
        ("/ws/consumers/g/instances/c/topics/none", JSON, 404, 40401, "Topic not found."),
        (
            "/ws/consumers/g/instances/c/topics/u",
            JSON,
            409,
            40901,
            "Consumer cannot subscribe the the specified target because it has already subscribed to other topics.",
        ),
        ("/ws/consumers/g/instances/c/topics/t", "text/plain", 406, 406, "HTTP 406 Not Acceptable"),
    ],
)
async def test_a_refusal_is_one_reply(rest: Rest, path: str, accept: str, status: int, code: int, message: str) -> None:
    client = await Client(rest).subscribe(pushes(await create(rest)))
    await client.has(1)
    reply = await Client(rest).ask("GET", path, accept)
    assert isinstance(reply.body, bytes)
    assert (reply.status, json.loads(reply.body)) == (status, {"error_code": code, "message": message})
    assert not instance_of(rest).push.ended  # type: ignore[union-attr]  # the good subscription is unharmed


async def test_an_instance_of_somebody_else_is_not_there(rest: Rest) -> None:
    instance = await create(rest)
    bob = rest.as_principal("bob")
    for method in ("GET", "DELETE"):
        answer = await bob.send(method, pushes(instance), b"", JSON)
        assert (answer.status, answer.code) == (404, 40403)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_who_takes_one_reply_only_is_told_to_upgrade(rest: Rest, method: str) -> None:
    instance = await create(rest)
    request = Request(Session("http"), method, pushes(instance), headers={"accept": JSON}, one_reply=method == "GET")
    reply = await rest.gateway.dispatch(request)
    assert isinstance(reply.body, bytes)
    assert (reply.status, dict(reply.headers)["Upgrade"]) == (426, "websocket")
    assert json.loads(reply.body) == {
        "error_code": 426,
        "message": "Subscriptions need a WebSocket or an open event stream",
    }
    assert instance_of(rest).topics == ()


# --- the end (§2.5) --------------------------------------------------------------------------------------------------


async def test_unsubscribe(rest: Rest, fake: FakeKafka) -> None:
    instance = await create(rest)
    client = await Client(rest).subscribe(pushes(instance))
    await client.has(1)
    for _ in range(2):
        answer = await rest.delete(pushes(instance))
        assert (answer.status, answer.body) == (204, None)
    assert await client.over() is GONE
    fake.put("t", b"0")
    await settle()
    assert client.values == []
    assert (await rest.get(f"{instance}/topics/t", accept=JSON)).body == [row(0, 0)]  # reads go on where it stopped


async def test_unsubscribe_says_what_it_cannot_end(rest: Rest, fake: FakeKafka) -> None:
    instance = await create(rest)
    assert (await rest.delete(pushes("/consumers/g/instances/none"))).code == 40403
    assert (await rest.delete(pushes(instance))).status == 204
    assert instance_of(rest).topics == ()  # it subscribes to nothing (kafka-rest-http.md §8.3)
    client = await Client(rest).subscribe(pushes(instance))
    assert (await rest.delete(pushes(instance, "u"))).code == 40901
    fake.put("t", b"0")
    await client.has_values(0)


async def test_after_the_answer_to_unsubscribe_nothing_is_pushed(rest: Rest, fake: FakeKafka) -> None:
    instance = await create(rest)
    client = await Client(rest).subscribe(pushes(instance))
    await client.has(1)
    client.room.clear()
    fake.put("t", b"0")
    await client.sending.wait()
    ending = asyncio.create_task(rest.delete(pushes(instance)))
    await settle()
    assert not ending.done()
    client.room.set()
    assert (await ending).status == 204
    assert client.values == [0]
    assert (await rest.get(f"{instance}/topics/t", accept=JSON)).body == []  # it was delivered, so it is not repeated


async def test_unsubscribing_ends_a_subscription_that_is_only_about_to_begin(
    rest: Rest, fake: FakeKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A DELETE right behind its GET needs nothing of Kafka, and is done while the GET still subscribes."""
    fake.put("t", b"0")
    subscribed = asyncio.Event()
    subscribe = FakeConsumer.subscribe

    async def slow(self: FakeConsumer, topics: Sequence[str]) -> None:
        await subscribed.wait()
        await subscribe(self, topics)

    monkeypatch.setattr(FakeConsumer, "subscribe", slow)
    client = Client(rest)
    instance = await create(rest)
    asking = asyncio.ensure_future(client.ask("GET", pushes(instance)))
    await asyncio.sleep(0)
    assert (await client.ask("DELETE", pushes(instance))).status == 204
    subscribed.set()
    client.start((await asking).body)
    await client.over()
    assert client.payloads == []
    await client.subscribe(pushes(instance))
    await client.has_values(0)


@pytest.mark.timing
async def test_unsubscribe_does_not_wait_for_a_client_that_does_not_read(rest: Rest, fake: FakeKafka) -> None:
    instance = await create(rest)
    client = await Client(rest).subscribe(pushes(instance))
    await client.has(1)
    client.room.clear()
    fake.put("t", b"0")
    await client.sending.wait()
    began = time.monotonic()
    assert (await rest.delete(pushes(instance))).status == 204
    assert time.monotonic() - began < 5
    assert (await rest.get(f"{instance}/topics/t", accept=JSON)).body == [row(0, 0)]
    client.room.set()
    assert await client.over() is GONE
    assert (await rest.post(f"{instance}/offsets", b"", V1)).body[0]["consumed"] == 0


async def test_a_newer_subscription_replaces_the_older(rest: Rest, fake: FakeKafka) -> None:
    instance = await create(rest)
    older, newer = Client(rest), Client(rest)
    await older.subscribe(pushes(instance))
    fake.put("t", b"0")
    await older.has_values(0)
    await newer.subscribe(pushes(instance))
    assert await older.over() is GONE
    taken = len(older.payloads)
    fake.put("t", b"1", b"2")
    await newer.has_values(1, 2)
    assert len(older.payloads) == taken  # and no closing message
    assert instance_of(rest).running == 1


async def test_the_newest_of_many_remains(rest: Rest, fake: FakeKafka) -> None:
    instance = await create(rest)
    clients = [Client(rest) for _ in range(5)]
    for client in clients:
        await client.subscribe(pushes(instance))
    for client in clients[:-1]:
        assert await client.over() is GONE
    fake.put("t", b"0")
    await clients[-1].has_values(0)
    assert [client.values for client in clients[:-1]] == [[]] * 4
    assert instance_of(rest).running == 1


async def test_a_replacement_begins_with_what_was_not_delivered(rest: Rest, fake: FakeKafka) -> None:
    instance = await create(rest)
    older, newer = Client(rest), Client(rest)
    await older.subscribe(pushes(instance))
    await older.has(1)
    older.room.clear()
    fake.put("t", b"0", b"1")
    await older.sending.wait()  # the server has not noticed yet that this client is gone
    fake.put("t", b"2")
    await newer.subscribe(pushes(instance))
    await newer.has_values(0, 1, 2)


async def test_what_a_slow_client_takes_in_time_is_not_repeated(rest: Rest, fake: FakeKafka) -> None:
    instance = await create(rest)
    older, newer = Client(rest), Client(rest)
    await older.subscribe(pushes(instance))
    await older.has(1)
    older.room.clear()
    fake.put("t", b"0")
    await older.sending.wait()
    await newer.subscribe(pushes(instance))
    older.room.set()
    await older.has_values(0)
    fake.put("t", b"1")
    await newer.has_values(1)


@pytest.mark.parametrize("how", ["session", "write fails", "task"])
async def test_what_was_not_written_comes_next(rest: Rest, fake: FakeKafka, how: str) -> None:
    instance = await create(rest)
    client = await Client(rest).subscribe(pushes(instance))
    fake.put("t", b"0")
    await client.has_values(0)
    if how == "write fails":
        client.breaks_at = len(client.payloads)
    else:
        client.room.clear()
    fake.put("t", b"1")
    if how == "write fails":
        assert await client.over() is GONE
    else:
        await client.sending.wait()
        if how == "session":
            await client.leave()
        elif client.delivering is not None:
            client.delivering.cancel()
            await asyncio.wait([client.delivering])
    assert instance_of(rest).push.ended  # type: ignore[union-attr]
    before = reads(fake)
    fake.put("t", b"2")
    await settle()
    assert reads(fake) == before  # nobody reads for a client that has gone
    assert (await rest.post(f"{instance}/offsets", b"", V1)).body[0]["committed"] == 0
    again = await Client(rest).subscribe(pushes(instance))
    await again.has_values(1, 2)  # once


async def test_a_client_that_leaves_in_the_moment_of_a_record_loses_none(start: Start, fake: FakeKafka) -> None:
    """reliability.md F8: the record may be anywhere between Kafka and the client."""
    rest = start(consumer_request_timeout_ms=20)
    instance = await create(rest)
    for number in range(30):
        client = await Client(rest).subscribe(pushes(instance))
        await settle()
        fake.put("t", b"%d" % number)
        for _ in range(number % 10):
            await asyncio.sleep(0)
        await client.leave()
        if not client.values:
            answer = await rest.get(f"{instance}/topics/t", accept=JSON)
            assert [record["value"] for record in answer.body] == [number]
        else:
            assert client.values == [number]
    assert instance_of(rest).running == 0


async def test_unsubscribing_in_the_moment_of_a_record_loses_none(start: Start, fake: FakeKafka) -> None:
    rest = start(consumer_request_timeout_ms=20)
    instance = await create(rest)
    for number in range(30):
        client = await Client(rest).subscribe(pushes(instance))
        await settle()
        fake.put("t", b"%d" % number)
        for _ in range(number % 10):
            await asyncio.sleep(0)
        assert (await rest.delete(pushes(instance))).status == 204
        values = client.values
        await client.over()
        assert client.values == values  # nothing after the answer
        answer = await rest.get(f"{instance}/topics/t", accept=JSON)
        assert values + [record["value"] for record in answer.body] == [number]


async def test_an_instance_that_is_gone_ends_it_silently(rest: Rest, fake: FakeKafka) -> None:
    fake.fail("read", InstanceNotFound())
    client = await Client(rest).subscribe(pushes(await create(rest)))
    assert await client.over() is GONE
    assert client.payloads == []


async def test_a_session_that_ended_while_it_subscribed_leaves_nothing_behind(rest: Rest) -> None:
    instance = await create(rest)
    client = Client(rest)
    await client.leave()
    reply = await client.ask("GET", pushes(instance))
    await settle()
    assert instance_of(rest).running == 0
    assert not isinstance(reply.body, bytes)
    with pytest.raises(StopAsyncIteration):
        await reply.body.__anext__()


async def test_random_kills_lose_and_repeat_nothing(rest: Rest, fake: FakeKafka) -> None:
    """What was written counts as delivered, all else comes again: with both known exactly, each record comes once."""
    chance = random.Random(7)
    instance = await create(rest)
    got: list[Any] = []
    produced = 0
    while len(got) < 300:
        if produced < 300:
            count = chance.randrange(1, 20)
            fake.put("t", *(b"%d" % number for number in range(produced, produced + count)))
            produced += count
        client = Client(rest)
        client.breaks_at = chance.choice([None, 0, 1, 2])
        await client.subscribe(pushes(instance), max_bytes=str(chance.randrange(1, 40)))
        for _ in range(chance.randrange(40)):
            await asyncio.sleep(0)
        await chance.choice([client.leave, settle])()
        await client.leave()
        got += client.values
    assert got == list(range(len(got)))


# --- the instance ----------------------------------------------------------------------------------------------------


async def test_commits_include_what_was_pushed(rest: Rest, fake: FakeKafka) -> None:
    instance = await create(rest)
    client = await Client(rest).subscribe(pushes(instance))
    await client.has(1)
    fake.put("t", b"0", b"1")
    await client.has_values(0, 1)
    client.room.clear()
    fake.put("t", b"2")
    await client.sending.wait()  # not delivered yet
    answer = await rest.post(f"{instance}/offsets", b"", V1)
    assert answer.body == [{"topic": "t", "partition": 0, "consumed": 1, "committed": 1}]
    assert fake.calls[-1] == ("commit", [PartitionOffset("t", 0, 2)])


async def test_a_read_beside_a_subscription_shares_the_records(rest: Rest, fake: FakeKafka) -> None:
    instance = await create(rest)
    client = await Client(rest).subscribe(pushes(instance))
    await client.has(1)
    client.room.clear()
    fake.put("t", b"0")
    await client.sending.wait()
    fake.put("t", b"1")
    # While a batch is out, what comes after it waits; the read takes its time and no more.
    assert (await rest.get(f"{instance}/topics/t", accept=JSON)).body == []
    reading = asyncio.create_task(rest.get(f"{instance}/topics/t", accept=JSON))
    await settle()
    client.room.set()
    read = [record["value"] for record in (await reading).body]
    fake.put("t", b"2")
    await until(lambda: sorted(client.values + read) == [0, 1, 2])


async def test_a_subscription_keeps_its_instance(start: Start, fake: FakeKafka) -> None:
    rest = start(consumer_instance_timeout_ms=1000)
    instance = await create(rest)
    client = await Client(rest).subscribe(pushes(instance))
    await client.has(1)
    registry = rest.services.registry
    instance_of(rest).used_at -= 10
    registry.expire()
    assert len(registry) == 1
    await client.leave()
    registry.expire()
    assert len(registry) == 1  # its clock has just begun
    instance_of(rest).used_at -= 10
    registry.expire()
    assert len(registry) == 0
    assert (await Client(rest).ask("GET", pushes(instance))).status == 404


async def test_deleting_the_instance_ends_it_silently(rest: Rest, fake: FakeKafka) -> None:
    instance = await create(rest, **{"auto.commit.enable": "true"})
    client = await Client(rest).subscribe(pushes(instance))
    await client.has(1)
    client.room.clear()
    fake.put("t", b"0")
    await client.sending.wait()
    deleting = asyncio.create_task(rest.delete(instance, V1))
    await settle()
    assert ("close", None) not in fake.calls  # what is being written is part of the last commit
    client.room.set()
    assert (await deleting).status == 204
    assert await client.over() is GONE
    assert client.values == [0]
    assert fake.consumers[0].returned() == [PartitionOffset("t", 0, 0)]


async def test_expiry_and_stop_end_it_silently(rest: Rest, fake: FakeKafka) -> None:
    one, two = Client(rest), Client(rest)
    await one.subscribe(pushes(await create(rest, "one")))
    await two.subscribe(pushes(await create(rest, "two")))
    instance_of(rest, name="one").used_at = instance_of(rest, name="two").used_at = 0
    rest.services.drain()
    await one.over()
    await two.over()
    assert (one.values, two.values) == ([], [])
    await rest.services.registry.close_all()
    assert all(consumer.closed for consumer in fake.consumers)


# --- records and reads that fail (§2.4; kafka-rest-http.md §8.2) -----------------------------------------------------


async def test_a_record_that_cannot_be_shown_is_told_of_and_left_out(rest: Rest, fake: FakeKafka) -> None:
    fake.put("t", b"{oops", b"1", b"2", b"\xff", b"{", b"5")
    instance = await create(rest)
    client = await Client(rest).subscribe(pushes(instance))
    await client.has(5)
    assert client.values == [1, 2, 5]
    kinds = [payload.status for payload in client.payloads]
    assert kinds == [500, 200, 500, 500, 200]
    error = json.loads(client.payloads[0].data)
    assert error["error_code"] == 50002
    assert error["message"].startswith("Kafka error: Error deserializing the value of the record at t-0-0 as json: ")
    assert error["message"].endswith(" It is left out.")
    fake.put("t", b"6")
    await client.has_values(1, 2, 5, 6)
    answer = await rest.post(f"{instance}/offsets", b"", V1)
    assert answer.body[0]["consumed"] == 6


async def test_a_bad_record_at_the_end_counts_as_consumed(rest: Rest, fake: FakeKafka) -> None:
    fake.put("t", b"0", b"{")
    instance = await create(rest)
    client = await Client(rest).subscribe(pushes(instance))
    await client.has(2)
    await settle()
    assert (await rest.post(f"{instance}/offsets", b"", V1)).body[0]["consumed"] == 1


async def test_a_read_that_fails_is_told_of_and_reading_goes_on(
    rest: Rest, fake: FakeKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push_stream, "_RETRY_S", 0.01)
    fake.fail("read", KafkaError("boom"), KafkaRetriable("soon"))
    client = await Client(rest).subscribe(pushes(await create(rest)))
    assert [error["error_code"] for error in await client.has(2)] == [50002, 50003]
    assert (client.payloads[0].status, (await client.has(2))[0]["message"]) == (500, "Kafka error: boom")
    fake.put("t", b"0")
    await client.has_values(0)


async def test_the_pause_after_failures_grows_and_ends_with_the_stream(
    rest: Rest, fake: FakeKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        if seconds:
            pauses.append(seconds)
        await sleep(3600 if seconds and len(pauses) == 8 else 0)  # time itself: the pause that the stream ends in

    fake.fail("read", *[KafkaError("boom")] * 8)
    monkeypatch.setattr(asyncio, "sleep", note)
    client = await Client(rest).subscribe(pushes(await create(rest)))
    await client.has(8)
    await settle()
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    await client.leave()
    assert instance_of(rest).running == 0


# --- v2 instances (streams.md §1) ------------------------------------------------------------------------------------


async def test_records_of_a_v2_instance(rest: Rest, fake: FakeKafka) -> None:
    path, accept = await rest.instance(), embedded("json")
    reply = await Client(rest).ask("GET", f"/ws{path}/records", accept)
    assert isinstance(reply.body, bytes)
    assert (reply.status, json.loads(reply.body)["error_code"]) == (500, 500)  # nothing to read from
    assert (await Client(rest).ask("GET", f"/ws{path}/records", embedded("binary"))).status == 406
    await rest.post(f"{path}/subscription", {"topics": ["t", "u"]}, V2)
    fake.put("t", b"0")
    client = await Client(rest).subscribe(f"/ws{path}/records", accept)
    await client.has_values(0)
    fake.put("u", b"1")
    await client.has_values(0, 1)
    assert client.records[1] == {"topic": "u", "key": None, "value": 1, "partition": 0, "offset": 0}
    assert (await rest.delete(f"/ws{path}/records")).status == 204
    assert (await rest.delete(f"/ws{path}/records")).status == 204
    assert await client.over() is GONE
    fake.put("t", b"2")
    assert [record["value"] for record in (await rest.read(path)).body] == [2]


async def test_a_pattern_that_matches_nothing_yet(rest: Rest, fake: FakeKafka) -> None:
    path = await rest.instance()
    await rest.post(f"{path}/subscription", {"topic_pattern": "later.*"}, V2)
    client = await Client(rest).subscribe(f"/ws{path}/records", embedded("json"))
    assert await client.has(1) == [[]]
    fake.add_topic("later1")
    fake.put("later1", b"0")
    await rest.services.subscriptions.refresh()
    await client.has_values(0)


async def test_a_v2_record_that_cannot_be_shown(rest: Rest, fake: FakeKafka) -> None:
    fake.put("t", b"{", b"1")
    path = await rest.instance()
    await rest.post(f"{path}/subscription", {"topics": ["t"]}, V2)
    client = await Client(rest).subscribe(f"/ws{path}/records", embedded("json"))
    await client.has_values(1)
    assert json.loads(client.payloads[0].data)["error_code"] == 40801


async def test_commits_of_v2_instances_include_what_was_pushed(rest: Rest, fake: FakeKafka) -> None:
    path = await rest.instance()
    await rest.post(f"{path}/subscription", {"topics": ["t"]}, V2)
    fake.put("t", b"0", b"1")
    client = await Client(rest).subscribe(f"/ws{path}/records", embedded("json"))
    await client.has_values(0, 1)
    await settle()
    assert (await rest.post(f"{path}/offsets", b"", V2)).status == 200
    assert fake.committed["g", "t", 0] == (2, "")


async def test_what_a_process_was_writing_that_is_gone_is_in_doubt(rest: Rest, fake: FakeKafka) -> None:
    """A commit without a body would cover less than its client may have."""
    path = await rest.instance()
    await rest.post(f"{path}/subscription", {"topics": ["t"]}, V2)
    client = await Client(rest).subscribe(f"/ws{path}/records", embedded("json"))
    await client.has(1)
    client.room.clear()
    fake.put("t", b"0")
    await client.sending.wait()
    stream = instance_of(rest, "v2").push
    assert isinstance(stream, push_stream.PushStream)
    stream.lose()
    assert (await rest.post(f"{path}/offsets", b"", V2)).code == 50002
    again = await Client(rest).subscribe(f"/ws{path}/records", embedded("json"))
    await again.has_values(0)
    await settle()
    assert (await rest.post(f"{path}/offsets", b"", V2)).status == 200
    assert fake.committed["g", "t", 0] == (1, "")


async def test_unsubscribing_from_the_topics_ends_the_pushes_with_an_error(rest: Rest, fake: FakeKafka) -> None:
    path = await rest.instance()
    await rest.post(f"{path}/subscription", {"topics": ["t"]}, V2)
    client = await Client(rest).subscribe(f"/ws{path}/records", embedded("json"))
    await client.has(1)
    fake.put("t", b"0")
    await client.has_values(0)
    await rest.delete(f"{path}/subscription", V2)
    fake.put("t", b"1")
    assert client.delivering is not None
    with pytest.raises(Exception, match="not subscribed"):
        await client.over()
    assert instance_of(rest, "v2").running == 0
