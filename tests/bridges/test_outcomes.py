"""What a sink's answers mean, when to try again, and how far a partition is done (bridges.md A3.3, A-28)."""

from __future__ import annotations

from email.utils import formatdate
from random import Random

import pytest

from kafka_gateway.kafka.unfinished import Unfinished
from kafka_gateway.services.bridges.outcomes import Outcome, RetryRules, outcome, retry_after_s, status_class


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ((200, 201, 202, 204, 299), Outcome.TAKEN),
        ((0, 408, 425, 429, 500, 502, 503, 504, 507, 599), Outcome.AGAIN),
        ((100, 199, 300, 301, 302, 304, 307, 308, 400, 401, 403, 404, 409, 413, 422, 499, 501, 505), Outcome.REFUSED),
    ],
)
def test_the_table_of_outcomes(statuses: tuple[int, ...], expected: Outcome) -> None:
    assert {status: outcome(status) for status in statuses} == dict.fromkeys(statuses, expected)


def test_pauses_grow_up_to_the_longest() -> None:
    rules = RetryRules()
    assert [rules.delay_s(n, chance=lambda: 0.0) for n in (1, 2, 3, 6, 7, 8, 10_000)] == [2, 4, 8, 64, 120, 120, 120]
    assert rules.delay_s(1, chance=lambda: 1.0) == 7


@pytest.mark.parametrize(
    ("field", "delay_s"), [("7", 7), ("1", 2), ("0", 2), ("999999", 120), ("soon", 2), ("-5", 2), ("1" * 5000, 120)]
)
def test_retry_after_makes_a_pause_longer_but_not_endless(field: str, delay_s: float) -> None:
    assert RetryRules().delay_s(1, field, chance=lambda: 0.0) == delay_s


def test_retry_after_may_be_a_date() -> None:
    assert retry_after_s(formatdate(1_000_007, usegmt=True), lambda: 1_000_000.0) == 7
    assert retry_after_s(formatdate(999_000, usegmt=True), lambda: 1_000_000.0) == 0
    assert [retry_after_s(text) for text in ("", "tomorrow", "Tue, 99 Nov 9999 99:99:99 GMT")] == [None, None, None]


def test_classes_of_status() -> None:
    assert [status_class(status) for status in (0, 204, 503)] == ["none", "2xx", "5xx"]


@pytest.mark.parametrize("seed", range(50))
def test_a_position_never_passes_what_is_not_done(seed: int) -> None:
    random = Random(seed)
    offsets = sorted(random.sample(range(50), random.randint(1, 30)))  # with gaps, as compaction leaves them
    place = ("t", 0)
    unfinished: Unfinished[None] = Unfinished()
    for offset in offsets:
        unfinished.sent(place, offset, None)
    assert (unfinished.position(place), unfinished.first(place)) == (None, offsets[0])
    order = random.sample(offsets, len(offsets))
    for done, offset in enumerate(order, 1):
        moved = unfinished.end(place, offset)
        open_ones = sorted(order[done:])
        before = [each for each in offsets if not open_ones or each < open_ones[0]]
        assert unfinished.position(place) == (before[-1] + 1 if before else None)
        assert moved in (None, unfinished.position(place))
        assert len(unfinished) == len(offsets) - len(before)
