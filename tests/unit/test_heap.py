"""Giving memory back: when much was let go of, nothing more follows, and rarely."""

from __future__ import annotations

import queue
import time

import pytest

from kafka_gateway import heap

MANY = 50
"""Consumers that are worth it."""


def test_trimming_is_rare_and_comes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "SETTLED_S", 0.1)
    monkeypatch.setattr(heap, "EVERY_S", 0.5)
    trimmer = heap.Trimmer()
    trims: queue.SimpleQueue[float] = queue.SimpleQueue()
    monkeypatch.setattr(trimmer, "_trim", lambda _: trims.put(time.monotonic()))

    def let_go(count: int) -> float:
        for _ in range(count):
            trimmer.let_go()
        return time.monotonic()

    let_go(MANY - 1)
    with pytest.raises(queue.Empty):
        trims.get(timeout=0.3)
    let_go_at = let_go(1)
    first = trims.get(timeout=10)
    assert first - let_go_at >= 0.09
    let_go(MANY)
    assert trims.get(timeout=10) - first >= 0.49
    let_go(MANY - 1)
    with pytest.raises(queue.Empty):
        trims.get(timeout=0.8)
