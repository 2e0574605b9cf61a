"""The slots of this process, and the definitions in them (cluster.md §4.2, §5): `Definitions` for the services.

The truth is the log of each slot, which this process reads while it holds the slot, its own records included. What it
has written counts when it has read it back.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final, Protocol

from kafka_gateway import jsonio
from kafka_gateway.cluster.definition_log import DefinitionLog
from kafka_gateway.cluster.fold import Effect, Fold
from kafka_gateway.cluster.held_slot import Ending, HeldSlot
from kafka_gateway.cluster.ports import Process
from kafka_gateway.cluster.records import UnknownRecord, hash_of_key, record_key, slot_key
from kafka_gateway.cluster.routing import SlotState
from kafka_gateway.cluster.standstill import Standstill
from kafka_gateway.cluster.suspended import SuspendedSlots
from kafka_gateway.definitions import Definition, Deletion, Holder, SlotKey, opened_by
from kafka_gateway.errors import InstanceExists, InstanceUnavailable
from kafka_gateway.homes import Elsewhere
from kafka_gateway.kafka.ports.producing import Producer
from kafka_gateway.kafka.ports.slots import SlotRecord

log = logging.getLogger("gateway.cluster")

_SERVING: Final = SlotState.SERVING
_RECENT_S: Final = 60.0
"""How long what was given up is remembered, for a topic that was deleted and is made again."""
NO_SHARE: Final = "This node has no share of the slots yet."
_SHARE_S: Final = 5.0
"""How long the others may take to give up a share for a process that joins."""
_AGAIN_S: Final = 0.5
_TRIES: Final = 20
_READ_BACK_S: Final = 5.0
"""How long a definition that is new, or opened, may take to come back (cluster.md §10)."""
_INVALID_SESSION: Final = "INVALID_SESSION_TIMEOUT"
_SESSION_HELP: Final = (
    "cluster.session.timeout.ms must lie between the brokers' group.min.session.timeout.ms (6000, if nobody has set it)"
    " and group.max.session.timeout.ms"
)


class Watcher(Protocol):
    """A listener for the states of slots."""

    def slots_changed(self) -> None:
        """The state of some slot has changed."""

    def fenced(self, why: str) -> None: ...


class SlotStore:
    """`Definitions`, and the `SlotListener`. Belongs to the event loop."""

    def __init__(
        self,
        process: Process,
        topic: str,
        producer: Callable[[], Producer],
        watcher: Watcher,
        suspend_s: float = 0.0,
        standstill_s: float = math.inf,
    ) -> None:
        """``producer``: the gateway's own, made when it is first used. ``suspend_s``: how long what is live is kept
        without its slot. ``standstill_s``: a process that has not run for so long may have lost its slots, and serves
        nothing until it knows better."""
        self._process = process
        self._watcher = watcher
        self._log = DefinitionLog(topic, producer, lambda key: self.slot(hash_of_key(key)))
        self.count = 0
        """How many slots there are in all; 0: not known yet."""
        self.holders: list[Holder] = []
        self._slots: dict[int, HeldSlot] = {}
        self._suspended = SuspendedSlots(suspend_s, lambda: self.holders)
        self._standstill = Standstill(standstill_s, lambda: bool(self._slots), self._changed)
        self._read_back: dict[tuple[str, int], tuple[int, asyncio.Future[bool]]] = {}
        """Whether the record that creates or opens this ``uid`` in this epoch is valid, when that is known, and the
        hash of its place."""
        self._told: set[int] = set()
        self._recent: dict[int, tuple[float, Fold]] = {}
        """Slots that were held recently."""
        self.voids = 0
        self._serving: list[int] = []
        """What was told of last."""
        self.moves: Counter[str] = Counter(taken=0, handed=0, lost=0)
        self.leaving = False
        """Whether this node is about to end."""
        self._trouble = NO_SHARE
        self.out_of_reach: Callable[[], str] = lambda: ""
        """Why this process could not serve most requests, though its own slots are well."""

    # --- states -------------------------------------------------------------------------------------------------------

    @property
    def process(self) -> str:
        return self._process.id

    @property
    def writer(self) -> str:
        return f"{self._process.id}/{self._process.boot}"

    @property
    def trouble(self) -> str:
        return "This node leaves the cluster." if self.leaving else self._trouble or self.out_of_reach()

    @trouble.setter
    def trouble(self, why: str) -> None:
        self._trouble = why

    def member_id(self, uid: str) -> str:
        return f"{self._process.cluster}.{uid}"

    def slot(self, hashed: int) -> int:
        """The slot of what has this hash; -1 while it is not known how many there are."""
        return hashed % self.count if self.count else -1

    def state(self, slot: int) -> SlotState | None:
        """None: it is not held here."""
        held = self._slots.get(slot)
        return self._shown(held.state) if held is not None else None

    def serves(self, slot: int) -> bool:
        held = self._slots.get(slot)
        return held is not None and held.state is SlotState.SERVING and not self._standstill.is_in_doubt()

    def serves_hash(self, hashed: int) -> bool:
        """Whether the slot of what has this hash is served here."""
        slots = self._slots
        held = slots.get(hashed % self.count) if slots else None
        if held is None or held.state is not _SERVING:
            return False
        standstill, now = self._standstill, time.monotonic()
        if standstill.doubting is None and now - standstill.ran_at <= standstill.limit_s:  # asked for each request
            standstill.ran_at = now
            return True
        return not standstill.is_in_doubt()

    def states(self) -> dict[int, SlotState]:
        """The states of all slots that are held."""
        return {slot: self._shown(held.state) for slot, held in sorted(self._slots.items())}

    def _shown(self, state: SlotState) -> SlotState:
        return SlotState.DOUBTED if state is SlotState.SERVING and self._standstill.is_in_doubt() else state

    def suspended(self) -> list[int]:
        """The slots of which the instances are kept, and not served."""
        return self._suspended.numbers()

    def served(self) -> list[int]:
        return [slot for slot, held in self._slots.items() if held.state is SlotState.SERVING]

    def instances(self) -> dict[int, int]:
        """How many definitions there are in each slot that is held."""
        return {slot: len(held.fold) for slot, held in sorted(self._slots.items())}

    # --- Definitions --------------------------------------------------------------------------------------------------

    def check_here(self, key: SlotKey) -> None:
        hashed = hash_of_key(key)
        if not self.serves(self.slot(hashed)):
            raise Elsewhere(hashed)

    def find(self, key: SlotKey) -> Definition | None:
        held = self._slots.get(self.slot(hash_of_key(key)))
        if held is None or held.state is SlotState.REPLAYING:
            return None
        found = held.fold.get(record_key(key))
        return None if found is None or found.uid in held.ending else held.newest(found)

    def idle(self, seconds: float) -> Iterator[Definition]:
        latest = time.monotonic() - seconds
        if self._standstill.is_in_doubt():
            return
        for held in list(self._slots.values()):
            if held.state is SlotState.SERVING and held.since < latest:
                yield from held.live()

    async def create(self, definition: Definition) -> None:
        key = SlotKey(definition.group, definition.name)
        self.check_here(key)
        if self.find(key) is not None:
            raise InstanceExists()
        if not await self._counts(definition):
            raise InstanceExists()

    async def open(self, definition: Definition) -> Definition:
        key = SlotKey(definition.group, definition.name)
        self.check_here(key)
        held = self._slots[self.slot(hash_of_key(key))]
        live = held.fold.get(record_key(key))
        # Of what was read, and not of what was written last: that may never be stored, and an epoch that is too high
        # would make it count if it is stored when another process has the slot.
        opened = opened_by(self.writer, definition, live.epoch + 1 if live is not None else 1)
        held.written[opened.uid] = opened
        if not await self._counts(opened):
            raise InstanceUnavailable()
        return opened

    async def _counts(self, definition: Definition) -> bool:
        """Writes it, and returns whether it is valid when it has been read back. InstanceUnavailable, Elsewhere."""
        key = SlotKey(definition.group, definition.name)
        known: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._read_back[definition.uid, definition.epoch] = hash_of_key(key), known
        try:
            async with asyncio.timeout(_READ_BACK_S):
                await self._log.write(key, jsonio.encode(definition))
                return await known
        except TimeoutError:
            raise InstanceUnavailable() from None
        finally:
            self._read_back.pop((definition.uid, definition.epoch), None)

    async def change(self, definition: Definition) -> None:
        key = SlotKey(definition.group, definition.name)
        hashed = hash_of_key(key)
        held = self._slots.get(self.slot(hashed))
        if held is not None:
            held.written[definition.uid] = definition
        await self._log.write(key, jsonio.encode(definition))
        if held is None or self._slots.get(self.slot(hashed)) is not held or self._standstill.is_in_doubt():
            raise Elsewhere(hashed)

    async def delete(self, definition: Definition) -> None:
        key, uid = SlotKey(definition.group, definition.name), definition.uid
        hashed = hash_of_key(key)
        held = self._slots.get(self.slot(hashed))
        if held is None:
            await self._log.write(key, None, Deletion(uid, definition.epoch + 1, self.writer))
            raise Elsewhere(hashed, sent=True)
        if (ending := held.ending.get(uid)) is None:
            ending = held.ending[uid] = Ending(asyncio.get_running_loop().create_future())
            try:
                await self._end(held, key, definition, ending)
            finally:
                del held.ending[uid]
                ending.fail(InstanceUnavailable())
        if not await asyncio.shield(ending.counts):
            raise InstanceUnavailable()

    async def _end(self, held: HeldSlot, key: SlotKey, definition: Definition, ending: Ending) -> None:
        """Writes the deletion, and returns when it is known whether it counts, or will not be known."""
        live = held.fold.get(record_key(key))
        # As in ``open``, of what was read.
        epoch = live.epoch if live is not None and live.uid == definition.uid else definition.epoch
        await self._log.write(key, None, Deletion(definition.uid, epoch + 1, self.writer))
        ending.is_stored = True
        held.settle(ending)
        await asyncio.wait([ending.counts], timeout=_READ_BACK_S)

    def _changed(self) -> None:
        self._watcher.slots_changed()
        if not self._slots:
            self._serving = []
        served = sorted(self.served())
        if served and len(served) == len(self._slots) and served != self._serving:  # once a rebalance
            self._serving = served
            log.info("serving %d of %d slots", len(served), self.count)

    # --- the listener of the membership -------------------------------------------------------------------------------

    def assigned(self, slots: Collection[int]) -> None:
        slots = [slot for slot in slots if slot < self.count]  # partitions that came later are none
        self.moves["taken"] += len(slots)
        if not self._slots:
            self.trouble = NO_SHARE
            if not slots:  # other processes have to give some up first, or there are more processes than slots
                asyncio.get_running_loop().call_later(_SHARE_S, self._do_without)
        if not self._slots:
            self._standstill.begin()
        for slot in slots:
            self._slots[slot] = HeldSlot()
        self._standstill.watch()
        self._changed()

    def _do_without(self) -> None:
        if not self._slots and self._trouble == NO_SHARE:
            self.trouble = ""

    def records(self, records: Sequence[SlotRecord]) -> None:
        changed: list[SlotKey] = []
        for record in records:
            held = self._slots.get(record.slot)
            if held is None:
                continue
            try:
                key = slot_key(record.key)
                effect, uid, foreign, epoch = held.take(record, self.writer)
            except UnknownRecord as error:
                if record.slot not in self._told:  # once a slot
                    self._told.add(record.slot)
                    log.warning("a record of slot %d cannot be read and is left out: %s", record.slot, error)
                continue
            if (waits := self._read_back.get((uid, epoch))) is not None and not waits[1].done():
                waits[1].set_result(effect is not Effect.VOID)
            self.voids += effect is Effect.VOID
            if foreign or effect is Effect.ENDED:
                held.written.pop(uid, None)
            if foreign and held.state is not SlotState.REPLAYING:
                changed.append(key)
        if changed:
            for holder in self.holders:
                holder.drop(changed)
        for slot in {record.slot for record in records}:
            if self.serves(slot):
                self._repair(slot)

    def caught_up(self, slots: Collection[int]) -> None:
        now, began = time.monotonic(), False
        for slot in slots:
            held = self._slots.get(slot)
            if held is not None and held.state is SlotState.REPLAYING:
                held.state, held.since, began = SlotState.SERVING, now, True
                self._repair(slot)
                self._suspended.resume(slot)
        if began:
            self.trouble = ""
            self._changed()

    def size(self, slots: Collection[int]) -> int:
        return sum(len(self._slots[slot].fold) for slot in slots if slot in self._slots)

    async def give_up(self, slots: Collection[int]) -> None:
        held = {slot: self._slots[slot] for slot in slots if slot in self._slots}
        served = [slot for slot in held.values() if slot.state is SlotState.SERVING]
        keys = [key for slot in served for key in slot.live_keys()]
        lasting = [SlotKey(each.group, each.name) for slot in served for each in slot.live()]
        self.moves["handed"] += len(held)
        for slot in held.values():
            slot.hand_over()
        self._suspended.end(held)
        self._changed()
        try:
            await asyncio.gather(*(holder.hand_over(lasting) for holder in self.holders))
        finally:
            for holder in self.holders:
                holder.drop(keys)  # what was not handed over in time
            for number in held:
                self._let_go(number)
            self._changed()

    def lost(self, slots: Collection[int]) -> None:
        self.trouble = "The coordinator of the nodes' group has not been heard for too long."
        log.warning(
            "slots %s were lost: the group's coordinator does not count on this process any more", sorted(slots)
        )
        self._lose(slots)

    def fenced(self, why: str) -> None:
        self._lose(list(self._slots))  # for good, if another one has the name: then this process ends
        self._watcher.fenced(why)

    def _lose(self, slots: Collection[int]) -> None:
        self.moves["lost"] += len(slots)
        for slot in slots:
            held = self._slots.get(slot)
            if held is not None and held.state is SlotState.SERVING:
                self._suspended.add(slot, held.live_keys())
            self._let_go(slot)
        if not self._slots:
            self._standstill.end()
        self._changed()

    def failed(self, why: str) -> None:
        if why.startswith(_INVALID_SESSION):
            why = f"{why}: {_SESSION_HELP}"
        if why:
            log.warning("the slots cannot be had: %s", why)
        self.trouble = why

    def _let_go(self, slot: int) -> None:
        held = self._slots.pop(slot, None)
        if held is not None and held.state is not SlotState.REPLAYING:
            self._recent[slot] = time.monotonic(), held.fold
        for hashed, known in self._read_back.values():
            if self.slot(hashed) == slot and not known.done():
                known.set_exception(Elsewhere(hashed))  # whose process reads it, and knows its uid
                known.exception()  # callers that wait get it; it may be in flight only
        for ending in held.ending.values() if held is not None else ():
            ending.fail(Elsewhere(slot, sent=True))

    # --- repair -------------------------------------------------------------------------------------------------------

    def _repair(self, slot: int) -> None:
        """Writes again what is true behind a record that is void."""
        for key, live, deletion in self._slots[slot].repairs():
            self._log.repair(slot_key(key), jsonio.encode(live) if live is not None else None, deletion)

    async def write_again(self) -> None:
        """The topic is empty: writes what is known of the slots that are held, or were held recently."""
        oldest = time.monotonic() - _RECENT_S
        self._recent = {slot: each for slot, each in self._recent.items() if each[0] > oldest}
        known = {each.uid: each for _, fold in self._recent.values() for each in fold}
        known |= {each.uid: held.newest(each) for held in self._slots.values() for each in held.fold}
        left = list(known.values())
        for _ in range(_TRIES):
            results = await asyncio.gather(*map(self._write_as_it_is, left), return_exceptions=True)
            left = [each for each, result in zip(left, results, strict=True) if isinstance(result, Exception)]
            if not left:
                return
            await asyncio.sleep(_AGAIN_S)
        log.error("%d definitions of consumer instances could not be written again", len(left))

    async def _write_as_it_is(self, definition: Definition) -> None:
        await self._log.write(SlotKey(definition.group, definition.name), jsonio.encode(definition))
