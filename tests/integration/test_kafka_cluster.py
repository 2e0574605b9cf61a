"""The Kafka of the tests does what fault tests ask of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.kafka_cluster import KafkaCluster
from tests.processes import killed_at_the_end

pytestmark = [pytest.mark.broker, pytest.mark.slow]

OWNER = """
import sys
from tests.kafka_cluster import KafkaCluster
cluster = KafkaCluster().start()
print(cluster.directory, flush=True)
sys.stdin.read()
"""


def produce(cluster: KafkaCluster, topic: str, value: bytes) -> None:
    errors: list[object] = []
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "message.timeout.ms": 30000})
    producer.produce(topic, value, on_delivery=lambda error, _: errors.append(error))
    producer.flush(30)
    assert errors == [None]


def read(cluster: KafkaCluster, topic: str, count: int) -> list[bytes | None]:
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": topic, "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        return [message.value() for message in consumer.consume(count, 30)]
    finally:
        consumer.close()


def test_a_killed_broker_comes_back_with_its_data(own_kafka: KafkaCluster) -> None:
    topic = own_kafka.create_topic()
    produce(own_kafka, topic, b"before")
    address = own_kafka.bootstrap
    own_kafka.kill(1)
    assert not own_kafka.nodes[1].accepts()
    own_kafka.restart(1)
    produce(own_kafka, topic, b"after")
    assert (own_kafka.bootstrap, read(own_kafka, topic, 2)) == (address, [b"before", b"after"])


def test_a_paused_broker_accepts_and_says_nothing(own_kafka: KafkaCluster) -> None:
    admin = AdminClient({"bootstrap.servers": own_kafka.bootstrap})
    own_kafka.pause(1)
    assert own_kafka.nodes[1].accepts()
    with pytest.raises(KafkaException):
        admin.list_topics(timeout=0.5)
    own_kafka.resume(1)
    assert 1 in admin.list_topics(timeout=20).brokers


def test_it_ends_with_its_owner_however_that_ends(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", OWNER]
    pipe = subprocess.PIPE
    started = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, text=True)
    with killed_at_the_end(started) as owner:
        assert owner.stdout is not None
        assert owner.stderr is not None
        directory = owner.stdout.readline().strip()
        owner.kill()
        # The watchdog holds the owner's standard error until its work is done.
        owner.stderr.read()
    assert not Path(directory).exists()
