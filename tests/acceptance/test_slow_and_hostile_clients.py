"""H6, H7 against the real program, on uvloop: its memory, and how much other clients notice."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from tests.gateway_process import GatewayProcess
from tests.transports.test_http_compression import bombs
from tests.transports.wire import JSON_V2, Wire, produce, request

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(90)]

MIB = 1024 * 1024
QUIET = "access.log.enable=false"


class Probe:
    """A client that goes on all the time; the longest of its waits."""

    def __init__(self, url: str) -> None:
        self.latencies: list[float] = []
        self._task = asyncio.ensure_future(self._run(url))

    async def _run(self, url: str) -> None:
        wire = await Wire.open(url)
        try:
            while True:
                began = time.perf_counter()
                assert (await wire.ask("GET", "/health/live")).status == 200
                self.latencies.append(time.perf_counter() - began)
                await asyncio.sleep(0.01)  # time itself: so often is enough
                if wire.reader.at_eof():  # this process stood still for longer than a connection may be idle
                    wire.writer.close()
                    wire = await Wire.open(url)
        finally:
            wire.writer.close()

    async def median(self) -> float:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        return sorted(self.latencies)[len(self.latencies) // 2]


@pytest.mark.timing
async def test_h6_bombs_from_many_clients() -> None:
    thrown = await asyncio.to_thread(bombs)
    with GatewayProcess(QUIET, f"request.decompressed.max.bytes={4 * MIB}") as gateway:
        probe = Probe(gateway.url)
        before = gateway.rss_bytes()

        async def throw(kind: str) -> None:
            coding, body, status = thrown[kind]
            wire = await Wire.open(gateway.url)
            with contextlib.suppress(ConnectionError):
                await wire.send(produce("t", body, Content_Encoding=coding))
            reply = await wire.reply()
            assert reply.status == status, (kind, reply)
            wire.writer.close()

        for _ in range(5):
            await asyncio.gather(*(throw(kind) for kind in thrown))
        assert gateway.rss_bytes() - before < 20 * MIB * 3, "six at a time, and what malloc keeps of them"
        assert await probe.median() < 0.2, "it shares two processors with 30 bombs, and with those who throw them"
        assert gateway.stop() == 0


@pytest.mark.timing
async def test_h7_slow_clients() -> None:
    """300 of each kind, with a tenth of the deadlines."""
    times = ("request.header.timeout.ms=1000", "request.body.timeout.ms=2000", "idle.timeout.ms=1000")
    kinds = {
        "silent": b"",
        "half a head": b"GET /topics HTTP/1.1\r\nHost: x\r\n",
        "half a body": request("POST", "/topics/t", Content_Length="1000", Content_Type=JSON_V2) + b"{",
        "half a chunk": request("POST", "/topics/t", Transfer_Encoding="chunked", Content_Type=JSON_V2) + b"ff\r\n{",
        "half a second head": request("GET", "/health/live") + b"GET / HT",
    }
    with GatewayProcess(QUIET, *times) as gateway:
        probe = Probe(gateway.url)
        before = gateway.rss_bytes()
        wires = []
        for data in kinds.values():
            for _ in range(300):
                wires.append(await Wire.open(gateway.url))
                wires[-1].write(data)
        began = time.monotonic()
        await asyncio.gather(*(wire.closed(timeout_s=15) for wire in wires))
        assert time.monotonic() - began < 8
        for wire in wires:
            wire.writer.close()
        await asyncio.sleep(0)
        assert gateway.rss_bytes() - before < 100 * MIB
        assert await probe.median() < 0.05
        assert gateway.stop() == 0
    assert "Traceback" not in "\n".join(gateway.output)
