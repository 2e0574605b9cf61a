"""Giving memory back: when much was let go of, nothing more follows, and rarely."""

from __future__ import annotations

import pytest

from kafka_gateway import heap

MANY = 50
"""Consumers that are worth it."""


def test_trimming_is_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    trimmer = heap.Trimmer()
    trims: list[float] = []
    monkeypatch.setattr(trimmer, "_trim", lambda _: trims.append(now))

    def let_go(count: int) -> None:
        for _ in range(count):
            trimmer.let_go()

    let_go(MANY - 1)
    now += 60
    trimmer.trim_if_due()
    assert trims == []
    let_go(1)
    trimmer.trim_if_due()
    assert trims == []
    now += heap.SETTLED_S
    trimmer.trim_if_due()
    trimmer.trim_if_due()
    assert trims == [now]
    let_go(MANY)
    now += heap.SETTLED_S
    trimmer.trim_if_due()
    assert len(trims) == 1
    now += heap.EVERY_S
    trimmer.trim_if_due()
    assert len(trims) == 2
