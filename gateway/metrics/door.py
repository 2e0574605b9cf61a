"""What the door counts, as metrics: requests, refusals, connections, sessions, decisions about rights."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from kafka_gateway.core import Gateway
from kafka_gateway.metrics.families import counter, gauge, histogram
from kafka_gateway.metrics.registry import Families, Source

_REQUEST = ("transport", "route", "method", "code")
_WAY = ("transport", "listener")


_PART: Final = 500
"""Sessions that are counted before the event loop may do something else."""


def requests(gateway: Gateway) -> Source:
    """A source of `Metrics`: what ``Gateway.dispatch`` has seen."""

    async def families() -> Families:
        sessions: Counter[tuple[str, str]] = Counter()
        streams: Counter[str] = Counter()
        for place, session in enumerate(list(gateway.sessions)):
            sessions[session.transport, session.listener] += 1
            streams[session.transport] += len(session.streams)
            if not place % _PART:
                await asyncio.sleep(0)
        return told_now(sessions, streams)

    def told_now(sessions: Mapping[tuple[str, str], int], streams: Mapping[str, int]) -> Families:
        counts = gateway.counters
        rows = [(_labels(key), counted) for key, counted in list(counts.requests.items())]
        yield counter(
            "requests",
            "Requests by transport, route, method and status",
            _REQUEST,
            ((key, each.count) for key, each in rows),
        )
        yield histogram("request_seconds", "Time from dispatch to reply", _REQUEST, rows)
        yield gauge(
            "requests_in_progress",
            "Requests at work",
            _WAY,
            [(way, numbers.running) for way, numbers in counts.ways.items()],
        )
        yield gauge("sessions", "Connected clients, as each transport counts them", _WAY, sessions.items())
        yield gauge("streams", "Open streams, by what carries them", ("carrier",), _by_one(streams))
        slow = _by_one(gateway.memory.slow_clients)
        yield counter("slow_clients_closed", "Clients that were given up because they did not read", ("carrier",), slow)
        yield counter(
            "refused", "Requests and connections refused before any work", ("reason",), _by_one(counts.refused)
        )
        rights = gateway.admission.authorization
        yield counter(
            "authorization_decisions", "Decisions about rights", ("operation", "allowed"),
            ((key, number) for key, number in list(rights.decisions.items())),
        )  # fmt: skip
        stale = [((), float(rights.is_stale))]
        yield gauge("authorization_stale", "1: rules were changed and cannot be taken", (), stale)

    return families


def listeners(
    connections: Callable[[], Mapping[str, int]], certificates: Callable[[], Mapping[str, float]]
) -> Callable[[], Families]:
    """A source of `Metrics`: open connections and the end of the certificate (Unix time), by listener."""

    def families() -> Families:
        yield gauge("connections", "Open connections", ("listener",), _by_one(connections()))
        ends = [((name,), at) for name, at in certificates().items()]
        yield gauge("certificate_expiry_seconds", "When the certificate ends (Unix time)", ("listener",), ends)

    return families


def _labels(key: tuple[str, str, str, int]) -> tuple[str, str, str, str]:
    transport, template, method, status = key
    return transport, template, method, str(status)


def _by_one(counts: Mapping[str, int]) -> Iterable[tuple[tuple[str], int]]:
    return (((name,), number) for name, number in list(counts.items()))
