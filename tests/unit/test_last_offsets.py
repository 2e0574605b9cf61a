"""The last offsets of consumed records (gateway/kafka/consuming/buffer.py), whatever topics they are of."""

from __future__ import annotations

from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from kafka_gateway.kafka.consuming.buffer import last_offsets


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 2))), st.sampled_from([1, 2]))
def test_each_partition_has_its_own(places: list[tuple[str, int]], topics: int) -> None:
    places = [(topic if topics == 2 else "a", partition) for topic, partition in places]
    records = [Message(topic=topic, partition=partition, offset=i) for i, (topic, partition) in enumerate(places)]
    assert last_offsets(records) == {place: i for i, place in enumerate(places)}
