"""Kafka away and back: one plain line each in the log, and 503 for who asks meanwhile."""

from __future__ import annotations

import re
import time

import pytest

from tests.acceptance.rest import Rest, until
from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import KafkaCluster
from tests.operation.scraped import scrape

pytestmark = [pytest.mark.slow, pytest.mark.broker, pytest.mark.timeout(120)]

UP = "kafka_gateway_kafka_up"
AWAY = r"ERROR .*Kafka is away: no broker of 127\.0\.0\.1:\d+ answers"
BACK = r"WARNING .*Kafka is back, after (\d+) s"


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_one_line_each(own_kafka: KafkaCluster, how: str) -> None:
    topic = own_kafka.create_topic()
    with GatewayProcess(bootstrap=own_kafka.bootstrap) as gateway:
        async with Rest(gateway.url) as rest:
            assert (await rest.request("GET", "/topics")).status == 200
            assert (await scrape(gateway.url)).value(UP) == 1
            gone_at = time.monotonic()
            if how == "killed":
                own_kafka.kill(1)
            else:
                own_kafka.pause(1)
                assert (await rest.request("GET", "/health/ready")).status == 503
            gateway.wait_for(AWAY)
            gone = await scrape(gateway.url)
            assert (gone.value(UP), UP in gone.names) == (0, True)
            for path in ("/topics", f"/topics/{topic}", "/brokers", f"/topics/{topic}/partitions/0/offsets"):
                answer = await rest.request("GET", path)
                assert (answer.status, answer.json["error_code"]) == (503, 50302), path
            if how == "killed":
                own_kafka.restart(1)
            else:
                own_kafka.resume(1)
            seconds = int(gateway.wait_for(BACK, 40)[1])
            assert (await scrape(gateway.url)).value(UP) == 1
            assert seconds <= time.monotonic() - gone_at + 1

            async def answered() -> bool:
                return (await rest.request("GET", "/topics")).status == 200

            await until(answered, 20)
        text = "\n".join(gateway.output)
        assert len(re.findall(AWAY, text)) == len(re.findall(BACK, text)) == 1
        # A broker that answers again may say that it is not ready for something: that is news, and has its line.
        between = re.search(f"{AWAY}(.*){BACK}", text, re.DOTALL)
        assert between is not None
        lines = [line for line in between[1].splitlines() if "gateway.kafka.librdkafka: " in line]
        assert [line for line in lines if "oordinator load in progress" not in line] == []
