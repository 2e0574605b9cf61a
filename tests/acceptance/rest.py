"""How these tests talk to a gateway: plain HTTP, a connection for each request that is at work."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, Self

import aiohttp

from tests import waiting
from tests.behaviour.clients import V2, Answer, v2
from tests.gateway_process import GatewayProcess


class Rest:
    """A client of one gateway. ``body`` is JSON-encoded; a lost connection is an aiohttp.ClientError."""

    def __init__(self, url: str, timeout_s: float = 40) -> None:
        self.url = url
        self._timeout_s = timeout_s

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(self._timeout_s)
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._session.close()

    async def request(
        self, method: str, path: str, body: Any = None, *, content_type: str = V2, accept: str = "", **headers: str
    ) -> Answer:
        if body is not None:
            headers["Content-Type"] = content_type
        if accept:
            headers["Accept"] = accept
        data = None if body is None else json.dumps(body).encode()
        async with self._session.request(
            method, self.url + path, data=data, headers=headers, skip_auto_headers=("Content-Type",)
        ) as response:
            return Answer(response.status, response.headers.get("Content-Type", ""), await response.read())

    async def produce(self, topic: str, *records: dict[str, Any]) -> Answer:
        """JSON records; whatever the answer is."""
        return await self.request("POST", f"/topics/{topic}", {"records": list(records)}, content_type=v2("json"))

    async def store(self, topic: str, *values: Any) -> None:
        """Produces the values, to partition 0, and they are stored."""
        answer = await self.produce(topic, *({"value": value, "partition": 0} for value in values))
        assert answer.status == 200, answer
        assert {row["error_code"] for row in answer.json["offsets"]} == {None}, answer

    async def instance(self, group: str, *topics: str, fmt: str = "json", **settings: Any) -> str:
        """A new instance that reads these topics from their beginning; its path."""
        body = {"format": fmt, "auto.offset.reset": "earliest", "consumer.request.timeout.ms": 30_000, **settings}
        answer = await self.request("POST", f"/consumers/{group}", body)
        assert answer.status == 200, answer
        path = f"/consumers/{group}/instances/{answer.json['instance_id']}"
        if topics:
            answer = await self.request("POST", f"{path}/subscription", {"topics": topics})
            assert answer.status == 204, answer
        return path

    async def assign(self, path: str, topic: str, partition: int = 0) -> None:
        """Lets the instance read this partition and no other."""
        body = {"partitions": [{"topic": topic, "partition": partition}]}
        answer = await self.request("POST", f"{path}/assignments", body)
        assert answer.status == 204, answer

    async def read(self, path: str, timeout_ms: int = 1000, query: str = "", fmt: str = "json") -> list[Any]:
        """One read, whatever it finds."""
        answer = await self.request("GET", f"{path}/records?timeout={timeout_ms}{query}", accept=v2(fmt))
        assert answer.status == 200, answer
        records: list[Any] = answer.json
        return records

    async def read_some(self, path: str, within_s: float = waiting.PATIENCE_S) -> list[Any]:
        """The first read that finds something: joining a group may take several."""
        async with asyncio.timeout(within_s):
            while not (records := await self.read(path)):
                pass
        return records


async def until(condition: Callable[[], object | Awaitable[object]], within_s: float = waiting.PATIENCE_S) -> float:
    """Waits for what no event announces; how long that took."""
    began = time.monotonic()
    await waiting.until(condition, within_s)
    return time.monotonic() - began


async def timed(work: Awaitable[Answer]) -> tuple[Answer, float]:
    """The answer, and how long it took."""
    began = time.monotonic()
    answer = await work
    return answer, time.monotonic() - began


def threads(gateway: GatewayProcess) -> int:
    """How many threads the gateway has now."""
    with open(f"/proc/{gateway.pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Threads:"))
