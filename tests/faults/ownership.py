"""Who says that it serves which slot, asked of every node all the time: two must not for long (cluster.md §11)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import aiohttp

from tests.faults.deployment import NODES, Deployment, served

_EVERY_S = 0.25
_PATIENCE_S = 2.0


class Span(NamedTuple):
    """A time in which a node has served a slot, for certain: both ends were seen."""

    begin: float
    end: float


class Ownership:
    """Asks while the block runs."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._spans: dict[str, dict[int, list[Span]]] = defaultdict(lambda: defaultdict(list))
        self.takeovers = 0
        """How often a slot was seen at another node than before."""
        self._owner: dict[str, int] = {}

    async def __aenter__(self) -> Ownership:
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True), timeout=aiohttp.ClientTimeout(_PATIENCE_S)
        )
        self._tasks = [asyncio.create_task(self._follow(number)) for number in range(NODES)]
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.close()
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _follow(self, number: int) -> None:
        open_spans: dict[str, float] = {}
        while True:
            sent = time.monotonic()
            slots: set[str] = set()
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with self._http.get(f"{self._deployment.url(number)}/cluster") as reply:
                    if reply.status == 200:
                        slots = served(await reply.json(content_type=None))
            answered = time.monotonic()
            for slot in slots:
                if self._owner.setdefault(slot, number) != number:
                    self._owner[slot] = number
                    self.takeovers += 1
            # Between its replies a node has served a slot if both say so; else nothing is known of that time.
            for slot in slots & open_spans.keys():
                self._note(slot, number, Span(open_spans[slot], sent))
            open_spans = {slot: open_spans.get(slot, answered) for slot in slots}
            await asyncio.sleep(_EVERY_S)

    def _note(self, slot: str, number: int, span: Span) -> None:
        spans = self._spans[slot][number]
        if spans and spans[-1].begin == span.begin:
            spans[-1] = span
        else:
            spans.append(span)

    def overlaps(self) -> Iterator[tuple[str, float]]:
        """Slot and seconds, where two nodes have served it at the same time."""
        for slot, by_node in self._spans.items():
            spans = [(span, number) for number, spans in by_node.items() for span in spans]
            for index, (one, number) in enumerate(spans):
                for other, of in spans[index + 1 :]:
                    seconds = min(one.end, other.end) - max(one.begin, other.begin)
                    if number != of and seconds > 0:
                        yield slot, seconds
