"""What the door counts, as metrics: requests, refusals, connections, sessions, decisions about rights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from kafka_gateway.metrics.families import counter, gauge, histogram
from kafka_gateway.metrics.registry import Families

if TYPE_CHECKING:
    from kafka_gateway.core import Gateway

_REQUEST = ("transport", "route", "method", "code")


def requests(gateway: Gateway) -> Callable[[], Families]:
    """A source of `Metrics`: what ``Gateway.dispatch`` has seen."""

    def families() -> Families:
        counts = gateway.counters
        rows = [(_labels(key), counted) for key, counted in list(counts.requests.items())]
        yield counter(
            "requests", "Requests, by what answered them", _REQUEST, ((key, each.count) for key, each in rows)
        )
        yield histogram("request_seconds", "Time from dispatch to reply", _REQUEST, rows)
        yield gauge("requests_in_progress", "Requests at work", ("transport",), _by_one(counts.running))
        sessions = Counter(session.transport for session in gateway.sessions)
        yield gauge(
            "sessions", "Clients that are connected, whatever a transport calls so", ("transport",), _by_one(sessions)
        )
        yield counter("refused", "What never became work", ("reason",), _by_one(counts.refused))
        rights = gateway.admission.authorization
        yield counter(
            "authorization_decisions", "Decisions about rights", ("operation", "allowed"),
            ((key, number) for key, number in list(rights.decisions.items())),
        )  # fmt: skip

    return families


def connections(count: Callable[[], Mapping[str, int]]) -> Callable[[], Families]:
    """A source of `Metrics`: open connections by listener."""

    def families() -> Families:
        yield gauge("connections", "Open connections", ("listener",), _by_one(count()))

    return families


def _labels(key: tuple[str, str, str, int]) -> tuple[str, str, str, str]:
    transport, template, method, status = key
    return transport, template, method, str(status)


def _by_one(counts: Mapping[str, int]) -> Iterable[tuple[tuple[str], int]]:
    return (((name,), number) for name, number in list(counts.items()))
