"""How much the interpreter does for one operation of the hot paths: ``python -m tests.bench.instructions [--write]``.

Processor time drifts by half within an hour; the number of the interpreter's instructions does not. It is counted with
a trace function, so it is exact, needs no tool, and is the same on each machine with the same minor version of Python.
What C code does beneath is not in it: docs/performance.md says how to count that with callgrind.

``--write`` keeps the counts in instructions.json beside this file, with which test_instructions.py compares: whoever
makes a path dearer by more than a twentieth sees it, and says why in the commit.
"""

from __future__ import annotations

import asyncio
import json
import os
import selectors
import shutil
import struct
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, cast

from kafka_gateway.codecs.binary import BinaryCodec
from kafka_gateway.codecs.json import JsonCodec
from kafka_gateway.core import Gateway
from kafka_gateway.door.admission import Demand
from kafka_gateway.kafka.ports.tails import Tail, TailBatch
from kafka_gateway.kafka.ports.topics import PartitionOffset
from kafka_gateway.memory_budget import MemoryBudget
from kafka_gateway.messages import Call, Reply, Request, Response
from kafka_gateway.records import RecordBatch
from kafka_gateway.router import Route
from kafka_gateway.services.common.rows import v2_encoder
from kafka_gateway.services.streams.topic_stream import StreamedTopic, TopicStream
from kafka_gateway.session import Session
from kafka_gateway.transports.envelope.session import EnvelopeSession
from kafka_gateway.transports.envelope.settings import EnvelopeSettings
from kafka_gateway.transports.records import frames
from kafka_gateway.transports.records.connection import FeedConnection, StreamLimits
from kafka_gateway.transports.websocket.incoming_frames import FrameRules, IncomingFrames
from tests.bench import proxy_sockets as proxy
from tests.bench import pushes
from tests.bench.forwarding import reads
from tests.bench.identity import ALICE, METHODS, gateway_with, request_of
from tests.bench.stages import V2, VALUE, Record, null_gateway, produce_body

KEPT = Path(__file__).with_name("instructions.json")
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
_NOT_OURS = (os.path.dirname(asyncio.__file__), selectors.__file__, str(Path(__file__).parents[1]))
"""The event loop, and what tests watch it with."""

UNDER_RIGHTS = "a batch to 1,000 event streams under rights"

Operation = Callable[[], Awaitable[object] | None]


class Client:
    """Takes everything: the far side of an envelope socket, or of a connection."""

    def __init__(self) -> None:
        self.got = 0

    def send(self, payload: bytes, binary: bool = False) -> None:
        self.got += 1

    def hold(self) -> None:
        pass

    def release(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.got += 1

    def set_write_buffer_limits(self, high: int = 0) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str) -> object:
        return None


class Parser:
    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        return False, b""


async def instructions(operation: Operation) -> int:
    """Of one call, without those of the event loop and of tests, and without what is done for the first time only."""
    await _run(operation)
    executed = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal executed
        if frame.f_code.co_filename.startswith(_NOT_OURS):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        executed += event == "opcode"
        return trace

    sys.settrace(trace)
    try:
        await _run(operation)
    finally:
        sys.settrace(None)
    return executed


async def _run(operation: Operation) -> None:
    waits = operation()
    if waits is not None:
        await waits


@asynccontextmanager
async def operations() -> AsyncIterator[Mapping[str, Operation]]:
    """By what they are."""
    gateway = null_gateway()
    session = await gateway.open_session("http", {})
    records: Any = [Record(VALUE)] * 500
    texts: Any = [Record(b'{"a":1}')] * 500
    encode, encode_texts = v2_encoder(BinaryCodec()), v2_encoder(JsonCodec())

    def encoded() -> None:
        encode(records)

    def encoded_texts() -> None:
        encode_texts(texts)

    folder = tempfile.mkdtemp()
    try:
        # The first gets ready, and ends, while nobody else is there to ask for the time.
        async with (
            proxy.to_proxy_sockets() as proxy_sockets,
            pushes.to_push_subscriptions() as push_subscriptions,
            reads(Path(folder)) as of_instances,
        ):
            yield {
                "dispatch a produce of 1, binary": partial(_dispatch, gateway, session, 1, "binary"),
                "dispatch a produce of 1, json": partial(_dispatch, gateway, session, 1, "json"),
                "begin a produce of 1, binary": await _begin(gateway, session),
                "dispatch a produce of 500, binary": partial(_dispatch, gateway, session, 500, "binary"),
                "read 500 records": encoded,
                "read 500 records, json": encoded_texts,
                "an envelope with a produce": await _envelope(gateway),
                "16 envelopes with a produce, of one turn": await _envelope(gateway, 16),
                "16 frames of a client": _incoming_frames(),
                "a batch to 1,000 event streams": _fan_out(gateway, session),
                UNDER_RIGHTS: _fan_out_under_rights(Path(folder)),
                proxy.WHAT: partial(proxy_sockets, proxy.RECORDS, proxy.APART_S),
                proxy.WHAT_IS_PRODUCED: proxy.produce_socket(),
                proxy.WHAT_OF_FEW: partial(proxy_sockets, proxy.FEW, proxy.FEW_APART_S),
                pushes.WHAT: push_subscriptions,
                **{f"a produce of 1 with {method}": request_of(method, Path(folder)) for method in METHODS},
                **of_instances,
            }
    finally:
        shutil.rmtree(folder)
        await gateway.close_session(session)


