"""Who is to hold no slots where processes that live do not reach each other (cluster.md §7). No I/O.

Each judges for itself. The picture is the same for all, since each has told through Kafka whom it does not reach; so
they come to the same: of those that reach most others somebody stays, always.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Final

_NOBODY: Final[frozenset[str]] = frozenset()


@dataclasses.dataclass(frozen=True, slots=True)
class ToldOfItself:
    """What a process has told of itself."""

    since: int = 0
    """When it began, milliseconds since 1970; 0: it has not said so, as those of before."""
    unreached: frozenset[str] = _NOBODY
    """Processes that it does not reach."""


def is_left_out(me: str, live: Mapping[str, ToldOfItself], apart: Collection[str]) -> bool:
    """Whether this process is to hold no slots.

    It is, if more than half of those that live and it do not reach each other, and some process has more than half.
    Where it is exactly half, those stay that are with the oldest of them: so of two processes one serves everything,
    and not each what the other one cannot reach.

    Args:
        live: all processes that live, this one among them.
        apart: those of them of which this process knows that it and they do not reach each other.
    """
    count, apart = len(live), live.keys() & apart
    if 2 * len(apart) < count:
        return False
    missed: dict[str, set[str]] = {each: set() for each in live}
    for each, told in live.items():
        for other in told.unreached & live.keys():
            if me not in (each, other):  # which this process knows better
                missed[each].add(other)
                missed[other].add(each)
    for other in apart:
        missed[other].add(me)
    missed[me] |= apart
    fewest = min(map(len, missed.values()))
    if 2 * len(apart) > count:
        return 2 * fewest < count
    return min((live[each].since, each) for each in live if len(missed[each]) == fewest)[1] in apart
