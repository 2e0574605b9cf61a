"""What payloads look like. The REST dialect is JSON; other protocols bring their own, over the same services."""

from __future__ import annotations

from typing import Any

from kafka_gateway import jsonio
from kafka_gateway.errors import ServiceError
from kafka_gateway.stream import Payload


class ErrorBody(jsonio.Struct, frozen=True):
    """Exactly these two members, always (kafka-rest-http.md §3.5)."""

    error_code: int
    message: str


class HelpfulErrorBody(jsonio.Struct, frozen=True, omit_defaults=True):
    """With ``errors.help`` (observability.md §5): the two members, and what the client can do."""

    error_code: int
    message: str
    help: str = ""
    """One sentence: what to do."""
    request_id: str = ""
    """The id by which the operator finds the request in the logs."""


class StreamErrorBody(jsonio.Struct, frozen=True):
    """The object of the ``error`` event, which ends a record stream (streams.md §2)."""

    error_code: int
    message: str
    retriable: bool


def error_event(error: ServiceError) -> Payload:
    """The event that tells why a record stream ends. It has no token: the client goes on from the one it has."""
    body = StreamErrorBody(error.error_code, error.message, error.retriable)
    return Payload(jsonio.encode(body), "error", status=error.status, error=error)


class Dialect:
    """Turns the values and errors of services into payloads. Stateless. ``REST`` is the one of the REST API."""

    def render(self, value: Any) -> bytes:
        """The payload for what a handler answered: bytes as they are, nothing for None, JSON for anything else."""
        if value is None:
            return b""
        if isinstance(value, bytes):
            return value
        return jsonio.encode(value)

    def error(self, error: ServiceError) -> bytes:
        return jsonio.encode(ErrorBody(error.error_code, error.message))

    def error_with_help(self, error: ServiceError, request_id: str) -> bytes:
        """As ``error``, with what tells the way out where the protocol's errors have room for it."""
        return self.error(error)


class _RestDialect(Dialect):
    def error_with_help(self, error: ServiceError, request_id: str) -> bytes:
        return jsonio.encode(HelpfulErrorBody(error.error_code, error.message, error.help, request_id))


REST = _RestDialect()