async def _dispatch(gateway: Gateway, session: Session, size: int, fmt: str) -> None:
    headers = {"content-type": V2 % fmt}
    body = produce_body(size, fmt)
    reply = await gateway.dispatch(Request(session, "POST", "/topics/orders", headers=headers, body=body))
    assert reply.status == 200


async def _begin(gateway: Gateway, session: Session) -> Operation:
    def request() -> Request:
        return Request(session, "POST", "/topics/orders", headers={"content-type": V2 % "binary"}, body=body)

    body = produce_body(1, "binary")
    await gateway.dispatch(request())
    plan = gateway.at_once.plan(request())
    assert plan is not None

    async def run() -> None:
        answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        assert gateway.at_once.begin(plan, request(), answered.set_result)
        assert (await answered).status == 200

    return run


async def _envelope(gateway: Gateway, count: int = 1) -> Operation:
    session, client = await gateway.open_session("websocket", {}), Client()
    settings = EnvelopeSettings.of(gateway.config)
    envelope = EnvelopeSession(settings, cast(Any, client), session, gateway, {}, "http://gateway.example")
    head = json.dumps({"id": "1", "method": "POST", "path": "/topics/orders", "type": V2 % "binary"})
    message = head.encode() + produce_body(1, "binary")

    async def run() -> None:
        before = client.got
        for _ in range(count):
            envelope.take(message)
        async with asyncio.timeout(10):
            while client.got < before + count:  # noqa: ASYNC110  # it waits for nothing but the loop
                await asyncio.sleep(0)
        assert client.got == before + count

    await run()
    await run()  # from now on no task serves them
    return run


async def _no_handler(call: Call) -> Response:
    raise AssertionError("only streams that are open are looked at")


def _incoming_frames() -> Operation:
    watch = IncomingFrames(None, Parser(), None, FrameRules(MemoryBudget(1 << 20)))
    data = (struct.pack(">BBH", 0x81, 0xFE, 300) + b"mask" + b"x" * 300) * 16

    def run() -> None:
        watch.feed_data(data)

    return run


def _fan_out_under_rights(folder: Path) -> Operation:
    gateway, session = gateway_with("BASIC", folder), Session("http", principal=ALICE)
    gateway.proofs.welcome(session, "")
    assert session.guarded
    return _fan_out(gateway, session)


def _fan_out(gateway: Gateway, session: Session) -> Operation:
    limits, client, encode = StreamLimits(gateway.config), Client(), v2_encoder(BinaryCodec())
    followers = []
    for _ in range(1000):
        stream = TopicStream(encode, 0, False, 0, lambda _: None)
        follower = StreamedTopic(stream)
        if session.guarded:
            opened, request = Response(stream), Request(session, "GET", "/topics/orders/stream")
            route = Route("GET", "/topics/{topic}/stream", _no_handler, "streams.topics")
            gateway.admission.answered(
                Call(request, route, {}, "", ""), opened, Demand((("describe", "topic", "orders"),))
            )
            assert opened.value is stream
        follower.tail = cast(Tail, None)
        stream.set_topics([follower])
        stream.outlet = FeedConnection(cast(Any, client), limits, gateway, stream, frames.sse, b"", b"")
        followers.append(follower)

    def run() -> None:
        before = client.got
        batch = TailBatch(RecordBatch(cast(Any, [Record(VALUE)]), 0), (PartitionOffset("orders", 0, 1),))
        for each in followers:
            each.records(batch)
        assert client.got == before + 1000

    return run


async def measured() -> dict[str, int]:
    async with operations() as found:
        return {name: await instructions(operation) for name, operation in found.items()}


def kept() -> dict[str, dict[str, int]]:
    """By version of Python and operation."""
    return cast(dict[str, dict[str, int]], json.loads(KEPT.read_text()))


def main(arguments: Sequence[str]) -> None:
    counts, before = asyncio.run(measured()), kept()
    if "--json" in arguments:
        print(json.dumps(counts))
        return
    for name, number in counts.items():
        was = before.get(VERSION, {}).get(name)
        print(f"{number:10,}  {name}" + (f"  (kept: {was:,})" if was not in (None, number) else ""))
    if "--write" in arguments:
        KEPT.write_text(json.dumps({**before, VERSION: counts}, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
