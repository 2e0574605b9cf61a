"""Where a request about a slot goes (cluster.md §5.1): decided from what is known at this moment, without I/O."""

from __future__ import annotations

import enum
import functools
from typing import Final, NamedTuple


class SlotState(enum.Enum):
    """The state of a slot that the group has assigned to this process."""

    REPLAYING = "replaying"
    SERVING = "serving"
    HANDING_OVER = "handing-over"
    DOUBTED = "doubted"
    """It was served; but this process stood still for so long that others may have it by now."""


class Turn(enum.Enum):
    """What to do with a request now."""

    HERE = enum.auto()
    FORWARD = enum.auto()
    HOLD = enum.auto()
    """Until the table or the slot's state changes."""
    MISROUTED = enum.auto()
    """A peer has sent it, and it is wrong here: never forwarded twice."""


class RoutingDecision(NamedTuple):
    turn: Turn
    process: str = ""
    """The process to which it is forwarded."""


_HERE: Final = RoutingDecision(Turn.HERE)
_HOLD: Final = RoutingDecision(Turn.HOLD)
_MISROUTED: Final = RoutingDecision(Turn.MISROUTED)


@functools.lru_cache(1024)
def _forward(process: str) -> RoutingDecision:
    return RoutingDecision(Turn.FORWARD, process)


def decide(
    state: SlotState | None, owner: str | None, me: str, of_peer: bool, unreachable: str = ""
) -> RoutingDecision:
    """What to do with a request.

    Args:
        state: of the slot here; None: this process does not hold it.
        owner: who claims it by the table.
        of_peer: whether another process has forwarded the request.
        unreachable: the process that could not be reached just now: it is not tried again before something changes.
    """
    if state is SlotState.SERVING:
        return _HERE
    if state is not None:
        return _HOLD
    if of_peer:
        return _MISROUTED
    if owner is None or owner in (me, unreachable):
        return _HOLD
    return _forward(owner)
