"""Metric families as a scrape reads them: a name, a help text, and samples that are made when they are asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from prometheus_client.samples import Exemplar, Sample
from prometheus_client.utils import floatToGoString

from kafka_gateway.metrics.numbers import Histogram, cumulative

PREFIX = "kafka_gateway_"
"""What the names of the gateway's own metrics begin with."""

Kind = Literal["counter", "gauge", "histogram", "info"]
Row = tuple[Sequence[str], float]
"""The values of the labels, and the number."""


@dataclasses.dataclass(frozen=True, slots=True)
class Family:
    """All series of one name. ``name`` is without the suffixes of its kind (``_total``, ``_info``, ``_bucket``).

    ``samples`` is iterated once, in parts, on the event loop between other work: it must not hold on to a dict that
    changes meanwhile.
    """

    name: str
    kind: Kind
    help: str
    samples: Iterable[Sample]


def counter(name: str, help: str, labels: Sequence[str] = (), rows: Iterable[Row] = (), prefix: str = PREFIX) -> Family:
    """A number that only grows. Its samples are called ``<name>_total``."""
    name = prefix + name
    return Family(name, "counter", help, _samples(name + "_total", labels, rows))


def gauge(name: str, help: str, labels: Sequence[str] = (), rows: Iterable[Row] = (), prefix: str = PREFIX) -> Family:
    """A number that goes up and down."""
    name = prefix + name
    return Family(name, "gauge", help, _samples(name, labels, rows))


def info(name: str, help: str, *values: Mapping[str, str], prefix: str = PREFIX) -> Family:
    """Texts that hardly change, as the labels of a series that is 1."""
    name = prefix + name
    return Family(name, "info", help, [Sample(name + "_info", dict(each), 1.0) for each in values])


def histogram(
    name: str,
    help: str,
    labels: Sequence[str] = (),
    rows: Iterable[tuple[Sequence[str], Histogram]] = (),
    prefix: str = PREFIX,
) -> Family:
    """How often something took how long."""
    name = prefix + name
    return Family(name, "histogram", help, _histogram_samples(name, labels, rows))


def _samples(name: str, labels: Sequence[str], rows: Iterable[Row]) -> Iterator[Sample]:
    for values, number in rows:
        yield Sample(name, dict(zip(labels, values, strict=True)), number)


def _histogram_samples(
    name: str, labels: Sequence[str], rows: Iterable[tuple[Sequence[str], Histogram]]
) -> Iterator[Sample]:
    for values, counted in rows:
        own = dict(zip(labels, values, strict=True))
        exemplars = counted.exemplars or {}
        # Read in one go: what is added between two parts of a scrape must not make the count less than a bucket.
        count, total, buckets = counted.count, counted.sum, list(cumulative(counted))
        for place, (bound, below) in enumerate([*buckets, (float("inf"), count)]):
            shown = exemplars.get(place)
            exemplar = Exemplar({"trace_id": shown[0]}, shown[1]) if shown is not None else None
            yield Sample(f"{name}_bucket", {**own, "le": _bound(bound)}, below, None, exemplar)
        yield Sample(f"{name}_count", own, count)
        yield Sample(f"{name}_sum", own, total)


def _bound(number: float) -> str:
    return str(floatToGoString(number))  # type: ignore[no-untyped-call]
