"""Giving memory back: for many consumers only, when they have settled, and rarely."""

from __future__ import annotations

import pytest

from gateway.kafka.clients import memory


def test_trimming_is_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    trimmer = memory.Trimmer()
    trims: list[float] = []
    monkeypatch.setattr(trimmer, "_trim", lambda _: trims.append(now))

    def let_go(count: int) -> None:
        for _ in range(count):
            trimmer.let_go()

    let_go(memory.MANY - 1)
    now += 60
    trimmer.trim_if_due()
    assert trims == []
    let_go(1)
    trimmer.trim_if_due()
    assert trims == []
    now += memory.SETTLED_S
    trimmer.trim_if_due()
    trimmer.trim_if_due()
    assert trims == [now]
    let_go(memory.MANY)
    now += memory.SETTLED_S
    trimmer.trim_if_due()
    assert len(trims) == 1
    now += memory.EVERY_S
    trimmer.trim_if_due()
    assert len(trims) == 2
