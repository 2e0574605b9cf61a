"""``/socket/in`` on a real Kafka: the checklist of websocket-proxy.md §8, rows 1 to 4, 8 to 10 and 24 to 34."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

import aiohttp
import pytest
from aiohttp import WSMsgType

from tests.gateway_process import GatewayProcess
from tests.logged import logged
from tests.waiting import PATIENCE_S
from tests.websocket_proxy.conftest import Log, Refused, Sockets

NewTopic = Callable[..., str]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"topic": "t"}, "Request param 'clientId' is missing."),
        ({"clientId": "", "topic": "t"}, "Request param 'clientId' is missing."),
        ({"clientId": "c"}, "Request param 'topic' is missing."),
        (
            {"clientId": "c", "topic": "t", "dry_run": "true"},
            "dry_run is for requests that produce: what a socket sends is always stored.",
        ),
        ({"clientId": "c", "topic": "t", "socketPayload": "protobuf"}, "'protobuf' is not a valid socket payload"),
        ({"clientId": "c", "topic": "t", "valType": "foobar"}, "'foobar' is not a valid format type"),
        ({"clientId": "c", "topic": "t", "transactional": "maybe"}, "'maybe' is not a valid Boolean value"),
        ({"clientId": "c", "topic": "missing-topic"}, "Topic missing-topic does not exist"),
        ({"clientId": "c", "topic": "bad name!"}, "Topic bad name! does not exist"),
        ({"clientId": "c", "topic": "__consumer_offsets"}, "Topic __consumer_offsets does not exist"),
    ],
)
async def test_refusals(sockets: Sockets, query: dict[str, str], text: str) -> None:
    with pytest.raises(Refused) as refused:
        await sockets.open("/socket/in", **query)
    assert refused.value.status == 400
    assert refused.value.body == json.dumps({"message": text}, indent=2, separators=(",", " : "))


async def test_a_plain_request_gets_the_envelope_and_leaves_nothing(
    proxy: GatewayProcess, sockets: Sockets, new_topic: NewTopic
) -> None:
    topic = new_topic()
    async with aiohttp.ClientSession() as session:
        for path in ("in", "out"):
            async with session.get(f"{proxy.url}/socket/{path}?clientId=c&topic={topic}") as response:
                assert response.status == 400
                assert response.content_type == "application/json"
                assert await response.text() == '{\n  "message" : "Expected WebSocket Upgrade request"\n}'
            for method in ("POST", "PUT", "DELETE", "HEAD"):  # and so does every other method (§1.2)
                async with session.request(method, f"{proxy.url}/socket/{path}?clientId=c&topic={topic}") as response:
                    assert response.status == 400
                    text = "" if method == "HEAD" else '{\n  "message" : "Expected WebSocket Upgrade request"\n}'
                    assert await response.text() == text
    await sockets.consumer(topic)


async def test_key_value_headers_and_id(sockets: Sockets, new_topic: NewTopic, log: Log) -> None:
    topic = new_topic()
    peer = await sockets.producer(topic, keyType="STRING", valType="sTrInG")
    await peer.produce("bar-1", key={"value": "foo-1", "format": "string"}, messageId="m-1")
    await peer.produce("bar-2", headers=[{"key": "h", "value": "zwölf"}, {"key": "h", "value": ""}])
    first, second = await peer.hear(2)
    assert list(first) == ["topic", "partition", "offset", "timestamp", "clientMessageId", "messageId"]
    assert (first["topic"], first["partition"], first["offset"]) == (topic, 0, 0)
    assert (first["clientMessageId"], first["messageId"]) == ("m-1", "m-1")
    assert abs(first["timestamp"] / 1000 - time.time()) < 60
    assert second["clientMessageId"] is None
    assert "messageId" not in second
    one, two = log.read(topic)
    assert (one.key(), one.value(), one.headers()) == (b"foo-1", b"bar-1", None)
    assert (two.key(), two.value(), two.headers()) == (None, b"bar-2", [("h", "zwölf".encode()), ("h", b"")])


async def test_two_hundred_pipelined_over_partitions_are_answered_in_order(
    sockets: Sockets, new_topic: NewTopic
) -> None:
    peer = await sockets.producer(new_topic(partitions=4), keyType="string")
    for number in range(200):
        await peer.produce("v", key={"value": f"k-{number}", "format": "string"}, messageId=str(number))
    results = await peer.hear(200)
    assert [each["messageId"] for each in results] == [str(number) for number in range(200)]
    assert {each["partition"] for each in results} == {0, 1, 2, 3}


async def test_json_is_stored_as_it_is_written(sockets: Sockets, new_topic: NewTopic, log: Log) -> None:
    topic = new_topic()
    peer = await sockets.producer(topic, valType="json")
    await peer.say('{"value":{"value":"bar-1","format":"json"}}', '{"value":{"value":{"a": 1.10},"format":"json"}}')
    await peer.hear(2)
    assert [each.value() for each in log.read(topic)] == [b'"bar-1"', b'{"a":1.10}']


async def test_a_bad_message_ends_the_socket_behind_the_results_before_it(
    sockets: Sockets, new_topic: NewTopic, log: Log
) -> None:
    topic = new_topic()
    peer = await sockets.producer(topic)
    await peer.say("")
    await peer.socket.send_bytes(b'{"value":{"value":"binary","format":"string"}}')
    await peer.produce("first")
    await peer.say("{not json")
    await peer.produce("third")
    assert (await peer.hear())[0]["offset"] == 0
    assert await peer.end() == 1000
    assert [each.value() for each in log.read(topic)] == [b"first"]


async def test_all_results_come_before_the_answer_to_a_close(sockets: Sockets, new_topic: NewTopic) -> None:
    peer = await sockets.producer(new_topic(partitions=2))
    for number in range(50):
        await peer.produce("v", messageId=str(number))
    await peer.socket._writer.close(1000)  # without waiting for anything
    results = await peer.hear(50)
    assert [each["messageId"] for each in results] == [str(number) for number in range(50)]
    assert await peer.end() == 1000


async def test_all_results_come_before_the_close_for_a_broken_frame(
    sockets: Sockets, new_topic: NewTopic, caplog: pytest.LogCaptureFixture
) -> None:
    peer = await sockets.producer(new_topic())
    for number in range(20):
        await peer.produce("v", messageId=str(number))
    await peer.socket._writer.send_frame(b"\xff", WSMsgType.TEXT)
    assert [each["messageId"] for each in await peer.hear(20)] == [str(number) for number in range(20)]
    assert await peer.end() == 1007
    assert logged(caplog) == []


async def test_a_refused_record_ends_the_socket_with_1011(sockets: Sockets, new_topic: NewTopic) -> None:
    peer = await sockets.producer(new_topic(config={"cleanup.policy": "compact"}), keyType="string")
    await peer.produce("v", key={"value": "k", "format": "string"})
    assert (await peer.hear())[0]["offset"] == 0
    await peer.produce("a record without a key on a compacted topic")
    assert await peer.end() == 1011


async def test_a_refused_record_is_told_to_who_closes_first(sockets: Sockets, new_topic: NewTopic) -> None:
    """Fault: the answer was the client's own 1000, as if all had been stored."""
    peer = await sockets.producer(new_topic(config={"cleanup.policy": "compact"}))
    await peer.produce("a record without a key on a compacted topic")
    await peer.socket._writer.close(1000)  # without waiting for anything
    assert await peer.end() == 1011


