"""Sessions of sockets, and their records in the session topic (websocket-proxy.md §4.2).

A session is a consumer group or a producer with its open sockets on all gateways. One record holds one whole session;
its bytes are those of kafka-websocket-proxy, so that both can share the topic.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from kafka_gateway import jsonio

Kind = Literal["ConsumerSession", "ProducerSession"]

CONSUMER: Kind = "ConsumerSession"
PRODUCER: Kind = "ProducerSession"


@dataclasses.dataclass(frozen=True, slots=True)
class Instance:
    """One open socket: the client id of a consumer, the instance id of a producer; and the gateway that has it."""

    id: str
    server: str


@dataclasses.dataclass(frozen=True, slots=True)
class ProxySession:
    """``id`` is the group id of consumers, the client id of producers. ``most`` 0: no limit."""

    kind: Kind
    id: str
    most: int = 0
    instances: tuple[Instance, ...] = ()

    def find(self, instance_id: str) -> Instance | None:
        return next((each for each in self.instances if each.id == instance_id), None)

    def with_instance(self, instance: Instance) -> ProxySession:
        """The session with this instance, unless it has one of that id."""
        if self.find(instance.id) is not None:
            return self
        return dataclasses.replace(self, instances=(*self.instances, instance))

    def without(self, *gone: Instance) -> ProxySession:
        return dataclasses.replace(self, instances=tuple(each for each in self.instances if each not in gone))


def encode(session: ProxySession) -> bytes:
    """The record's value."""
    consumer = session.kind == CONSUMER
    own, other = ("groupId", "clientId") if consumer else ("producerId", "instanceId")
    instances = [
        {
            "id": {own: session.id, other: each.id},
            "serverId": each.server,
            "client_instance_type": "ConsumerInstance" if consumer else "ProducerInstance",
        }
        for each in session.instances
    ]
    document: dict[str, Any] = {"sessionId": session.id}
    if consumer:
        document["groupId"] = session.id
    document |= {"maxConnections": session.most, "instances": instances, "session_type": session.kind}
    return jsonio.encode(document)


class _InstanceId(jsonio.Struct):
    groupId: str = ""
    clientId: str = ""
    producerId: str = ""
    instanceId: str = ""


class _Instance(jsonio.Struct):
    id: _InstanceId
    serverId: str
    client_instance_type: Literal["ConsumerInstance", "ProducerInstance"]


class _Session(jsonio.Struct):
    sessionId: str
    maxConnections: int
    instances: list[_Instance]
    session_type: Kind
    groupId: str | None = None


class _OldConsumer(jsonio.Struct):
    id: str
    serverId: str


class _OldSession(jsonio.Struct):
    """What releases before 1.0.0 wrote; read and never written."""

    consumerGroupId: str
    consumers: list[_OldConsumer]
    consumerLimit: int


_current = jsonio.Decoder(_Session)
_old = jsonio.Decoder(_OldSession)


def decode(value: bytes) -> ProxySession:
    """The session of a record's value. ValueError if it is in neither format."""
    try:
        return _from_current(_current.decode(value))
    except (ValueError, RecursionError) as error:
        try:
            old = _old.decode(value)
        except (ValueError, RecursionError):
            raise ValueError(str(error)) from None
    return _made(CONSUMER, old.consumerGroupId, old.consumerLimit, [(each.id, each.serverId) for each in old.consumers])


def _from_current(found: _Session) -> ProxySession:
    consumer = found.session_type == CONSUMER
    expected = "ConsumerInstance" if consumer else "ProducerInstance"
    instances = []
    for each in found.instances:
        if each.client_instance_type != expected:
            raise ValueError(f"a {found.session_type} holds a {each.client_instance_type}")
        instances.append((each.id.clientId if consumer else each.id.instanceId, each.serverId))
    return _made(found.session_type, found.sessionId, found.maxConnections, instances)


def _made(kind: Kind, session_id: str, most: int, instances: list[tuple[str, str]]) -> ProxySession:
    session = ProxySession(kind, session_id, max(0, most))
    for instance_id, server in instances:
        session = session.with_instance(Instance(instance_id, server))
    return session
