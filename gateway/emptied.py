"""Files that are followed, and suddenly say nothing: who writes one anew leaves it empty for a moment."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from typing import Final

STAYS_S: Final = 0.9
"""How long a file must say nothing to count: short enough for those whom that removes to be out within 5 s."""


class Emptied:
    """Tells whether an empty file is meant, or is about to be written. For one thread.

    Args:
        key: the property that names the file.
        clock: seconds; replaceable for tests.
    """

    def __init__(self, key: str, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._key, self._log, self._clock = key, log, clock
        self._since: float | None = None

    @property
    def in_doubt(self) -> bool:
        """Whether the file said nothing when it was read last, and that does not count yet."""
        return self._since is not None

    def doubts(self, said: Collection[object], had: Collection[object]) -> bool:
        """Whether what was just read does not count yet, and is to be read again at the next look: nothing ``said``,
        in the place of what the file ``had``."""
        if said or not had:
            self._since = None
            return False
        now = self._clock()
        if self._since is None:
            self._since = now
            self._log.warning("%s: the file is empty; what it said before stays, unless it remains so", self._key)
        elif now - self._since >= STAYS_S:
            self._since = None
            return False
        return True
