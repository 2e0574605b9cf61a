"""Whether Kafka lets a client in: asked of a broker by a login of our own, which costs a connection and no client.

Verdicts are remembered, both kinds, so a request costs a lookup and a loop of bad logins is no storm on the brokers.
What librdkafka would do with wrong credentials is to try them again for ever and tell nobody; so no client of its is
made before a broker has said yes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import ssl
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from kafka_gateway.errors import KafkaLoginRefused, Unavailable
from kafka_gateway.heap import trimmer
from kafka_gateway.kafka.credentials.credential import BEARER, Credential
from kafka_gateway.kafka_errors import BrokerNotAvailable
from kafka_gateway.upstream import Sasl
from kafka_gateway.wire.connection import BrokerClient, ConnectionLost, connect
from kafka_gateway.wire.frames import WireError
from kafka_gateway.wire.sasl import CredentialsRefused, SaslRefused

log = logging.getLogger("gateway.auth")

DEADLINE_S: Final = 5.0
"""After this time a login has no answer (security.md §4)."""
_CONNECT_S: Final = 2.0
_AT_ONCE: Final = 50
"""Logins at a time. A broker takes its time for a wrong one (connection.failed.authentication.delay.ms, 100 ms)."""
_OPENING: Final = 4
"""Connections of those that are being opened at a time: of many that come at the same moment, those that came first are
known soon. Opening one is processor time, for TLS; a login is a broker's time, mostly."""
_AT_ONCE_KNOWN: Final = 10
"""Beside those: logins of credentials that Kafka took the last time, so that they never wait behind guesses."""
_KEPT: Final = 10_000
"""Of each kind of verdict: guesses take no place from those that are good."""
_LOGIN_BYTES: Final = 200 * 1024
"""What a login over TLS takes for a moment: 1,000 refused ones left 190 MiB in the process."""


class BrokerAccess(NamedTuple):
    """How to get to the brokers: hosts and ports to begin with, and TLS if they speak it."""

    servers: tuple[tuple[str, int], ...]
    tls: ssl.SSLContext | None


class _Turns:
    """How many log in at a time, and how many of these open their connections."""

    def __init__(self, logins: int, opening: int) -> None:
        self.login, self.opening = asyncio.Semaphore(logins), asyncio.Semaphore(opening)


