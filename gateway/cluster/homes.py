"""Where requests about an instance go: served here, forwarded to whoever holds its slot, or held (cluster.md §5.1)."""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from kafka_gateway import jsonio
from kafka_gateway.all_workers import AllWorkers, answers_of
from kafka_gateway.cluster.ports import MISROUTED, PeerLost, Peers, Process, Reach
from kafka_gateway.cluster.routing import Turn, decide
from kafka_gateway.cluster.store import SlotStore
from kafka_gateway.cluster.streams import MovingStream
from kafka_gateway.cluster.table import Table
from kafka_gateway.core import Gateway
from kafka_gateway.errors import InstanceUnavailable, ServiceError, ShuttingDown
from kafka_gateway.forwarding import Join, Sent, Told
from kafka_gateway.holding import Holding
from kafka_gateway.home_keys import HomeKeys
from kafka_gateway.homes import Elsewhere, Misrouted, MisroutedLate, may_be_done
from kafka_gateway.messages import Reply, Request, Response, Unanswered
from kafka_gateway.slots import SEPARATOR, hash_of
from kafka_gateway.stream import Stream

_AGAIN_S: Final = 0.1
"""How soon a process is tried again that could not be reached, or did not hold the slot."""
_LATE_S: Final = 0.5
"""How long a process may take to answer after another one has the slot."""
_UNKNOWN: Final = Reach(None, None, "")
"""Of a process that has said that it is gone."""
_NEVER_ASKED: Final = object()


def _hash(*key: str) -> int:
    return hash_of(SEPARATOR.join(key))


class _Calling(jsonio.Struct, eq=False):
    """A request that another process has. A struct, because it is made in a quarter of the time."""

    process: str
    slot: int
    task: asyncio.Task[Any] | None
    is_given_up: bool = False

    def give_up(self) -> None:
        """Another process has the slot."""
        if not self.is_given_up and self.task is not None:
            self.is_given_up = True
            self.task.cancel()


class _Sent(Sent):
    """A request that another process has, and that no task waits for."""

    __slots__ = ("_began", "_homes", "process", "slot")

    def __init__(self, homes: ClusterHomes, process: str, slot: int, told: Told) -> None:
        self._homes, self.process, self.slot, self._told = homes, process, slot, told
        self._began = time.monotonic()

    def answered(self, outcome: Reply | ServiceError | None) -> None:
        homes, process, told = self._homes, self.process, self._told
        homes._calls.discard(self)
        if told is None:
            return
        self._told = None
        if type(outcome) is Reply:
            status = outcome.status
            homes.forwarded[process, str(status)] += 1
            homes.forward_s += time.monotonic() - self._began
            if status == MISROUTED:
                told(Unanswered(process, self._began, sent=may_be_done(outcome.headers)))
                return
            if not isinstance(outcome.body, bytes):
                outcome.body = homes._moving(self.request, outcome.body)
            told(outcome)
        elif outcome is None:
            homes.forwarded[process, "lost"] += 1
            told(Unanswered(process, self._began))
        else:
            told(outcome)

    def give_up(self) -> None:
        """Another process has the slot: this one may stand still."""
        self.carrier.drop(self.number)
        self.answered(None)

    def cancel(self) -> None:
        self._homes._calls.discard(self)
        super().cancel()


