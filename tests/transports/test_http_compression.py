"""Compression of plain HTTP, both ways, and bodies made to blow up (reliability.md H6)."""

from __future__ import annotations

import asyncio
import functools
import gzip
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kafka_gateway.assembly.app import App
from tests.loop_watch import LoopWatch
from tests.transports.conftest import Connect
from tests.transports.wire import JSON_V2, Wire, produce, request

RECORDS = b'{"records":[{"value":"' + b"x" * 5000 + b'"}]}'


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


# --- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(RECORDS)),
        ("GZIP", gzip.compress(RECORDS)),
        ("gzip", gzip.compress(RECORDS[:100]) + gzip.compress(RECORDS[100:])),
        ("deflate", zlib.compress(RECORDS)),
        ("deflate", raw_deflate(RECORDS)),
        ("identity", RECORDS),
    ],
    ids=["gzip", "upper case", "two members", "zlib", "raw deflate", "identity"],
)
@pytest.mark.parametrize("how", ["at once", "in pieces"])
async def test_a_body_is_decoded(wire: Wire, topic: str, coding: str, body: bytes, how: str) -> None:
    data = produce(topic, body, Content_Encoding=coding)
    size = len(data) if how == "at once" else max(1, len(data) // 20)
    for start in range(0, len(data), size):
        await wire.send(data[start : start + size])
        await asyncio.sleep(0)
    reply = await wire.reply()
    assert (reply.status, len(reply.json["offsets"])) == (200, 1), reply
    assert (await wire.ask("GET", "/health/live")).status == 200


@pytest.mark.parametrize(
    ("coding", "status"),
    [
        ("gzip", 400),
        ("deflate", 400),
        ("gzip, gzip", 415),
        ("compress", 415),
        ("br", 415),
        ("zstd", 415),
    ],
)
@pytest.mark.parametrize("how", ["at once", "in pieces"])
async def test_a_body_that_cannot_be_decoded(wire: Wire, coding: str, status: int, how: str) -> None:
    data = produce("t", RECORDS, Content_Encoding=coding)
    for part in (data[:-3000], data[-3000:]) if how == "in pieces" else (data,):
        await wire.send(part)
        await asyncio.sleep(0)
    reply = await wire.reply()
    assert (reply.status, reply.json["error_code"]) == (status, status), reply


async def test_a_gzip_body_that_is_cut_off(wire: Wire) -> None:
    await wire.send(produce("t", gzip.compress(RECORDS)[:-20], Content_Encoding="gzip"))
    assert (await wire.reply()).status == 400


# --- replies ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def read(wire: Wire, topic: str) -> Any:
    """``await read(accept_encoding)``: a reply of some 10 kB."""
    await wire.send(produce(topic, b'{"records":[{"value":"' + b"y" * 10000 + b'","partition":0}]}'))
    assert (await wire.reply()).status == 200

    async def read(**headers: str) -> Any:
        target = f"/topics/{topic}/partitions/0/messages?offset=0&count=1"
        accept = "application/vnd.kafka.json.v1+json"
        return await wire.ask("GET", target, Accept=accept, **headers)

    return read


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip", True),
        ("GZip", True),
        ("deflate, gzip;q=1.0, *;q=0.5", True),
        ("br;q=1.0, gzip;q=0.001", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000, deflate", False),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("deflate", False),
        ("identity", False),
        ("xgzip", False),
        ("", False),
        (None, False),
    ],
)
async def test_a_reply_is_packed_if_the_client_accepts_it(read: Any, accepted: str | None, packed: bool) -> None:
    plain = await read()
    reply = await read(**({} if accepted is None else {"Accept_Encoding": accepted}))
    assert ("content-encoding" in reply.headers) == packed
    assert reply.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert (gzip.decompress(reply.body) if packed else reply.body) == plain.body
    if packed:
        assert len(reply.body) < 500


async def test_small_replies_are_not_packed(wire: Wire) -> None:
    reply = await wire.ask("GET", "/brokers", Accept_Encoding="gzip")
    assert "content-encoding" not in reply.headers


