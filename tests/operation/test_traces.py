"""Spans of requests and records: their parents, links and names; collectors that hang (observability.md §2)."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from kafka_gateway.assembly.app import App
from kafka_gateway.config import ConfigError
from kafka_gateway.kafka.ports.consuming import ConsumerSettings
from kafka_gateway.records import RecordBatch
from kafka_gateway.tracing import provider
from kafka_gateway.tracing.kafka import TracedKafka
from tests.gateway_process import GatewayProcess
from tests.operation.scraped import OPENMETRICS
from tests.transports.conftest import gateway
from tests.waiting import PATIENCE_S

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
BINARY = "application/vnd.kafka.binary.v2+json"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    plain = provider.tracing

    @asynccontextmanager
    async def tracing() -> AsyncIterator[Any]:
        async with plain(exporter) as tracer:
            yield tracer

    monkeypatch.setattr(provider, "tracing", tracing)
    return exporter


def by_name(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [each for each in spans.get_finished_spans() if each.name == name]


async def produce(client: aiohttp.ClientSession, app: App, topic: str, **headers: str) -> None:
    url, body = f"{app.addresses[0]}/topics/{topic}", {"records": [{"value": "eA=="}, {"value": "eQ=="}]}
    async with client.post(url, data=json.dumps(body), headers={"Content-Type": BINARY, **headers}) as reply:
        assert reply.status == 200


async def test_a_produce_is_a_child_and_reading_is_linked_to_it(spans: InMemorySpanExporter, topic: str) -> None:
    async with gateway(tracing_enable=True) as app, aiohttp.ClientSession() as client:
        await produce(client, app, topic, traceparent=TRACEPARENT, **{"X-Request-Id": "of-mine"})
        (server,) = by_name(spans, "POST /topics/{topic}")
        (send,) = by_name(spans, f"send {topic}")
        assert server.kind is SpanKind.SERVER
        assert server.parent is not None
        assert (f"{server.context.trace_id:032x}", f"{server.parent.span_id:016x}") == (TRACE, PARENT)
        assert server.attributes is not None
        assert server.attributes["kafka_gateway.request_id"] == "of-mine"
        assert server.attributes["http.response.status_code"] == 200
        assert server.attributes["kafka_gateway.transport"] == "http"
        assert send.kind is SpanKind.PRODUCER
        assert send.parent is not None
        assert send.parent.span_id == server.context.span_id
        assert send.attributes is not None
        assert dict(send.attributes) == {
            "messaging.system": "kafka",
            "messaging.destination.name": topic,
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.batch.message_count": 2,
        }
        url = f"{app.addresses[0]}/topics/{topic}/partitions/0/messages?offset=0&count=10"
        found: list[ReadableSpan] = []
        for partition in range(4):
            async with client.get(
                url.replace("/0/", f"/{partition}/"), headers={"Accept": "application/vnd.kafka.binary.v1+json"}
            ) as reply:
                await reply.read()
            found = by_name(spans, f"poll {topic}")
            if found:
                break
        assert found[0].kind is SpanKind.CONSUMER
        assert {f"{link.context.trace_id:032x}" for link in found[0].links} == {TRACE}
        assert {link.context.span_id for link in found[0].links} == {send.context.span_id}


async def test_records_carry_the_context_unless_their_client_set_one(
    spans: InMemorySpanExporter, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kafka_gateway.kafka.producing.producer import KafkaProducer

    sent: list[Any] = []
    plain = KafkaProducer.send

    def send(self: KafkaProducer, topic: str, records: Any, partition: int | None = None) -> Any:
        sent.extend(records)
        return plain(self, topic, records, partition)

    monkeypatch.setattr(KafkaProducer, "send", send)
    async with gateway(tracing_enable=True) as app, aiohttp.ClientSession() as client:
        own = {"name": "traceparent", "value": "b3du"}  # "own"
        body = {"records": [{"value": "eA=="}, {"value": "eQ==", "headers": [own]}]}
        url = f"{app.addresses[0]}/topics/{topic}"
        async with client.post(url, data=json.dumps(body), headers={"Content-Type": BINARY}) as reply:
            assert reply.status == 200
    (span,) = by_name(spans, f"send {topic}")
    context = span.context
    ((name, value),) = sent[0].headers
    assert (name, value[:-2]) == ("traceparent", f"00-{context.trace_id:032x}-{context.span_id:016x}-".encode())
    assert list(sent[1].headers) == [("traceparent", b"own")]


async def test_an_envelope_may_carry_its_parent(spans: InMemorySpanExporter) -> None:
    async with (
        gateway(tracing_enable=True, transport_websocket_enable=True) as app,
        aiohttp.ClientSession() as client,
        client.ws_connect(app.addresses[0] + "/") as socket,
    ):
        await socket.send_str(
            json.dumps({"id": "1", "method": "GET", "path": "/topics", "headers": {"traceparent": TRACEPARENT}})
        )
        await socket.receive(timeout=PATIENCE_S)
        (server,) = by_name(spans, "GET /topics")
    assert f"{server.context.trace_id:032x}" == TRACE


async def test_exemplars_of_traced_requests(spans: InMemorySpanExporter) -> None:
    async with gateway(tracing_enable=True) as app, aiohttp.ClientSession() as client:
        await (await client.get(app.addresses[0] + "/topics", headers={"traceparent": TRACEPARENT})).read()
        text = await (await client.get(app.addresses[0] + "/metrics", headers={"Accept": OPENMETRICS})).text()
    assert f'# {{trace_id="{TRACE}"}}' in text


@pytest.mark.parametrize("broken", ["", "00-zz-zz-01", "x" * 10_000, f"00-{'0' * 32}-{PARENT}-01", "ü"])
async def test_a_broken_parent_is_none(spans: InMemorySpanExporter, broken: str) -> None:
    async with gateway(tracing_enable=True) as app, aiohttp.ClientSession(max_field_size=20_000) as client:
        headers = {"traceparent": broken}
        async with client.get(app.addresses[0] + "/topics", headers=headers) as reply:
            assert reply.status in (200, 431)
            if reply.status == 200:
                (server,) = by_name(spans, "GET /topics")
                assert server.parent is None


async def test_what_a_listener_answers_its_member_is_heard() -> None:
    """Whether a batch may be committed now."""

    class Inner:
        async def member(self, settings: ConsumerSettings, topic: str, listener: object) -> object:
            return listener

    listener = SimpleNamespace(records=lambda batch: batch.count == 0)
    traced: Any = TracedKafka(Inner(), trace.NoOpTracer())
    heard = await traced.member(ConsumerSettings("g", "c"), "t", listener)
    assert heard.records(RecordBatch((), 0)) is True


def test_off_means_not_imported() -> None:
    script = (
        "import asyncio, sys\n"
        "from kafka_gateway.assembly.app import serve\n"
        "from kafka_gateway.assembly.plugins import Plugins\n"
        "from kafka_gateway.config import load\n"
        "async def main():\n"
        "    plugins = Plugins(installed=False)\n"
        "    async with serve(load(plugins.config_keys(), None, ['port=0']), plugins):\n"
        "        print(sorted(name for name in sys.modules if name.startswith('opentelemetry')))\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class _Collector:
    """Receives OTLP over HTTP."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.came = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    import gzip

                    body = gzip.decompress(body)
                told = ExportTraceServiceRequest.FromString(body)
                outer.names += [
                    span.name for each in told.resource_spans for scope in each.scope_spans for span in scope.spans
                ]
                outer.came.set()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def collector() -> Iterator[_Collector]:
    running = _Collector()
    yield running
    running.server.shutdown()
    running.server.server_close()


