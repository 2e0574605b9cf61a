"""H2 and H3 for the tunnel, scaled: broken requests and replies, cut anywhere, through the relay itself."""

from __future__ import annotations

import random
import struct
from types import SimpleNamespace
from typing import Any

import pytest

from kafka_gateway.errors import CloseReason
from kafka_gateway.memory_budget import MemoryBudget, MemoryShare
from kafka_gateway.transports.tunnel import apis
from kafka_gateway.transports.tunnel.advertised_addresses import AdvertisedAddresses
from kafka_gateway.transports.tunnel.counts import Counts
from kafka_gateway.transports.tunnel.relay import Relay, Rules
from kafka_gateway.wire.frames import Cutter, WireError
from tests.fuzz.mutations import mutate
from tests.tunnel import replies
from tests.tunnel.fake_broker import reply, request
from tests.tunnel.test_rewriting import CORPUS

CODES = {1003, 1007, 1008, 1009, 1011, 1000, 1014}
REAL = b"kafka-1.internal"


class Socket:
    """The client's side: keeps messages as they are put together from their parts."""

    congested = False

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.closed: CloseReason | None = None
        self._parts: list[bytes] | None = None

    def send(self, payload: bytes, binary: bool = False) -> None:
        assert binary
        assert self._parts is None, "a message within another"
        self.messages.append(bytes(payload))

    def send_part(self, part: bytes, *, first: bool, last: bool) -> None:
        assert first == (self._parts is None)
        self._parts = [*(self._parts or []), bytes(part)]
        if last:
            self.messages.append(b"".join(self._parts))
            self._parts = None

    def close(self, reason: CloseReason) -> None:
        self.closed = reason

    def flush(self) -> None: ...
    def hold(self) -> None: ...
    def release(self) -> None: ...


class Broker:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.transport = SimpleNamespace(write=self.written.append)
        self.closed = False

    def attach(self, receiver: Any) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def close(self) -> None:
        self.closed = True


def tunnel() -> tuple[Relay, Socket, Broker, MemoryShare]:
    socket, broker, budget = Socket(), Broker(), MemoryBudget(1 << 30).share(1 << 20)
    routes = SimpleNamespace(learn=lambda *_: None)
    rules = Rules(apis.INTERNAL, True, apis.CAPS, 1 << 20, 4 << 20)
    connection: Any = broker
    relay = Relay(connection, rules, AdvertisedAddresses("gw", 1000), routes, budget, Counts())  # type: ignore[arg-type]
    relay.attach(socket)  # type: ignore[arg-type]
    return relay, socket, broker, budget


def cut(data: bytes, rnd: random.Random) -> list[bytes]:
    at, pieces = 0, []
    while at < len(data):
        step = rnd.choice((1, 2, 3, 7, 50, 1000))
        pieces.append(data[at : at + step])
        at += step
    return pieces


LONG = replies.fetch(17, lambda node: (REAL, 9092), (2,), b"rack", bytes(300_000))
REPLIES = [*CORPUS, (1, 17, LONG), (11, 9, reply(7, b"x" * 40)), (18, 3, reply(7, b"\0\x23" + bytes(10)))]


def test_whole_replies_cut_anywhere() -> None:
    """In any pieces: the same messages, and no real address in them."""
    rnd = random.Random(7)
    for number in range(300):
        chosen = [rnd.choice(REPLIES) for _ in range(4)]
        relay, socket, broker, budget = tunnel()
        for index, (key, version, _) in enumerate(chosen):
            relay.take(request(key, version, index, _body(key, version)), False)
        stream = b"".join(struct.pack(">ii", len(each) - 4, i) + each[8:] for i, (_, _, each) in enumerate(chosen))
        for piece in cut(stream, rnd):
            relay.received(piece)
        assert socket.closed is None, (number, chosen[0][:2], socket.closed)
        assert [struct.unpack_from(">ii", each) for each in socket.messages] == [
            (len(each) - 4, index) for index, each in enumerate(socket.messages)
        ]
        assert len(socket.messages) == len(chosen)
        assert not any(b".internal" in each for each in socket.messages)
        relay.close()
        assert budget.held == 0
        assert broker.closed


def _body(key: int, version: int) -> bytes:
    if key != apis.PRODUCE:
        return b""
    return (b"\0\0" if version >= 9 else b"\xff\xff" if version >= 3 else b"") + b"\0\x01"


@pytest.mark.slow
async def test_broken_replies_raise_nothing() -> None:
    rnd = random.Random(20261121)
    frames = [each for _, _, each in CORPUS]
    for number in range(6000):
        key, version, good = CORPUS[number % len(CORPUS)]
        relay, socket, _, budget = tunnel()
        relay.take(request(key, version, 7, _body(key, version)), False)
        for piece in cut(mutate(good, frames, rnd), rnd):
            relay.received(piece)
        relay.lost(None)
        assert socket.closed is not None
        assert socket.closed.code in CODES
        relay.close()
        assert budget.held == 0


@pytest.mark.slow
def test_broken_requests_raise_nothing() -> None:
    """What is written to the broker is whole frames of APIs that are relayed."""
    rnd = random.Random(20261121)
    good = [request(key, version, 1, _body(key, version)) for key in range(93) for version in (0, 3, 9, 12)]
    good += [bytes.fromhex("0000001200110000000000010001630005504c41494e"), bytes.fromhex("0000000400750070")]
    for number in range(20_000):
        relay, socket, broker, _ = tunnel()
        relay.take(mutate(good[number % len(good)], good, rnd), rnd.random() < 0.01)
        if socket.closed is not None:
            assert socket.closed.code in CODES
            assert broker.written == []
        for each in broker.written:
            assert Cutter(least=10).cut(each) == [each]
            key = struct.unpack_from(">h", each, 4)[0]
            assert key in apis.KNOWN - apis.INTERNAL
        relay.close()


def test_the_cutter_has_one_error_of_its_own() -> None:
    rnd = random.Random(3)
    for _ in range(3000):
        cutter = Cutter(10_000)
        try:
            for piece in cut(mutate(reply(1, b"abc") * 5, [b"\xff" * 8], rnd), rnd):
                cutter.cut(piece)
        except WireError:
            continue
