"""Proofs of clients: opens their sessions, and looks at the proofs again for as long as the clients stay.

Every transport opens its sessions here, and none looks at a proof again by itself: one loop does that for all of them,
so that a removed user or an expired token ends everywhere alike, within five seconds (security.md §2).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import math
import time
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from typing import Any, Final, TypeVar

from kafka_gateway.auth import CERTIFICATE, Authenticator
from kafka_gateway.caller import CredentialsOf, KafkaLease
from kafka_gateway.config import Config
from kafka_gateway.door.guesses import Guesses
from kafka_gateway.errors import (
    CloseReason,
    Forbidden,
    KafkaLoginRefused,
    NotJudged,
    ProofEnded,
    ServiceError,
    TooManyRequests,
    Unauthorized,
)
from kafka_gateway.kafka_errors import BrokerNotAvailable
from kafka_gateway.messages import NOTHING
from kafka_gateway.session import Principal, Session

log = logging.getLogger("gateway.auth")

_LOOK_EVERY_S: Final = 1.0
_SINGLE: Final = ("authorization", "x-kafka-auth")
_AT_ONCE: Final = 200
"""Proofs that are looked at in one turn of the loop: checking a token's signature takes some 60 µs."""


Answer = TypeVar("Answer")


def certificate_of(session: Session) -> str:
    """The certificate with which the client has come in (`gateway.auth.CERTIFICATE`); "" without one."""
    return session.proof.get(CERTIFICATE, "")


