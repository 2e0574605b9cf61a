"""The configuration keys of the formats with schemas."""

from __future__ import annotations

from kafka_gateway.config import ConfigKey, section
from kafka_gateway.schemas import STRATEGIES, TOPIC_NAME

REGISTRY_KEYS = section(
    "Schema registry",
    ConfigKey(
        name="schema.registry.url",
        type="list",
        default=("http://localhost:8081",),
        doc="Addresses of the schema registry; an empty value switches the schema formats off.",
    ),
    ConfigKey(
        name="schema.registry.",
        prefix=True,
        example="basic.auth.credentials.source=URL",
        doc="How the registry is asked: basic.auth.*, bearer.auth.*, ssl.*, http.connect.timeout.ms, "
        "http.read.timeout.ms (docs/schemas.md).",
    ),
    ConfigKey(
        name="schema.registry.request.timeout.ms",
        type="int",
        default=10_000,
        unit="ms",
        minimum=100,
        doc="Longest time for an answer of the registry, all addresses and attempts together.",
    ),
    ConfigKey(
        name="schema.cache.max",
        type="int",
        default=10_000,
        unit="schemas",
        minimum=10,
        doc="Schemas that are kept, compiled; those that were not used lately go first.",
    ),
    ConfigKey(
        name="schema.subject.strategy",
        default=TOPIC_NAME,
        choices=STRATEGIES,
        doc="How v1 and v2 name the subject of a schema: <topic>-value, the record's full name, or "
        "<topic>-<full name>.",
    ),
    ConfigKey(
        name="schema.json.fill.defaults",
        type="bool",
        default=False,
        doc="Members that are missing and have a default in their JSON Schema are stored with it.",
    ),
)
