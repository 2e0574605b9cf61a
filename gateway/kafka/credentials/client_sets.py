"""The Kafka clients of each credential: made when they are first used, kept while they are, closed when they are not.

A set is a whole `Kafka` of its own: producer, admin, shared readers. So nobody ever gets a record that was read under
somebody else's identity, and what goes wrong for one client's credentials does not reach another's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, Protocol

from kafka_gateway.errors import ClientSetsUsedUp, KafkaLoginRefused, ShuttingDown
from kafka_gateway.kafka.credentials.credential import Credential
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.session import Session

log = logging.getLogger("gateway.kafka.credentials")

_SWEEP_MAX_S: Final = 2.0
_TOLD_S: Final = 2.0
"""How long refused clients are kept: until all sessions know that their proof has ended (a look a second)."""
_ASK_EVERY_S: Final = 2.0
_DOUBTED_S: Final = 35.0
"""librdkafka repeats an error that it has told after half a minute at the earliest."""


class SetOfClients(Kafka, Protocol):
    """The Kafka clients of one credential."""

    @property
    def is_busy(self) -> bool:
        """Whether something lasts that needs them: a consumer, a stream, records on their way."""

    def refuse(self) -> None:
        """Kafka takes their login no more: answers what waits for Kafka now, and not when its time is up."""

    async def aclose(self) -> None: ...


class ClientSet:
    """What a session has of the clients of its credentials: the `kafka_gateway.caller.KafkaLease`.

    It outlives the clients: those of a client that does nothing for a while are closed, and made anew with its next
    request.
    """

    __slots__ = (
        "__weakref__", "_asked_at", "_sets", "clients", "credential", "key", "refused_at", "running", "sessions",
        "used_at",
    )  # fmt: skip

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
        self.refused_at = 0.0
        """When Kafka said, asked again, that it takes these credentials no more; 0 while it does."""
        self._asked_at = -math.inf

    @property
    def user(self) -> str:
        return self.credential.label(self.key)

    @property
    def kafka(self) -> SetOfClients:
        """The clients, made now if need be, which takes some milliseconds.

        ClientSetsUsedUp, ShuttingDown, KafkaLoginRefused.
        """
        if self.refused_at:
            raise KafkaLoginRefused
        return self.clients if self.clients is not None else self._sets.open(self)

    @property
    def in_use(self) -> bool:
        """Whether closing the clients would take something from somebody."""
        return bool(
            self.running
            or (self.clients is not None and self.clients.is_busy)
            or any(each.closed is None and each.stays for each in self.sessions)
        )

    @property
    def is_doubted(self) -> bool:
        """Whether a broker has just refused the clients, though Kafka takes the credentials: brokers learn of users
        and passwords one after the other."""
        return time.monotonic() < self._asked_at + _DOUBTED_S

    def ask_again(self) -> bool:
        """Whether Kafka is to be asked about the credentials, now that a broker has refused them."""
        now = time.monotonic()
        if self.refused_at or now < self._asked_at + _ASK_EVERY_S:
            return False
        self._asked_at = now
        return True

    def refuse(self) -> None:
        """Kafka accepts the credentials no longer. The clients end soon: librdkafka would log in with them for ever."""
        self.refused_at = time.monotonic()
        if self.clients is not None:
            self.clients.refuse()

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
        """The set of credentials that Kafka has taken. A newer token of the same user takes the place of the older one
        in all that lasts."""
        key = credential.set_key(self._pepper)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = ClientSet(self, key, credential)
        elif credential.secret != found.credential.secret and credential.expires_at >= found.credential.expires_at:
            found.credential = credential
        found.refused_at = 0.0
        return found

    def refuse(self, credential: Credential) -> None:
        """Kafka does not take these credentials: the clients that log in with them end, if there are some."""
        found = self._known.get(credential.set_key(self._pepper))
        if found is not None and found.credential.secret == credential.secret and not found.refused_at:
            found.refuse()

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
        """The users for whom there are clients."""
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
                if each.refused_at:
                    if now - each.refused_at >= _TOLD_S:
                        self._close(each)
                elif each.in_use:
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
