"""Resume tokens (streams.md §3): the next position in every partition of a stream, as JSON.

A token is made once for each batch and topic, and put together for streams of several topics from these parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kafka_gateway import jsonio
from kafka_gateway.kafka.ports.topics import PartitionOffset

_OFFSET_MAX = 2**63 - 1
_PARTITION_MAX = 2**31 - 1


class TokenPosition(jsonio.Struct, gc=False):
    topic: str
    partition: int
    offset: int


def token_part(positions: Iterable[PartitionOffset]) -> bytes:
    """What a token says of one topic, without the brackets round the whole."""
    return jsonio.encode([TokenPosition(each.topic, each.partition, each.offset) for each in positions])[1:-1]


def token(parts: Iterable[bytes]) -> bytes:
    """The token of a stream, from the parts of its topics."""
    return b"[%b]" % b",".join(part for part in parts if part)


def read_token(text: str | bytes) -> Mapping[str, Mapping[int, int]]:
    """Topic → partition → next offset. Members beside these three are passed over, as KafkaSSE has some.

    An offset below 0, which KafkaSSE writes for the end of a partition, is no position: such an entry says nothing.

    Raises:
        ValueError: it is no token; says why.
    """
    try:
        entries = jsonio.decode_value(text.encode() if isinstance(text, str) else text)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    if not isinstance(entries, list):
        raise ValueError("it is not an array")
    positions: dict[str, dict[int, int]] = {}
    for entry in entries:
        topic, partition, offset = _position(entry)
        known = positions.setdefault(topic, {})
        if partition in known:
            raise ValueError(f"it names partition {partition} twice")
        known[partition] = offset
    return {
        topic: {partition: offset for partition, offset in named.items() if offset >= 0}
        for topic, named in positions.items()
    }


def _position(entry: Any) -> tuple[str, int, int]:
    if not isinstance(entry, dict):
        raise ValueError("an element is not an object")
    topic, partition, offset = entry.get("topic"), entry.get("partition"), entry.get("offset")
    if not isinstance(topic, str):
        raise ValueError("topic is not a string")
    if not isinstance(partition, int) or isinstance(partition, bool) or not 0 <= partition <= _PARTITION_MAX:
        raise ValueError("partition is not the number of a partition")
    if not isinstance(offset, int) or isinstance(offset, bool) or offset > _OFFSET_MAX:
        raise ValueError("offset is not a 64-bit integer")
    return topic, partition, offset
