"""One bound for the memory that clients make the gateway hold (``memory.max.bytes``).

Whoever holds bytes for a client that is not done with them counts them in a `Claim`: a body that is being received, an
unfinished WebSocket message, a reply or a stream that its client does not read. Nothing is counted for what comes and
goes in one turn of the loop, so the usual request costs nothing here.

When the bound is reached, new work is refused (`MemoryBudget.check`), readers wait (`MemoryBudget.room`), and after a
moment the clients that hold the most are given up, one after the other, until there is room again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path

from kafka_gateway.errors import Unavailable
from kafka_gateway.heap import trimmer

log = logging.getLogger("gateway.memory")

COUNT_FROM = 64 * 1024
"""Bytes; what one client holds below that is not worth the counting."""
_BIG = 1024 * 1024
"""Bytes; what is freed in such portions, and is much together, is given back to the system."""
AUTOMATIC_MAX = 2 * 1024**3
PATIENCE_S = 0.5
"""How long the budget may be used up before clients are given up: most hold what they hold for less."""


class OutOfMemory(Unavailable):
    text = "The gateway's memory is used up (memory.max.bytes); send this again later."


class Claim:
    """The bytes of one holder. Belongs to the event loop, and must be released."""

    __slots__ = ("_budget", "_give_up", "given_up", "held")

    def __init__(self, budget: MemoryBudget, give_up: Callable[[], None] | None) -> None:
        self._budget, self._give_up = budget, give_up
        self.held = 0
        self.given_up = False

    def add(self, size: int) -> None:
        """Counts so many more bytes. Never waits: what is here already is counted, whatever the bound."""
        if not self.held:
            self._budget._claims.add(self)
        self.held += size
        self._budget._taken(size)

    def set_to(self, size: int) -> None:
        """Sets how many bytes are held now."""
        if size > self.held:
            self.add(size - self.held)
        elif size < self.held:
            given, self.held = self.held - size, size
            if not size:
                self._budget._claims.discard(self)
            self._budget._given_back(given)
            if given >= _BIG:
                self._budget._trim_later(given)

    def release(self) -> None:
        """Sets it to nothing; safe to call twice."""
        self.set_to(0)


class MemoryBudget:
    """Bytes that all clients of a gateway together may hold. Belongs to the event loop."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._low = max_bytes - max_bytes // 8
        self.held = 0
        self.used_up = False
        """From the moment when the bound is reached until an eighth of it is free again."""
        self.given_up = 0
        """Clients that were given up so far."""
        self.slow_clients: Counter[str] = Counter()
        """Clients that were given up because they did not read, by the transport: whoever waits for a client that it
        writes to counts here, whether its time or the memory was up."""
        self._claims: set[Claim] = set()
        self._waiting: deque[Callable[[], None]] = deque()
        self._relief: asyncio.TimerHandle | None = None

    def check(self) -> None:
        """For new work. Raises OutOfMemory while the budget is used up."""
        if self.used_up:
            raise OutOfMemory

    def claim(self, give_up: Callable[[], None] | None = None) -> Claim:
        """A holder's account, empty. ``give_up`` has its client's connection ended when memory is short: the claim is
        released soon after. None for what does not wait for a client.
        """
        return Claim(self, give_up)

    async def room(self) -> None:
        """Returns when the budget is not used up: for callers that would read more from a client."""
        while self.used_up:
            waiting = asyncio.get_running_loop().create_future()

            def wake(waiting: asyncio.Future[None] = waiting) -> None:
                if not waiting.done():
                    waiting.set_result(None)

            self._waiting.append(wake)
            try:
                await waiting
            finally:
                with contextlib.suppress(ValueError):
                    self._waiting.remove(wake)

    def on_room(self, call: Callable[[], None]) -> None:
        """Calls back, once, when the budget is not used up any more."""
        self._waiting.append(call)

    def forget(self, call: Callable[[], None]) -> None:
        """Takes back a callback that was given to ``on_room``."""
        with contextlib.suppress(ValueError):
            self._waiting.remove(call)

    def share(self, max_bytes: int) -> MemoryShare:
        """A part with a bound of its own."""
        return MemoryShare(self, max_bytes)

    def _taken(self, size: int) -> None:
        self.held += size
        if self.held >= self.max_bytes and not self.used_up:
            self.used_up = True
            self._relief = asyncio.get_running_loop().call_later(PATIENCE_S, self._relieve)

    def _given_back(self, size: int) -> None:
        self.held -= size
        if self.used_up and self.held <= self._low:
            self.used_up = False
            if self._relief is not None:
                self._relief.cancel()
                self._relief = None
            waiting, self._waiting = self._waiting, deque()
            for call in waiting:
                call()

    def _trim_later(self, freed: int) -> None:
        """What was held lay in pieces of the heap, which the C library would keep."""
        trimmer.let_go(freed)

    def _relieve(self) -> None:
        """Gives up the largest holders, until what they hold would be room enough."""
        self._relief = None
        going = sum(each.held for each in self._claims if each.given_up)
        count = 0
        for claim in sorted(self._claims, key=lambda each: each.held, reverse=True):
            if self.held - going <= self._low:
                break
            if claim._give_up is None or claim.given_up or not claim.held:
                continue
            claim.given_up = True
            going += claim.held
            count += 1
            claim._give_up()
        if count:
            self.given_up += count
            log.warning(
                "memory.max.bytes (%d) is used up: %d clients that hold the most were given up", self.max_bytes, count
            )
        if self.used_up:
            self._relief = asyncio.get_running_loop().call_later(PATIENCE_S, self._relieve)


