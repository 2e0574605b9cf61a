"""A subscription of the JavaScript client over a gateway that is killed: nothing is lost, and it is soon back."""

from __future__ import annotations

import json
import subprocess
import threading
import time

import confluent_kafka
import pytest

from tests.gateway_process import GatewayProcess
from tests.js.test_js_client import CLIENT
from tests.kafka_cluster import KafkaCluster

pytestmark = [pytest.mark.slow, pytest.mark.broker, pytest.mark.timeout(180)]

SUBSCRIBE = """
import { connect } from './src/node/index.js';
const [url, topic, autoCommit] = process.argv.slice(-3);
const gateway = connect(url);
const create = { 'auto.offset.reset': 'latest', 'auto.commit.enable': autoCommit };
const say = (what) => process.stdout.write(JSON.stringify(what) + '\\n');
const onError = (error) => say(error.message);
const place = { group: topic, instance: 'i', topics: [topic] };
const subscription = await gateway.subscribe({ ...place, format: 'json', create, onError });
say('subscribed');
for await (const record of subscription) say(record.value);
"""
RECORDS = 400
KILLED_AT = 150


class Subscriber:
    """The client in a process of its own, and what it has said, with the times."""

    def __init__(self, url: str, topic: str, auto_commit: str) -> None:
        command = ["node", "--input-type=module", "-e", SUBSCRIBE, "--", f"{url}/", topic, auto_commit]
        self.process = subprocess.Popen(command, cwd=CLIENT, stdout=subprocess.PIPE, text=True)
        self.said: list[tuple[float, object]] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.said.append((time.monotonic(), json.loads(line)))
                self._changed.notify_all()

    def values(self) -> list[int]:
        return [value for _, value in self.said if isinstance(value, int)]

    def wait_for(self, count: int, within_s: float) -> None:
        """Returns when so many different numbers have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(set(self.values())) >= count, within_s), self.said[-5:]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.mark.parametrize("auto_commit", ["true", "false"])
def test_nothing_is_lost_when_the_gateway_is_killed_before_its_first_commit(
    kafka: KafkaCluster, topic: str, auto_commit: str
) -> None:
    kafka.create_topic(topic, partitions=2)
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 0})

    def produce(first: int, last: int) -> None:
        for number in range(first, last):
            producer.produce(topic, json.dumps(number), partition=number % 2)
            producer.flush(10)
            time.sleep(0.01)  # time itself: a load that goes on during the restart

    with GatewayProcess(bootstrap=kafka.bootstrap) as gateway:
        subscriber = Subscriber(gateway.url, topic, auto_commit)
        try:
            # With "latest" what is stored before the assignment is not its business.
            first = 0
            while not subscriber.values():
                produce(first, first + 10)
                first += 10
            begun = subscriber.values()[0]
            produce(first, first + KILLED_AT)
            gateway.process.kill()
            gateway.process.wait()
            killed_at = time.monotonic()
            last = first + RECORDS
            writing = threading.Thread(target=produce, args=(first + KILLED_AT, last))
            writing.start()
            with GatewayProcess(f"port={gateway.url.rpartition(':')[2]}", bootstrap=kafka.bootstrap):
                subscriber.wait_for(last - begun, 60)
            writing.join()
        finally:
            subscriber.close()
    assert sorted(set(subscriber.values()))[-(last - begun) :] == list(range(begun, last))
    back_s = next(at for at, _ in subscriber.said if at > killed_at + 0.5) - killed_at
    assert back_s < 15, "10 s, and what the machine takes to start a gateway"
