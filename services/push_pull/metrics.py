"""What push and pull count, for Prometheus. Records by topic are counted where Kafka's clients are."""

from __future__ import annotations

from typing import Final

from kafka_gateway.metrics.families import counter, gauge
from kafka_gateway.metrics.registry import Families

_COUNTERS: Final = (
    ("pushed_messages", "pushed", "Messages that Kafka has taken"),
    ("failed_pushes", "failed_pushes", "Pushes of which Kafka has not taken every message"),
    ("pulled_messages", "pulled", "Messages in replies that clients have got"),
    ("failed_commits", "failed_commits", "Pulls whose messages their group will get again"),
)


class PushPullCounts:
    """Belongs to the event loop."""

    def __init__(self) -> None:
        self.pushed = self.failed_pushes = self.pulled = self.failed_commits = 0

    def families(self, consumers: int, pulls_at_work: int) -> Families:
        """All series; the arguments are how many there are now."""
        for name, member, text in _COUNTERS:
            yield counter(f"push_pull_{name}", text, (), [((), getattr(self, member))])
        yield gauge("push_pull_consumers", "Consumers that are kept for pulls", (), [((), consumers)])
        yield gauge("push_pull_pulls_at_work", "Pulls at work, or waiting for their turn", (), [((), pulls_at_work)])
