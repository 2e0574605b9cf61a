"""Processor time of the gateway for one request: producer mode of the bridge against the REST API's produce.

    PYTHONPATH=. python tests/bench/bridge_cpu.py BOOTSTRAP [REQUESTS]

The same client sends the same value both ways over the same number of kept connections, in turns; what counts is the
processor time of the gateway's process (/proc), so a busy machine does little harm. The goal is a ratio up to 1.3.
"""

from __future__ import annotations

import asyncio
import base64
import os
import statistics
import sys
import uuid
from pathlib import Path

from tests.gateway_process import GatewayProcess
from tests.transports.wire import Wire, request

CONNECTIONS = 16
ROUNDS = 12
VALUE = os.urandom(1000)
SAME = {"User_Agent": "Prometheus/2.42.0", "X_Prometheus_Remote_Write_Version": "0.1.0"}
REMOTE_WRITE = {"Content_Encoding": "snappy", "Content_Type": "application/x-protobuf", **SAME}
REST = {"Content_Type": "application/vnd.kafka.binary.v2+json", **SAME}


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def send(url: str, message: bytes, count: int) -> None:
    async def one() -> None:
        async with await Wire.open(url) as wire:
            for _ in range(count // CONNECTIONS):
                await wire.send(message)
                reply = await wire.reply()
                assert reply.status == 200, reply

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))


def main() -> None:
    bootstrap, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 4000
    topic = f"bridge-cpu-{uuid.uuid4().hex[:8]}"
    rest_body = b'{"records":[{"value":"%b"}]}' % base64.b64encode(VALUE)
    ways = {
        "rest": request("POST", f"/topics/{topic}", rest_body, **REST),
        "bridge": request("POST", "/v1/write", VALUE, **REMOTE_WRITE),
    }
    spent: dict[str, list[float]] = {way: [] for way in ways}
    properties = (f"bridge.producer.b.topic={topic}", "access.log.enable=false")
    with GatewayProcess(*properties, bootstrap=bootstrap) as gateway:
        for number in range(ROUNDS + 1):
            for way, message in ways.items():
                before = cpu_s(gateway.pid)
                asyncio.run(send(gateway.url, message, count))
                if number:  # the first round warms up
                    spent[way].append((cpu_s(gateway.pid) - before) / count * 1e6)
    for way, times in spent.items():
        print(f"{way:7} {min(times):6.1f} µs a request at best, {statistics.median(times):.1f} in the middle")
    ratios = [bridge / rest for bridge, rest in zip(spent["bridge"], spent["rest"], strict=True)]
    best = min(spent["bridge"]) / min(spent["rest"])
    print(f"ratio   {best:6.2f} at best, {statistics.median(ratios):.2f} in the middle")


if __name__ == "__main__":
    main()