async def test_a_collector_gets_them(collector: _Collector, monkeypatch: pytest.MonkeyPatch, topic: str) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    async with gateway(tracing_enable=True) as app, aiohttp.ClientSession() as client:
        await produce(client, app, topic)
    assert await asyncio.to_thread(collector.came.wait, 10)
    assert {"POST /topics/{topic}", f"send {topic}"} <= set(collector.names)


@pytest.mark.parametrize(
    ("name", "value", "way_out"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "port 4318"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "tracing.enable=false"),
    ],
)
async def test_what_would_go_unheard_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, way_out: str
) -> None:
    """A collector that is asked by gRPC on port 4317 would get HTTP, and nobody would say why it has no spans."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"{name}.*{way_out}"):
        async with gateway(tracing_enable=True):
            pass


@pytest.mark.timing
async def test_a_collector_that_hangs_harms_nobody(monkeypatch: pytest.MonkeyPatch, topic: str) -> None:
    silent = socket.create_server(("127.0.0.1", 0))  # connections wait in its backlog, and get no answer
    port = silent.getsockname()[1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    async with gateway(tracing_enable=True) as app, aiohttp.ClientSession() as client:
        for _ in range(20):
            await produce(client, app, topic)
        ending = time.monotonic()
    assert time.monotonic() - ending < 8
    silent.close()


def test_a_collector_that_hangs_does_not_hold_the_end_of_the_process() -> None:
    """OpenTelemetry waits 30 s for the last spans, on a thread that the process must not wait for."""
    with socket.create_server(("127.0.0.1", 0)) as collector:
        collector.settimeout(30)
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.getsockname()[1]}",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "600",
            "OTEL_BSP_SCHEDULE_DELAY": "10",
        }
        with GatewayProcess("tracing.enable=true", environment=environment, start_s=60) as gateway:
            with urllib.request.urlopen(f"{gateway.url}/topics", timeout=30) as reply:
                assert reply.status == 200
            connection, _ = collector.accept()  # the spans are on their way, and nobody answers
            with connection:
                assert gateway.stop(timeout_s=20) == 0
            gateway.wait_for("the collector of traces took no last spans within 2 s")
