"""One process of a cluster: its membership, its table of the others, and the way there (cluster.md §7)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Final, Protocol

from kafka_gateway.cluster.homes import ClusterHomes
from kafka_gateway.cluster.left_over import LeftOver
from kafka_gateway.cluster.mutual_reach import QUESTION, MutualReach
from kafka_gateway.cluster.out_of_reach import OutOfReach
from kafka_gateway.cluster.ports import Peers, Process
from kafka_gateway.cluster.processes import Processes
from kafka_gateway.cluster.records import State
from kafka_gateway.cluster.routing import SlotState
from kafka_gateway.cluster.store import NO_SHARE, SlotStore
from kafka_gateway.cluster.topic import InstanceTopic
from kafka_gateway.cluster.unreached import Unreached
from kafka_gateway.cluster.way import ClusterWay
from kafka_gateway.config import Config
from kafka_gateway.core import Gateway
from kafka_gateway.definitions import Holder
from kafka_gateway.errors import ServiceError
from kafka_gateway.homes import NodeReplaced
from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.kafka.ports.compacted_logs import CompactedLog, CompactedTopic, LogListener
from kafka_gateway.kafka.ports.producing import Producer
from kafka_gateway.kafka.ports.slots import SlotGroup, SlotListener, SlotMember
from kafka_gateway.metrics.families import counter, gauge
from kafka_gateway.metrics.registry import Families
from kafka_gateway.own_names import group_of
from kafka_gateway.relays import Relays
from kafka_gateway.state_log import StateLog

log = logging.getLogger("gateway.cluster")

_AGAIN_S: Final = 1.0
_TRIED_S: Final = 2.0
"""Beyond the time of a connection: how long others may take to have tried whether they reach a process that joins, and
to tell it through Kafka if they do not."""
_LEAVE_S: Final = 3.0
"""How long the first and the last words to the other processes may take."""
_REPLACED_S: Final = 2.0
"""How long it may take to read that a process has this name now, which told so before it became a member."""
_RETENTION_MS: Final = 7 * 24 * 3600 * 1000


class ClusterKafka(Protocol):
    """What of Kafka a node uses, in the gateway's own name."""

    @property
    def producer(self) -> Producer: ...
    @property
    def admin(self) -> Admin: ...
    async def compacted_log(self, topic: CompactedTopic, reader: str, listener: LogListener) -> CompactedLog: ...
    def slot_member(self, group: SlotGroup, listener: SlotListener) -> SlotMember: ...


def process_of(config: Config, number: int) -> Process:
    """This process, as it begins now. ``number``: of the worker, from 0."""
    node = config.text("cluster.node.id") or socket.gethostname()
    return Process(config.text("cluster.id"), f"{node}/{number}", uuid.uuid4().hex)


def names_of(cluster: str) -> tuple[str, str, str]:
    """The group, and the topics of instances and of processes."""
    group = group_of(cluster)
    return group, f"{group}.instances", f"{group}.processes"


