"""Membership in the group that shares out the slots of a cluster of gateways (cluster.md §5)."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class SlotRecord(NamedTuple):
    """A record of a slot's log."""

    slot: int
    key: bytes
    value: bytes | None
    headers: Mapping[str, str] = _NONE
    """As text; of several with one name the first."""


@dataclasses.dataclass(frozen=True, slots=True)
class SlotGroup:
    """The cluster that shares the slots, and the name under which this process takes part."""

    topic: str
    group: str
    member: str
    """``group.instance.id``: the same after a restart."""
    session_timeout_ms: int
    heartbeat_ms: int
    handover_s: float
    """How long `SlotListener.give_up` may take, and `SlotListener.size` makes it longer."""


class SlotListener(Protocol):
    """Who holds the slots. All calls come on the event loop, in the order of what happened."""

    def assigned(self, slots: Collection[int]) -> None:
        """These are held from now on; their records come from the beginning."""

    def records(self, records: Sequence[SlotRecord]) -> None: ...
    def caught_up(self, slots: Collection[int]) -> None:
        """All that was there when these were assigned has been given."""

    def size(self, slots: Collection[int]) -> int:
        """How many instances there are in these."""

    async def give_up(self, slots: Collection[int]) -> None:
        """Others will have these as soon as this returns, or its time is up."""

    def lost(self, slots: Collection[int]) -> None:
        """Others may have these already: the coordinator was not heard for the session timeout."""

    def fenced(self, why: str) -> None:
        """The member has ended and holds nothing any more: another one has its name, or Kafka believes so."""

    def failed(self, why: str) -> None:
        """The group or the topic cannot be used at present; it is tried again. "": it can."""


class SlotMember(Protocol):
    """This process's membership. Belongs to the event loop."""

    def begin_again(self) -> None:
        """The topic is another one under its name: what is held is read from its beginning."""

    async def leave(self, for_good: bool) -> None:
        """Gives up all slots, and ends. ``for_good``: others get them at once; else they wait for a process of this
        name until the session timeout. A second call waits for the first."""