class Proofs:
    """The sessions of one gateway, and how they came in. Belongs to one event loop."""

    def __init__(self, config: Config, authenticator: Authenticator) -> None:
        self.sessions: set[Session] = set()
        self.welcome: Callable[[Session, str], None] = lambda session, request: None
        """Gives a session what its principal may do, for this request (method and path, or ""); may raise
        TooManyRequests. The gateway sets it."""
        self.refused: Callable[[str, str, str, bool, str], None] = lambda peer, transport, reason, heard, request: None
        """Is told of everybody who is not let in: address, transport, reason, whether a proof was heard, and the
        request. Wrong proofs of an address are bounded (`Guesses`); how often others come who show nothing is not."""
        self._authenticator = authenticator
        self._asks = bool(authenticator.proof)
        self._asks_certificate = CERTIFICATE in authenticator.proof
        self._names = tuple(name.lower() for name in authenticator.proof if name != CERTIFICATE)
        self.fields = frozenset(name.encode() for name in self._names)
        """The header fields that prove who asks: they are the gateway's and go no further."""
        self.single = tuple({*_SINGLE, *self._names})
        """Fields of which a request has one at most, whether or not anybody looks at it."""
        self.query_parameter = authenticator.query_parameter
        """See `Authenticator.query_parameter`."""
        self._roles = frozenset(config.items("authentication.roles"))
        skipped = config.items("authentication.skip.paths")
        self._open_paths = frozenset(skipped)
        # A path specification of servlets: /health/* is everything below /health (kafka-rest-http.md §3.9).
        self._open_prefixes = tuple(each[:-1] for each in skipped if each.endswith("/*"))
        self._credentials: CredentialsOf | None = None
        self._admin = _offers_admin(config)
        self._guesses = Guesses(config.integer("authentication.failures.max"))
        self._unsure: weakref.WeakKeyDictionary[Session, int] = weakref.WeakKeyDictionary()
        """How often in a row nobody could tell whether the proofs of sessions still count."""
        self._asking: dict[Session, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def reload(self) -> None:
        """Has the authenticators read again what they have read (SIGHUP)."""
        self._authenticator.reload()

    def know_credentials(self, credentials: CredentialsOf) -> None:
        """Clients may have Kafka credentials of their own. Called before the first session is opened."""
        self._credentials = credentials
        self._asks = True
        self._names = tuple(dict.fromkeys((*self._names, *credentials.fields)))
        self.fields = frozenset(name.encode() for name in self._names)
        self.single = tuple({*_SINGLE, *self._names})

    # --- coming in --------------------------------------------------------------------------------------------------

    async def open(
        self,
        transport: str,
        headers: Mapping[str, str],
        listener: str = "",
        peer: str = "",
        certificate: str = "",
        request: str = "",
    ) -> Session:
        """A session for a client with these headers (looked up by lower-case name), and with this certificate, which
        TLS has verified. ``request``: method and path of what it is opened for, which the audit log is told.

        Raises Unauthorized, Forbidden, TooManyRequests (an address that guesses), NotJudged, Unavailable.
        """
        shown = self.shown(headers, certificate)
        with self._telling(peer, transport, shown, request):
            principal = await self._prove(shown, peer)
            lease, until = await self._lease(principal, shown, peer)
        session = Session(transport, listener, peer, principal, shown)
        self._use(session, lease, until)
        session.admin = self._admin
        self.welcome(session, request)
        self.sessions.add(session)
        return session

    def open_beside(self, session: Session, transport: str) -> Session:
        """A further session of the same client, with the same proof: for what outlives its connection."""
        opened = Session(transport, session.listener, session.peer, session.principal, session.proof)
        self._use(opened, session.kafka, math.inf)
        opened.admin = session.admin
        self.welcome(opened, "")
        self.sessions.add(opened)
        return opened

    async def open_forwarded(self, session: Session) -> None:
        """Lets in the session of a client that is connected to another worker, for one request of its.

        That worker has made sure of the principal, and ends the request when the proof does. Raises as ``open`` what
        Kafka says of the client's own credentials.
        """
        if session.proven:
            lease, _ = await self._lease(session.principal, session.proof, session.peer)
            self._use(session, lease, math.inf)
        self.welcome(session, "")
        self.sessions.add(session)

    def open_unproven(self, transport: str, listener: str = "", peer: str = "") -> Session:
        """A session for one request whose path needs no proof; `Gateway.dispatch` serves it nothing else."""
        session = Session(transport, listener, peer, proven=False)
        session.admin = self._admin
        self.welcome(session, "")  # with the rights of User:anonymous
        self.sessions.add(session)
        return session

    def is_open(self, path: str) -> bool:
        """Whether requests for this path, undecoded, need no proof (kafka-rest-http.md §3.9)."""
        return path in self._open_paths or path.startswith(self._open_prefixes)

    def shown(self, headers: Mapping[str, str], certificate: str = "") -> Mapping[str, str]:
        """What proves who asks, by lower-case names. Equal proofs come from the same principal."""
        names = self._names
        if certificate and self._asks_certificate:
            found = {CERTIFICATE: certificate}
            for name in names:
                if (value := headers.get(name)) is not None:
                    found[name] = value
            return found
        if not names:
            return NOTHING
        return {name: value for name in names if (value := headers.get(name)) is not None}

    async def close(self, session: Session, reason: CloseReason) -> None:
        """Ends the session and all that it owns; safe to call twice."""
        self.sessions.discard(session)
        await session.aclose(reason)

    @contextlib.contextmanager
    def _telling(self, peer: str, transport: str, shown: Mapping[str, str], request: str) -> Iterator[None]:
        """Round the judgement of a client: a refusal is told to ``refused``."""
        try:
            yield
        except (Unauthorized, Forbidden, TooManyRequests, NotJudged) as error:
            surely = isinstance(error, (KafkaLoginRefused, NotJudged))
            heard = surely or (not isinstance(error, TooManyRequests) and self._reads(shown))
            silent = isinstance(error, Unauthorized) and not heard
            reason = "no proof that counts was shown" if silent else error.message
            self.refused(peer, transport, reason, heard, request)
            raise

    async def _prove(self, shown: Mapping[str, str], peer: str) -> Principal:
        """The principal of this proof, who may use the gateway at all."""
        if not self._reads(shown):  # showing no proof is no guess
            principal = await self._authenticated(shown, peer)
        elif (known := self._recalled(shown)) is not None:
            principal = known
        else:
            principal = await self._guesses.judge(peer, self._authenticated(shown, peer))
        self._check_roles(principal)
        return principal

    # What authenticators answer: whatever goes wrong in one, also in a plugin's, is a refusal.

    def _reads(self, shown: Mapping[str, str]) -> bool:
        with _sound():
            return bool(shown) and self._authenticator.reads(shown)

    def _recalled(self, shown: Mapping[str, str]) -> Principal | None:
        with _sound():
            found = self._authenticator.recall(shown)
            return None if found is None else _principal(found)

    async def _authenticated(self, shown: Mapping[str, str], peer: str) -> Principal:
        with _sound():
            return _principal(await self._authenticator.authenticate(shown, peer))

    async def _lease(
        self, principal: Principal, shown: Mapping[str, str], peer: str
    ) -> tuple[KafkaLease | None, float]:
        """The Kafka clients of the client's own credentials, if it has some, and until when they count."""
        credentials = self._credentials
        if credentials is None:
            return None, math.inf
        with _sound():
            known = credentials.recall(principal, shown)
        if known is not None:
            return known
        return await self._guesses.judge(peer, _soundly(credentials.lease(principal, shown)))

    def _use(self, session: Session, lease: KafkaLease | None, until: float) -> None:
        if self._credentials is not None:
            self._credentials.use(session, lease)
            session.end_by(until)

    def _check_roles(self, principal: Principal) -> None:
        if "*" not in self._roles and not self._roles & principal.roles:
            raise Forbidden(f"{principal.name} has none of the roles that may use this gateway.")

    # --- staying ----------------------------------------------------------------------------------------------------

    async def renew(self, session: Session, headers: Mapping[str, str], request: str = "") -> None:
        """Takes a newer proof for the session, that a request brings. Forbidden if it is another principal's; otherwise
        as ``open``."""
        shown = self.shown(headers, certificate_of(session))
        with self._telling(session.peer, session.transport, shown, request):
            principal = await self._prove(shown, session.peer)
            if not session.proven or str(principal) != str(session.principal):
                raise Forbidden("The new proof is not the one of the principal that opened this session.")
            lease, until = await self._lease(principal, shown, session.peer)
            if (lease is None) != (session.kafka is None) or (lease is not None and lease.user != session.kafka.user):
                raise Forbidden("The new proof brings credentials of another Kafka user.")
        self.take_over(session, principal, shown)
        self._use(session, lease, until)

    def take_over(self, session: Session, principal: Principal, shown: Mapping[str, str]) -> None:
        """Gives the session a proof that was found right."""
        session.proof = shown
        before, session.principal = session.principal, principal
        if principal.roles != before.roles or principal.attributes != before.attributes:
            self.welcome(session, "")

    def keep_newer(self, session: Session, shown_by: Session) -> None:
        """Gives a session the proof with which its client, the same principal, came again."""
        if shown_by.principal.until > session.principal.until and session.closed is None:
            self.take_over(session, shown_by.principal, shown_by.proof)
            self._use(session, shown_by.kafka, math.inf)

    async def look_again(self, session: Session, method: str = "", path: str = "") -> None:
        """Asks once more about the proof with which the session was opened, if it is time to; for a request, if one has
        been the reason.

        Raises Unauthorized or Forbidden for one that is not valid any more, NotJudged where the authenticator fails:
        the session is closed then. While nobody can tell, the session goes on, and the error is raised.
        """
        if session.principal.until >= time.monotonic() or not session.proven:
            return
        asking = self._asking.get(session)
        if asking is None:
            work = self._look(session, f"{method} {path}" if method else "")
            asking = self._asking[session] = asyncio.get_running_loop().create_task(work)
            asking.add_done_callback(lambda done: self._looked(session, done))
        try:
            await asyncio.shield(asking)
        except (Unauthorized, Forbidden, NotJudged):
            # The request that waits for the answer may still tell its client.
            asyncio.get_running_loop().call_soon(self._revoke, session)
            raise

    async def _look(self, session: Session, request: str) -> None:
        shown = session.proof
        try:
            principal = self._recalled(shown) or await self._authenticated(shown, session.peer)
            if str(principal) != str(session.principal):
                raise Unauthorized()
            self._check_roles(principal)
            lease, until = session.kafka, math.inf
            if lease is not None and self._credentials is not None:
                lease, until = await _soundly(self._credentials.lease_again(session, principal, shown))
        except (Unauthorized, Forbidden, NotJudged) as error:
            if session.proof is shown:  # else a newer one came meanwhile
                self.refused(session.peer, session.transport, error.message, True, request)
                raise
        else:
            if session.proof is shown:
                self.take_over(session, principal, shown)
                self._use(session, lease, until)

    def _looked(self, session: Session, done: asyncio.Task[None]) -> None:
        self._asking.pop(session, None)
        if not done.cancelled() and (error := done.exception()) is not None and not isinstance(error, ServiceError):
            log.error("a proof could not be looked at again", exc_info=error)

    def _revoke(self, session: Session) -> None:
        if session.closed is None:
            closing = asyncio.get_running_loop().create_task(self.close(session, CloseReason.of(ProofEnded())))
            self._tasks.add(closing)
            closing.add_done_callback(self._tasks.discard)

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Looks at the proofs of those who stay, for as long as the context is open."""
        if not self._asks:
            yield
            return
        task = asyncio.get_running_loop().create_task(self._watch(), name="look at proofs")
        try:
            yield
        finally:
            tasks = [task, *self._asking.values(), *self._tasks]
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            now = time.monotonic()
            # A client that has nothing open is asked with its next request.
            due = [each for each in self.sessions if each.principal.until < now and each.stays]
            for number, session in enumerate(due, 1):
                if session not in self._asking and session.closed is None:
                    looking = asyncio.get_running_loop().create_task(self._look_quietly(session))
                    self._tasks.add(looking)
                    looking.add_done_callback(self._tasks.discard)
                if not number % _AT_ONCE:
                    await asyncio.sleep(0.01)

    async def _look_quietly(self, session: Session) -> None:
        try:
            await self.look_again(session)
        except (Unauthorized, Forbidden, NotJudged, BrokerNotAvailable):
            return  # either the session is closed, or it goes on until Kafka can tell
        except ServiceError:
            self._nobody_can_tell(session)
        else:
            self._unsure.pop(session, None)

    def _nobody_can_tell(self, session: Session) -> None:
        """The session goes on, unless that has happened too often (websocket-proxy.md §1.3.5)."""
        most = self._authenticator.unsure_max
        if most < 0 or session.closed is not None:
            return
        self._unsure[session] = times = self._unsure.get(session, 0) + 1
        if times >= most:
            self._revoke(session)
        else:
            until = time.monotonic() + self._authenticator.unsure_again_s
            session.principal = dataclasses.replace(session.principal, until=until)


@contextlib.contextmanager
def _sound() -> Iterator[None]:
    """Round what authenticators do. They are plugins, maybe, and read what strangers send: NotJudged for their bugs."""
    try:
        yield
    except ServiceError:
        raise
    except Exception as error:
        log.error("a proof of identity is refused, because the authenticator failed", exc_info=error)
        raise NotJudged from error


async def _soundly(asking: Coroutine[Any, Any, Answer]) -> Answer:
    with _sound():
        return await asking


def _principal(found: object) -> Principal:
    if not isinstance(found, Principal):
        raise TypeError(f"an authenticator has answered with {type(found).__name__}, and not with a Principal")
    return found


def _offers_admin(config: Config) -> bool | None:
    """`Session.admin` of clients that have not come through a listener of ``admin.listeners`` (security.md §6): they
    get what is the operators' only where nobody else can be."""
    if config.items("admin.listeners"):
        return False
    return None if all(each.loopback for each in config.listeners()) else False