class Judge:
    """Belongs to the event loop."""

    def __init__(self, way: Callable[[], BrokerAccess], recheck_s: float, refused_s: float) -> None:
        """
        Args:
            way: is asked with the first login; it may raise ConfigError.
            recheck_s: how long Kafka's yes counts.
            refused_s: how long its no counts.
        """
        self._way = way
        self._known_way: BrokerAccess | None = None
        self.refused: Callable[[Credential], None] = lambda credential: None
        """Is told of credentials that Kafka does not take, or not any more."""
        self._recheck_s = recheck_s
        self._refused_s = refused_s
        self._pepper = secrets.token_bytes(32)
        self._accepted: dict[bytes, float] = {}
        """Until when, by time.monotonic(); those whose time is over stay, as what Kafka took the last time."""
        self._refused: dict[bytes, float] = {}
        self._asking: dict[bytes, asyncio.Task[float]] = {}
        self._turns = _Turns(_AT_ONCE, _OPENING)
        self._turns_of_known = _Turns(_AT_ONCE_KNOWN, _AT_ONCE_KNOWN)
        self._first = 0
        """Which of the servers is asked first: the one that answered last."""

    def recall(self, credential: Credential) -> float | None:
        """Until when these are good (time.monotonic()), if Kafka has said so; None if it has to be asked.

        Raises KafkaLoginRefused for what it has just refused.
        """
        key, now = credential.key(self._pepper), time.monotonic()
        until = self._accepted.get(key)
        if until is not None and until > now:
            return until
        if self._refused.get(key, 0.0) > now:
            raise KafkaLoginRefused
        return None

    async def judge(self, credential: Credential) -> float:
        """Until when these are good (time.monotonic()). Equal ones that are asked for at a time are asked for once.

        Raises KafkaLoginRefused; BrokerNotAvailable if no broker says within `DEADLINE_S`; Unavailable if none can.
        """
        if (until := self.recall(credential)) is not None:
            return until
        if credential.expires_at <= time.time():  # brokers only close the connection on some of these
            self.refused(credential)
            raise KafkaLoginRefused
        key = credential.key(self._pepper)
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.get_running_loop().create_task(self._ask(credential, key))
            asking.add_done_callback(lambda done: self._asked(key, done))
        return await asyncio.shield(asking)

    def forget(self, credential: Credential) -> None:
        """Kafka is to be asked again: a client of these credentials was refused. Its no counts on, for its time:
        librdkafka hears one several times a second, and each client that comes would be asked for anew."""
        key = credential.key(self._pepper)
        if key in self._accepted:
            self._accepted[key] = 0.0

    async def aclose(self) -> None:
        asking = list(self._asking.values())
        for each in asking:
            each.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    def _asked(self, key: bytes, done: asyncio.Task[float]) -> None:
        self._asking.pop(key, None)
        if not done.cancelled():
            done.exception()  # all who asked may have gone

    async def _ask(self, credential: Credential, key: bytes) -> float:
        try:
            turns = self._turns_of_known if key in self._accepted else self._turns
            async with asyncio.timeout(DEADLINE_S), turns.login:
                try:
                    await self._log_in(credential, turns.opening)
                finally:
                    trimmer.let_go(_LOGIN_BYTES)
        except TimeoutError:
            raise BrokerNotAvailable(f"No Kafka broker has answered the login within {DEADLINE_S:g} s.") from None
        except CredentialsRefused:
            log.info("Kafka refuses the credentials of %s (%s)", credential.user or "a token", credential.mechanism)
            self._accepted.pop(key, None)
            _keep(self._refused, key, time.monotonic() + self._refused_s)
            self.refused(credential)
            raise KafkaLoginRefused from None
        except (SaslRefused, WireError) as error:
            log.warning("Kafka cannot judge the credentials of clients: %s", error)
            raise Unavailable(f"Kafka cannot judge these credentials: {error}") from None
        until = time.monotonic() + self._recheck_s
        if credential.mechanism == BEARER:
            until = min(until, time.monotonic() + credential.expires_at - time.time())
        self._refused.pop(key, None)
        _keep(self._accepted, key, until)
        return until

    async def _log_in(self, credential: Credential, opening: asyncio.Semaphore) -> None:
        if self._known_way is None:
            self._known_way = self._way()
        servers, tls = self._known_way
        sasl = Sasl(credential.mechanism, credential.user, credential.secret)
        failure = ""
        for number in range(len(servers)):
            at = (self._first + number) % len(servers)
            try:
                client = await _connect(*servers[at], tls, sasl, opening)
            except (TimeoutError, ConnectionLost) as error:
                failure = str(error) or "no answer in time"
                continue
            client.close()
            self._first = at
            return
        raise BrokerNotAvailable(f"No Kafka broker can be asked for the login: {failure}")


async def _connect(
    host: str, port: int, tls: ssl.SSLContext | None, sasl: Sasl, opening: asyncio.Semaphore
) -> BrokerClient:
    """As `connect`, in its turn, which is over when the connection is open. TimeoutError."""
    await opening.acquire()
    with contextlib.ExitStack() as turn:
        turn.callback(opening.release)
        async with asyncio.timeout(_CONNECT_S):
            return await connect(host, port, tls, sasl, turn.close)


def _keep(verdicts: dict[bytes, float], key: bytes, until: float) -> None:
    verdicts.pop(key, None)
    if len(verdicts) >= _KEPT:
        del verdicts[next(iter(verdicts))]
    verdicts[key] = until
