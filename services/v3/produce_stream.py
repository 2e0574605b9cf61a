"""A produce request that may stay open for hours, and its reports (kafka-rest-http.md §7.10).

One task reads the request's body piece by piece and hands records to the producer without waiting for earlier ones;
whoever writes the response takes reports as Kafka confirms the records, in the order of the request. What is on its way
is bounded: when a client does not read its reports, or Kafka takes no records, nothing more is read of the request.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

from kafka_gateway.arriving import ArrivingBody
from kafka_gateway.errors import BadRequest, RequestTimeout, ServiceError, ShuttingDown, TooManyRequests
from kafka_gateway.kafka.ports.producing import Producer, Sending
from kafka_gateway.memory_budget import COUNT_FROM, Claim
from kafka_gateway.messages import Call
from kafka_gateway.services.v3.json_stream import CutOff, JsonSplitter, ValueTooLong
from kafka_gateway.services.v3.plain_records import PlainBody, PlainReader
from kafka_gateway.services.v3.rate_limits import RateLimits
from kafka_gateway.services.v3.record_schemas import RecordSchemas
from kafka_gateway.services.v3.records import BrokenJson, Record, RecordBody, RecordReader
from kafka_gateway.services.v3.reports import Reports
from kafka_gateway.stream import Payload

log = logging.getLogger("gateway.v3")

IN_FLIGHT_RECORDS = 10_000
IN_FLIGHT_BYTES = 4 * 1024 * 1024
"""Records of one request that are not reported yet, and bytes of their JSON: beyond either, reading waits."""
_REPORTS_AT_ONCE = 500
_RECORDS_AT_ONCE = 500
"""Records that are looked at and queued in one turn of the event loop: 3 to 8 µs each."""
_QUEUE_FULL_S = 0.02
_TRIES = 4
"""Places at which a record may end that are tried before a piece is looked at byte by byte."""
_TOO_OLD = "Streaming connection open for longer than allowed: Connection will be closed."
_TOO_LONG = "Bad Request: Error processing message: Produce request size is larger than allowed threshold"


@dataclasses.dataclass(frozen=True, slots=True)
class RequestLimits:
    """Bounds of a streaming produce request."""

    record_max: int
    """Bytes of one record's JSON."""
    duration_s: float
    grace_s: float
    rest_timeout_s: float
    """How long the rest of a record may take that has begun to arrive."""


class _TooOld(RequestTimeout):
    text = _TOO_OLD
    help = "Go on with a new request: nothing behind the records that were reported was read."


class _Run:
    """Records that were sent together, and how many of them have been reported."""

    __slots__ = ("next", "records", "sending", "weight")

    def __init__(self, sending: Sending, records: Sequence[Record], weight: int) -> None:
        self.sending = sending
        self.records = records
        self.weight = weight
        """Bytes of JSON of each record, on average."""
        self.next = 0