async def test_a_bad_record_does_no_harm_to_another_socket(sockets: Sockets, new_topic: NewTopic, log: Log) -> None:
    topic = new_topic(config={"cleanup.policy": "compact"})
    good = await sockets.producer(topic, "good", keyType="string")
    bad = [await sockets.producer(topic, f"bad{number}") for number in range(20)]
    for number, each in enumerate(bad):  # the broker would refuse them with all that shares their batch
        await good.produce("v", key={"value": f"k{number}", "format": "string"})
        await each.produce("no key")
    assert len(await good.hear(20)) == 20
    for each in bad:
        assert await each.end() == 1011
    assert len(log.read(topic)) == 20


async def test_formats_survive_the_round_trip(sockets: Sockets, new_topic: NewTopic) -> None:
    cases = {
        "int": ["-2147483648", "2147483647"],
        "short": ["-32768"],
        "long": ["-9223372036854775808", "9223372036854775807"],
        "float": ["0.1", "3.4028235E38"],
        "double": ["0.1", "1.0E-7", "null"],
        "json": ['{"b":[1.10,null],"a":"é"}'],
        "bytearray": ['"AAEC"'],
        "string": ['"日本 😀"'],
    }

    async def check(name: str, values: list[str]) -> None:
        topic = await asyncio.to_thread(new_topic)
        producer = await sockets.producer(topic, keyType=name, valType=name)
        for value in values:
            part = '{"value":%s,"format":"%s"}' % (value, name)  # noqa: UP031
            await producer.say('{"key":%s,"value":%s}' % (part, part))  # noqa: UP031
        await producer.hear(len(values))
        consumer = await sockets.consumer(topic, f"c-{name}", keyType=name, valType=name)
        for value in values:
            text = (await consumer.socket.receive(timeout=PATIENCE_S)).data
            part = '{"value":%s,"format":"%s"}' % (value, name)  # noqa: UP031
            assert text.endswith('"key":%s,"value":%s}' % (part, part))  # noqa: UP031

    await asyncio.gather(*(check(name, values) for name, values in cases.items()))


async def test_transactions_must_be_configured(sockets: Sockets, new_topic: NewTopic) -> None:
    with pytest.raises(Refused, match="Server is not configured to allow producer transactions"):
        await sockets.producer(new_topic(), transactional="true", instanceId="i")