class Node:
    """What the one process of a node is in the cluster, or each of its workers. Belongs to the event loop."""

    def __init__(
        self, config: Config, kafka: ClusterKafka, gateway: Gateway, process: Process, peers: Peers, workers: int = 1
    ) -> None:
        """``workers``: processes of this node."""
        self._config = config
        self._kafka = kafka
        self._peers = peers
        self._states = StateLog(log)
        self.process = process
        self._group, self._topic, self._process_topic = names_of(process.cluster)
        session_s, heartbeat_s = (
            config.seconds(f"cluster.{key}.ms") for key in ("session.timeout", "heartbeat.interval")
        )
        self.store = SlotStore(
            process,
            self._topic,
            lambda: kafka.producer,
            self,
            config.seconds("cluster.suspend.ms"),
            session_s - 2 * heartbeat_s,  # the last sign of life was one heartbeat before at most, and one is spare
        )
        self.processes = Processes(process, peers, self.store.served, lambda slots: self.homes.changed(slots))
        self.homes = ClusterHomes(gateway, process, self.store, self.processes.table, peers, workers)
        if peers.carries_proofs:
            own = [f"{process.id.rpartition('/')[0]}/{number}" for number in range(workers)]
            Relays.of(gateway).way = ClusterWay(gateway, process, own, self.store, self.processes.table, peers)
        self._instances = InstanceTopic(self._topic, lambda: kafka.admin, config.integer("cluster.replication.factor"))
        self._member: SlotMember | None = None
        self._slot_group: SlotGroup | None = None
        self._log: CompactedLog | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._leaving = False
        self._fenced: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        gateway.metrics.add(self._families)
        out_of_reach = OutOfReach(config, self.store, self.processes.table, peers)
        self.store.out_of_reach = out_of_reach.trouble
        gateway.metrics.add(out_of_reach.families)
        connect_s = config.seconds("cluster.peer.connect.timeout.ms")
        self._mutual_reach = MutualReach(
            process,
            self.processes.since,
            self.processes.table,
            peers,
            connect_s + _TRIED_S,
            config.seconds("cluster.hold.ms"),
        )
        self._unreached = Unreached(process, peers, self.processes)
        self._left_over = LeftOver(process, self.store, self.processes.table, peers, session_s)
        gateway.questions[QUESTION] = self._mutual_reach.answer

    def _families(self) -> Families:
        store, homes = self.store, self.homes
        states = Counter(state.value for state in store.states().values())
        rows = [((state.value,), float(states[state.value])) for state in SlotState]
        rows.append((("suspended",), float(len(store.suspended()))))
        yield gauge("cluster_slots", "Slots that are held here", ("state",), rows)
        moves = [((cause,), float(count)) for cause, count in store.moves.items()]
        yield counter("cluster_slot_moves", "Slots that came here and that were given up or lost", ("move",), moves)
        forwarded = [(labels, float(count)) for labels, count in homes.forwarded.items()]
        yield counter("cluster_forwarded", "Requests that other processes were asked", ("process", "status"), forwarded)
        yield counter("cluster_forward_seconds", "Time in which other processes answered", (), [((), homes.forward_s)])
        yield gauge("cluster_held_requests", "Requests that wait for a process to serve a slot", (), [((), homes.held)])
        yield counter("cluster_hold_seconds", "Time in which requests waited for that", (), [((), homes.hold_s)])
        yield counter("cluster_misrouted", "Requests of others about slots not here", (), [((), homes.misrouted)])
        yield counter("cluster_moved_streams", "Streams that went on elsewhere", (), [((), homes.moved_streams)])
        yield counter("cluster_void_records", "Definitions that count for nothing", (), [((), store.voids)])

    def hold(self, holders: Sequence[Holder]) -> None:
        """The services that have consumers for the definitions."""
        self.store.holders += holders

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Is a member for as long as the block runs."""
        loop = asyncio.get_running_loop()
        self._tasks.append(loop.create_task(self._join(), name="join the cluster"))
        try:
            yield
        finally:
            await self.leave()
            await self._tell("gone")
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self._log is not None:
                await self._log.close()

    async def leave(self) -> None:
        """Hands over all that is held here, and takes no slots any more. Requests are still served and forwarded."""
        if self._leaving:
            return
        self._leaving = True
        self.store.leaving = True  # and not ready: balancers are to choose others
        if self._member is not None:
            await self._member.leave(self._config.flag("cluster.leave.on.stop"))
        await self._tell("draining")

    async def _tell(self, state: State) -> None:
        if self._log is not None:
            self.processes.tell(state)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LEAVE_S):
                    await self.processes.told()

    async def until(self, stop: asyncio.Event) -> None:
        """Returns when ``stop`` is set. NodeReplaced: another process has taken this node's name."""
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((stopped, self._fenced), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
        if self._fenced.done() and not stop.is_set():
            raise NodeReplaced(self._fenced.result())

    # --- the start ----------------------------------------------------------------------------------------------------

    async def _join(self) -> None:
        """Returns when this process is a member, however long Kafka is away."""
        while True:
            try:
                found = await self._instances.find_or_make(self._config.integer("cluster.slots"))
                break
            except ServiceError as error:
                self.store.trouble = error.message
                text = "topic %s: %s; trying again every second"
                self._states.trouble("topic", error.message, logging.WARNING, text, self._topic, error.message)
            await asyncio.sleep(_AGAIN_S)
        self._states.well("topic", text="topic %s is there", values=(self._topic,))
        config = self._config
        replicas = config.integer("cluster.replication.factor")
        topic = CompactedTopic(self._process_topic, replicas, _RETENTION_MS)
        self._log = await self._kafka.compacted_log(topic, self._group, self.processes)
        await self.processes.read.wait()
        # Later partitions change nothing: every node goes by the number that the first one has found.
        count = len(found.partitions)
        self.store.count = self.processes.count if 0 < self.processes.count <= count else count
        self.processes.tell_count(self.store.count)
        wanted = config.integer("cluster.slots")
        if not self.store.count == count == wanted:
            log.warning(
                "topic %s has %d partitions, of which %d are slots; cluster.slots=%d has no effect",
                self._topic, count, self.store.count, wanted,
            )  # fmt: skip
        self._tasks.append(
            asyncio.get_running_loop().create_task(self.processes.keep(self._log), name="tell processes")
        )
        await self._tell("serving")  # before it can fence another process
        self._peers.watch()
        self._tasks.append(
            asyncio.get_running_loop().create_task(self._unreached.keep(), name="tell who is not reached")
        )
        member = re.sub(r"[^A-Za-z0-9._-]", "_", f"{self.process.cluster}.{self.process.id.replace('/', '.')}")
        self._slot_group = SlotGroup(
            self._topic,
            self._group,
            member,
            int(config.seconds("cluster.session.timeout.ms") * 1000),
            int(config.seconds("cluster.heartbeat.interval.ms") * 1000),
            config.seconds("cluster.handover.timeout.ms"),
        )
        await asyncio.gather(self._take_part(self._slot_group), self._look_after_topic())

    async def _take_part(self, group: SlotGroup) -> None:
        """Is a member of the slot group while most other processes and this one reach each other; returns when this
        process leaves."""
        reach = self._mutual_reach
        is_well = await reach.well_at_first()
        while not self._leaving:
            if is_well:
                self._states.well(
                    "mutual reach", text="this process takes slots again: it and the others reach each other"
                )
                self.store.trouble = NO_SHARE
                self._member = self._kafka.slot_member(group, self.store)
                await reach.bad()
            self.store.trouble = trouble = reach.trouble()
            self._states.trouble("mutual reach", "out", logging.ERROR, "%s This is tried again all the time.", trouble)
            if self._member is not None:
                await self._member.leave(for_good=True)
                self._member = None
                self.store.trouble = trouble  # in place of what the member has told at its end
            await reach.well_again()
            is_well = True

    async def _look_after_topic(self) -> None:
        """For ever: a topic that was deleted is made again, and what is known here is written to it again."""
        while True:
            await asyncio.sleep(_AGAIN_S)
            try:
                known = self._instances.id
                found = await self._instances.find_or_make(self.store.count)
            except ServiceError as error:
                log.debug("topic %s: %s", self._topic, error.message)
                continue
            if known and found.topic_id != known and self._member is not None:
                log.error("topic %s is another one: the instances that are known here are written again", self._topic)
                self._member.begin_again()
                await self.store.write_again()
                self._left_over.topic_made_again(time.monotonic())
            if self._left_over.is_due(time.monotonic()):
                await self._share_out_again()

    async def _share_out_again(self) -> None:
        member, group = self._member, self._slot_group
        if member is None or group is None or self._leaving:
            return
        log.warning("slots were left over when topic %s was deleted: this process joins the group again", self._topic)
        await member.leave(for_good=True)
        if self._member is member and not self._leaving:
            self._member = self._kafka.slot_member(group, self.store)

    # --- what happens -------------------------------------------------------------------------------------------------

    def slots_changed(self) -> None:
        self.homes.changed(self.store.states().keys())
        if self._log is not None:
            self.processes.tell("draining" if self._leaving else None)

    def fenced(self, why: str) -> None:
        task = asyncio.get_running_loop().create_task(self._judge(why), name="why the member has ended")
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)

    async def _judge(self, why: str) -> None:
        """Ends this process if another one has its name; else becomes a member again. Kafka fences a member also for a
        request of its own that came late, as after a time without a network."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REPLACED_S):
                await self.processes.replaced.wait()
        if self.processes.replaced.is_set():
            if not self._fenced.done():
                log.error("another process has taken the name of this node (cluster.node.id), which ends now")
                self._fenced.set_result(why)
        elif not self._leaving and self._slot_group is not None and self._member is not None:
            log.warning("the member that holds slots has ended, and no other process has its name: it joins again")
            self._member = self._kafka.slot_member(self._slot_group, self.store)
