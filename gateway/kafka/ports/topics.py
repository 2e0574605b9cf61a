"""Topics, partitions, offsets and brokers as the services see them: values without behaviour."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple


class TopicPartition(NamedTuple):
    topic: str
    partition: int


class PartitionOffset(NamedTuple):
    topic: str
    partition: int
    offset: int
    metadata: str = ""


Positions = Mapping[TopicPartition, int]


@dataclasses.dataclass(frozen=True, slots=True)
class PartitionInfo:
    partition: int
    leader: int
    """-1 when there is none."""
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class TopicInfo:
    name: str
    internal: bool
    partitions: tuple[PartitionInfo, ...]
    topic_id: str = ""
    """Of this life of the topic; "" where the brokers tell none."""


@dataclasses.dataclass(frozen=True, slots=True)
class ConfigEntry:
    name: str
    value: str | None
    """None for sensitive values."""
    overridden: bool
    """Set for this topic, not inherited."""


@dataclasses.dataclass(frozen=True, slots=True)
class BrokerNode:
    id: int
    host: str
    port: int
    rack: str | None = None
