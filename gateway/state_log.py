"""Lines about what lasts: that something is in trouble is said when it begins, and not each time that it is found."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

_QUIET_S: Final = 600.0
"""A trouble of which nothing was found for so long is over, and a new one if it is found again."""
_KINDS_MAX: Final = 16
_SUBJECTS_MAX: Final = 1024
"""Strangers choose how many there are; those of which nothing was found for longest are forgotten."""


class StateLog:
    """Writes to ``log`` about subjects, such as a peer, that are well or in trouble of some kinds.

    Whoever tries something again and again tells each result; the log has a line for each change: the first trouble of
    a kind, and when all is well again. Belongs to one thread.
    """

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._troubles: OrderedDict[Hashable, dict[str, float]] = OrderedDict()
        """By subject: the kinds that are known, and when each was found last."""

    def trouble(
        self,
        subject: Hashable,
        kind: str,
        level: int,
        text: str,
        *values: object,
        error: BaseException | None = None,
    ) -> None:
        """The subject is in trouble. ``kind``: what is the same each time, as ``text`` with its ``values`` may not be.
        ``error``: whose trace is shown."""
        kinds = self._troubles.setdefault(subject, {})
        self._troubles.move_to_end(subject)
        now, before = self._clock(), kinds.get(kind)
        if before is None and len(kinds) >= _KINDS_MAX:
            return  # a subject that is in ever new trouble has been told of often enough
        kinds[kind] = now
        if before is None or now - before > _QUIET_S:
            self._log.log(level, text, *values, exc_info=error)
        if len(self._troubles) > _SUBJECTS_MAX:
            self._troubles.popitem(last=False)

    def well(self, *subjects: Hashable, text: str, values: tuple[object, ...] = ()) -> None:
        """These are well, which is one line at INFO if any of them was in trouble."""
        if self._troubles and [subject for subject in subjects if self._troubles.pop(subject, None) is not None]:
            self._log.info(text, *values)

    def forget(self, subject: Hashable) -> None:
        """Nothing is known of it any more, and nothing is said."""
        self._troubles.pop(subject, None)