@pytest.mark.parametrize("settings", [{"compression.enable": False}])
async def test_packing_can_be_switched_off(read: Any) -> None:
    reply = await read(Accept_Encoding="gzip")
    assert not {"content-encoding", "vary"} & reply.headers.keys()


# --- H6: bombs -------------------------------------------------------------------------------------------------------

_MIB = 1024 * 1024
_ZEROS = bytes(_MIB)
_BLOCKS = 256


def bomb(head: bytes, end: Callable[[int], bytes]) -> bytes:
    """``_BLOCKS`` MiB of zeros, packed by a thousand: one MiB is packed, and comes again and again."""
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(_ZEROS) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = head + _BLOCKS * block + packer.flush() + end(_BLOCKS * _MIB)
    begins = zlib.decompressobj(wbits=47).decompress(packed, 16 * _MIB)
    assert begins == 16 * _ZEROS, "any garbage would be refused as well"
    return packed


def _sum(add: Callable[[bytes, int], int], start: int) -> int:
    return functools.reduce(lambda value, _: add(_ZEROS, value), range(_BLOCKS), start)


@functools.cache
def bombs() -> dict[str, tuple[str, bytes, int]]:
    """Content-Encoding, body and the status of the answer."""
    packed = bomb(b"\x1f\x8b\x08" + bytes(7), lambda size: struct.pack("<II", _sum(zlib.crc32, 0), size))
    nested = gzip.compress(packed)
    return {
        "gzip": ("gzip", packed, 413),
        "deflate": ("deflate", bomb(b"\x78\xda", lambda _: struct.pack(">I", _sum(zlib.adler32, 1))), 413),
        "nested": ("gzip, gzip", nested, 415),
        "nested, one named": ("gzip", nested, 400),
        "20,000 empty members": ("gzip", gzip.compress(b"") * 20_000, 400),
        "20,000 members": ("gzip", gzip.compress(b" ") * 20_000, 400),
    }


BOMBS = ("gzip", "deflate", "nested", "nested, one named", "20,000 empty members", "20,000 members")


@pytest.mark.timing
@pytest.mark.parametrize("settings", [{"request.decompressed.max.bytes": 8 * _MIB}])
@pytest.mark.parametrize("kind", BOMBS)
async def test_h6_a_bomb_does_no_harm(connect: Connect, loop_watch: LoopWatch, kind: str) -> None:
    coding, body, status = await asyncio.to_thread(lambda: bombs()[kind])
    wire = await connect()
    before = _rss_bytes()
    data = produce("t", body, Content_Encoding=coding)
    loop_watch.limit_s = 0.02
    began, worked = time.perf_counter(), time.process_time()
    await wire.send(data)
    reply = await wire.reply()
    took = time.perf_counter() - began
    assert (reply.status, reply.json["error_code"]) == (status, status), reply
    assert took < 0.3, "0.1 s, and room for a busy machine"
    assert _rss_bytes() - before < 20 * _MIB
    # And the rest is not decoded either, while the connection is being closed.
    await (await connect()).ask("GET", "/health/live")
    await asyncio.sleep(0.3)  # time itself: how much work is done in it
    assert time.process_time() - worked < 0.3


@pytest.mark.parametrize("settings", [{"request.max.bytes": 1000, "request.decompressed.max.bytes": 2000}])
async def test_both_limits_count(app: App, connect: Connect, topic: str) -> None:
    def records(size: int) -> bytes:
        empty = b'{"records":[{"value":""}]}'
        return empty[:-4] + b"z" * (size - len(empty)) + empty[-4:]

    for body, coding, status in (
        (records(1000), "identity", 200),
        (records(1001), "identity", 413),
        (gzip.compress(records(2000)), "gzip", 200),
        (gzip.compress(records(2001)), "gzip", 413),
    ):
        wire = await connect()
        await wire.send(produce(topic, body, Content_Encoding=coding))
        assert (await wire.reply()).status == status, (len(body), coding)
        head = request("POST", f"/topics/{topic}", Content_Type=JSON_V2, Transfer_Encoding="chunked",
                       Content_Encoding=coding)  # fmt: skip
        wire = await connect()
        await wire.send(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        assert (await wire.reply()).status == status, (len(body), coding, "chunked")


def _rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
