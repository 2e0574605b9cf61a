"""The process topic: what this process tells the others, and what they tell (cluster.md §4.4)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final

from kafka_gateway import jsonio
from kafka_gateway.cluster.ports import Peers, Process
from kafka_gateway.cluster.records import (
    Claim,
    State,
    UnknownRecord,
    read_claim,
    read_count,
    write_count,
    write_slots,
)
from kafka_gateway.cluster.table import Table
from kafka_gateway.definitions import VERSION
from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.ports.compacted_logs import CompactedLog
from kafka_gateway.state_log import StateLog

log = logging.getLogger("gateway.cluster")

COUNT: Final = b"slots"
"""Key of the record that says how many slots there are; those of processes have a slash."""
_AGAIN_S: Final = 1.0
_CONTRADICT_S: Final = 0.1
_CONTRADICTIONS: Final = 10
"""A minute, of claims of others to slots that are held here."""
_SILENT_S: Final = 3600.0
"""How long a process without slots is remembered (by the holder of slot 0)."""
_LOOK_S: Final = 60.0


class Processes:
    """The `LogListener` of the process topic. Belongs to the event loop."""

    def __init__(
        self,
        process: Process,
        peers: Peers,
        slots: Callable[[], Sequence[int]],
        changed: Callable[[Collection[int]], None],
    ) -> None:
        """``slots``: those served here. ``changed`` is told of slots that have another owner by the table."""
        self._process = process
        self._peers = peers
        self._slots = slots
        self._changed = changed
        self._log: CompactedLog | None = None
        self._wanted = asyncio.Event()
        self.since = int(time.time() * 1000)
        """When this process began, as all are told: milliseconds since 1970."""
        self.unreached: tuple[str, ...] = ()
        """Whom it does not reach, as it has told last."""
        self._is_again = False
        """Whether what was written is to be written again."""
        self._written: Claim | None = None
        self._state: State = "serving"
        self._contradicted: list[float] = []
        self._settled = asyncio.Event()
        self._states = StateLog(log)
        self.table = Table()
        self.read = asyncio.Event()
        """Set when all has been read that was there at the start."""

        self.count = 0
        """How many slots there are, as the first node has written it; 0: nobody has."""
        self._count_wanted = 0
        self.replaced = asyncio.Event()
        """Set when a later process has told that it has the name of this one."""
        self._before: set[str] = set()
        """Processes of this name that were there at the start, by their ``boot``."""

    # --- what is read -------------------------------------------------------------------------------------------------

    def record(self, key: bytes, value: bytes | None, offset: int) -> None:
        if key == COUNT:
            self.count = read_count(value or b"")
            return
        process = key.decode(errors="replace")
        if value is None:
            changed = self.table.remove(process)
            self._peers.forget(process)
        else:
            try:
                claim = read_claim(value)
            except UnknownRecord as error:
                text = "a record of process %.80s cannot be read and is left out: %s"
                self._states.trouble(process, str(error), logging.WARNING, text, process, error)
                return
            self._states.forget(process)
            now = time.monotonic()
            changed = self.table.put(process, claim, offset, now, now if self.read.is_set() else -math.inf)
            if process == self._process.id:
                self._note_own(claim.boot)
            if process != self._process.id:
                if claim.state == "gone":
                    self._peers.forget(process)
                else:
                    self._peers.know(process, claim.boot, claim.peers)
                self._contradict(claim)
        if changed:
            self._changed(changed)

    def caught_up(self) -> None:
        self.read.set()

    def restarted(self) -> None:
        self.table.clear()
        self.count = 0
        self._written = None
        self.tell()

    def _note_own(self, boot: str) -> None:
        if not self.read.is_set():
            self._before.add(boot)
        elif boot != self._process.boot and boot not in self._before:
            self.replaced.set()

    def _contradict(self, claim: Claim) -> None:
        """Somebody claims what is held here: its claim is old, or ours will be when it comes to us."""
        if self._written is None or claim.numbers().isdisjoint(self._slots()):
            return
        now = time.monotonic()
        self._contradicted = [at for at in self._contradicted if at > now - 60]
        if len(self._contradicted) < _CONTRADICTIONS:
            self._contradicted.append(now)

            def again() -> None:
                if not claim.numbers().isdisjoint(self._slots()):
                    self._written = None
                    self.tell()

            asyncio.get_running_loop().call_later(random.uniform(0, _CONTRADICT_S), again)

    # --- what is written ----------------------------------------------------------------------------------------------

    def tell(self, state: State | None = None) -> None:
        """Has the claims written, because what is served here, or the state of this process, has changed."""
        self._state = state or self._state
        self._settled.clear()
        self._wanted.set()

    def tell_unreached(self, processes: tuple[str, ...]) -> None:
        """Writes that this process does not reach these, also if that is what it has written last: so it tells that it
        lives."""
        self.unreached, self._is_again = processes, True
        self.tell()

    def tell_count(self, count: int) -> None:
        """Writes how many slots there are, for all nodes that come later."""
        self._count_wanted = count
        if self.count != count:
            self.count = 0
        self.tell()

    async def told(self) -> None:
        """Returns when Kafka has stored the claims."""
        await self._settled.wait()

    def _claim(self) -> Claim:
        addresses, slots = tuple(self._peers.addresses), write_slots(self._slots())
        return Claim(VERSION, self._process.boot, addresses, slots, self._state, self.since, self.unreached)

    async def keep(self, log_of_processes: CompactedLog) -> None:
        """Writes this process's claims, until it is cancelled."""
        self._log = log_of_processes
        look_at = time.monotonic() + _LOOK_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, look_at - time.monotonic())):
                    await self._wanted.wait()
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + _LOOK_S
                await self._forget_the_silent()
            if not self._wanted.is_set():
                continue
            self._wanted.clear()
            claim, is_again = self._claim(), self._is_again
            self._is_again = False
            told = not self._count_wanted or self.count > 0 or await self._write_count()
            is_new = is_again or claim != self._written
            if not told or (is_new and not await self._write(self._process.id, claim)):
                self._is_again |= is_again
                self._wanted.set()
                await asyncio.sleep(_AGAIN_S)
                continue
            self._written = claim
            if not self._wanted.is_set():
                self._settled.set()

    async def _write(self, process: str, claim: Claim | None) -> bool:
        return await self._store(process.encode(), jsonio.encode(claim) if claim is not None else None)

    async def _write_count(self) -> bool:
        return await self._store(COUNT, write_count(self._count_wanted))

    async def _store(self, key: bytes, value: bytes | None) -> bool:
        if self._log is None:
            return False
        try:
            await self._log.write([(key, value)])
        except ServiceError as error:
            text = "what this process serves cannot be told: %s"
            self._states.trouble("tell", error.message, logging.WARNING, text, error.message)
            return False
        self._states.well("tell", text="what this process serves is told again")
        return True

    async def _forget_the_silent(self) -> None:
        """Housekeeping, by the process that has slot 0."""
        if 0 not in self._slots():
            return
        for known in self.table:
            if known.id != self._process.id and not known.claim.slots and known.at < time.monotonic() - _SILENT_S:
                await self._write(known.id, None)
