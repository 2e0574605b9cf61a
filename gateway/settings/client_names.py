"""Properties of Kafka's Java clients that version 1 of the REST proxy took without a prefix.

Version 1 handed every property it did not know to its producers and consumers. Here each needs the prefix of the client
it is meant for; this table lets the refusal name it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_CLIENT = """
    allow.auto.create.topics connections.max.idle.ms metadata.max.age.ms receive.buffer.bytes reconnect.backoff.max.ms
    reconnect.backoff.ms retry.backoff.max.ms retry.backoff.ms sasl.client.callback.handler.class sasl.jaas.config
    sasl.kerberos.kinit.cmd sasl.kerberos.min.time.before.relogin sasl.kerberos.service.name
    sasl.kerberos.ticket.renew.jitter sasl.kerberos.ticket.renew.window.factor sasl.login.callback.handler.class
    sasl.login.class sasl.mechanism sasl.mechanisms sasl.oauthbearer.token.endpoint.url sasl.password sasl.username
    security.protocol security.providers send.buffer.bytes socket.connection.setup.timeout.max.ms
    socket.connection.setup.timeout.ms socket.keepalive.enable socket.timeout.ms ssl.ca.location
    ssl.certificate.location ssl.key.location statistics.interval.ms
"""
_PRODUCER = """
    acks batch.num.messages batch.size buffer.memory compression.codec compression.level compression.type
    delivery.timeout.ms enable.idempotence key.serializer linger.ms max.block.ms max.in.flight
    max.in.flight.requests.per.connection max.request.size message.max.bytes message.send.max.retries
    message.timeout.ms partitioner partitioner.class queue.buffering.max.kbytes queue.buffering.max.messages
    queue.buffering.max.ms request.required.acks retries transaction.timeout.ms transactional.id value.serializer
"""
_CONSUMER = """
    auto.commit.enable auto.commit.interval.ms auto.offset.reset check.crcs consumer.timeout.ms
    default.api.timeout.ms enable.auto.commit exclude.internal.topics fetch.max.bytes fetch.max.wait.ms
    fetch.message.max.bytes fetch.wait.max.ms group.id group.instance.id heartbeat.interval.ms isolation.level
    key.deserializer max.partition.fetch.bytes max.poll.interval.ms max.poll.records partition.assignment.strategy
    queued.max.message.chunks queued.max.messages.kbytes queued.min.messages session.timeout.ms value.deserializer
"""

CLIENT_PROPERTIES: Mapping[str, str] = MappingProxyType(
    {
        name: prefix
        for prefix, names in (("client.", _CLIENT), ("producer.", _PRODUCER), ("consumer.", _CONSUMER))
        for name in names.split()
    }
)
"""Property → the prefix that it needs."""
