"""Producing with v3: one record, a stream of them, or a batch (kafka-rest-http.md §7.10 to §7.12)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from kafka_gateway import jsonio
from kafka_gateway.arriving import ArrivingBody
from kafka_gateway.codec import Codec
from kafka_gateway.config import Config
from kafka_gateway.errors import BadRequest, InvalidBatch, PayloadError, ServiceError, TooManyRequests
from kafka_gateway.jsonio import Raw
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.kafka.ports.producing import Delivery, Producer
from kafka_gateway.messages import Call, Response
from kafka_gateway.rights import Rights
from kafka_gateway.schemas import Preparing, Schemas, in_order
from kafka_gateway.service import Service
from kafka_gateway.services.common.dry_run import DryRunProducer, is_dry
from kafka_gateway.services.common.json_members import NULL, check_names, read_list, read_object
from kafka_gateway.services.common.names import TopicRules
from kafka_gateway.services.v3.bodies import required
from kafka_gateway.services.v3.plain_records import PlainReader
from kafka_gateway.services.v3.produce_stream import ProduceStream, RequestLimits
from kafka_gateway.services.v3.rate_limits import RateLimits
from kafka_gateway.services.v3.record_schemas import RecordSchemas
from kafka_gateway.services.v3.records import Record, RecordBody, RecordReader, read_members
from kafka_gateway.services.v3.reports import BatchFailure, DryRunReports, Reports, code_and_message

_CHARSET = re.compile(r';\s*charset\s*=\s*"?([^";\s]*)', re.IGNORECASE)
_UNSUPPORTED = 'Unsupported charset in Content-Type header. Supports "UTF-8" and "ISO-8859-1".'
_EMPTY = "Payload error. Request body is empty. Data is required."
_ID_MAX = 80
_ID_CHARACTERS = re.compile(r"[0-9A-Za-z_-]+")
_PIECE = 64 * 1024
"""Bytes of a body that is there as a whole that are looked at together."""
_REPORTS_KEPT = 1000
_ENTRY = ("id", "partition_id", "headers", "key", "value", "timestamp")


class _Sending(NamedTuple):
    """Takes records whose data have been read: it writes them, or only judges them."""

    producer: Producer
    schemas: RecordSchemas
    reports: Callable[[str, str], Reports]
    """Of a cluster's topic."""


