"""What the API descriptions tell of a route or a transport beyond what serves the requests.

Method, path, media types, rights and the errors that every route may answer are taken from the route itself
(transports/docs/openapi.py); this is what code cannot know: what it is for, the shape of bodies, the parameters that a
handler looks at. A shape is a type that msgspec can describe, or a JSON schema (2020-12) as a dict.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

from kafka_gateway.errors import GatewayTimeout, NotSupported, ServiceError
from kafka_gateway.kafka_errors import (
    BrokerNotAvailable,
    KafkaAuthentication,
    KafkaAuthorization,
    KafkaError,
    KafkaRefused,
    KafkaRetriable,
    KafkaThrottled,
)

Shape: TypeAlias = Any
"""A type, a JSON schema, a `Named` one, or None for nothing. A schema may hold types and named schemas."""

ANYTHING: Final[Mapping[str, Any]] = MappingProxyType({})
"""The schema of any JSON value."""

OF_KAFKA: Final[tuple[type[ServiceError], ...]] = (
    KafkaRefused,
    KafkaAuthentication,
    KafkaAuthorization,
    KafkaThrottled,
    KafkaError,
    KafkaRetriable,
    NotSupported,
    BrokerNotAvailable,
    GatewayTimeout,
)
"""What may be answered wherever Kafka is asked (kafka-rest-http.md §3.7)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Named:
    """A JSON schema with a name, which generated clients give to a class. Compared by its name."""

    name: str
    schema: Mapping[str, Any] = dataclasses.field(compare=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query or a header that a handler looks at. Texts for clients."""

    name: str
    doc: str
    schema: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"type": "string"})
    place: Literal["query", "header"] = "query"
    required: bool = False
    example: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """One kind of message of a channel."""

    name: str
    summary: str
    shape: Shape
    head: Shape = None
    """What stands before the content: the head of an envelope, the fields of an event."""
    media_type: str = "application/json"
    example: Any = None
    head_example: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Channel:
    """An address of a transport at which messages go both ways, or one: a socket, a stream."""

    name: str
    address: str
    """A path, with ``{variables}``."""
    title: str
    text: str
    sends: Sequence[Message] = ()
    """What the gateway sends."""
    takes: Sequence[Message] = ()
    """What a client sends."""
    parameters: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Variable of the address → what it is."""
    query: Sequence[Parameter] = ()
    protocol: str = "ws"
    """``ws`` or ``http``."""
    carrier: str = ""
    """Name of the transport that carries it, for a channel that a route declares."""


@dataclasses.dataclass(frozen=True, slots=True)
class Description:
    """What a client is told of one route."""

    summary: str
    text: str = ""
    """More, in Markdown; "" for what the summary says."""
    tag: str = ""
    """The heading that it stands under; "" for the plugin's name."""
    replies: Mapping[int, Shape] = dataclasses.field(default_factory=lambda: {200: ANYTHING})
    """Status → what the body of a success holds; None for no body."""
    body: Shape | Callable[[str], Shape] = None
    """What the body of a request holds. A function gets the embedded format that a media type stands for."""
    body_example: Any = None
    body_types: Sequence[str] = ("application/json",)
    """Its media types, for a route that names none."""
    reply_example: Any = None
    reply_types: Mapping[int, Sequence[str]] = dataclasses.field(default_factory=dict)
    """Media types of the replies with these statuses, where they are not those of the route."""
    parameters: Sequence[Parameter] = ()
    path: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Variable of the path → what it is."""
    slash: bool = False
    """The path is asked for with a slash behind it, which the template does not have."""
    errors: Sequence[type[ServiceError]] = ()
    """What it may refuse or fail with, beside what every route may."""
    error_body: Shape = None
    """The body of its errors, where that is not the usual one."""
    bare_errors: bool = False
    """Its errors may have no body at all."""
    kafka: bool = True
    """Whether Kafka is asked, so that OF_KAFKA may be answered."""
    channels: Sequence[Channel] = ()
    """The sockets and streams that it can be asked for, for ``/asyncapi.json``."""
