"""What metrics and the request log as JSON cost a request, and how long a scrape holds the loop:
``python -m tests.bench.observing``.

A request with all of it counts itself, its record and its batch, and leaves a line in the log; the ways take turns, so
that the machine's moods meet both alike, and the best round counts. The goals are 2 µs a request, and 5 ms for a scrape
of 10,000 series (observability.md §1).
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable

from kafka_gateway.door.access_log import AccessLog
from kafka_gateway.door.counters import Counters
from kafka_gateway.kafka.clients.statistics import Statistics
from kafka_gateway.metrics.families import histogram
from kafka_gateway.metrics.kafka import kafka
from kafka_gateway.metrics.numbers import Histogram, KafkaNumbers, Names
from kafka_gateway.metrics.registry import Metrics
from kafka_gateway.session import Session

_REQUESTS = 1000
_PARTITIONS = 50
_TOPICS = 200


def _costs(log: AccessLog) -> dict[str, Callable[[], None]]:
    """What is done for each request beside its work, and for its log line until the bytes are in the file."""
    counters, numbers, session = Counters(), KafkaNumbers(Names(200), Names(200)), Session("http")
    session.peer = "192.0.2.7"

    def metrics() -> None:
        for _ in range(_REQUESTS):
            counters.add(("http", "/topics/{topic}", "POST", 200), 0.0007)
            numbers.produce_seconds.add(0.0006)
            numbers.produced.add("http", "orders", 1, 100)

    told = [(f"5f0c1e2d3a4b-{number:x}", "/topics/{topic}", 160, 1) for number in range(_REQUESTS)]

    def logged() -> None:
        for facts in told:
            log.finish(session, "POST", "/topics/orders", time.perf_counter(), 200, 90, facts)
        log.flush()

    return {"metrics": metrics, "request log as JSON": logged}


async def cost(rounds: int = 30) -> dict[str, float]:
    """Microseconds of processor time for a request, the best of the rounds."""
    logging.getLogger("gateway.access").setLevel(logging.INFO)
    log = AccessLog(True)
    assert log.enabled
    file = os.open(os.devnull, os.O_WRONLY)
    log.write_to(lambda lines, _: void(os.write(file, lines)), "json")
    ways = _costs(log)
    best = dict.fromkeys(ways, math.inf)
    for _ in range(rounds):
        for name, run in ways.items():
            began = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - began)
    os.close(file)
    return {name: seconds / _REQUESTS * 1e6 for name, seconds in best.items()}


def void(_: object) -> None:
    """Takes what nobody wants."""


def full_metrics() -> Metrics:
    """Ten thousand series, and clients that have told of as many partitions."""
    metrics, numbers, statistics = Metrics(), KafkaNumbers(Names(200), Names(200)), Statistics(15)
    seconds = [((f"/route/{number}", "GET"), Histogram()) for number in range(600)]  # 17 series each
    metrics.add(lambda: [histogram("request_seconds", "How long", ("route", "method"), seconds)])
    topics = ",".join(
        f'"topic-{topic}":{{"partitions":{{{",".join(_partition(number) for number in range(_PARTITIONS))}}}}}'
        for topic in range(_TOPICS)
    )
    statistics.settings("consumer", "group")["stats_cb"](f'{{"name":"one","topics":{{{topics}}}}}')
    metrics.add(kafka(numbers, statistics, lambda: True))
    return metrics


def _partition(number: int) -> str:
    return f'"{number}":{{"consumer_lag":{number},"fetchq_cnt":0,"fetchq_size":0}}'


async def held(metrics: Metrics) -> float:
    """The most seconds of processor time of this thread between two turns of the loop while a scrape is made."""
    longest, last = 0.0, time.thread_time()
    task = asyncio.create_task(metrics.render())
    while not task.done():
        await asyncio.sleep(0)
        now = time.thread_time()
        longest, last = max(longest, now - last), now
    text, _ = task.result()
    assert text.count(b"\n") > 10_000
    return longest


async def main() -> None:
    found = await cost()
    for name, micros in found.items():
        print(f"{micros:8.3f} µs a request  {name}")
    print(f"{sum(found.values()):8.3f} µs a request  together")
    metrics = full_metrics()
    print(f"{min([await held(metrics) for _ in range(5)]) * 1000:8.3f} ms  the longest that a scrape holds the loop")


if __name__ == "__main__":
    asyncio.run(main())
