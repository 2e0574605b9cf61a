"""F4: the broker keeps its connections and answers nothing. librdkafka alone hangs in close() (reliability.md §3b)."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.acceptance.rest import Rest, threads, timed, until
from tests.behaviour.clients import Answer, v2
from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import KafkaCluster

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(120)]

INSTANCES = 60
GROUPS = 6
LAST_COMMIT = "Kafka does not answer the last commit of a consumer"


@pytest.mark.timing
async def test_f4_frozen_broker(own_kafka: KafkaCluster) -> None:
    topic = own_kafka.create_topic(partitions=4)
    with GatewayProcess("access.log.enable=false", bootstrap=own_kafka.bootstrap) as gateway:
        async with Rest(gateway.url) as rest:
            await rest.store(topic, *range(10))
            at_start = threads(gateway)
            # Some have committed nothing, some automatically, some wait in a read when the broker freezes.
            paths = [
                await rest.instance(f"group-{number % GROUPS}", topic, **{"auto.commit.enable": number % 2 == 0})
                for number in range(INSTANCES)
            ]
            for _ in range(2):  # all groups have formed, so that somebody in each has got the records
                await asyncio.gather(*(rest.read(path, 300) for path in paths))
            with_all = threads(gateway)
            reads = [asyncio.create_task(rest.read(path, 20_000)) for path in paths[::5]]

            own_kafka.pause(1)
            try:
                live, metadata, *deleted = await asyncio.gather(
                    watch_live(rest, 4),
                    timed(rest.request("GET", "/topics")),
                    *(timed(rest.request("DELETE", path)) for path in paths[: INSTANCES // 2]),
                )
                slowest = max(took for _, took in deleted)
                print(f"F4: slowest DELETE {slowest:.2f} s, /health/live {live:.3f} s, /topics {metadata[1]:.2f} s")
                assert {answer.status for answer, _ in deleted} == {204}
                assert slowest <= 2
                assert live <= 0.5
                assert metadata[0].status >= 500, metadata
                assert metadata[1] <= 5.5

                # Their threads are gone, too, but of those whose last commit Kafka does not answer: these say so. The
                # gateway itself may have made three clients meanwhile, of four threads each.
                each = (with_all - at_start) // INSTANCES
                left = at_start + each * (INSTANCES - INSTANCES // 2) + 12

                def waiting() -> int:
                    return sum(LAST_COMMIT in line for line in gateway.output)

                took = await until(lambda: threads(gateway) <= left + each * waiting(), 30)
                print(f"F4: threads {at_start}, {with_all}, now {threads(gateway)} after another {took:.1f} s")
                print(f"F4: {waiting()} wait for their last commit")

                gone = await rest.request("GET", f"{paths[0]}/records", accept=v2("json"))
                assert (gone.status, gone.error_code) == (404, 40403), gone

                began = time.monotonic()
                code = await asyncio.to_thread(gateway.stop)
                took = time.monotonic() - began
                print(f"F4: exit {code} after {took:.1f} s")
                assert code == 0
                assert took <= 10
                await asyncio.gather(*reads)  # those that waited answered with what they had
            finally:
                own_kafka.resume(1)


async def watch_live(rest: Rest, for_s: float) -> float:
    """The slowest of the answers of ``/health/live`` during this time."""
    slowest, end = 0.0, time.monotonic() + for_s
    while time.monotonic() < end:
        answer: Answer
        answer, took = await timed(rest.request("GET", "/health/live"))
        assert answer.status == 200, answer
        slowest = max(slowest, took)
        await asyncio.sleep(0.02)  # time itself: so often is enough
    return slowest
