"""The embedded Kafka: librdkafka's mock cluster in this process, for trying the gateway out and for tests.

It keeps records, groups and committed offsets in memory, and knows neither topic settings nor deletion. A topic appears
when a producer first asks for its metadata, without a record in it, and always with `PARTITIONS` partitions: librdkafka
has a property for the number of brokers (`test.mock.num.brokers`), but none for that.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable

import confluent_kafka

from kafka_gateway.kafka.clients.client_log import ClientLog
from kafka_gateway.kafka.errors import describe
from kafka_gateway.kafka.names import check_topic_name
from kafka_gateway.kafka_errors import BrokerNotAvailable, KafkaRefused

PARTITIONS = 4

_START_S = 5.0
_STOP_S = 2.0

_log = logging.getLogger("gateway.kafka.embedded")


class EmbeddedKafka:
    """A running mock cluster of one broker; it lives as long as this object. All calls block for a moment."""

    def __init__(self, topics: Iterable[str] = ()) -> None:
        """Starts it with these topics. Raises KafkaRefused for an illegal name."""
        names = list(topics)
        for name in names:
            check_topic_name(name)
        # It replaces bootstrap.servers by the address of the mock broker. The process's own broker, not a client of
        # someone's Kafka, hence not from gateway.kafka.clients.
        self._host = confluent_kafka.Producer(
            {"bootstrap.servers": "embedded.invalid:9092", "test.mock.num.brokers": 1},
            logger=ClientLog(_log),
        )
        brokers = self._host.list_topics(timeout=_START_S).brokers.values()
        if not brokers:
            raise BrokerNotAvailable("The embedded Kafka did not start.")
        self.bootstrap = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
        for name in names:
            # A producer's metadata request makes the topic.
            topic = self._host.list_topics(name, timeout=_START_S).topics[name]
            if topic.error is not None:
                raise KafkaRefused(f"Topic {name} of the embedded Kafka: {describe(topic.error)}")
        self._host.poll(0)

    def close(self) -> None:
        """Stops it, within two seconds; all that it kept is gone.

        Now and then librdkafka's mock cluster waits for ever for a thread of its own that has ended (2.16,
        rd_kafka_mock_cluster_destroy). The process's end needs no more of it.
        """
        ending = threading.Thread(target=self._host.close, name="embedded-kafka-ends", daemon=True)
        ending.start()
        ending.join(_STOP_S)
        if ending.is_alive():
            _log.warning("the embedded Kafka does not stop by itself; it ends with this process")
