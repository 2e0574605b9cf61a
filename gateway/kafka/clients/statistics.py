"""The statistics that librdkafka's clients emit every ``metrics.kafka.interval.ms``.

The callback runs on the thread that polls a client. Nothing is asked of the brokers for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from kafka_gateway import jsonio

log = logging.getLogger("gateway.kafka")

_MISSED: Final = 3
"""A client that has said nothing for so many intervals has ended."""


NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class _Window(jsonio.Struct):
    avg: int = 0


class _Broker(jsonio.Struct):
    nodename: str = ""
    nodeid: int = -1
    state: str = ""
    rtt: _Window | None = None


class _Partition(jsonio.Struct):
    consumer_lag: int = -1
    fetchq_cnt: int = 0
    fetchq_size: int = 0


class _Topic(jsonio.Struct):
    partitions: Mapping[str, _Partition] = NOTHING


class _Statistics(jsonio.Struct):
    name: str = ""
    msg_cnt: int = 0
    msg_size: int = 0
    brokers: Mapping[str, _Broker] = NOTHING
    topics: Mapping[str, _Topic] = NOTHING


_statistics = jsonio.Decoder(_Statistics)


class Statistics:
    """Of all clients of a gateway. Usable from any thread. ``interval_s`` 0: none are wanted."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._told: dict[tuple[str, str, str], tuple[float, _Statistics]] = {}
        """By kind of client, group and client."""
        self._queues: dict[tuple[str, str, str], tuple[int, int]] = {}
        """Likewise the records and bytes that wait in it."""
        self._met: set[str] = set()
        """The brokers of the cluster, as far as clients have told of them."""

    def settings(self, kind: str, group: str = "") -> Mapping[str, Any]:
        """The properties of a client that is to emit statistics. It must be polled, or they pile up."""
        if not self._interval_s:
            return {}
        return {
            "statistics.interval.ms": int(self._interval_s * 1000),
            "stats_cb": partial(self._take, kind, group),
        }

    def _take(self, kind: str, group: str, text: str) -> None:
        try:
            told = _statistics.decode(text.encode())
        except ValueError:  # another version of librdkafka; an exception in here would end the client
            log.debug("librdkafka's statistics cannot be read", exc_info=True)
            return
        partitions = [each for topic in told.topics.values() for each in topic.partitions.values()]
        records = told.msg_cnt + sum([each.fetchq_cnt for each in partitions])
        size = told.msg_size + sum([each.fetchq_size for each in partitions])
        with self._lock:
            self._told[kind, group, told.name] = time.monotonic(), told
            self._queues[kind, group, told.name] = records, size

    def _fresh(self) -> list[tuple[str, str, _Statistics]]:
        oldest = time.monotonic() - self._interval_s * _MISSED
        with self._lock:
            for key in [key for key, (at, _) in self._told.items() if at < oldest]:
                del self._told[key], self._queues[key]
            return [(kind, group, told) for (kind, group, _), (_, told) in self._told.items()]

    def brokers(self) -> dict[str, tuple[bool, float]]:
        """Address → whether some client is connected, and the longest average round trip in seconds.

        A broker stays, as one that is not connected, when the clients that met it have ended. It goes when a connected
        client knows the cluster without it.
        """
        found: dict[str, tuple[bool, float]] = {}
        for _, _, told in self._fresh():
            for broker in told.brokers.values():
                if broker.nodeid < 0:
                    continue  # an address of bootstrap.servers, or a role such as the coordinator
                is_up, seconds = found.get(broker.nodename, (False, 0.0))
                own = broker.rtt.avg / 1e6 if broker.rtt is not None else 0.0
                found[broker.nodename] = is_up or broker.state == "UP", max(seconds, own)
        if any(is_up for is_up, _ in found.values()):
            self._met = set(found)
        else:
            self._met.update(found)
        return {name: found.get(name, (False, 0.0)) for name in sorted(self._met)}

    def queues(self) -> dict[str, tuple[int, int]]:
        """Kind of client → records and bytes that wait in it: to be sent, or to be read."""
        found: dict[str, tuple[int, int]] = {}
        self._fresh()
        with self._lock:
            queues = list(self._queues.items())
        for (kind, _, _), (records, size) in queues:
            before = found.get(kind, (0, 0))
            found[kind] = before[0] + records, before[1] + size
        return found

    def lags(self) -> Iterator[tuple[tuple[str, str], int]]:
        """Group and topic, and records behind what it has committed, in the partitions that its members here read.

        Counted topic by topic as it is read: with thousands of partitions all of it takes longer than the event loop
        may be held.
        """
        readers: dict[tuple[str, str], list[_Topic]] = {}
        for _, group, told in self._fresh():
            for name, topic in told.topics.items() if group else ():
                readers.setdefault((group, name), []).append(topic)
        for key, topics in readers.items():
            places: dict[str, int] = {}
            for topic in topics:
                for number, partition in topic.partitions.items():
                    if partition.consumer_lag >= places.get(number, 0):
                        places[number] = partition.consumer_lag
            if places:
                yield key, sum(places.values())