class ClusterHomes:
    """`kafka_gateway.forwarding.Forwarder` where several nodes serve as one. A home is told by the hash of its key, of
    which the slot is the rest. Belongs to the event loop."""

    is_fixed = False

    def __init__(
        self, gateway: Gateway, process: Process, store: SlotStore, table: Table, peers: Peers, workers: int = 1
    ) -> None:
        """``workers``: processes of this node."""
        self._gateway = gateway
        self._process = process
        self._store = store
        self._table = table
        self._peers = peers
        self._node, _, number = process.id.rpartition("/")
        self._all = AllWorkers(int(number), workers, self._ask)
        self._hold_s = gateway.config.seconds("cluster.hold.ms")
        self._holding = Holding.of(gateway)
        self._keys = HomeKeys(lambda: gateway.router, _hash)
        self._known: Callable[..., Any] = self._keys.known.get  # it is asked for each request
        self._serves = store.serves_hash
        self._changed = asyncio.Event()
        self._calls: set[_Calling | _Sent] = set()
        """What other processes are asked."""
        gateway.reloads.append(self._keys.forget)
        self.held = 0
        """Requests that wait."""
        self.hold_s = 0.0
        """How long all requests together have waited."""
        self.misrouted = 0
        self.forwarded: Counter[tuple[str, str]] = Counter()
        """By process and status."""
        self.forward_s = 0.0
        self.moved_streams = 0
        self._streams: weakref.WeakSet[MovingStream] = weakref.WeakSet()
        """Of the clients of this node."""

    def changed(self, slots: Collection[int]) -> None:
        """The table or the state of these slots has changed: requests that wait decide again, for whatever slot."""
        self._changed.set()
        self._changed = asyncio.Event()
        if self._calls:
            self._look_after_calls(slots)

    # --- Homes --------------------------------------------------------------------------------------------------------

    def is_here(self, *key: str) -> bool:
        store = self._store
        # If nothing is served here, any name will do: the process that makes the instance chooses another one.
        return store.serves_hash(_hash(*key)) or not store.served()

    def check_here(self, *key: str) -> None:
        hashed = _hash(*key)
        if not self._store.serves_hash(hashed):
            raise Elsewhere(hashed)

    def elsewhere(self, method: str, path: str, area: str) -> int | None:
        hashed = self._known((method, path, area), _NEVER_ASKED)
        if hashed is _NEVER_ASKED:
            hashed = self._keys.find(method, path, area)
        return None if hashed is None or self._serves(hashed) else hashed

    def follow(self, request: Request, response: Response) -> None:
        if not request.session.forwarded and hasattr(response.value, "aclose"):
            response.value = self._moving(request, response.value)

    def _moving(self, request: Request, stream: Stream) -> MovingStream:
        moving = MovingStream(self._gateway, request, stream, self._note_moved)
        self._streams.add(moving)
        return moving

    def drain(self) -> None:
        """This gateway stops: streams of instances that other nodes have end for that reason, and reads that wait there
        are answered, as those are that are here."""
        self._peers.end_reads()
        for stream in list(self._streams):
            stream.fail(ShuttingDown())

    def _note_moved(self) -> None:
        self.moved_streams += 1

    def told(self, *key: str) -> Mapping[str, Any]:
        store, table = self._store, self._table
        owners = {slot: owner for slot in range(store.count) if (owner := self._owner(slot)) is not None}
        shown: dict[str, Any] = {
            "cluster": self._process.cluster,
            "process": self._process.id,
            "boot": self._process.boot,
            "slots_total": store.count,
            "slots": dict.fromkeys(map(str, store.suspended()), "suspended")
            | {str(slot): state.value for slot, state in store.states().items()},
            "instances": {str(slot): count for slot, count in store.instances().items()},
            "owners": {str(slot): owner for slot, owner in owners.items()},
            "nodes": {
                each.id: {
                    "boot": each.claim.boot,
                    "state": each.claim.state,
                    "slots": each.claim.slots,
                    "peers": each.claim.peers,
                    "unreached": each.claim.unreached,
                    **self._reach(each.id),
                }
                for each in table
            },
            "trouble": store.trouble,
        }
        if key:
            slot = store.slot(_hash(*key))
            shown |= {"slot": slot, "owner": owners.get(slot)}
        return shown

    def _reach(self, process: str) -> dict[str, Any]:
        found = self._peers.reach(process) or _UNKNOWN
        heard = None if found.heard_ago_s is None else round(found.heard_ago_s, 1)
        return {"reachable": found.reachable, "heard_ago_s": heard, "error": found.trouble}

    def _owner(self, slot: int) -> str | None:
        """The process that serves it: the state here counts more than the table."""
        return self._process.id if self._store.serves(slot) else self._table.owner(slot)

    def begin(self, request: Request, worker: int, told: Told) -> Sent | None:
        slot = self._store.slot(worker)
        process = self._table.owner(slot)
        if process is None or process == self._process.id or request.session.forwarded:
            return None
        if self._store.state(slot) is not None:  # it is on its way here, or leaves, or is here by now
            return None
        sent = _Sent(self, process, slot, told)
        if not self._peers.begin(process, request, sent):
            return None
        self._calls.add(sent)
        return sent

    async def forward(self, request: Request, worker: int, after: Unanswered | None = None) -> Reply | None:
        of_peer = request.session.forwarded
        sent, unreachable, began = False, "", time.monotonic()
        if after is not None:
            unreachable, began, sent = after
        while True:
            slot = self._store.slot(worker)
            turn, process = decide(
                self._store.state(slot), self._table.owner(slot), self._process.id, of_peer, unreachable
            )
            if turn is Turn.HERE:
                if not sent or request.method != "DELETE":
                    return None
                # The process that had it is gone, and may have ended it before.
                return _again(request, await self._gateway.dispatch(request), sent)
            if turn is Turn.MISROUTED:
                self.misrouted += 1
                raise MisroutedLate() if sent else Misrouted()
            if turn is Turn.FORWARD:
                asked = time.monotonic() if sent or unreachable else began
                try:
                    reply = await self._call(process, slot, request)
                except PeerLost as lost:
                    sent, unreachable = sent or lost.sent, process
                    self.forwarded[process, "lost"] += 1
                    continue
                self.forwarded[process, str(reply.status)] += 1
                self.forward_s += time.monotonic() - asked
                if reply.status != MISROUTED:
                    if not isinstance(reply.body, bytes):
                        reply.body = self._moving(request, reply.body)
                    return _again(request, reply, sent)
                sent, unreachable = sent or may_be_done(reply.headers), process
                continue
            with self._holding.body(request.body):
                await self._hold(began + self._hold_s, _AGAIN_S if unreachable else None)
            unreachable = ""

    async def _call(self, process: str, slot: int, request: Request) -> Reply:
        """As `Peers.call`. PeerLost, too, if another process has the slot meanwhile: that one may stand still."""
        calling = _Calling(process, slot, asyncio.current_task())
        self._calls.add(calling)
        try:
            return await self._peers.call(process, request)
        except asyncio.CancelledError:
            if calling.is_given_up and calling.task is not None and not calling.task.uncancel():
                raise PeerLost(process, sent=True) from None
            raise
        finally:
            self._calls.discard(calling)

    def _look_after_calls(self, slots: Collection[int]) -> None:
        for calling in self._calls:
            if calling.slot in slots:
                owner = self._owner(calling.slot)
                if owner is not None and owner != calling.process:
                    # Not at once: after a planned move the reply may still come.
                    asyncio.get_running_loop().call_later(_LATE_S, self._give_up, calling)

    def _give_up(self, calling: _Calling | _Sent) -> None:
        if calling in self._calls:
            calling.give_up()

    async def _hold(self, until: float, at_most_s: float | None) -> None:
        """Returns when something has changed, or after that time. InstanceUnavailable at the end of the hold."""
        began = time.monotonic()
        if began >= until:
            raise InstanceUnavailable()
        wait_s = until - began if at_most_s is None else min(at_most_s, until - began)
        self.held += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
        finally:
            self.held -= 1
            self.hold_s += time.monotonic() - began

    async def join(self, request: Request, reply: Reply, join: Join) -> Reply:
        """Each node answers for itself, with all its workers."""
        return await self._all.join(request, reply, join)

    async def ask_all(self, name: str, parameters: Mapping[str, Any]) -> list[Any]:
        """Those of this node, and all of others that serve slots."""
        others = self._table.holders().union(map(self._process_of, self._all.others)) - {self._process.id}

        async def question(process: str) -> list[Any]:
            try:
                return await self._peers.question(process, name, parameters)
            except PeerLost:
                raise InstanceUnavailable() from None

        return await answers_of(sorted(others), question)

    async def _ask(self, request: Request, worker: int) -> Reply:
        try:
            return await self._peers.call(self._process_of(worker), request)
        except PeerLost:
            raise InstanceUnavailable() from None

    def _process_of(self, worker: int) -> str:
        return f"{self._node}/{worker}"


def _again(request: Request, reply: Reply, sent: bool) -> Reply:
    """The reply to a request that may have been carried out before, by a process that is gone."""
    if sent and request.method == "DELETE" and reply.status == 404:
        return Reply(204, "", b"", request_id=reply.request_id, route=reply.route)
    return reply