class MemoryShare:
    """A part of the budget with a bound of its own, for holders that must not be given up: they wait for room.

    First come, first served. Belongs to the event loop.
    """

    def __init__(self, budget: MemoryBudget, max_bytes: int) -> None:
        self._budget, self._max_bytes = budget, max_bytes
        self.held = 0
        self._claim = budget.claim()
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._asked = False
        """Whether the budget will call when it has room."""

    def take(self, size: int, granted: Callable[[], None]) -> bool:
        """Takes ``size`` bytes, or returns False and calls ``granted`` when they are taken.

        More than the whole share is granted when nothing else of it is held.
        """
        if not self._waiting and self._fits(size):
            self._hold(size)
            return True
        self._waiting.append((size, granted))
        self._ask()
        return False

    @property
    def pressed(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    def forget(self, granted: Callable[[], None]) -> None:
        """Takes back a callback that ``take`` has not called yet."""
        self._waiting = deque(each for each in self._waiting if each[1] != granted)
        self._grant()

    def give_back(self, size: int) -> None:
        self.held -= size
        self._claim.set_to(self.held)
        self._grant()

    def _hold(self, size: int) -> None:
        self.held += size
        self._claim.set_to(self.held)

    def _grant(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            size, granted = self._waiting.popleft()
            self._hold(size)
            granted()
        self._ask()

    def _ask(self) -> None:
        if self._waiting and not self._asked and self._budget.used_up:
            self._asked = True
            self._budget.on_room(self._room)

    def _room(self) -> None:
        self._asked = False
        self._grant()

    def _fits(self, size: int) -> bool:
        return not self.held or (self.held + size <= self._max_bytes and not self._budget.used_up)


def automatic_max_bytes(root: Path = Path("/")) -> int:
    """Half of what this container or machine may use, at most 2 GiB."""
    return min(AUTOMATIC_MAX, usable_bytes(root) // 2)


def usable_bytes(root: Path = Path("/")) -> int:
    """The machine's memory, or the lowest limit of the control groups (v1 and v2) that this process is in."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return found[0]
    for line in groups:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            found += _limits(root / "sys/fs/cgroup", path, "memory.max")
        elif "memory" in controllers.split(","):
            found += _limits(root / "sys/fs/cgroup/memory", path, "memory.limit_in_bytes")
    return min(found)


def _limits(top: Path, path: str, name: str) -> list[int]:
    """The limits of the group and of those above it. In a container the path may be one of the machine's: then the
    limit stands at the top.
    """
    found = []
    folder = top / path.strip("/")
    while True:
        with contextlib.suppress(OSError, ValueError):  # "max": no limit
            found.append(int((folder / name).read_text()))
        if folder == top or top not in folder.parents:
            return found
        folder = folder.parent
