"""The Kafka clients of each credential: made when they are first used, kept while they are, closed when they are not.

A set is a whole `Kafka` of its own: producer, admin, shared readers. So nobody ever gets a record that was read under
somebody else's identity, and what goes wrong for one client's credentials does not reach another's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, Protocol

from kafka_gateway.errors import ClientSetsUsedUp, ShuttingDown
from kafka_gateway.kafka.credentials.credential import Credential
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.session import Session

log = logging.getLogger("gateway.kafka.credentials")

_SWEEP_MAX_S: Final = 5.0


class SetOfClients(Kafka, Protocol):
    """The Kafka clients of one credential."""

    @property
    def is_busy(self) -> bool:
        """Whether something lasts that needs them: a consumer, a stream, records on their way."""

    async def aclose(self) -> None: ...


class ClientSet:
    """What a session has of the clients of its credentials: the `kafka_gateway.caller.KafkaLease`.

    It outlives the clients: those of a client that does nothing for a while are closed, and made anew with its next
    request.
    """

    __slots__ = ("__weakref__", "_sets", "clients", "credential", "key", "running", "sessions", "used_at")

    def __init__(self, sets: ClientSets, key: bytes, credential: Credential) -> None:
        self._sets = sets
        self.key = key
        self.credential = credential
        """The newest: tokens are renewed."""
        self.clients: SetOfClients | None = None
        self.sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        self.running = 0
        """Requests at work."""
        self.used_at = time.monotonic()

    @property
    def user(self) -> str:
        return self.credential.user or f"token-{self.key.hex()[:12]}"

    @property
    def kafka(self) -> SetOfClients:
        """The clients, made now if need be, which takes some milliseconds. ClientSetsUsedUp, ShuttingDown."""
        return self.clients if self.clients is not None else self._sets.open(self)

    @property
    def in_use(self) -> bool:
        """Whether closing the clients would take something from somebody."""
        return bool(
            self.running
            or (self.clients is not None and self.clients.is_busy)
            or any(each.closed is None and each.stays for each in self.sessions)
        )

    def begin(self) -> None:
        self.running += 1

    def end(self) -> None:
        self.running -= 1
        self.used_at = time.monotonic()


class ClientSets:
    """The pool. Belongs to the event loop.

    Args:
        make: builds the clients of a set, and does not wait for Kafka.
        most: how many sets may have clients at a time.
        idle_s: how long a set keeps its clients without being used.
    """

    def __init__(self, make: Callable[[ClientSet], SetOfClients], most: int, idle_s: float) -> None:
        self._make = make
        self._most = most
        self._idle_s = idle_s
        self._pepper = secrets.token_bytes(32)
        self._known: weakref.WeakValueDictionary[bytes, ClientSet] = weakref.WeakValueDictionary()
        self._open: dict[bytes, ClientSet] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._stopped = False

    def of(self, credential: Credential) -> ClientSet:
        """The set of credentials that Kafka has taken. A newer token of the same principal takes the older one's place
        in all that lasts."""
        key = credential.set_key(self._pepper)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = ClientSet(self, key, credential)
        elif credential.secret != found.credential.secret and credential.expires_at >= found.credential.expires_at:
            found.credential = credential
        return found

    def open(self, wanted: ClientSet) -> SetOfClients:
        """Makes the clients of a set. The one that is idle for longest makes room, if need be."""
        if self._stopped:
            raise ShuttingDown
        if len(self._open) >= self._most:
            idle = min((each for each in self._open.values() if not each.in_use), key=_last_use, default=None)
            if idle is None:
                raise ClientSetsUsedUp
            self._close(idle)
        began = time.monotonic()
        wanted.clients = self._make(wanted)
        wanted.used_at = time.monotonic()
        self._open[wanted.key] = wanted
        log.debug("Kafka clients of %s made in %.1f ms", wanted.user, (wanted.used_at - began) * 1000)
        return wanted.clients

    def __iter__(self) -> Iterator[SetOfClients]:
        """The clients of all sets that have some."""
        return iter([each.clients for each in self._open.values() if each.clients is not None])

    @property
    def users(self) -> list[str]:
        """Whose clients there are."""
        return sorted(each.user for each in self._open.values())

    def __len__(self) -> int:
        """How many sets have clients."""
        return len(self._open)

    @contextlib.asynccontextmanager
    async def sweeping(self) -> AsyncIterator[None]:
        """Closes what is idle, for as long as the context is open, and everything at its end."""
        sweeping = asyncio.get_running_loop().create_task(self._sweep(), name="close idle Kafka clients")
        try:
            yield
        finally:
            self._stopped = True
            sweeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sweeping
            for each in list(self._open.values()):
                self._close(each)
            await asyncio.gather(*self._closing, return_exceptions=True)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(_SWEEP_MAX_S, max(0.05, self._idle_s / 4)))
            now = time.monotonic()
            for each in list(self._open.values()):
                if each.in_use:
                    each.used_at = now
                elif now - each.used_at >= self._idle_s:
                    self._close(each)

    def _close(self, idle: ClientSet) -> None:
        clients, idle.clients = idle.clients, None
        self._open.pop(idle.key, None)
        if clients is not None:
            closing = asyncio.get_running_loop().create_task(clients.aclose(), name="close Kafka clients")
            self._closing.add(closing)
            closing.add_done_callback(self._closed)

    def _closed(self, closing: asyncio.Task[None]) -> None:
        self._closing.discard(closing)
        if not closing.cancelled() and (error := closing.exception()) is not None:
            log.error("Kafka clients did not close properly", exc_info=error)


def _last_use(one: ClientSet) -> float:
    return one.used_at
