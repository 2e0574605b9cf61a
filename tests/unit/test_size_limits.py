"""How large the batches of a topic may be (gateway/kafka/producing/size_limits.py)."""

from __future__ import annotations

from typing import Any

import pytest

from kafka_gateway.kafka.ports.topics import ConfigEntry
from kafka_gateway.kafka.producing.size_limits import SizeLimits
from kafka_gateway.kafka_errors import KafkaAuthorization

LARGEST = 1_000_000


class Settings:
    """Kafka's settings of every topic; None: they are not shown."""

    def __init__(self, most: int | None, segment: int = 2**30) -> None:
        self.most, self.segment = most, segment

    async def reach(self) -> None: ...

    async def topic_configs(self, name: str) -> list[ConfigEntry]:
        if self.most is None:
            raise KafkaAuthorization("no")
        return [
            ConfigEntry("max.message.bytes", str(self.most), False),
            ConfigEntry("segment.bytes", str(self.segment), False),
        ]


def limits_of(settings: Settings) -> SizeLimits:
    admin: Any = settings
    return SizeLimits(admin, LARGEST)


@pytest.mark.parametrize(
    ("most", "segment", "size"),
    [
        (1_048_588, 2**30, LARGEST),
        (10_000_000, 2**30, LARGEST),
        (999_999, 2**30, 500_000),
        (50_000, 2**30, 31_250),
        (1_048_588, 20_000, 15_625),
        (1_500, 2**30, 1),  # below 2 kB each record travels alone
        (0, 2**30, 1),
    ],
)
async def test_batches_are_never_larger_than_the_topic_takes(most: int, segment: int, size: int) -> None:
    limits = limits_of(Settings(most, segment))
    assert limits.due("t")
    await limits.ask("t")
    assert not limits.due("t")
    assert limits.batch_bytes("t") == size
    assert limits.batch_bytes("another") == LARGEST


async def test_refusals_teach_what_kafka_does_not_show() -> None:
    limits = limits_of(Settings(None))
    await limits.ask("t")
    sizes = []
    while (size := limits.batch_bytes("t")) > 1:
        sizes.append(size)
        limits.refused("t", size)
        await limits.ask("t")
    assert sizes == [1_000_000, 250_000, 62_500, 15_625, 3_906]


async def test_what_was_shown_counts_until_kafka_says_something_else() -> None:
    settings = Settings(600_000)
    limits = limits_of(settings)
    await limits.ask("t")
    assert limits.batch_bytes("t") == 500_000
    limits.refused("t", 500_000)  # whatever the reason is
    await limits.ask("t")
    assert limits.batch_bytes("t") == 125_000
    settings.most = 700_000
    await limits.ask("t")
    assert limits.batch_bytes("t") == 500_000


async def test_a_refusal_of_larger_batches_says_nothing_new() -> None:
    limits = limits_of(Settings(50_000))
    await limits.ask("t")
    limits.refused("t", LARGEST)
    assert limits.batch_bytes("t") == 31_250
