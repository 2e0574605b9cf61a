"""Records that Kafka will refuse, as far as its settings of the topic tell; they travel apart from all others.

Kafka refuses a whole batch for one faulty record. Sending the rest again costs everybody who writes to the topic a
pause, and an idempotent producer whose batch has failed starts a new epoch, for which all of its topics wait. So a
record with a time that the topic does not take, without a key where the topic is compacted, or larger than its batches
has a producer of its own, where it is alone in its batch. Kafka still judges it. A setting that has changed meanwhile
would cost such a record its place among others of the same client, so before it is sent Kafka is asked again, unless it
was a moment ago; what is sent to the topic meanwhile waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from kafka_gateway.kafka.ports.producing import Delivery
from kafka_gateway.records import RecordToSend

_EVER_MS = 2**63 - 1

Row = TypeVar("Row")


class RecordDemands(NamedTuple):
    """What a topic demands of each record."""

    before_max_ms: int
    after_max_ms: int
    is_compacted: bool
    largest_bytes: int

    @classmethod
    def of(cls, settings: Mapping[str, str | None]) -> RecordDemands:
        """By the effective settings of the topic; what they do not tell is not demanded."""

        def number(name: str) -> int:
            return int(settings.get(name) or _EVER_MS)

        either = number("message.timestamp.difference.max.ms")  # of brokers before 4.0
        if settings.get("message.timestamp.type") == "LogAppendTime":
            before = after = _EVER_MS
        else:
            before = min(either, number("message.timestamp.before.max.ms"))
            after = min(either, number("message.timestamp.after.max.ms"))
        compacted = "compact" in (settings.get("cleanup.policy") or "").replace(" ", "").split(",")
        return cls(before, after, compacted, number("max.message.bytes"))

    def refused(self, records: Sequence[RecordToSend], size_bytes: int, compressed: bool) -> Sequence[int]:
        """The places of the records that the topic does not take; ``size_bytes`` is the content of all.

        A record that is ``compressed`` on its way may be larger than what Kafka sees of it.
        """
        are_large = size_bytes > self.largest_bytes and not compressed
        for each in records:
            if each.timestamp_ms:
                break
        else:
            if not (self.is_compacted or are_large):
                return ()  # the usual
        found: set[int] = set()
        if self.is_compacted:
            found.update(place for place, each in enumerate(records) if each.key is None)
        now_ms = time.time_ns() // 1_000_000
        first, last = now_ms - self.before_max_ms, now_ms + self.after_max_ms
        found.update(
            place for place, each in enumerate(records) if each.timestamp_ms and not first <= each.timestamp_ms <= last
        )
        if are_large:
            found.update(
                place
                for place, each in enumerate(records)
                if len(each.value or b"") + len(each.key or b"") > self.largest_bytes
            )
        return sorted(found)


class Part(NamedTuple):
    """Some of the records that were sent together."""

    places: Sequence[int]
    records: Sequence[RecordToSend]


def parts(records: Sequence[RecordToSend], refused: Sequence[int]) -> tuple[Part, Part]:
    """The records that a topic takes, and those in ``refused``."""
    apart = frozenset(refused)
    taken = [place for place in range(len(records)) if place not in apart]
    return Part(taken, [records[place] for place in taken]), Part(refused, [records[place] for place in refused])


def together(
    split: Sequence[Part], futures: Sequence[asyncio.Future[list[Delivery]]]
) -> asyncio.Future[list[Delivery]]:
    """All deliveries in the order of the records, when all are there. Fails as the first part that has failed."""
    whole: asyncio.Future[list[Delivery]] = futures[0].get_loop().create_future()

    def done(_: object) -> None:
        if whole.done() or not all(each.done() for each in futures):
            return
        errors = [error for each in futures if (error := each.exception()) is not None]
        if errors:
            whole.set_exception(errors[0])
            whole.exception()  # a client that left does not ask for it
        else:
            whole.set_result(_merged(split, [each.result() for each in futures]))

    for each in futures:
        each.add_done_callback(done)
    return whole


def pass_on(inner: asyncio.Future[list[Delivery]], outer: asyncio.Future[list[Delivery]]) -> None:
    """Gives the outer future what the inner one gets."""

    def done(_: object) -> None:
        if outer.done():
            return
        if (error := inner.exception()) is not None:
            outer.set_exception(error)
            outer.exception()  # a client that left does not ask for it
        else:
            outer.set_result(inner.result())

    inner.add_done_callback(done)


class Followed(Protocol):
    """Records on their way: `FollowedBatch`."""

    future: asyncio.Future[list[Delivery]]

    @property
    def deliveries(self) -> Sequence[Delivery | None]: ...


class FollowedLater:
    """The `Sending` port for records that wait to be sent."""

    def __init__(self, size: int) -> None:
        self.future: asyncio.Future[list[Delivery]] = asyncio.get_running_loop().create_future()
        self._size = size
        self._sent: Followed | None = None

    def begin(self, sent: Followed) -> None:
        """They have been sent."""
        self._sent = sent
        pass_on(sent.future, self.future)

    @property
    def deliveries(self) -> Sequence[Delivery | None]:
        return [None] * self._size if self._sent is None else self._sent.deliveries


class FollowedApart:
    """The `Sending` port for records that travel in several batches."""

    def __init__(self, split: Sequence[Part], batches: Sequence[Followed]) -> None:
        self._split = split
        self._batches = batches
        self.future = together(split, [each.future for each in batches])

    @property
    def deliveries(self) -> Sequence[Delivery | None]:
        return _merged(self._split, [each.deliveries for each in self._batches])


def _merged(split: Sequence[Part], rows: Sequence[Sequence[Row]]) -> list[Row]:
    pairs = [pair for part, own in zip(split, rows, strict=True) for pair in zip(part.places, own, strict=True)]
    return [row for _, row in sorted(pairs, key=lambda pair: pair[0])]