class ProduceStream:
    """A `gateway.stream.ReplyInParts` of reports. Belongs to the event loop."""

    def __init__(
        self,
        body: AsyncIterator[bytes],
        topic: str,
        reports: Reports,
        producer: Producer,
        plain: PlainReader,
        reader: RecordReader,
        schemas: RecordSchemas,
        call: Call,
        rates: RateLimits,
        refusal: ServiceError | None,
        limits: RequestLimits,
        closed: Callable[[ProduceStream], None],
    ) -> None:
        """``call`` is that of whoever produces.

        ``refusal``: why no record of this topic can be produced; each gets it as its report.
        """
        self._call = call
        self._rights = call.session.rights
        self._body = ArrivingBody.of(body)
        self._topic = topic
        self._reports = reports
        self._producer = producer
        self._plain = plain
        self._reader = reader
        self._schemas = schemas
        self._rates = rates
        self._refusal = refusal
        self._limits = limits
        self._closed = closed
        self._splitter = JsonSplitter(limits.record_max)
        self._claim: Claim | None = None
        self._queue: deque[_Run | bytes] = deque()
        """Reports, or records whose reports are to come, in the order of the request."""
        self._flying = self._flying_bytes = 0
        self._run: list[Record] = []
        """Records that go to the producer together."""
        self._run_bytes = 0
        self._input_over = False
        self._too_old = False
        self._news = asyncio.Event()
        """There may be reports, or the end."""
        self._room = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begins to read."""
        loop = asyncio.get_running_loop()
        self._reading = loop.create_task(self._read(), name="v3-produce")
        self._timer = loop.call_later(self._limits.duration_s, self._grow_old)

    # --- the response -----------------------------------------------------------------------------------------------

    def __aiter__(self) -> ProduceStream:
        return self

    async def __anext__(self) -> Payload:
        while True:
            if reports := self._collect():
                return Payload(reports)
            if self.is_over:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()

    @property
    def is_over(self) -> bool:
        """Whether all of the request has been read and reported (gateway.stream.ReplyInParts)."""
        return self._input_over and not self._queue

    def _collect(self) -> bytes:
        """The reports that are there, in order, up to a bound."""
        parts: list[str] = []
        queue, run = self._queue, self._reports.run
        while queue and (most := _REPORTS_AT_ONCE - len(parts)) > 0:
            head = queue[0]
            if isinstance(head, bytes):
                parts.append(head.decode())
                queue.popleft()
                self._flying -= 1
                continue
            reports = run(head.sending.deliveries, head.records, head.next, most)
            parts += reports
            head.next += len(reports)
            self._flying -= len(reports)
            self._flying_bytes -= len(reports) * head.weight
            if head.next < len(head.records):
                break
            queue.popleft()
        if parts:
            self._room.set()
        return "".join(parts).encode()

    def count_in(self, claim: Claim) -> None:
        """A record that has begun to arrive counts in ``claim`` from now on (gateway.stream.Counted)."""
        self._claim = claim
        self._count()

    def _count(self) -> None:
        size = self._splitter.pending_bytes
        if self._claim is not None and (self._claim.held or size >= COUNT_FROM):
            self._claim.set_to(size)

    def fail(self, error: ServiceError) -> None:
        """Reads nothing more of the request, and puts the error after the reports."""
        self._splitter.drop()
        self._count()
        if not self._input_over:
            self._put(error)
            self.end_input()

    async def aclose(self) -> None:
        """Ends the reports. Records that the producer has are still sent."""
        self._queue.clear()
        self.end_input()
        self._closed(self)

    def end_input(self) -> None:
        """Reads nothing more of the request."""
        if self._reading is not None:
            self._reading.cancel()
        self._over()

    def _over(self) -> None:
        self._input_over = True
        self._splitter.drop()
        self._count()
        if self._timer is not None:
            self._timer.cancel()
        self._news.set()

    def _grow_old(self) -> None:
        self._too_old = True
        self._timer = asyncio.get_running_loop().call_later(self._limits.grace_s, self.end_input)

    # --- the request ------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        try:
            await self._read_all()
        except _Said:
            pass
        except ServiceError as error:  # the body is invalid as HTTP, or as JSON: the rest cannot be read
            await self._refuse(error)
        except ConnectionError:
            log.debug("a client left in the middle of a produce request")
        except Exception:
            log.exception("a streaming produce request failed")
            self._put(ServiceError())
        finally:
            self._over()

    async def _read_all(self) -> None:
        pieces, patience = aiter(self._body), self._body.patience
        while True:
            patience.most_s = self._limits.rest_timeout_s if self._splitter.pending else 0.0
            try:
                data = await anext(pieces)
            except StopAsyncIteration:
                break
            except TimeoutError:
                raise RequestTimeout(
                    "The rest of a record did not arrive in time (request.body.timeout.ms); nothing behind it is read."
                ) from None
            await self._take(data)
            self._count()
        await self._take_values(self._finish)

    async def _take(self, data: bytes) -> None:
        """All records that end in a piece of the body."""
        for _ in range(_TRIES):  # the record that has begun is completed alone, if its end can be guessed
            if not data or not self._splitter.pending:
                break
            end = _first_end(data)
            first, data = data[:end], data[end:]
            await self._take_values(partial(self._splitter.feed, first))
        if data and not self._splitter.pending and not self._counts_each(len(data)):
            for end in _last_ends(data):
                run = data[:end]
                if (plain := self._plain.read_run(run)) is not None:
                    await self._take_plain(plain, end)
                elif (bodies := self._reader.read_block(run)) is not None:
                    await self._take_bodies(bodies, end)
                else:
                    continue
                data = data[end:]
                break
        if data:
            await self._take_values(partial(self._splitter.feed, data))

    def _counts_each(self, size: int) -> bool:
        """Whether the length of each record counts, so that they cannot be read in one go."""
        return self._rates.enabled or size > self._limits.record_max

    async def _take_plain(self, bodies: Sequence[PlainBody], size: int) -> None:
        each = max(1, size // max(1, len(bodies)))
        for start in range(0, len(bodies), _RECORDS_AT_ONCE):
            records, refused = self._plain.records(bodies[start : start + _RECORDS_AT_ONCE])
            if refused or self._refusal is not None or self._too_old:
                left = iter(records)
                for place in range(len(records) + len(refused)):
                    if (error := refused.get(place)) is not None:
                        await self._refuse(error)
                    else:
                        await self._take_record(next(left), each)
            else:
                self._run += records
                self._run_bytes += each * len(records)
            await self._flush()
            await asyncio.sleep(0)

    async def _take_bodies(self, bodies: Sequence[RecordBody], size: int) -> None:
        each = max(1, size // max(1, len(bodies)))
        record_of = self._reader.record
        for start in range(0, len(bodies), _RECORDS_AT_ONCE):
            for body in bodies[start : start + _RECORDS_AT_ONCE]:
                try:
                    record = record_of(body)
                except ServiceError as error:
                    await self._refuse(error)
                    continue
                await self._take_record(record, each)
            await self._flush()
            await asyncio.sleep(0)

    async def _take_values(self, values: Callable[[], list[bytes]]) -> None:
        """The values that the splitter finds; BadRequest if it comes to a place behind which nothing can be read."""
        broken: CutOff | None = None
        try:
            found = values()
        except CutOff as error:
            broken, found = error, error.values
        for place, text in enumerate(found):
            try:
                body = self._reader.read(text)
                record = self._reader.record(body)
            except BrokenJson:
                raise
            except ServiceError as error:
                await self._refuse(error)
            else:
                await self._take_record(record, len(text))
            if place % _RECORDS_AT_ONCE == _RECORDS_AT_ONCE - 1:
                await self._flush()
                await asyncio.sleep(0)
        await self._flush()
        if isinstance(broken, ValueTooLong):
            raise BadRequest(_TOO_LONG)
        if broken is not None:
            raise BadRequest(f"Bad Request: Error processing message: {broken}")

    def _finish(self) -> list[bytes]:
        return self._splitter.finish()

    async def _take_record(self, record: Record, size: int) -> None:
        try:
            refusal = _TooOld() if self._too_old else self._rates.refusal(size) or self._refusal
            if refusal is not None:
                raise refusal
            if record.unready is not None and not self._schemas.complete_now(record, self._topic, self._rights):
                await self._flush()
                await self._schemas.complete(record, self._topic, self._rights)
        except ServiceError as error:
            await self._refuse(error)
            return
        self._run.append(record)
        self._run_bytes += size

    async def _refuse(self, error: ServiceError) -> None:
        await self._flush()
        self._put(error)

    def _put(self, error: ServiceError) -> None:
        self._call.tell_refusal(error)
        self._queue.append(self._reports.failure(error))
        self._flying += 1
        self._news.set()

    async def _flush(self) -> None:
        """Hands the run to the producer, as soon as there is room for it."""
        while self._flying > IN_FLIGHT_RECORDS or self._flying_bytes > IN_FLIGHT_BYTES:
            self._room.clear()
            await self._room.wait()
        if not self._run:
            return
        run, size, self._run, self._run_bytes = self._run, self._run_bytes, [], 0
        try:
            if (waiting := self._producer.ready(self._topic, self._rights)) is not None:
                await waiting
            sending = await self._send(run)
        except asyncio.CancelledError:
            for _ in run:
                self._put(ShuttingDown())
            raise
        except ServiceError as error:
            for _ in run:
                self._put(error)
            if isinstance(error, ShuttingDown):
                raise _Said from None
            return
        weight = size // len(run)
        self._queue.append(_Run(sending, run, weight))
        self._flying += len(run)
        self._flying_bytes += weight * len(run)
        self._news.set()

    async def _send(self, run: Sequence[Record]) -> Sending:
        while True:
            try:
                return self._producer.follow(self._topic, run, self._news.set)
            except TooManyRequests:  # of all clients together: reading waits until Kafka has taken some
                await asyncio.sleep(_QUEUE_FULL_S)


class _Said(Exception):
    """The request has ended, and its last report is in the queue already."""


def _last_ends(data: bytes) -> list[int]:
    """Behind what may be the last complete record of a piece: all of it, a line, or an object before another one."""
    ends = [len(data)] if data.endswith((b"}", b"}\n", b"}\r\n")) else []
    inner = data.rfind(b"\n", 0, -1) + 1 or data.rfind(b"}{") + 1
    return [*ends, inner] if inner else ends


def _first_end(data: bytes) -> int:
    """Behind what may be the end of a record that began in the piece before."""
    ends = [end for end in (data.find(b"\n") + 1, data.find(b"}{") + 1) if end]
    return min(ends, default=len(data))
