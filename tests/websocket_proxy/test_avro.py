"""Sockets whose messages are Avro (websocket-proxy.md §1.4.3, §1.7), on a real Kafka; fastavro is the client."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import aiohttp
import fastavro
import pytest
from aiohttp import WSMsgType

from tests.gateway_process import GatewayProcess
from tests.waiting import PATIENCE_S
from tests.websocket_proxy.conftest import Log, Sockets

NewTopic = Callable[..., str]
NO_RECORD = "not Avro of /schemas/avro/producer/record; send it without schema id or file header"


async def schema(proxy: GatewayProcess, path: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(f"{proxy.url}/schemas/avro/{path}") as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        return fastavro.parse_schema(await response.json())


def write(schema: Any, datum: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, datum)
    return out.getvalue()


async def hear(socket: aiohttp.ClientWebSocketResponse, schema: Any) -> Any:
    message = await socket.receive(timeout=PATIENCE_S)
    assert message.type is WSMsgType.BINARY, message
    return fastavro.schemaless_reader(io.BytesIO(message.data), schema, None)


@pytest.mark.parametrize(
    ("types", "key", "value", "stored_key", "stored_value"),
    [
        ({"keyType": "string"}, ("string", "k"), ("string", "é"), b"k", "é".encode()),
        ({"valType": "byte_array"}, ("bytes", b"\xff"), ("bytes", b"\0"), b"\xff", b"\0"),  # without keyType: bytes
        ({"valType": "json"}, None, ("string", '{ "a" : 1.10 }'), None, b'{"a":1.10}'),
        ({"keyType": "int", "valType": "long"}, ("int", 1), ("long", 2), b"\0\0\0\1", b"\0" * 7 + b"\2"),
        ({"valType": "long"}, None, ("int", 2), None, b"\0" * 7 + b"\2"),
        ({"valType": "short"}, None, ("int", 2), None, b"\0\2"),
        ({"valType": "double"}, None, ("double", 1.5), None, b"\x3f\xf8" + b"\0" * 6),
    ],
)
async def test_produce(
    proxy: GatewayProcess, sockets: Sockets, new_topic: NewTopic, log: Log, types: dict[str, str], key: Any, value: Any,
    stored_key: bytes | None, stored_value: bytes,
) -> None:  # fmt: skip
    topic = new_topic()
    record, result = await schema(proxy, "producer/record"), await schema(proxy, "producer/result")
    peer = await sockets.open("/socket/in", clientId="c", topic=topic, socketPayload="avro", **types)
    headers = [{"key": "h", "value": "w"}]
    await peer.socket.send_str("ignored: no Avro")
    await peer.socket.send_bytes(
        write(record, {"key": key, "value": value, "headers": headers, "clientMessageId": "m1"})
    )
    answer = await hear(peer.socket, result)
    assert (answer["topic"], answer["partition"], answer["offset"], answer["clientMessageId"]) == (topic, 0, 0, "m1")
    (stored,) = log.read(topic)
    assert (stored.key(), stored.value(), stored.headers()) == (stored_key, stored_value, [("h", b"w")])


@pytest.mark.parametrize(
    ("types", "frame", "code", "said"),
    [
        ({}, b"\xff\xff\xff", 1000, NO_RECORD),
        ({}, b"", 1000, NO_RECORD),
        ({}, b"\0\0\0\0\1\0\2\2v\0\0", 1000, NO_RECORD),  # with a schema's id
        ({}, b"\x00\x02\x02v\x00\x01\x02m", 1000, NO_RECORD),  # the branch -1, which is not the last one
        (
            {},
            b"\0\2\2v\0\0\0",
            1000,
            "bytes behind the Avro of /schemas/avro/producer/record; send one record a message",
        ),
        ({}, b"\x00\x04\x0a\x00\x00", 1011, "the val is int: with valType=string it must be string"),
        ({"keyType": "int"}, b"\2\2k\2\2v\0\0", 1011, "the key is bytes: with keyType=int it must be int"),
        ({"valType": "json"}, b"\0\2\2{\0\0", 1000, "a val that is no json, the valType: "),
    ],
)
async def test_what_cannot_be_produced_ends_the_socket_and_says_what_to_do(
    sockets: Sockets, new_topic: NewTopic, types: dict[str, str], frame: bytes, code: int, said: str
) -> None:
    given = {"valType": "string", **types}
    peer = await sockets.open("/socket/in", clientId="c", topic=new_topic(), socketPayload="avro", **given)
    await peer.socket.send_bytes(frame)
    message = await peer.socket.receive(timeout=PATIENCE_S)
    assert (message.type, message.data) == (WSMsgType.CLOSE, code)
    assert said in str(message.extra)
    assert len(str(message.extra)) < 120  # none is cut


async def test_consume_and_commit(proxy: GatewayProcess, sockets: Sockets, new_topic: NewTopic, log: Log) -> None:
    topic = new_topic()
    record, commit = await schema(proxy, "consumer/record"), await schema(proxy, "consumer/commit")
    assert commit == await schema(proxy, "producer/commit")
    producer = await sockets.open("/socket/in", clientId="p", topic=topic, keyType="string")
    await producer.produce("v", key={"value": "k", "format": "string"}, headers=[{"key": "h", "value": "w"}])
    await producer.hear()
    query = {"clientId": "c", "groupId": topic, "topic": topic, "socketPayload": "avro", "autoCommit": "false"}
    peer = await sockets.open("/socket/out", keyType="string", **query)
    got = await hear(peer.socket, record)
    at = got.pop("timestamp")
    assert got == {
        "wsProxyMessageId": f"{topic}-0-0-{at}", "topic": topic, "partition": 0, "offset": 0, "key": "k", "value": "v",
        "headers": [{"key": "h", "value": "w"}],
    }  # fmt: skip
    await peer.socket.send_bytes(write(commit, {"wsProxyMessageId": f"{topic}-0-0-{at}"}))
    await log.committed_becomes(topic, topic, 1)
    await peer.socket.close()
    await producer.produce("second")
    await producer.hear()
    again = await sockets.open("/socket/out", **query)
    got = await hear(again.socket, record)
    assert (got["offset"], got["key"], got["value"], got["headers"]) == (1, None, "second", None)
    await again.socket.send_bytes(b"\xff")
    while (message := await again.socket.receive(timeout=PATIENCE_S)).type is WSMsgType.BINARY:
        pass
    assert (message.type, message.data) == (WSMsgType.CLOSE, 1011)
