"""Plain numbers that requests and records add to, and a scrape reads (observability.md §1).

They have no library, no lock and no label set that is looked up by text: adding costs a fraction of a microsecond. Each
belongs to the event loop, unless it says otherwise.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

REQUEST_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of histograms of what clients wait for."""
DELAY_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Upper bounds of histograms of delays, which should be near 0."""
OTHER: Final = "other"
"""The name under which everything beyond a bound is counted."""


class Histogram:
    """How often something took how long: a count for each upper bound, not cumulative, and one for what is longer."""

    __slots__ = ("bounds", "buckets", "count", "exemplars", "sum")

    def __init__(self, bounds: tuple[float, ...] = REQUEST_SECONDS) -> None:
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.count = 0
        self.sum = 0.0
        self.exemplars: dict[int, tuple[str, float]] | None = None
        """Bucket → trace id and value of the newest request in it that was traced."""

    def add(self, value: float, trace_id: str = "") -> None:
        """Counts one value; takes 0.3 µs at most. ``trace_id``: of the trace to show as an exemplar."""
        place = bisect_left(self.bounds, value)
        self.buckets[place] += 1
        self.count += 1
        self.sum += value
        if trace_id:
            if self.exemplars is None:
                self.exemplars = {}
            self.exemplars[place] = (trace_id, value)


class Names:
    """The names that get a label of their own: the first ``most`` that come. All others share `OTHER`."""

    __slots__ = ("_known", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[str, str] = {}

    def label(self, name: str) -> str:
        """The name itself, or `OTHER`."""
        known = self._known.get(name)
        if known is None:
            if len(self._known) >= self._most:
                return OTHER
            known = self._known[name] = name
        return known


class Traffic:
    """Records and bytes by how they travel and by topic."""

    def __init__(self, topics: Names) -> None:
        self._topics = topics
        self._counts: dict[tuple[str, str], list[int]] = {}

    def add(self, way: str, topic: str, records: int, size_bytes: int) -> None:
        """Counts a batch. ``way`` is a word of the gateway's own."""
        counts = self.counts(way, topic)
        counts[0] += records
        counts[1] += size_bytes

    def counts(self, way: str, topic: str) -> list[int]:
        """Records and bytes, to be added to by whoever has much to count; there is a series of them from now on."""
        counts = self._counts.get((way, topic))
        if counts is None:
            counts = self._counts.setdefault((way, self._topics.label(topic)), [0, 0])
        return counts

    def records(self) -> Iterator[tuple[tuple[str, str], int]]:
        """Way and topic, and how many records."""
        return ((key, counts[0]) for key, counts in list(self._counts.items()))

    def sizes(self) -> Iterator[tuple[tuple[str, str], int]]:
        """Way and topic, and how many bytes."""
        return ((key, counts[1]) for key, counts in list(self._counts.items()))


class KafkaNumbers:
    """What goes to Kafka and comes from it. Belongs to the event loop.

    Args:
        topics: topics with series of their own.
        groups: consumer groups with series of their own.
    """

    def __init__(self, topics: Names, groups: Names) -> None:
        self.groups = groups
        self.topics = topics
        self.produced = Traffic(topics)
        """Records that Kafka has acknowledged, by the transport that they came by."""
        self.produce_errors: Counter[str] = Counter()
        """Records that it did not take, by the name of the error."""
        self.produce_seconds = Histogram()
        """From the handing over to librdkafka to the report, for each batch."""
        self.consumed = Traffic(topics)
        """Records that were handed on, by kind of reading."""
        self.rebalances: Counter[str] = Counter()
        """New assignments, by group."""
        self.shared_readers = 0
        """Readers at the end of a topic, each for all streams that have reached it."""
        self.catchup_readers = 0
        """Readers of what streams have missed."""
        self.stream_gaps = 0
        """Gaps of which streams were told: runs of records that are not there any more."""


def cumulative(histogram: Histogram) -> Iterable[tuple[float, int]]:
    """Each upper bound, and how many values were at most that. The last bucket, which has no bound, is left out."""
    total = 0
    for bound, count in zip(histogram.bounds, histogram.buckets, strict=False):
        total += count
        yield bound, total
