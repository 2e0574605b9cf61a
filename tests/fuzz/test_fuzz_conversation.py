"""H2: mutated envelopes, split at random, from the first byte to the reply: whatever comes, somebody gets an answer.

``KAFKA_GATEWAY_FUZZ_ENVELOPES`` is their number.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import random
import re
import time
from collections.abc import AsyncIterator, Iterator

import psutil
import pytest

from kafka_gateway.assembly import app as assembly
from kafka_gateway.config import Config
from kafka_gateway.errors import CloseReason
from kafka_gateway.transports.envelope.session import EnvelopeSession
from kafka_gateway.transports.envelope.settings import EnvelopeSettings
from tests.fuzz.envelope import CORPUS
from tests.fuzz.envelope_target import unpack
from tests.fuzz.mutations import mutate
from tests.logged import logged
from tests.services.fake_kafka import FakeKafka
from tests.transports.conftest import gateway
from tests.transports.stub_service import StubService

COUNT = int(os.environ.get("KAFKA_GATEWAY_FUZZ_ENVELOPES", "100000"))
ROUNDS = 20
PER_CLIENT = 50
CPU_MAX_S = 0.01
MEMORY_MAX_BYTES = 5 << 20

V1 = "application/vnd.kafka.binary.v1+json"
V2 = "application/vnd.kafka.json.v2+json"
HEADS: list[tuple[dict[str, object], bytes]] = [
    ({"method": "GET", "path": "/topics"}, b""),
    ({"method": "GET", "path": "/topics/t/partitions/0?a=%41&b", "accept": "*/*"}, b""),
    ({"method": "POST", "path": "/topics/t", "type": V1}, b'{"records":[{"value":"S2Fma2E="},{"key":"YQ=="}]}'),
    ({"method": "POST", "path": "/topics/t", "type": V2}, '{"records":[{"value":{"é😀":[1.10,null]}}]}'.encode()),
    (
        {"method": "POST", "path": "/stub/back", "type": "text/plain", "headers": {"X-A": [1, True]}},
        "é€😀".encode() * 9,
    ),
    ({"method": "POST", "path": "/stub/back", "type": "application/octet-stream"}, bytes(range(256))),
    ({"method": "DELETE", "path": "/stub/nothing?x=é", "accept": "application/json;q=0.5, text/*"}, b"{}"),
]
FAULT = re.compile(rb'\{("id": ?"[^"]*", ?)?"(error_)?code": ?5')
"""A status or an error code of the gateway's own failing, in all forms of replies."""


class Heard:
    """A client that takes everything, and looks at it."""

    def __init__(self) -> None:
        self.answers = 0
        self.faults: list[bytes] = []

    def send(self, payload: bytes, binary: bool = False) -> None:
        self.answers += 1
        if not binary:
            payload.decode()
        if FAULT.match(payload):
            self.faults.append(payload)

    async def drain(self) -> None:
        return None

    async def written(self) -> None:
        return None

    def has_written(self) -> bool:
        return True

    def hold(self) -> None:
        return None

    def release(self) -> None:
        return None

    def close(self, reason: CloseReason) -> None:
        raise AssertionError(f"closed: {reason}")


@pytest.fixture
async def conversations(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Conversations]:
    kafka = FakeKafka(t=1)
    kafka.auto_create = False

    @contextlib.asynccontextmanager
    async def open_fake(config: Config) -> AsyncIterator[FakeKafka]:
        yield kafka

    monkeypatch.setattr(assembly, "open_kafka", open_fake)
    async with gateway(StubService()) as app:
        made = Conversations(kafka, EnvelopeSettings.of(app.gateway.config), app)
        yield made


