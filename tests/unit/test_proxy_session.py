"""The records of the session topic, byte for byte (websocket-proxy.md §4.2)."""

from __future__ import annotations

import pytest

from kafka_gateway.services.websocket_proxy.session import CONSUMER, PRODUCER, Instance, ProxySession, decode, encode

CONSUMERS = (
    b'{"sessionId":"g1","groupId":"g1","maxConnections":2,"instances":['
    b'{"id":{"groupId":"g1","clientId":"c1"},"serverId":"node-1","client_instance_type":"ConsumerInstance"}],'
    b'"session_type":"ConsumerSession"}'
)
PRODUCERS = (
    b'{"sessionId":"p1","maxConnections":1,"instances":['
    b'{"id":{"producerId":"p1","instanceId":"i1"},"serverId":"node-1","client_instance_type":"ProducerInstance"}],'
    b'"session_type":"ProducerSession"}'
)
OLD = b'{"consumerGroupId":"g1","consumers":[{"id":"c1","serverId":"node-1"}],"consumerLimit":2}'


@pytest.mark.parametrize(
    ("session", "value"),
    [
        (ProxySession(CONSUMER, "g1", 2, (Instance("c1", "node-1"),)), CONSUMERS),
        (ProxySession(PRODUCER, "p1", 1, (Instance("i1", "node-1"),)), PRODUCERS),
        (
            ProxySession(CONSUMER, 'é/"', 0),
            '{"sessionId":"é/\\"","groupId":"é/\\"","maxConnections":0,"instances":[],"session_type":"ConsumerSession"}'.encode(),
        ),
    ],
)
def test_bytes(session: ProxySession, value: bytes) -> None:
    assert encode(session) == value
    assert decode(value) == session


def test_the_older_format_is_read() -> None:
    assert decode(OLD) == ProxySession(CONSUMER, "g1", 2, (Instance("c1", "node-1"),))


def test_unknown_members_and_other_spacing() -> None:
    assert decode(CONSUMERS.replace(b'{"sessionId"', b'{ "colour":"blue", "sessionId"')) == decode(CONSUMERS)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 5000,
        CONSUMERS.replace(b'"maxConnections":2,', b""),
        CONSUMERS.replace(b'"serverId":"node-1",', b""),
        CONSUMERS.replace(b"ConsumerInstance", b"ProducerInstance"),
        PRODUCERS.replace(b"ProducerSession", b"Session"),
        OLD.replace(b'"consumerLimit":2', b'"consumerLimit":"two"'),
    ],
)
def test_what_is_no_session(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(value)


def test_instances_are_a_set_by_id() -> None:
    one = ProxySession(CONSUMER, "g", 0, (Instance("c", "a"),))
    assert one.with_instance(Instance("c", "b")) is one
    assert one.without(Instance("c", "b")) == one
    assert one.without(Instance("c", "a")).instances == ()
