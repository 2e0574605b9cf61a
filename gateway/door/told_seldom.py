"""What is told to the log of what strangers can cause as often as they like: seldom, but of each kind."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Final

_EVERY_S: Final = 10.0
_KINDS_MAX: Final = 64
_OTHERS: Final = object()


class ToldSeldom:
    """Counts events by kind: each kind may be told once in ten seconds. Belongs to the event loop.

    Beyond 64 kinds in that time the others are told as one: no kind hides another, and the log cannot be flooded.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` in seconds; replaceable for tests."""
        self._clock = clock
        self._kinds: dict[Hashable, tuple[float, int]] = {}
        """By kind, when it may be told again, and how many have come since it was told."""

    def count(self, kind: Hashable) -> int:
        """Counts an event. The answer is how many are to be told now, this one included; 0: none."""
        now = self._clock()
        if kind not in self._kinds and len(self._kinds) >= _KINDS_MAX:
            self._kinds = {each: (at, count) for each, (at, count) in self._kinds.items() if at > now}
            if len(self._kinds) >= _KINDS_MAX:
                kind = _OTHERS
        at, count = self._kinds.get(kind, (now, 0))
        is_told = now >= at
        self._kinds[kind] = (now + _EVERY_S, 0) if is_told else (at, count + 1)
        return count + 1 if is_told else 0
