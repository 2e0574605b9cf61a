"""What the bodies of v3 requests have in common (kafka-rest-http.md §3.4, §7.1)."""

from __future__ import annotations

from typing import TypeVar

from kafka_gateway import jsonio
from kafka_gateway.errors import BadRequest
from kafka_gateway.jsonio import Raw
from kafka_gateway.services.common.json_members import NULL

T = TypeVar("T")


def required(value: T | None, place: str) -> T:
    """The value; BadRequest if it is null or absent, which v3 answers with 400."""
    if value is None:
        raise BadRequest(f"{place} must not be null.")
    return value


def read_flag(raw: Raw, place: str) -> bool | None:
    """A boolean, or its text in any case; None for null. BadRequest for anything else."""
    if raw == NULL:
        return None
    value = jsonio.decode_value(bytes(raw))
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise BadRequest(f"{place} must be true or false.")
    return value
