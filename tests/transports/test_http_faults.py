"""F14: an exception in any of our callbacks, codecs, handlers and sinks fails that one request, and nothing else."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.auth import Authenticator
from kafka_gateway.codec import Codec
from kafka_gateway.hookspecs import hookimpl
from kafka_gateway.kafka.producing.batch import Batch
from kafka_gateway.messages import Call, Response
from kafka_gateway.router import Route
from kafka_gateway.services.common.rows import RecordEncoders
from kafka_gateway.session import Principal
from kafka_gateway.transports.http.transport import HttpTransport
from tests.loop_watch import LoopWatch
from tests.transports.conftest import Connect, gateway
from tests.transports.wire import JSON_V2, V2, Wire, produce, request
from tests.waiting import until

pytestmark = pytest.mark.slow

TIMES = 420
"""Of each of twelve faults, on both ways of HTTP: more than ten thousand in all (docs/spec/reliability.md, F14)."""
WARM = 150
"""After so many caches are filled."""
READ = "/topics/f14/partitions/0/messages?offset=0"
READS = "application/vnd.kafka.json.v1+json"


class Fault(RuntimeError):
    """What goes wrong. Not a ServiceError: nobody has foreseen it."""


def fail(*arguments: object, **named: object) -> Any:
    raise Fault("canary-of-the-inside")


async def fail_later(*arguments: object, **named: object) -> Any:
    await asyncio.sleep(0)
    fail()


class FaultyCodec(Codec):
    name = "faulty"
    generations = frozenset({"v1", "v2"})

    def store(self, datum: Any) -> bytes:
        return fail()

    def load(self, stored: bytes) -> Any:
        return fail()


class Faulty:
    """A plugin of which everything fails."""

    @hookimpl
    def gateway_codecs(self) -> Sequence[Codec]:
        return [FaultyCodec()]

    @hookimpl
    def gateway_routes(self) -> Sequence[Route]:
        async def unspeakable(call: Call) -> Response:
            return Response(object())

        async def header(call: Call) -> Response:
            return Response({}, headers=(("X", 1), "Y"))  # type: ignore[arg-type]

        return [
            Route("GET", "/f14/handler", fail_later),
            Route("GET", "/f14/no-coroutine", fail),
            Route("GET", "/f14/nothing", lambda call: None),
            Route("GET", "/f14/value", unspeakable),
            Route("GET", "/f14/header", header),
            Route("POST", "/f14/body", fail_later, takes=fail),
        ]


@pytest.fixture
async def app() -> Any:
    async with gateway(Faulty()) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_tracebacks() -> Iterator[None]:
    """pytest would keep ten thousand of them, and all that they refer to."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def break_producer(app: App, patch: pytest.MonkeyPatch) -> None:
    for way in ("send", "send_each"):
        patch.setattr(app.kafka.producer, way, fail)


CASES: dict[str, tuple[bytes, Callable[[App, pytest.MonkeyPatch], None] | None]] = {
    "handler": (request("GET", "/f14/handler"), None),
    "handler that is no coroutine": (request("GET", "/f14/no-coroutine"), None),
    "handler without an answer": (request("GET", "/f14/nothing"), None),
    "value that is no JSON": (request("GET", "/f14/value"), None),
    "header that is none": (request("GET", "/f14/header"), None),
    "reader of the body": (request("POST", "/f14/body", b"{}"), None),
    "producer": (produce("f14"), break_producer),
    "metadata": (request("GET", "/topics/f14"), lambda app, patch: patch.setattr(app.kafka.admin, "topic", fail_later)),
    "codec, reading": (request("GET", READ, Accept=READS.replace("json.", "faulty.")), None),
    "codec, writing": (
        request(
            "POST", "/topics/f14", b'{"records":[{"value":1}]}', Content_Type="application/vnd.kafka.faulty.v2+json"
        ),
        None,
    ),
    "encoder": (request("GET", READ, Accept=READS), lambda app, patch: patch.setattr(RecordEncoders, "get", fail)),
    "sink": (request("GET", "/topics"), lambda app, patch: patch.setattr(HttpTransport, "_write", fail_later)),
}


