"""The bodies of questions to a schema registry, and what its answers mean for the gateway's clients."""

from __future__ import annotations

import dataclasses
from typing import Any

from kafka_gateway.errors import SerializationError
from kafka_gateway.kafka_errors import KafkaAuthorization
from kafka_gateway.registry.client import AGAIN, RegistryAway, RegistryRefusal
from kafka_gateway.schemas import REGISTRY_AWAY, Schema

ID_MAX = 2**32 - 1
"""The greatest id: records have it in four bytes, without a sign (kafka-rest-http.md §4.4)."""


def body_of(schema: Schema) -> dict[str, Any]:
    """The JSON by which a registry looks a schema up, judges or registers it."""
    body: dict[str, Any] = {"schema": schema.text}
    if schema.type != "AVRO":
        body["schemaType"] = schema.type
    if schema.references:
        body["references"] = [dataclasses.asdict(reference) for reference in schema.references]
    return body


def integer_in(answer: Any, name: str) -> int:
    """The id or version that an answer has under this name. RegistryRefusal if it has none."""
    number = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(number, int) or not 0 <= number <= ID_MAX:
        raise RegistryRefusal(502, 0, f"the schema registry answers without {name!r}")
    return number


def refused(refusal: RegistryRefusal, what: str) -> SerializationError | KafkaAuthorization:
    """The error for the client. ``what``: a sentence that says what the registry was asked."""
    if refusal.status == 403 or refusal.error_code == 40301:
        return KafkaAuthorization(f"The schema registry does not allow it: {refusal.message}")
    error = SerializationError(
        f"Error serializing message. {what}\n{refusal.message}; error code: {refusal.error_code}"
    )
    return error.with_help(REGISTRY_AWAY) if passes(refusal) else error


def told(error: Exception) -> str:
    """Why there is no schema, as the end of a sentence without a full stop."""
    said = f"the schema registry does not answer: {error}" if isinstance(error, RegistryAway) else str(error)
    return said.rstrip(".")


def passes(error: Exception) -> bool:
    """Whether the same question may be answered later."""
    return isinstance(error, RegistryAway) or (isinstance(error, RegistryRefusal) and error.status in AGAIN)


def unreachable(reason: str) -> SerializationError:
    """The error for a client whose record needs a registry that does not answer."""
    error = SerializationError(f"Error serializing message. The schema registry does not answer: {reason}")
    return error.with_help(REGISTRY_AWAY)