class ProduceService(Service):
    """The handlers of ``…/records`` and ``…/records:batch``."""

    def __init__(
        self, config: Config, kafka: Kafka, codecs: Mapping[str, Codec], rules: TopicRules, schemas: Schemas
    ) -> None:
        dry_run = DryRunProducer(kafka, config.flag("auto.create.topics.enable"))
        self._writing = _Sending(kafka.producer, RecordSchemas(schemas, dry_run), self._reports_on)
        self._judging = _Sending(dry_run, RecordSchemas(schemas, dry_run, registers=False), DryRunReports)
        self._rules = rules
        self._plain = PlainReader(codecs)
        self._reader = RecordReader(codecs)
        self._rates = RateLimits(config)
        self._entries_max = config.integer("api.v3.produce.batch.maximum.entries")
        limit = config.integer("api.v3.produce.request.size.limit.max.bytes")
        self._limits = RequestLimits(
            record_max=limit or config.integer("request.max.bytes"),
            duration_s=config.seconds("streaming.connection.max.duration.ms"),
            grace_s=config.seconds("streaming.connection.max.duration.grace.period.ms"),
            rest_timeout_s=config.seconds("request.body.timeout.ms"),
        )
        self._streams: set[ProduceStream] = set()
        self._reports: dict[tuple[str, str], Reports] = {}

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            for stream in list(self._streams):
                await stream.aclose()

    def drain(self) -> None:
        """Reads nothing more of open requests; they end when the records sent are reported."""
        for stream in list(self._streams):
            stream.end_input()

    def _sending(self, call: Call) -> _Sending:
        return self._judging if call.query and is_dry(call.query) else self._writing

    def _reports_on(self, cluster: str, topic: str) -> Reports:
        found = self._reports.get((cluster, topic))
        if found is None:
            if len(self._reports) >= _REPORTS_KEPT:  # names that clients make up
                self._reports.clear()
            found = self._reports[cluster, topic] = Reports(cluster, topic)
        return found

    # --- one record, or a stream ------------------------------------------------------------------------------------

    async def records(self, call: Call) -> Response:
        """``POST …/records``. The status is 200, whatever becomes of the records (§7.10)."""
        body = call.request.body
        latin = _is_latin(call.request.headers.get("content-type"))
        if isinstance(body, bytes):
            if not body:
                if call.request.headers.get("content-type") is None:
                    raise PayloadError(_EMPTY)
                return Response(b"")
            if latin:
                body, latin = body.decode("latin-1").encode(), False
            if (reply := self._alone(call, body)) is not None:
                return await reply
            return Response(self._stream(call, _pieces(body), latin))
        return Response(self._stream(call, body, latin))

    def _alone(self, call: Call, body: bytes) -> Awaitable[Response] | None:
        """The reply to a request that is one record and nothing else; None for any other."""
        size = len(body)
        if size > self._limits.record_max or size > _PIECE:
            return None
        if (plain := self._plain.read_run(body)) is not None:
            if len(plain) != 1:
                return None
            records, refused = self._plain.records(plain)
            return self._one(call, records[0] if records else refused[0], size)
        found = self._reader.read_block(body)
        if found is None or len(found) != 1:
            return None
        return self._one(call, self._read(found[0]), size)

    async def _one(self, call: Call, record: Record | ServiceError, size: int) -> Response:
        topic = str(call.params["topic_name"])
        producer, schemas, reports_on = self._sending(call)
        reports, rights = reports_on(str(call.params["cluster_id"]), topic), call.session.rights
        try:
            if isinstance(record, ServiceError):
                raise record
            if (refusal := self._rates.refusal(size) or self._rules.refusal(topic)) is not None:
                raise refusal
            if (
                record.unready is not None and not schemas.complete_now(record, topic, rights)
            ) or call.session.preparing:
                await in_order(call.session, Preparing(lambda _: schemas.complete(record, topic, rights)))
            if (waiting := producer.ready(topic, rights)) is not None:
                await waiting
            (delivery,) = await producer.send(topic, (record,))
        except ServiceError as error:
            call.tell_refusal(error)
            return Response(reports.failure(error))
        return Response(reports.of(delivery, record), records=1)

    def _stream(self, call: Call, body: AsyncIterator[bytes], latin: bool) -> ProduceStream:
        topic = str(call.params["topic_name"])
        producer, schemas, reports_on = self._sending(call)
        stream = ProduceStream(
            ArrivingBody.of(body).through(_recoded) if latin else body,
            topic,
            reports_on(str(call.params["cluster_id"]), topic),
            producer,
            self._plain,
            self._reader,
            schemas,
            call,
            self._rates,
            self._rules.refusal(topic),
            self._limits,
            self._streams.discard,
        )
        self._streams.add(stream)
        stream.start()
        return stream

    # --- batches ----------------------------------------------------------------------------------------------------

    async def batch(self, call: Call) -> Response:
        """``POST …/records:batch``: 207, or a refusal of the whole batch, of which nothing is sent then."""
        topic = str(call.params["topic_name"])
        producer, schemas, reports_on = self._sending(call)
        found = self._plain_entries(call.request.body, topic)
        if found is None:
            found = self._entries(call.request.body, topic)
            await _complete(found[1], topic, schemas, call)
        names, outcomes = found
        records = [each for each in outcomes if not isinstance(each, ServiceError)]
        deliveries = iter(await _send(producer, topic, records, call.session.rights))
        reports = reports_on(str(call.params["cluster_id"]), topic)
        successes, failures = [], []
        for name, outcome in zip(names, outcomes, strict=True):
            if isinstance(outcome, ServiceError):
                failures.append(_failure(name, outcome, topic))
            elif isinstance(delivery := next(deliveries), ServiceError):
                failures.append(_failure(name, delivery, topic))
            else:
                successes.append(f'{{"id":"{name}",{reports.success(delivery, outcome)}')
        return Response(
            f'{{"successes":[{",".join(successes)}],"failures":[{",".join(failures)}]}}'.encode(),
            207,
            records=len(successes),
        )

    def _read(self, body: RecordBody) -> Record | ServiceError:
        try:
            return self._reader.record(body)
        except ServiceError as error:
            return error

    def _plain_entries(self, body: bytes, topic: str) -> tuple[list[str], list[Record | ServiceError]] | None:
        """As ``_entries``, of a batch in which nothing is out of the ordinary; None for any other."""
        if self._rates.enabled or (entries := self._plain.read_batch(body)) is None:
            return None
        names = [entry.id for entry in entries]
        if not 0 < len(set(names)) == len(names) <= self._entries_max or not _are_ids(names):
            return None
        for entry in entries:
            self._plain.check(entry)
        records, refused = self._plain.records(entries)
        refusal, outcomes = self._rules.refusal(topic), iter(records)
        return names, [refused.get(i) or refusal or next(outcomes) for i in range(len(names))]

    def _entries(self, body: bytes, topic: str) -> tuple[list[str], list[Record | ServiceError]]:
        """The id of each entry, and its record or why there is none. Raises what is wrong with the whole batch."""
        if not body.strip() or body.strip() == b"null":
            raise InvalidBatch("Request body is empty. Data is required.")
        members = read_object(_document(body), "The body") or {}
        check_names(members, ("entries",))
        elements = read_list(members.get("entries", NULL), "entries") or []
        entries = [
            required(read_object(element, f"entries[{i}]"), f"entries[{i}]") for i, element in enumerate(elements)
        ]
        names = [_id(entry.get("id"), f"entries[{i}].id") for i, entry in enumerate(entries)]
        if len(set(names)) < len(names):
            raise InvalidBatch("Batch entry IDs are not distinct.")
        if not entries:
            raise InvalidBatch("Empty batch.")
        if len(entries) > self._entries_max:
            raise InvalidBatch("Too many entries in batch.")
        bodies = []
        for i, entry in enumerate(entries):
            check_names(entry, _ENTRY, f"entries[{i}]")
            record = read_members({key: raw for key, raw in entry.items() if key != "id"}, f"entries[{i}]")
            self._reader.check(record)
            bodies.append(record)
        return names, [self._outcome(body, len(bytes(raw)), topic) for body, raw in zip(bodies, elements, strict=True)]

    def _outcome(self, body: RecordBody, size: int, topic: str) -> Record | ServiceError:
        record = self._read(body)
        if isinstance(record, ServiceError):
            return record
        return self._rates.refusal(size) or self._rules.refusal(topic) or record


