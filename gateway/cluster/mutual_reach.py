"""Whether this process may hold slots: not while most processes that live cannot come to it, or it not to them.

What it held then would be out of everybody's reach, since slots are shared out by Kafka, which knows nothing of the
ways between processes (cluster.md §7). By processes and not by slots: the answer must not change with who holds what.
A process counts when it has answered as itself a moment ago, or has told through Kafka just now that it does not reach
this one: one that was killed makes nobody give anything up.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from kafka_gateway.cluster.left_out import ToldOfItself, is_left_out
from kafka_gateway.cluster.ports import PeerLost, Peers, Process
from kafka_gateway.cluster.table import Known, Table
from kafka_gateway.cluster.unreached import lives

QUESTION: Final = "cluster.reach"
"""Whether a process reaches the one that asks, which says where it listens. Processes of before have no answer."""
_EACH_S: Final = 10.0
"""How long an answer may take."""
_AT_FIRST_S, _EVERY_S = 0.05, 3.0
"""Between looks before this process has joined, which others wait for, and later."""
_WELL_AGAIN: Final = 3
"""So many looks in a row have to find all well before a process that has left joins again."""
_SHOWN: Final = 3


class _Word(enum.Enum):
    """What is known of another process, if it is nothing bad."""

    WELL = enum.auto()
    UNTRIED = enum.auto()
    """It has not tried yet whether it reaches this one."""
    SILENT = enum.auto()
    """Nothing has answered there as this process, and Kafka has brought nothing of it."""


class MutualReach:
    """Belongs to the event loop."""

    def __init__(
        self, process: Process, since: int, table: Table, peers: Peers, undecided_s: float, patience_s: float
    ) -> None:
        """``since``: when this process began, as it tells the others. ``undecided_s``: how long one that joins waits
        for others to try its address, and for what they tell through Kafka. ``patience_s``: how long all looks have to
        be bad before one that has joined leaves."""
        self._process = process
        self._since = since
        self._table = table
        self._peers = peers
        self._undecided_s = undecided_s
        self._patience_s = patience_s
        self._words: dict[str, _Word | str] = {}

    def answer(self, parameters: Mapping[str, Any]) -> Sequence[Any]:
        """To `QUESTION`: whether the process that asks is reached from here, None while that is being tried, and what
        is in the way."""
        process, boot, addresses = (parameters.get(key) for key in ("process", "boot", "addresses"))
        if not (isinstance(process, str) and isinstance(boot, str) and isinstance(addresses, list)):
            return []
        if process == self._process.id:
            return []
        # It may be here before its record in the process topic is.
        self._peers.know(process, boot, [each for each in addresses if isinstance(each, str)])
        self._peers.look(process)
        found = self._peers.reach(process)
        return [found.reachable, found.trouble] if found is not None else []

    async def look(self) -> bool | None:
        """Asks all others at once. Whether this process may hold slots, as soon as that is sure; None: some have not
        tried yet whether they reach it."""
        others = {each.id: each for each in self._table if each.id != self._process.id and each.claim.state != "gone"}
        self._words = {}
        asking = {asyncio.ensure_future(self._ask(each)) for each in others.values()}
        try:
            while asking and self._spare() <= len(asking) + self._count(_Word.UNTRIED):
                _, asking = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in asking:
                each.cancel()
        open_ones = len(asking) + self._count(_Word.UNTRIED)
        if self._spare() > open_ones:
            return True
        live = {each: _told(others[each]) for each, word in self._words.items() if word is not _Word.SILENT}
        live[self._process.id] = ToldOfItself(self._since)
        if is_left_out(self._process.id, live, self._bad()):
            return False
        return None if open_ones else True

    def _count(self, word: _Word) -> int:
        return sum(each is word for each in self._words.values())

    def _bad(self) -> Mapping[str, str]:
        return {process: word for process, word in sorted(self._words.items()) if isinstance(word, str)}

    def _spare(self) -> int:
        """How many more bad ones it would take until they are half of those that live, this process among these."""
        return 1 + self._count(_Word.WELL) - len(self._bad())

    async def _ask(self, known: Known) -> None:
        process = known.id
        own = {"process": self._process.id, "boot": self._process.boot, "addresses": list(self._peers.addresses)}
        try:
            async with asyncio.timeout(_EACH_S):
                answer = await self._peers.question(process, QUESTION, own)
        except (PeerLost, TimeoutError):
            self._words[process] = self._unheard(known)
            return
        match answer:
            case [False, trouble]:
                self._words[process] = f"{process} does not reach this process: {trouble}"
            case [None, _]:
                self._words[process] = _Word.UNTRIED
            case _:
                self._words[process] = _Word.WELL

    def _unheard(self, known: Known) -> _Word | str:
        """What is known of one that has not answered."""
        found = self._peers.reach(known.id)
        if found is not None and found.refused:
            return f"{known.id}: {found.trouble}"
        latest = self._table.get(known.id)
        if latest is not None and self._process.id in latest.claim.unreached and lives(latest, time.monotonic()):
            return f"{known.id} tells through Kafka that it does not reach this process; from here: " + (
                found.trouble if found is not None else "nothing was tried"
            )
        return _Word.SILENT

    def trouble(self) -> str:
        """What the last look has found, for operators."""
        bad = list(self._bad().values())
        shown = "; ".join(bad[:_SHOWN]) + ("; …" if len(bad) > _SHOWN else "")
        live = len(bad) + 1 + self._count(_Word.WELL) + self._count(_Word.UNTRIED)
        return (
            f"This process takes no slots: {len(bad)} of {live} processes do not reach it, or it does not reach them:"
            f" {shown}. Look at the network between them, at cluster.peer.advertised"
            f" ({', '.join(self._peers.addresses) or 'no address'}),"
            " and at cluster.peer.secret.file and the certificates, which must be those of the others."
        )

    async def bad(self) -> None:
        """Returns when this process should hold no slots any more: every look was bad for so long."""
        loop = asyncio.get_running_loop()
        since: float | None = None
        while True:
            await asyncio.sleep(_EVERY_S)
            if await self.look() is not False:
                since = None
            elif since is None:
                since = loop.time()
            elif loop.time() - since >= self._patience_s:
                return

    async def well_at_first(self) -> bool:
        """Before the first join, which takes no longer than an answer of most others where all is well. False: this
        process may not join."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._undecided_s
        while True:
            # What another one says may be of the process that had this name before, until it has tried again; and one
            # that is silent may be about to tell that it does not reach this one.
            found = await self.look()
            if (found and self._spare() > self._count(_Word.SILENT)) or loop.time() >= until:
                return found is not False
            await asyncio.sleep(_AT_FIRST_S)

    async def well_again(self) -> None:
        """Returns when this process may hold slots again."""
        count = 0
        while count < _WELL_AGAIN:
            await asyncio.sleep(_EVERY_S)
            count = count + 1 if await self.look() is not False else 0
            if count and not self._table.holders():
                return  # nobody has any


def _told(known: Known) -> ToldOfItself:
    return ToldOfItself(known.claim.since, frozenset(known.claim.unreached))
