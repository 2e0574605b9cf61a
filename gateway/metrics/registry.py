"""The metrics of one gateway: a scrape asks each source, and prometheus-client writes the answer.

A scrape is made in small parts on the event loop, so that ten thousand series hold it no longer than ten do. Scrapes at
the same time share one answer.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import islice
from typing import Protocol, cast, runtime_checkable

from prometheus_client import exposition
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.samples import Sample

from kafka_gateway.metrics.families import Family, Kind

log = logging.getLogger("gateway.metrics")

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = openmetrics.CONTENT_TYPE_LATEST

_PART = 100
"""Samples that are written before the event loop may do something else: about a millisecond."""
_ANSWER_S = 2.0
"""How long an awaitable source may take."""

Families = Iterable[Family]
Source = Callable[[], Families | Awaitable[Families]]
"""Gives the families that one part of the gateway counts. Called on the event loop for each scrape; an awaitable may
take two seconds."""


@runtime_checkable
class Collects(Collector, Protocol):
    """What prometheus-client can collect from: its own metrics, and collectors that others write."""


class Metrics:
    """All sources of one gateway. Belongs to the event loop that scrapes it first."""

    def __init__(self) -> None:
        self._sources: list[Source] = []
        self._plugins = CollectorRegistry(auto_describe=True)
        self._running: dict[str, asyncio.Task[bytes]] = {}

    def add(self, source: Source) -> None:
        """Every scrape asks the source, in the order of adding."""
        self._sources.append(source)

    def add_collector(self, collector: Collects) -> None:
        """Adds a metric or a collector of prometheus-client: for plugins. ValueError for a name that is taken."""
        self._plugins.register(collector)

    async def render(self, accept: str | None = None) -> tuple[bytes, str]:
        """All metrics and their media type: OpenMetrics 1.0 where ``Accept`` names it, else Prometheus' text 0.0.4."""
        media_type = OPENMETRICS if accept is not None and "application/openmetrics-text" in accept.lower() else TEXT
        task = self._running.get(media_type)
        if task is None:
            task = self._running[media_type] = asyncio.get_running_loop().create_task(
                self._render(media_type), name="render metrics"
            )
            task.add_done_callback(lambda _: self._running.pop(media_type, None))
        return await asyncio.shield(task), media_type

    async def _render(self, media_type: str) -> bytes:
        parts: list[bytes] = []
        for source in self._sources:
            for family in await _ask(source):
                for part in _parts(family, media_type):
                    parts.append(part)
                    await asyncio.sleep(0)
        for metric in self._collected():
            for part in _parts(metric, media_type):
                parts.append(part)
                await asyncio.sleep(0)
        if media_type is OPENMETRICS:
            parts.append(_EOF)
        return b"".join(parts)

    def _collected(self) -> Iterator[Family]:
        """What plugins count. One that fails ends the list: it is logged, and the gateway's own metrics stand."""
        metrics = iter(self._plugins.collect())
        while True:
            try:
                metric = next(metrics, None)
            except Exception:
                log.exception("a plugin's metrics cannot be read")
                return
            if metric is None:
                return
            yield Family(metric.name, cast(Kind, metric.type), metric.documentation, metric.samples)


async def render(families: Families) -> bytes:
    """These families alone, as text 0.0.4: for resources that show a part under its older names."""
    parts: list[bytes] = []
    for family in families:
        for part in _parts(family, TEXT):
            parts.append(part)
            await asyncio.sleep(0)
    return b"".join(parts)


async def _ask(source: Source) -> Families:
    """The source's families; none from one that fails, which must not hide all the others."""
    try:
        found = source()
        if inspect.isawaitable(found):
            async with asyncio.timeout(_ANSWER_S):
                found = await found
    except TimeoutError:
        log.warning("%s took longer than %g s: its metrics are missing from this scrape", _named(source), _ANSWER_S)
    except Exception:
        log.exception("the metrics of %s cannot be read", _named(source))
    else:
        return found
    return ()


def _named(source: Source) -> str:
    return str(getattr(source, "__qualname__", source))


_EOF = b"# EOF\n"


def _parts(family: Family, media_type: str) -> Iterator[bytes]:
    """The family's text in parts of so many samples, the first with its head."""
    samples = iter(family.samples)
    first = True
    while (part := list(islice(samples, _PART))) or first:
        text = _text(family, part, media_type)
        yield text if first else text.split(b"\n", 2)[2]
        first = False


def _text(family: Family, samples: list[Sample], media_type: str) -> bytes:
    metric = Metric(family.name, family.help, family.kind)
    metric.samples = samples
    if media_type is OPENMETRICS:
        text: bytes = openmetrics.generate_latest(_One(metric), openmetrics.ALLOWUTF8)  # type: ignore[no-untyped-call]
        return text.removesuffix(_EOF)
    return exposition.generate_latest(_One(metric), openmetrics.ALLOWUTF8)


class _One(Collector):
    """A registry that holds a single family."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return (self._metric,)