async def _complete(outcomes: list[Record | ServiceError], topic: str, schemas: RecordSchemas, call: Call) -> None:
    """Makes bytes of what needs a schema."""
    rights = call.session.rights
    for i, outcome in enumerate(outcomes):
        if not isinstance(outcome, ServiceError) and outcome.unready is not None:
            try:
                if not schemas.complete_now(outcome, topic, rights):
                    await schemas.complete(outcome, topic, rights)
            except ServiceError as error:
                call.tell_refusal(error)
                outcomes[i] = error


async def _send(producer: Producer, topic: str, records: Sequence[Record], rights: Rights) -> Sequence[Delivery]:
    if not records:
        return ()
    try:
        if (waiting := producer.ready(topic, rights)) is not None:
            await waiting
        return await producer.send(topic, records)
    except (TooManyRequests, BadRequest, PayloadError) as error:
        return [error] * len(records)


def _failure(name: str, error: ServiceError, topic: str) -> str:
    return jsonio.encode(BatchFailure(name, *code_and_message(error, topic))).decode()


def _are_ids(names: Sequence[str]) -> bool:
    lengths = [*map(len, names)]
    return min(lengths) > 0 and max(lengths) <= _ID_MAX and _ID_CHARACTERS.fullmatch("".join(names)) is not None


def _id(raw: Raw | None, place: str) -> str:
    if raw is None or raw == NULL:
        raise BadRequest(f"{place} must not be null.")
    value = jsonio.decode_value(bytes(raw))
    if not isinstance(value, str) or len(value) > _ID_MAX or not _ID_CHARACTERS.fullmatch(value):
        raise InvalidBatch("Batch entry identifier is not a valid string.")
    return value


_RAW: jsonio.Decoder[Raw] = jsonio.Decoder(Raw)


def _document(body: bytes) -> Raw:
    return jsonio.decode(body, _RAW)


def _is_latin(content_type: str | None) -> bool:
    """Whether the body is ISO-8859-1; BadRequest if it is neither that nor UTF-8."""
    found = _CHARSET.search(content_type) if content_type is not None and ";" in content_type else None
    if found is None or found[1].upper() == "UTF-8":
        return False
    if found[1].upper() == "ISO-8859-1":
        return True
    raise BadRequest(_UNSUPPORTED)


async def _recoded(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for data in body:
        yield data.decode("latin-1").encode()


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    """A body that has come as a whole, in pieces that do not hold up the event loop."""
    for start in range(0, len(data), _PIECE):
        yield data[start : start + _PIECE]
