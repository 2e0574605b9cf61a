"""The interface between ownership (`gateway.cluster`) and connections between processes (`gateway.workers`).

Membership tells `Peers` which processes there are and where they listen, and asks it to have a request answered by one
of them. `Peers` knows nothing of slots; membership knows nothing of connections (cluster.md §5.1, §9).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from kafka_gateway.forwarding import Sent
    from kafka_gateway.messages import Reply, Request

MISROUTED: Final = 421
"""Status of the reply of a process that does not hold the slot which the request is about. No client sees it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Process:
    """One process of the cluster (cluster.md §2)."""

    cluster: str
    """``cluster.id``: processes of another cluster are strangers."""
    id: str
    """``<cluster.node.id>/<index>``, such as ``gw-1/0``: stable over restarts."""
    boot: str
    """Random, new at every start."""


class PeerLost(Exception):
    """There is no reply: the process cannot be reached, or the connection was lost before the reply began.

    ``sent``: whether the request may have reached it. What is sent again then must be idempotent (cluster.md §6.3).
    """

    def __init__(self, process: str, sent: bool) -> None:
        super().__init__(process)
        self.process = process
        self.sent = sent


@dataclasses.dataclass(frozen=True, slots=True)
class Reach:
    """What this process knows of its way to another one."""

    reachable: bool | None
    """Whether it could be reached when that was tried last; None: not tried yet."""
    heard_ago_s: float | None
    """Since when nothing was heard of it, on whichever connection; None: it was never heard."""
    trouble: str
    """Why it could not be reached."""
    unreached_s: float | None = None
    """For how long every attempt has failed; None: the last one did not, or there was none."""
    refused: bool = False
    """Whether it was there when that was tried last: it has answered by its name, and then one end has not let the
    other one in."""


class Peers(Protocol):
    """The other processes of the cluster, as far as they can be reached: those of this node from the start, others once
    they have claimed where they listen. Belongs to the event loop."""

    @property
    def addresses(self) -> Sequence[str]:
        """Where others reach this process, as its claim says it: ``tls://10.0.0.5:7885``, ``unix:c/gw-1/0.sock``."""

    def know(self, process: str, boot: str, addresses: Sequence[str]) -> None:
        """The process has claimed that it listens there; replaces what was known of it. Opens no connection.

        The order of the addresses is the process's; those that cannot be used here are left out. ``boot`` is a hint:
        the one that answers may be a newer one.
        """

    def forget(self, process: str) -> None:
        """The process is gone for good."""

    def watch(self) -> None:
        """Begins to look whether the others can be reached, every few seconds: they know this process by now."""

    def look(self, process: str) -> None:
        """Begins to look at this one now, unless something was heard of it a moment ago."""

    def reach(self, process: str) -> Reach | None:
        """Whether it can be reached; None: nobody has told of it."""

    def end_reads(self) -> None:
        """This process stops: what others were asked to read for clients of it is answered now, with what there is."""

    @property
    def carries_proofs(self) -> bool:
        """Whether what clients prove themselves with may go to other processes: nobody reads it on the way."""

    async def call(self, process: str, request: Request, relay: str = "") -> Reply:
        """The reply of that process, which has the request dispatched in a session with ``forwarded`` set.

        ``relay``: the handler of `kafka_gateway.relays` that it is for, in place of that. It gets the client's proof,
        so no address is of use where that could be read on the way; and what it raises is raised.

        Opens the connection on first need, and tries for ``cluster.peer.connect.timeout.ms``; a process that could not
        be reached is tried again after a time that grows to some seconds, and there is no reply until then. Does not
        hold, does not try twice, and sends nothing again: that is the caller's. A reply with the status `MISROUTED` is
        handed back as it came. A stream in the reply ends with InstanceUnavailable if the process is lost. Cancelling
        the call cancels the request there.

        Raises:
            PeerLost: see there.
            HeadTooLarge: the request cannot be sent.
        """

    def begin(self, process: str, request: Request, sent: Sent) -> bool:
        """As ``call``, without a task, if there is a connection that takes it now; False: nothing has happened, and it
        is for ``call``. `Sent.answered` gets the reply; None stands for PeerLost.
        """

    async def question(self, process: str, name: str, parameters: Mapping[str, Any]) -> list[Any]:
        """What that process answers to it (`kafka_gateway.homes.Question`). PeerLost."""
