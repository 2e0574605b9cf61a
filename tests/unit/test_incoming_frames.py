"""What is seen of a client's frames before aiohttp's parser: masks, unfinished messages, and when they are over."""

from __future__ import annotations

import asyncio
import random
import struct
from typing import Any

import pytest
from aiohttp import WebSocketError

from kafka_gateway.memory_budget import COUNT_FROM, MemoryBudget
from kafka_gateway.transports.websocket.frame_heads import read_head
from kafka_gateway.transports.websocket.incoming_frames import FrameRules, IncomingFrames
from tests.waiting import until

TEXT, CONTINUATION, PING, PONG = 1, 0, 9, 10


def frame(length: int, opcode: int = TEXT, final: bool = True, masked: bool = True) -> bytes:
    first, mask = opcode | (0x80 if final else 0), 0x80 if masked else 0
    if length < 126:
        head = bytes((first, mask | length))
    elif length < 65536:
        head = struct.pack(">BBH", first, mask | 126, length)
    else:
        head = struct.pack(">BBQ", first, mask | 127, length)
    return head + (b"mask" if masked else b"") + bytes(length)


class Connection:
    paused = 0

    @property
    def transport(self) -> Connection:
        return self

    def is_reading(self) -> bool:
        return not self.paused

    def pause_reading(self) -> None:
        self.paused += 1

    def resume_reading(self) -> None:
        self.paused -= 1


class Parser:
    def __init__(self) -> None:
        self.got = b""
        self.ended = False

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.got += data
        return False, b""

    def feed_eof(self) -> None:
        self.ended = True


class Queue:
    error: BaseException | None = None

    def set_exception(self, error: BaseException) -> None:
        self.error = error


class Socket:
    def __init__(self, memory: MemoryBudget | None = None, **rules: Any) -> None:
        self.memory = memory or MemoryBudget(1 << 30)
        self.connection, self.parser, self.queue = Connection(), Parser(), Queue()
        self.frames = IncomingFrames(self.connection, self.parser, self.queue, FrameRules(self.memory, **rules))

    def feed(self, data: bytes, step: int = 0) -> None:
        for at in range(0, len(data), step or len(data)):
            self.frames.feed_data(data[at : at + (step or len(data))])

    @property
    def code(self) -> int:
        return self.queue.error.code if isinstance(self.queue.error, WebSocketError) else 0


def test_heads() -> None:
    for length in (0, 125, 126, 65535, 65536, 1 << 40):
        for masked in (False, True):
            data = frame(min(length, 70000), masked=masked)
            if length > 70000:
                data = struct.pack(">BBQ", 0x82, 0xFF if masked else 0x7F, length) + b"mask" * masked
            found = read_head(b"x" + data, 1, 1 + len(data))
            assert found is not None
            assert (found.length, found.masked) == (length, masked)
            size = found.begin - 1
            assert all(read_head(data, 0, end) is None for end in range(size))


async def test_frames_cut_anywhere_are_followed_to_the_byte() -> None:
    """All goes on to the parser; nothing is counted when all messages are whole, and a missing mask is found."""
    rnd = random.Random(5)
    for _ in range(200):
        messages = b""
        for _ in range(rnd.randrange(1, 12)):
            if rnd.random() < 0.3:
                messages += frame(rnd.choice((3, 200, 70000)), final=False) + frame(rnd.randrange(125), PING)
                messages += frame(rnd.choice((0, 5, 66000)), CONTINUATION, final=False)
                messages += frame(rnd.choice((0, 3, 300)), CONTINUATION)
            else:
                messages += frame(rnd.choice((0, 1, 5, 125, 126, 70000)))
        socket = Socket()
        step = rnd.choice((0, 1, 3, 1000)) if len(messages) < 3000 else rnd.choice((0, 100, 65536))
        socket.feed(messages, step)
        assert socket.parser.got == messages
        assert (socket.memory.held, socket.code) == (0, 0)
        socket.feed(frame(5, masked=False), step)
        assert socket.code == 1002


def pong(payload: bytes, mask: bytes = b"mask") -> bytes:
    masked = bytes(each ^ mask[place & 3] for place, each in enumerate(payload))
    return bytes((0x80 | PONG, 0x80 | len(payload))) + mask + masked


@pytest.mark.parametrize("mask", [b"mask", bytes(4), b"\xff\x00\x01\x80"])
async def test_pongs_between_frames_go_past_the_parser(mask: bytes) -> None:
    socket, heard = Socket(), list[bytes]()
    socket.frames.pong = heard.append
    payloads = [b"", b"1", b"12345678", b"x" * 125]
    for each in payloads:
        socket.feed(pong(each, mask))
    assert heard == payloads
    assert socket.parser.got == b""
    socket.feed(pong(b"2", mask) + pong(b"3", mask) + frame(5) + pong(b"4", mask))
    assert heard == [*payloads, b"2", b"3"]
    assert socket.parser.got == frame(5) + pong(b"4", mask)
    socket.feed(frame(5, final=False) + frame(3, CONTINUATION, final=False))
    socket.feed(pong(b"5", mask))
    assert heard[-1] == b"5"
    assert (socket.memory.held, socket.code) == (0, 0)


async def test_pongs_that_are_cut_are_the_parsers() -> None:
    sent = pong(b"17")
    for cut in range(1, len(sent)):
        socket, heard = Socket(), list[bytes]()
        socket.frames.pong = heard.append
        socket.feed(sent[:cut])
        socket.feed(sent[cut:])
        assert heard == []
        assert socket.parser.got == sent
        socket.feed(sent)
        assert heard == [b"17"]