class Conversations:
    """One after the other, over a Kafka that keeps nothing."""

    def __init__(self, kafka: FakeKafka, settings: EnvelopeSettings, app: assembly.App) -> None:
        self._kafka, self._settings, self._app = kafka, settings, app
        self.heard = Heard()
        self.taken = 0
        self.slowest_s = 0.0

    async def run(self, messages: Iterator[bytes]) -> None:
        """All that one client says, and the answers to it."""
        session = await self._app.gateway.open_session("websocket", {})
        conversation = EnvelopeSession(
            self._settings, self.heard, session, self._app.gateway, {}, "http://gateway.example"
        )
        try:
            for message in messages:
                began = time.thread_time()
                conversation.take(message)
                await _quiet(session.tasks)
                self.slowest_s = max(self.slowest_s, time.thread_time() - began)
                self.taken += 1
        finally:
            await conversation.aclose()
            await self._app.gateway.close_session(session)
        self._kafka.calls.clear()
        self._kafka.add_topic("t")


async def _quiet(tasks: set[asyncio.Task[object]]) -> None:
    """Returns when the requests have been answered: none of these waits for anything but the loop."""
    while tasks:
        await asyncio.wait(list(tasks))


def said(seeds: list[bytes], rnd: random.Random) -> Iterator[bytes]:
    """Messages of one client: requests cut into parts that are mixed with one another, most of them mutated."""
    waiting: list[list[bytes]] = []
    for number in range(PER_CLIENT):
        if len(waiting) < 4:
            waiting.append(parts(number, seeds, rnd) if rnd.random() < 0.8 else [rnd.choice(seeds)])
        chosen = rnd.choice(waiting)
        message = chosen.pop(0)
        if not chosen:
            waiting.remove(chosen)
        yield mutate(message, seeds, rnd) if rnd.random() < 0.4 else message


def parts(number: int, seeds: list[bytes], rnd: random.Random) -> list[bytes]:
    """A request in one message or up to four; its content, mutated or not, is cut anywhere, within characters too."""
    head, content = rnd.choice(HEADS)
    if rnd.random() < 0.5:
        content = mutate(content, seeds, rnd)
    cuts = sorted(rnd.randint(0, len(content)) for _ in range(rnd.choice((0, 0, 1, 2, 3))))
    pieces = [content[start:end] for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    found = []
    for place, piece in enumerate(pieces):
        members: dict[str, object] = {"id": str(number), **(head if place == 0 else {})}
        if place < len(pieces) - 1:
            members["continue"] = True
        found.append(json.dumps(members, ensure_ascii=rnd.random() < 0.5, separators=(",", ":")).encode() + piece)
    return found


@pytest.mark.slow
@pytest.mark.timeout(COUNT / 500 + 60)
async def test_mutated_envelopes(conversations: Conversations, caplog: pytest.LogCaptureFixture) -> None:
    """The seed is in the failure's locals."""
    seed = random.randrange(2**32)
    rnd = random.Random(seed)
    seeds = [message for each in sorted(CORPUS.iterdir()) for message in unpack(each.read_bytes())]
    memory = psutil.Process().memory_info
    sizes: list[int] = []
    late = 0
    with caplog.at_level(logging.WARNING):
        for _ in range(ROUNDS):
            conversations.slowest_s = 0.0
            for _ in range(COUNT // ROUNDS // PER_CLIENT):
                await conversations.run(said(seeds, rnd))
            late += conversations.slowest_s > CPU_MAX_S
            gc.collect()
            sizes.append(memory().rss)
    heard = conversations.heard
    assert conversations.taken == COUNT // ROUNDS // PER_CLIENT * ROUNDS * PER_CLIENT
    assert heard.answers > COUNT / 3
    assert heard.faults == [], seed
    assert logged(caplog) == [], seed
    # One message in a round may meet a busy machine; one that is slow by itself comes again.
    assert late <= ROUNDS / 4, f"seed {seed}: more than {CPU_MAX_S} s in {late} of {ROUNDS} rounds"
    assert sizes[-1] - sizes[ROUNDS // 2] < MEMORY_MAX_BYTES, sizes
