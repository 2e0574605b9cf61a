"""What each stage on the way of a request costs: ``python -m tests.bench.stages [NAME …]``.

Prints microseconds of processor time for each operation, the best of several rounds. Figures with the machine they were
taken on stand in docs/performance.md; nothing here passes or fails by time.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any

from kafka_gateway.assembly import builtin
from kafka_gateway.auth import NoAuthentication
from kafka_gateway.codecs.binary import BinaryCodec
from kafka_gateway.codecs.json import JsonCodec
from kafka_gateway.config import load
from kafka_gateway.core import Gateway
from kafka_gateway.kafka.ports.producing import Delivery, Outcomes, Stored
from kafka_gateway.messages import Request
from kafka_gateway.records import RecordToSend
from kafka_gateway.registry.catalogue import Catalogue
from kafka_gateway.rights import Rights
from kafka_gateway.router import Router
from kafka_gateway.services.common.rows import v2_encoder
from kafka_gateway.services.rest.produce_bodies import RecordsReader
from kafka_gateway.services.rest.routes import RestServices
from kafka_gateway.services.v3.plain_records import PlainReader
from kafka_gateway.services.v3.reports import Reports
from kafka_gateway.services.v3.routes import V3Routes
from kafka_gateway.session import Session
from tests.keys import BUILTIN_KEYS
from tests.services.fake_kafka import FakeKafka

V2 = "application/vnd.kafka.%s.v2+json"
VALUE = b"x" * 100
JSON_VALUE = json.dumps({"id": 1, "text": "x" * 80}, separators=(",", ":")).encode()


class StoredRecord:
    """A stored record."""

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 0

    def timestamp(self) -> tuple[int, int]:
        return 1, 0


class Record(StoredRecord):
    """A consumed record."""

    def __init__(self, value: bytes) -> None:
        self._value = value

    def topic(self) -> str:
        return "topic"

    def key(self) -> None:
        return None

    def value(self) -> bytes:
        return self._value

    def headers(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 1, 0


class NullProducer:
    """Confirms everything at once, so that what is measured is the gateway's own."""

    def ready(self, topic: str, rights: Rights) -> Awaitable[None] | None:
        return None

    def knows(self, topic: str) -> bool:
        return True

    def send(
        self, topic: str, records: Sequence[RecordToSend], partition: int | None = None
    ) -> asyncio.Future[list[Delivery]]:
        future: asyncio.Future[list[Delivery]] = asyncio.get_running_loop().create_future()
        place: Stored = StoredRecord()
        future.set_result([place] * len(records))
        return future

    def send_each(self, topic: str, batches: Sequence[Sequence[RecordToSend]], told: Outcomes) -> None:
        place: Stored = StoredRecord()
        outcomes = [(number, [place] * len(records)) for number, records in enumerate(batches)]
        asyncio.get_running_loop().call_soon(told, outcomes)


def produce_body(count: int, fmt: str) -> bytes:
    value = b'"%s"' % base64.b64encode(VALUE) if fmt == "binary" else JSON_VALUE
    return b'{"records":[' + b",".join([b'{"value":%s}' % value] * count) + b"]}"


V3_RECORD = b'{"value":{"type":"JSON","data":%s}}' % JSON_VALUE


def v3_batch(count: int) -> bytes:
    return b'{"entries":[' + b",".join(b'{"id":"%d",%s' % (i, V3_RECORD[1:]) for i in range(count)) + b"]}"


def null_gateway() -> Gateway:
    config = load(BUILTIN_KEYS)
    codecs = {codec.name: codec for codec in builtin.gateway_codecs(config)}
    kafka = FakeKafka()
    kafka.producer = NullProducer()  # type: ignore[assignment]
    catalogue = Catalogue(config, codecs)
    routes = [
        *RestServices(config, kafka, codecs, catalogue).routes(),
        *V3Routes(config, kafka, codecs, catalogue).routes(),
    ]
    return Gateway(
        config,
        Router(routes),
        codecs,
        NoAuthentication(),
    )


Stage = tuple[str, int, Callable[[], object]]


def stages() -> Iterator[Stage]:
    """(name, operations in one call, call)."""
    gateway = null_gateway()
    yield "route /topics/{topic}", 1, lambda: gateway.router.match("POST", "/topics/orders")
    for fmt, codec in (("binary", BinaryCodec()), ("json", JsonCodec())):
        reader = RecordsReader("v2")
        for count in (1, 500):
            body = produce_body(count, fmt)
            yield f"read a produce body, {fmt}, of {count}", count, partial(reader, body, codec)
        value = VALUE if fmt == "binary" else JSON_VALUE
        records: Any = [Record(value)] * 1000
        yield f"encode records, {fmt}", 1000, partial(v2_encoder(codec), records)

    run = V3_RECORD * 500
    plain = PlainReader({codec.name: codec for codec in (BinaryCodec(), JsonCodec())})
    bodies = plain.read_run(run) or []
    made, reports, stored = plain.records(bodies)[0], Reports("cluster", "orders"), [StoredRecord()] * 500
    yield "read a run of v3 records", 500, partial(plain.read_run, run)
    yield "make them what the producer takes", 500, partial(plain.records, bodies)
    yield "report on them", 500, partial(reports.run, stored, made, 0, 500)

    session = Session("bench")

    def dispatch(body: bytes, path: str = "/topics/orders", media_type: str = V2 % "binary") -> Callable[[], object]:
        request = Request(session, "POST", path, headers={"content-type": media_type}, body=body)

        async def run() -> None:
            for _ in range(100):
                reply = await gateway.dispatch(request)
            assert reply.status in (200, 207), reply

        return lambda: asyncio.run(run())

    yield "dispatch a produce of 1", 100, dispatch(produce_body(1, "binary"))
    yield "dispatch a produce of 500", 100 * 500, dispatch(produce_body(500, "binary"))
    records_path = "/v3/clusters/cluster/topics/orders/records"
    for count in (1, 10):
        yield f"dispatch a produce of {count}, json", 100, dispatch(produce_body(count, "json"), media_type=V2 % "json")
    yield "dispatch a v3 record, json", 100, dispatch(V3_RECORD, records_path, "application/json")
    yield "dispatch a v3 batch of 10, json", 100, dispatch(v3_batch(10), records_path + ":batch", "application/json")


def microseconds(operations: int, call: Callable[[], object], rounds: int = 5, seconds: float = 0.1) -> float:
    """Processor time of one operation, the best of several rounds."""
    call()
    best = float("inf")
    for _ in range(rounds):
        calls, began = 0, time.process_time()
        while (used := time.process_time() - began) < seconds or not calls:
            call()
            calls += 1
        used = time.process_time() - began
        best = min(best, used / calls / operations)
    return best * 1e6


def main(names: Sequence[str]) -> None:
    for name, operations, call in stages():
        if not names or any(word in name for word in names):
            print(f"{microseconds(operations, call):10.3f} µs  {name}")


if __name__ == "__main__":
    main(sys.argv[1:])