async def test_what_only_looks_like_a_pong_is_no_pong() -> None:
    socket, heard = Socket(), list[bytes]()
    socket.frames.pong = heard.append
    data = frame(20)
    socket.feed(data[:-12])
    socket.feed(pong(b"123456"))  # the end of that frame's payload
    assert heard == []
    assert socket.parser.got == data[:-12] + pong(b"123456")
    for broken in (
        bytes((0x80 | PONG, 1)) + b"x",  # without a mask
        bytes((0x80 | PONG, 0x80 | 126)) + b"\x00\x7emask" + bytes(126),  # longer than a pong may be
        bytes((0xC0 | PONG, 0x80)) + b"mask",  # with a reserved bit
        bytes((PONG, 0x80)) + b"mask",  # not final
    ):
        socket = Socket()
        socket.frames.pong = heard.append
        socket.feed(broken)
        assert heard == []
        assert socket.parser.got == broken or socket.code == 1002


async def test_nobody_hears_of_pongs_behind_the_end() -> None:
    socket, heard = Socket(), list[bytes]()
    socket.frames.pong = heard.append
    socket.frames.feed_eof()
    socket.feed(pong(b"1"))
    assert heard == []
    assert socket.frames.pong is None


async def test_an_unfinished_message_counts_until_it_is_whole() -> None:
    socket = Socket()
    data = frame(500_000)
    for at in range(0, 490_000, 10_000):
        socket.feed(data[at : at + 10_000])
        assert at - COUNT_FROM <= socket.memory.held <= at + 10_000
    socket.feed(data[490_000:])
    assert socket.memory.held == 0
    for _ in range(10):
        socket.feed(frame(50_000, final=False))
        socket.feed(frame(10, PING))
    assert socket.memory.held > 400_000
    socket.feed(frame(0, CONTINUATION))
    assert socket.memory.held == 0


async def test_all_is_free_when_the_client_has_left() -> None:
    socket = Socket()
    socket.feed(frame(500_000)[:-1])
    socket.frames.feed_eof()
    assert socket.parser.ended
    assert socket.memory.held == 0


async def test_a_message_in_fragments_has_its_time() -> None:
    socket = Socket(fragments_s=0.05)
    socket.feed(frame(1, final=False) + frame(1, CONTINUATION))
    await asyncio.sleep(0.1)  # time itself: a whole message needs none
    assert socket.code == 0
    socket.feed(frame(1, final=False) + frame(1, PING))
    await until(lambda: socket.code)
    assert socket.code == 1008
    before = socket.parser.got
    socket.feed(frame(1, CONTINUATION))
    assert socket.parser.got == before, "what still comes is dropped"


@pytest.mark.parametrize("length", [5, 200, 70_000])
@pytest.mark.parametrize("cut", [1, 3, 12, -1])
async def test_a_frame_that_does_not_go_on_ends_the_socket(length: int, cut: int) -> None:
    """Fault: half a frame stayed for as long as its client liked, on sockets that send no pings."""
    socket = Socket(window_s=0.1)
    data = frame(length)
    socket.feed(frame(3) + (data[:cut] if cut < len(data) else data[:-1]))
    await until(lambda: socket.code)
    assert (socket.code, socket.memory.held) == (1008, 0)


async def test_frames_that_go_on_are_left_alone() -> None:
    going, held = Socket(window_s=0.15), Socket(window_s=0.15)
    data = frame(20) * 7
    for at in range(0, len(data), 20):  # nearly every read ends within a frame
        going.feed(data[at : at + 20])
        await asyncio.sleep(0.04)  # time itself: it goes on, if slowly
    assert going.code == 0
    held.feed(frame(20)[:10])
    held.connection.pause_reading()  # the gateway does not read it
    await asyncio.sleep(0.4)  # time itself: longer than the window
    assert held.code == 0
    held.feed(frame(20)[10:])
    held.connection.resume_reading()
    await asyncio.sleep(0.2)  # time itself: within the window
    assert (going.code, held.code) == (0, 0)


async def test_a_message_whose_fragments_do_not_go_on_ends_the_socket() -> None:
    """Fault: every frame of it was complete, and so it stayed for as long as its client liked."""
    socket = Socket(window_s=0.1)
    socket.feed(frame(3) + frame(5, final=False) + frame(4, PING))
    await until(lambda: socket.code)
    assert (socket.code, socket.memory.held) == (1008, 0)


async def test_a_long_message_keeps_the_least_rate() -> None:
    socket = Socket(rate=1000, window_s=0.4)
    data = frame(300_000)
    socket.feed(data[:100_000])
    await asyncio.sleep(0.2)  # time itself: within the window
    socket.feed(data[100_000:200_000])
    await asyncio.sleep(0.3)  # time itself: within the window
    assert socket.code == 0
    await until(lambda: socket.code)
    assert (socket.code, socket.memory.held) == (1008, 0)


async def test_who_holds_the_most_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kafka_gateway.memory_budget.PATIENCE_S", 0.02)
    memory = MemoryBudget(1_000_000)
    small, large = Socket(memory), Socket(memory)
    small.feed(frame(900_000)[:300_000])
    large.feed(frame(900_000)[:800_000])
    assert memory.used_up
    assert (small.connection.paused, large.connection.paused) == (0, 1)
    small.feed(bytes(COUNT_FROM))
    assert small.connection.paused == 1
    await until(lambda: large.code)
    assert (small.code, large.code) == (0, 1013)
    assert (small.connection.paused, large.connection.paused) == (0, 0)
    assert not memory.used_up
