"""Kafka's ports with spans: what is produced carries its context, what is read is linked to where it came from.

`TracedKafka` stands before the real one and hands on everything that it does not know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from opentelemetry import context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.records import ConsumedRecord, Headers, OutgoingRecord, RecordToSend
from kafka_gateway.tracing import names

_contexts = TraceContextTextMapPropagator()
_TRACEPARENT = "traceparent"
_LINKS_MAX = 128
"""Of one span: what OpenTelemetry's SDK keeps by default."""


def traced_kafka(kafka: Kafka, tracer: Tracer) -> Kafka:
    """The same Kafka, whose producer, consumers and streams make spans."""
    return cast(Kafka, TracedKafka(kafka, tracer))


class _Before:
    """Hands on whatever its subclass does not know."""

    def __init__(self, inner: Any, tracer: Tracer) -> None:
        self._inner = inner
        self._tracer = tracer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class TracedKafka(_Before):
    """Different callers may have different Kafka clients, so each part is wrapped when it is asked for."""

    @property
    def own(self) -> Any:
        return TracedKafka(self._inner.own, self._tracer)

    @property
    def callers(self) -> Any:
        return TracedKafka(self._inner.callers, self._tracer)

    async def for_socket(self, session: Any) -> Any:
        return TracedKafka(await self._inner.for_socket(session), self._tracer)

    @property
    def producer(self) -> Any:
        return TracedProducer(self._inner.producer, self._tracer)

    @property
    def reader(self) -> Any:
        return _TracedReader(self._inner.reader, self._tracer)

    @property
    def tails(self) -> Any:
        return _TracedTails(self._inner.tails, self._tracer)

    async def consumer(self, settings: Any, *more: Any, **options: Any) -> Any:
        consumer = await self._inner.consumer(settings, *more, **options)
        return _TracedConsumer(consumer, self._tracer, settings.group)

    async def group_reader(self, settings: Any, topics: Any, work: Any) -> Any:
        return await self._inner.group_reader(settings, topics, _TracedListener(work, self._tracer, settings.group))

    async def member(self, settings: Any, topic: str, listener: Any, *more: Any, **options: Any) -> Any:
        listener = _TracedListener(listener, self._tracer, settings.group)
        return await self._inner.member(settings, topic, listener, *more, **options)


class TracedProducer(_Before):
    """A span for each batch: a child of the request's. Records get its context, unless their client set one."""

    def send(
        self, topic: str, records: Sequence[RecordToSend], partition: int | None = None
    ) -> asyncio.Future[list[Any]]:
        span = self._start(topic, len(records))
        try:
            future: asyncio.Future[list[Any]] = self._inner.send(topic, _with_context(records, span), partition)
        except ServiceError as error:
            _fail(span, error)
            raise
        future.add_done_callback(lambda done: _sent(span, done))
        return future

    def follow(self, topic: str, records: Sequence[RecordToSend], progress: Callable[[], None]) -> Any:
        span = self._start(topic, len(records))
        try:
            sending = self._inner.follow(topic, _with_context(records, span), progress)
        except ServiceError as error:
            _fail(span, error)
            raise
        sending.future.add_done_callback(lambda done: _sent(span, done))
        return sending

    def _start(self, topic: str, count: int) -> Span:
        return self._tracer.start_span(
            f"send {topic}",
            kind=SpanKind.PRODUCER,
            attributes={
                names.SYSTEM: names.KAFKA,
                names.DESTINATION: topic,
                names.OPERATION_NAME: "send",
                names.OPERATION_TYPE: "send",
                names.MESSAGE_COUNT: count,
            },
        )


def _with_context(records: Sequence[RecordToSend], span: Span) -> Sequence[RecordToSend]:
    if not span.get_span_context().is_valid:
        return records
    carrier: dict[str, str] = {}
    _contexts.inject(carrier, set_span_in_context(span, context.Context()))
    own: list[tuple[str, bytes | None]] = [(name, value.encode()) for name, value in carrier.items()]
    return [_carrying(each, own) for each in records]


def _carrying(record: RecordToSend, own: list[tuple[str, bytes | None]]) -> RecordToSend:
    headers: Headers = record.headers or ()
    if any(name == _TRACEPARENT for name, _ in headers):
        return record
    return OutgoingRecord(record.key, record.value, record.partition, record.timestamp_ms, [*headers, *own])


def _sent(span: Span, done: asyncio.Future[list[Any]]) -> None:
    if done.cancelled():
        span.set_attribute(names.ERROR_TYPE, "cancelled")
        span.end()
        return
    error = done.exception() or next((each for each in done.result() if isinstance(each, ServiceError)), None)
    if error is not None:
        _fail(span, error)
    else:
        span.end()


def _fail(span: Span, error: BaseException) -> None:
    span.set_attribute(names.ERROR_TYPE, type(error).__name__)
    span.set_status(Status(StatusCode.ERROR, str(error)[:200]))
    span.end()


class _Reads(_Before):
    """Makes a span for each batch that is handed on."""

    def __init__(self, inner: Any, tracer: Tracer, group: str = "") -> None:
        super().__init__(inner, tracer)
        self._group = group

    def _received(self, records: Sequence[ConsumedRecord], operation: str = "receive") -> None:
        if not records:
            return
        topic = records[0].topic() or ""
        attributes: dict[str, Any] = {
            names.SYSTEM: names.KAFKA,
            names.DESTINATION: topic,
            names.OPERATION_NAME: "poll",
            names.OPERATION_TYPE: operation,
            names.MESSAGE_COUNT: len(records),
        }
        if self._group:
            attributes[names.GROUP] = self._group
        links = list(_links(records))
        self._tracer.start_span(f"poll {topic}", kind=SpanKind.CONSUMER, attributes=attributes, links=links).end()


def _links(records: Iterable[ConsumedRecord]) -> Iterable[Link]:
    """The contexts in which the records were produced, each once."""
    seen: set[bytes] = set()
    for record in records:
        for name, value in record.headers() or ():
            if name != _TRACEPARENT or value is None or value in seen:
                continue
            seen.add(value)
            found = get_current_span(_contexts.extract({_TRACEPARENT: value.decode("latin-1")})).get_span_context()
            if found.is_valid:
                yield Link(found)
        if len(seen) >= _LINKS_MAX:
            return


class _TracedConsumer(_Reads):
    async def read(self, limits: Any, encoder: Any) -> Any:
        batch = await self._inner.read(limits, encoder)
        self._received(batch.records)
        return batch

    async def take(self, limits: Any, encoder: Any, at_once: Any = None) -> Any:
        taken = await self._inner.take(limits, encoder)  # none at once: each batch gets its span here
        self._received(taken.batch.records)
        return taken


class _TracedReader(_Reads):
    async def fetch(self, *asked: Any) -> Any:
        batch = await self._inner.fetch(*asked)
        self._received(batch.records)
        return batch


class _TracedListener(_Reads):
    """Of a member, a group, or a tail: whatever has ``records``."""

    def records(self, batch: Any) -> Any:
        found = getattr(batch, "records", batch)  # RecordBatch, TailBatch, or the records themselves
        self._received(getattr(found, "records", found), "process")
        return self._inner.records(batch)


class _TracedTails(_Before):
    async def open(self, topic: str, start: Any, listener: Any, *more: Any, **options: Any) -> Any:
        return await self._inner.open(topic, start, _TracedListener(listener, self._tracer), *more, **options)
