"""What a listener offers, and which of its transports may take a request."""

from __future__ import annotations

from typing import Final

from kafka_gateway.door.known_heads import KnownHeads
from kafka_gateway.transport import Transport

_CANDIDATES_MAX: Final = 4096
_PATH_MAX: Final = 512
"""Characters of a remembered path: hostile clients must not fill the memory with long ones."""


class Offer:
    """What a listener offers: its transports, in the order in which they are asked."""

    __slots__ = ("_candidates", "checks_names", "heads", "transports")

    def __init__(self, transports: tuple[Transport, ...], checks_names: bool) -> None:
        self.transports = transports
        self.checks_names = checks_names
        """Whether it answers under some names of hosts only."""
        self._candidates: dict[tuple[str, bool], tuple[Transport, ...]] = {}
        self.heads = KnownHeads()

    def candidates(self, path: str, upgrade: bool) -> tuple[Transport, ...]:
        """The transports that may claim a request for this path: mostly two, and asking all would cost microseconds."""
        found = self._candidates.get((path, upgrade))
        if found is None:
            last = self.transports[-1:]  # takes what no other transport claims
            found = tuple(
                each
                for each in self.transports
                if (each in last or path[:1] != "/" or _fits(path, each.paths)) and (upgrade or not each.upgrades)
            )
            if len(path) <= _PATH_MAX:
                if len(self._candidates) >= _CANDIDATES_MAX:
                    self._candidates.clear()
                self._candidates[path, upgrade] = found
        return found


def _fits(path: str, patterns: tuple[str, ...]) -> bool:
    return any(path.startswith(each[:-1]) if each.endswith("*") else path == each for each in patterns)
