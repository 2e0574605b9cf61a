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
    """A time in which a process has served a slot, for certain: both ends were seen."""

    begin: float
    end: float


class Ownership:
    """Asks while the block runs."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._spans: dict[str, dict[str, list[Span]]] = defaultdict(lambda: defaultdict(list))
        """By slot and process."""
        self.takeovers = 0
        """How often a slot was seen at another process than before."""
        self._owner: dict[str, str] = {}

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
        open_spans: dict[str, dict[str, float]] = {}
        while True:
            sent = time.monotonic()
            boot, process, slots = "", "", set[str]()
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with self._http.get(f"{self._deployment.operators_url(number)}/cluster") as reply:
                    if reply.status == 200:
                        page = await reply.json(content_type=None)
                        boot, process, slots = page["boot"], page["process"], served(page)
            if boot:
                open_spans[boot] = self._note(process, slots, open_spans.get(boot, {}), sent)
            else:
                open_spans.clear()  # what they did when they did not answer is not known
            await asyncio.sleep(_EVERY_S)

    def _note(self, process: str, slots: set[str], before: dict[str, float], sent: float) -> dict[str, float]:
        """What the process serves, by when that was seen first without a break."""
        answered = time.monotonic()
        for slot in slots:
            if self._owner.setdefault(slot, process) != process:
                self._owner[slot] = process
                self.takeovers += 1
        for slot in slots & before.keys():  # it has served it all the time between two replies
            spans, span = self._spans[slot][process], Span(before[slot], sent)
            if spans and spans[-1].begin == span.begin:
                spans[-1] = span
            else:
                spans.append(span)
        return {slot: before.get(slot, answered) for slot in slots}

    def overlaps(self) -> Iterator[tuple[str, float]]:
        """Slot and seconds, where two have served it at the same time."""
        for slot, by_process in self._spans.items():
            spans = [(span, process) for process, spans in by_process.items() for span in spans]
            for index, (one, process) in enumerate(spans):
                for other, of in spans[index + 1 :]:
                    seconds = min(one.end, other.end) - max(one.begin, other.begin)
                    if process != of and seconds > 0:
                        yield slot, seconds