@pytest.mark.parametrize("case", CASES)
async def test_f14_an_exception_fails_its_request_only(
    app: App, connect: Connect, monkeypatch: pytest.MonkeyPatch, loop_watch: LoopWatch, case: str
) -> None:
    data, break_it = CASES[case]
    other = await connect()
    await other.send(produce("f14", b'{"records":[{"value":1,"partition":0}]}'))
    assert (await other.reply()).status == 200
    before = 0
    with monkeypatch.context() as patch:
        if break_it is not None:
            break_it(app, patch)
        wire = await Wire.open(app.addresses[0])
        times = TIMES if case != "codec, reading" else 20  # each fetches the record from Kafka
        for number in range(times):
            if number == min(WARM, times // 2):
                before = await _objects(app)
            await wire.send(data)
            reply = await wire.reply()
            assert (reply.status, reply.json) == (500, {"error_code": 500, "message": "Internal Server Error"}), reply
            if reply.closes:
                assert await wire.closed() == b""
                wire.writer.close()
                wire = await Wire.open(app.addresses[0])
        # Of 350 requests: it is none, or a few less. Now and then a thread still holds the last exception that it
        # raised, with its frames and what is in them: 35 objects for each of up to three threads.
        assert await _objects(app) - before < 150
        wire.writer.close()
    await other.send(produce("f14"))
    assert (await other.reply()).json["offsets"][0]["error_code"] is None
    await until(lambda: app.host.connection_count == 1)
    assert app.gateway.running == 0
    assert len(app.gateway.sessions) == 1
    loop_watch.held.clear()  # counting objects takes its time


async def _objects(app: App) -> int:
    """How many there are when both connections are idle: one that is still being closed counts for fifty.

    But for timers that were cancelled: asyncio's loop keeps up to a hundred of these, each with a context, and forgets
    them when it has more or when they are due.
    """
    await until(lambda: (app.host.connection_count, app.gateway.running) == (2, 0))
    for _ in range(3):  # what was closed is called back once more
        await asyncio.sleep(0)
    gc.collect()
    objects = gc.get_objects()
    timers = sum(1 for each in objects if type(each) is asyncio.TimerHandle and each.cancelled())
    return len(objects) - 2 * timers


async def test_f14_in_a_delivery_report(app: App, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes out of librdkafka's poll: whatever was on its way is answered, and a new producer goes on."""
    wire, other = await connect(), await connect()
    await wire.send(produce("f14"))
    assert (await wire.reply()).status == 200
    for _ in range(20):
        with monkeypatch.context() as patch:
            patch.setattr(Batch, "delivered_alone", fail)
            await wire.send(produce("f14"))
            reply = await wire.reply()
            assert reply.status >= 500 or reply.json["offsets"][0]["error_code"], reply
        await other.send(produce("f14"))
        assert (await other.reply()).json["offsets"][0]["error_code"] is None
    assert app.kafka.producer.waiting == (0, 0)  # type: ignore[attr-defined]


async def test_f14_in_the_thread_of_a_consumer(connect: Connect) -> None:
    """The codec runs there. The instance goes on, and so do others; the record stays where it is."""
    wire = await connect()
    await wire.send(produce("f14c", b'{"records":[{"value":1,"partition":0}]}'))
    assert (await wire.reply()).status == 200
    for name in ("faulty", "json"):
        body = b'{"name":"%b","format":"%b","auto.offset.reset":"earliest"}' % (name.encode(), name.encode())
        assert (await wire.ask("POST", f"/consumers/{name}", body, Content_Type=V2)).status == 200
        path = f"/consumers/{name}/instances/{name}"
        assert (await wire.ask("POST", f"{path}/subscription", b'{"topics":["f14c"]}', Content_Type=V2)).status == 204
    faulty = {"Accept": "application/vnd.kafka.faulty.v2+json"}
    faults = 0
    while faults < 20:
        reply = await wire.ask("GET", "/consumers/faulty/instances/faulty/records", **faulty)
        if reply.json:  # the group may still be forming
            assert (reply.status, reply.json["message"]) == (500, "Internal Server Error")
            faults += 1
    found: list[Any] = []
    while not found:
        found = (await wire.ask("GET", "/consumers/json/instances/json/records", Accept=JSON_V2)).json
    assert [each["value"] for each in found] == [1]
    for name in ("faulty", "json"):
        assert (await wire.ask("DELETE", f"/consumers/{name}/instances/{name}")).status == 204


class FaultyAuthenticator(Authenticator):
    name = "FAULTY"

    async def authenticate(self, headers: Any, peer: str) -> Principal:
        if "authorization" in headers:
            return Principal("ada")
        raise Fault("canary-of-the-inside")


class FaultyAuthentication:
    @hookimpl
    def gateway_authenticators(self) -> Sequence[Authenticator]:
        return [FaultyAuthenticator()]


async def test_f14_in_an_authenticator() -> None:
    """Whoever cannot be told from others is not let in."""
    settings = {"authentication.method": "FAULTY", "listeners": "http://127.0.0.1:0"}
    async with gateway(FaultyAuthentication(), **settings) as app, await Wire.open(app.addresses[0]) as good:
        assert (await good.ask("GET", "/topics", Authorization="x")).status == 200
        for _ in range(TIMES):
            async with await Wire.open(app.addresses[0]) as wire:
                reply = await wire.ask("POST", "/topics/t", b"{}", Content_Type=JSON_V2)
                assert reply.status == 500
                assert reply.json["message"].endswith("could not be judged, because the authenticator failed.")
                wire.writer.close()
        assert (await good.ask("GET", "/topics", Authorization="x")).status == 200
        await until(lambda: app.host.connection_count == 1)
        assert len(app.gateway.sessions) == 1


async def test_details_are_told_with_debug_only() -> None:
    for debug in (False, True):
        async with gateway(Faulty(), debug=debug) as app, await Wire.open(app.addresses[0]) as wire:
            reply = await wire.ask("GET", "/f14/handler")
            assert (b"canary" in reply.body) == debug
