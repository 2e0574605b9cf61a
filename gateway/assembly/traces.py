"""Traces: nothing of OpenTelemetry is imported unless ``tracing.enable`` asks for it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator, Callable

from kafka_gateway.config import Config, ConfigError, Fault
from kafka_gateway.core import Gateway
from kafka_gateway.kafka.ports.kafka import Kafka


@dataclasses.dataclass(frozen=True, slots=True)
class Traces:
    """How a gateway makes traces; without tracing, it makes none."""

    kafka: Callable[[Kafka], Kafka] = lambda kafka: kafka
    """Kafka, with spans."""
    requests: Callable[[Gateway], None] = lambda gateway: None
    """Has a span made for each request."""


@contextlib.asynccontextmanager
async def traces(config: Config) -> AsyncIterator[Traces]:
    """Traces for as long as the context is open. ConfigError: what they need is not installed, or asked for."""
    if not config.flag("tracing.enable"):
        yield Traces()
        return
    try:
        from kafka_gateway.tracing.kafka import traced_kafka
        from kafka_gateway.tracing.provider import tracing, unsupported
        from kafka_gateway.tracing.requests import traced
    except ModuleNotFoundError as error:
        message = f"traces need the extra otel: pip install 'kafka-gateway[otel]' ({error})"
        raise ConfigError([Fault(config.place("tracing.enable"), "tracing.enable", message)]) from error
    if faults := [Fault(f"environment {name}", name, text) for name, text in unsupported(os.environ)]:
        raise ConfigError(faults)
    async with tracing() as tracer:

        def requests(gateway: Gateway) -> None:
            gateway.at_once.enabled = False  # each request has a span, and its produce is a child of that
            gateway.dispatch = traced(gateway.dispatch, tracer)  # type: ignore[method-assign, assignment]

        yield Traces(lambda kafka: traced_kafka(kafka, tracer), requests)
