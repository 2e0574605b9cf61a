"""Recorded replies of Confluent's REST Proxy 8.1.1, replayed against the gateway on a real Kafka.

``deviations.json`` lists the cases in which the gateway answers otherwise on purpose, each with its reason.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import KafkaCluster
from tests.registry_server import SchemaRegistry

HERE = Path(__file__).parent


def compare(*arguments: str | Path) -> None:
    """Fails with the differences, if the gateway's replies are not as recorded."""
    replay = subprocess.run(
        [sys.executable, HERE / "replay.py", "compare", *arguments], capture_output=True, text=True, check=False
    )
    assert replay.returncode == 0, replay.stdout[-20_000:] + replay.stderr[-2_000:]


def make_groups_topic(kafka: KafkaCluster) -> None:
    """Has Kafka make the topic in which it keeps the offsets of groups, which the recorded cluster had: it does when
    somebody asks for the coordinator of a group.

    A consumer asks, and not the admin client: librdkafka 2.16's ListConsumerGroupOffsets ends the process (a null
    pointer in rd_kafka_handle_OffsetFetch) where the broker is not the coordinator yet.
    """
    client = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "any"})
    try:
        # It answers when the topic is there and has leaders: Kafka makes 50 partitions, and nothing else meanwhile.
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with contextlib.suppress(KafkaException):
                client.committed([TopicPartition("any", 0)], timeout=5)
                break
    finally:
        client.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("generation", "workers"), [("v2", 1), ("v3", 1), ("v2", 2)])
def test_replies_are_those_of_the_recorded_server(kafka: KafkaCluster, generation: str, workers: int) -> None:
    """The replay opens a connection for each request: with two workers, any of them may get it."""
    make_groups_topic(kafka)
    # That server had no v1: with it, `application/json` would choose v1 (kafka-rest-http.md §3.1).
    properties = ("api.v1.enable=false", f"workers={workers}")
    with GatewayProcess(*properties, bootstrap=kafka.bootstrap, start_s=60) as gateway:
        compare(
            *("--url", gateway.url),
            *("--bootstrap", kafka.bootstrap),
            *("--with", HERE / "transcripts" / "confluent-8.1.1.jsonl"),
            *("--only", f"{generation}."),
        )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_replies_with_schemas_are_those_of_the_recorded_server(kafka: KafkaCluster, registry: SchemaRegistry) -> None:
    """That server had Confluent's registry, this one Apicurio's: ten cases fit the former only."""
    properties = ("api.v1.enable=false", f"schema.registry.url={registry.url}")
    with GatewayProcess(*properties, bootstrap=kafka.bootstrap) as gateway:
        compare(
            *("--url", gateway.url),
            *("--bootstrap", kafka.bootstrap),
            *("--registry", registry.url),
            *("--with", HERE / "transcripts" / "confluent-8.1.1-formats.jsonl"),
            "--skip-confluent",
        )
