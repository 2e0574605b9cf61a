"""OpenTelemetry's tracer, set up by the usual ``OTEL_*`` variables. Imported only where tracing is on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Iterator, Mapping

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter
from opentelemetry.trace import Tracer

from kafka_gateway.version import VERSION

log = logging.getLogger("gateway.tracing")

_END_S = 2.0
"""How long the last spans may take at the gateway's end: a collector that hangs does not hold it."""


_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
"""The first that is set counts (OpenTelemetry's Protocol Exporter specification)."""
_EXPORTER = "OTEL_TRACES_EXPORTER"


def unsupported(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Which of OpenTelemetry's variables ask for what is not here, and what to do: they would go unheard."""
    name = next((name for name in _PROTOCOLS if environment.get(name)), "")
    if name and environment[name].strip() != "http/protobuf":
        yield (
            name,
            (
                "spans are sent as OTLP over HTTP: set it to http/protobuf, or leave it out, and name the collector's"
                " HTTP endpoint (port 4318) in OTEL_EXPORTER_OTLP_ENDPOINT"
            ),
        )
    if environment.get(_EXPORTER, "otlp").strip() not in ("", "otlp"):
        yield (
            _EXPORTER,
            "spans are sent to a collector only: set it to otlp, or leave it out; tracing.enable=false sends none",
        )


@contextlib.asynccontextmanager
async def tracing(exporter: SpanExporter | None = None) -> AsyncIterator[Tracer]:
    """A tracer whose spans go to the collector of ``OTEL_EXPORTER_OTLP_ENDPOINT``, in bundles and on a thread.

    Sampling follows the parent (``OTEL_TRACES_SAMPLER``). What the collector does not take in time is dropped.

    Args:
        exporter: gets each span at once instead; for tests.
    """
    resource = Resource.create({"service.name": "kafka-gateway", "service.version": VERSION})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    if exporter is not None:
        provider.add_span_processor(SimpleSpanProcessor(exporter))
    else:
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    try:
        yield provider.get_tracer("kafka_gateway", VERSION)
    finally:
        try:
            async with asyncio.timeout(_END_S):
                await _ended(provider)
        except TimeoutError:
            log.warning("the collector of traces took no last spans within %g s", _END_S)


async def _ended(provider: TracerProvider) -> None:
    """Waits until the last spans are sent. A wait that is given up holds nothing: the thread is a daemon, and so none
    that the end of the loop or of the process waits for, as it would for those of an executor."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def end() -> None:
        try:
            provider.shutdown()
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=end, name="last spans", daemon=True).start()
    await ended.wait()
