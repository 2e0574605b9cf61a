"""S17: every number of the configuration at its least and at its greatest: the gateway starts, answers, and stops."""

from __future__ import annotations

import asyncio

import pytest

from kafka_gateway.config import ConfigKey
from tests.keys import BUILTIN_KEYS
from tests.logged import logged
from tests.transports.conftest import gateway
from tests.transports.wire import JSON_V2, V2, Reply, Wire, produce, request

NUMBERS = {
    key.name: key
    for key in BUILTIN_KEYS
    if key.type in ("int", "long", "float", "duration", "size") and not (key.ignored or key.refused or key.prefix)
    if key.name != "port" and "<name>" not in key.name
}

MAY_BE_REFUSED = {
    "request.max.bytes": 413,
    "request.decompressed.max.bytes": 413,
    "max.request.header.size": 431,
    "rate.limit.permits.per.sec": 429,
    "rate.limit.default.cost": 429,
    "producer.queue.bytes": 200,  # one batch alone is always taken
    "consumer.instances.max": 200,
    "request.timeout.ms": 408,
}
"""What the least value of a key lets the gateway answer to a produce."""


ASSIGNED = b'{"partitions":[{"topic":"s17","partition":0}]}'


def at_its_end(key: ConfigKey, end: str) -> float:
    low, high = key.bounds()
    value = low if end == "least" else high
    if value is None:  # a float without a bound
        value = 0.0 if end == "least" else 1e9
    return value if key.type == "float" else int(value)


async def ask(address: str) -> list[Reply | None]:
    """A look at the health, a produce and a read; None where the gateway closed the connection instead.

    The instance is assigned its partition: the mock cluster takes three seconds to form a group, for each of the keys.
    """
    body = b'{"name":"s17","format":"json","auto.offset.reset":"earliest"}'
    replies: list[Reply | None] = []
    for data in (
        request("GET", "/health/live"),
        produce("s17"),
        request("POST", "/consumers/s17", body, Content_Type=V2),
        request("POST", "/consumers/s17/instances/s17/assignments", ASSIGNED, Content_Type=V2),
        request("GET", "/consumers/s17/instances/s17/records?timeout=20", Accept=JSON_V2),
        request("DELETE", "/consumers/s17/instances/s17"),
    ):
        wire = await Wire.open(address)
        try:
            await wire.send(data)
            replies.append(await wire.reply())
        except ConnectionError:
            replies.append(None)
        wire.writer.close()
        wire.writer.transport.abort()
        await asyncio.sleep(0)
    return replies


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("end", ["least", "greatest"])
async def test_s17_every_limit_at_its_end(caplog: pytest.LogCaptureFixture, end: str) -> None:
    assert len(NUMBERS) > 25
    for name, key in NUMBERS.items():
        value = at_its_end(key, end)
        if name == "producer.linger.ms" and end == "greatest":
            continue  # a quarter of an hour to wait: it does what it says
        settings = {name: value, "consumer.request.timeout.ms": 50, "shutdown.graceful.ms": 500} | {name: value}
        if name.startswith("rate.limit"):
            settings["rate.limit.enable"] = True
        caplog.clear()
        async with asyncio.timeout(20):
            async with gateway(**settings) as app:
                replies = await ask(app.addresses[0])
        statuses = [reply.status if reply else 0 for reply in replies]
        if end == "greatest" or name not in MAY_BE_REFUSED:
            # A millisecond may be too short for a request to come at all, such as the assignment of the read (500), or
            # what makes the instance (404).
            short = name in ("request.header.timeout.ms", "idle.timeout.ms") and end == "least"
            expected = {0, 404, 500} if short else set()
            assert set(statuses) <= {200, 204, *expected} or name in ("rate.limit.default.cost",), (
                name,
                value,
                replies,
            )
        else:
            assert statuses[1] in (200, MAY_BE_REFUSED[name]), (name, value, replies)
        assert logged(caplog) == [], (name, value)
