"""A mock cluster of librdkafka, for faults that no broker shows when asked to."""

from __future__ import annotations

import ctypes
import itertools

from confluent_kafka import KafkaError, Producer

from tests.librdkafka_properties import library

OFFSET_FETCH = 9
"""Number of the request by which a consumer asks where its partitions start."""
OFFSET_COMMIT = 8
"""By which it commits."""
FIND_COORDINATOR = 10
"""By which it asks which broker has its group."""
MOVED = (KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE)


class MockCluster:
    """A mock cluster of librdkafka that answers as it is told."""

    def __init__(self) -> None:
        self._holder = Producer({"test.mock.num.brokers": 1})
        brokers = self._holder.list_topics(timeout=10).brokers.values()
        self.bootstrap = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
        self._library = library()
        self._library.rd_kafka_handle_mock_cluster.restype = ctypes.c_void_p
        self._library.rd_kafka_handle_mock_cluster.argtypes = [ctypes.c_void_p]
        # struct Handle of the binding begins with PyObject_HEAD and then has the rd_kafka_t*.
        handle = ctypes.c_void_p.from_address(id(self._holder) + object.__basicsize__)
        self._cluster = ctypes.c_void_p(self._library.rd_kafka_handle_mock_cluster(handle))

    def form_groups_at_once(self) -> None:
        """New groups wait no three seconds for further members, as those of the real Kafka of the tests do not."""
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, ctypes.c_int32(0))

    def make_topic(self, topic: str, partitions: int) -> None:
        """For clients that may not make topics."""
        create = self._library.rd_kafka_mock_topic_create
        assert create(self._cluster, ctypes.c_char_p(topic.encode()), ctypes.c_int(partitions), ctypes.c_int(1)) == 0

    def answer_after(self, milliseconds: int) -> None:
        """Its only broker takes this long for each request from now on."""
        self._library.rd_kafka_mock_broker_set_rtt(self._cluster, ctypes.c_int32(1), ctypes.c_int(milliseconds))

    def answer_next_after(self, request: int, *milliseconds: int) -> None:
        """The next requests of this kind, and what comes behind them on their connections, are answered so late."""
        push = self._library.rd_kafka_mock_broker_push_request_error_rtts
        late = [ctypes.c_int(each) for pair in zip(itertools.repeat(0), milliseconds) for each in pair]  # no error
        push(self._cluster, ctypes.c_int32(1), ctypes.c_int16(request), ctypes.c_size_t(len(milliseconds)), *late)

    def fail_next(self, request: int, *codes: int) -> None:
        """The next requests of this kind are answered with these errors."""
        errors = (ctypes.c_int * len(codes))(*codes)
        push = self._library.rd_kafka_mock_push_request_errors_array
        push(self._cluster, ctypes.c_int16(request), ctypes.c_size_t(len(codes)), errors)

    def clear(self, request: int) -> None:
        """The next requests of this kind are answered rightly again."""
        self._library.rd_kafka_mock_clear_request_errors(self._cluster, ctypes.c_int16(request))

    def fail_topic(self, topic: str, code: int) -> None:
        """Requests for this topic are answered with this error, and rightly again with 0."""
        set_error = self._library.rd_kafka_mock_topic_set_error
        set_error(self._cluster, ctypes.c_char_p(topic.encode()), ctypes.c_int(code))
