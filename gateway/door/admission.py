"""What every request of a guarded session passes: rights, quotas, and the audit log (security.md §3, §5, §7).

A session that may do everything, has no limits and is not written down is not guarded, and costs one look at a flag.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from time import monotonic
from typing import Any, Final

from kafka_gateway import media
from kafka_gateway.arriving import ArrivingBody
from kafka_gateway.config import Config
from kafka_gateway.door.audit import Audit
from kafka_gateway.door.authorization import Authorization, Needs
from kafka_gateway.door.quotas import UNLIMITED, Quotas
from kafka_gateway.door.slowed_feed import SlowedFeed
from kafka_gateway.errors import ProofEnded, QuotaUsedUp, ServiceError, Unauthorized
from kafka_gateway.messages import Call, Request, Response
from kafka_gateway.rights import EVERYTHING, Authorizer, Need, not_authorized
from kafka_gateway.router import Route
from kafka_gateway.session import Principal, Session, Waiting
from kafka_gateway.stream import Feed, Stream

_SOCKETS: Final = ("socket.", "tunnel.")
_INSTANCES: Final = (".consumers.create", ".consumers.delete")
_PUSHES: Final = ("consumers.push",)
_PROOF: Final[Need] = ("authenticate", "gateway", "")
"""What is refused, as the audit log has it, where Kafka does not take the credentials of a request."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """What a request wants of its principal, worked out once for each spelling of it. Compared by identity, since it is
    looked up for every request, and a tuple of needs would be hashed each time."""

    needs: tuple[Need, ...] = ()
    writes: bool = False
    """Whether its body is produced."""
    reads: bool = False
    """Whether records are read."""
    opens_stream: bool = False
    """Whether its reply stays open, as far as that is known before."""


NO_DEMAND: Final = Demand()


def demand_of(route: Route, params: Mapping[str, Any], media_type: str) -> Demand:
    """What a request with these path parameters, answered with this media type, demands."""
    told = {(each.operation, each.resource) for each in route.permissions}
    # Who makes, changes, commits or deletes a consumer needs the same rights, and gets no record by that.
    reads = route.method == "GET" and (("read", "topic") in told or ("read", "group") in told)
    return Demand(route.needs(params), ("write", "topic") in told, reads, _opens_stream(route, media_type))


class Admission:
    """One for a gateway. Belongs to its event loop.

    Args:
        sessions: those that are open.
        close: a coroutine function that ends a session.
    """

    def __init__(self, config: Config, authorizers: Sequence[Authorizer], sessions: set[Session], close: Any) -> None:
        self._authorizers = tuple(authorizers)
        self._sessions = sessions
        self.authorization = Authorization(authorizers, close)
        self.quotas = Quotas(config, self._limits_of)
        self.audit = Audit(config.text("audit.log"))
        self.changes = 0
        """How often rules, quotas or what is written down have become others."""

    def _limits_of(self, principal: Principal) -> Mapping[str, int]:
        limits: dict[str, int] = {}
        for each in self._authorizers:
            limits |= each.quotas(principal)
        return limits

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Follows the rules and writes the audit log for as long as the context is open."""
        async with self.audit.writing(), self.authorization.watching(self._rules_changed):
            yield

    def reload(self) -> None:
        """The operator asks for what has been read to be read again (SIGHUP)."""
        self.authorization.reload()
        self.audit.reopen()

    def follow(self, config: Config) -> None:
        """Takes the quotas of this configuration."""
        self.quotas.follow(config)
        self._rules_changed()

    def _rules_changed(self) -> None:
        self.changes += 1
        self.quotas.renew(self._sessions)
        for session in self._sessions:
            session.guarded = self._guards(session)

    # --- sessions ---------------------------------------------------------------------------------------------------

    def welcome(self, session: Session, request: str = "") -> None:
        """Gives a session the rights and the allowance of its principal. TooManyRequests: it has one too many.

        ``request``: what it comes with, as method and path, for the audit log.
        """
        allowance = self.quotas.of(session.principal)
        if allowance is not UNLIMITED and session not in allowance.sessions:
            if not session.forwarded:  # it was counted where it is connected
                try:
                    allowance.check_connections()
                except QuotaUsedUp as error:
                    self._tell_quota(session, error, request)
                    raise
            allowance.sessions.add(session)
        session.allowance = allowance
        session.witness = self
        before, session.rights = session.rights, self.authorization.rights_of(session.principal)
        session.guarded = self._guards(session)
        if before is not EVERYTHING and before is not session.rights:
            self.authorization.has_other_rights(session)

    def _guards(self, session: Session) -> bool:
        return session.rights is not EVERYTHING or session.allowance.metered or self.audit.enabled

    # --- requests ---------------------------------------------------------------------------------------------------

    def admit(self, request: Request, demand: Demand) -> None:
        """Lets the request in. NotAuthorized, TooManyRequests. A body that is still to come is slowed down."""
        # Every request comes by here: what lets it pass calls no more than it must.
        session = request.session
        allowance = session.allowance
        if not allowance.metered:
            if demand not in session.rights.passed:
                self._let_in(session, demand, request)
            return
        now, bucket = monotonic(), allowance.requests
        if bucket is not None and not bucket.take(1, now):
            raise allowance.short_of(bucket, 1, "quota.requests.per.sec")
        if demand not in session.rights.passed:
            self._let_in(session, demand, request)
        if demand.writes:
            bucket = allowance.produce_bytes
            if bucket is not None:
                body = request.body
                if type(body) is not bytes:
                    request.body = (
                        ArrivingBody.of(body).through(allowance.slowed) if hasattr(body, "__aiter__") else body
                    )
                elif not bucket.take(len(body), now):
                    raise allowance.short_of(bucket, len(body), "quota.produce.bytes.per.sec")
        if demand.reads and allowance.consume_bytes is not None:
            allowance.check_consume()
        if demand.opens_stream:
            allowance.check_streams()

    def _let_in(self, session: Session, demand: Demand, request: Request) -> None:
        """As ``judge``. What was let in is not judged again until the rules change, unless it is written down."""
        self.judge(session, demand.needs, request)
        if not self.audit.enabled:
            session.rights.pass_on(demand)

    def judge(self, session: Session, needs: Sequence[Need], request: Request | None = None) -> None:
        """NotAuthorized for the first of the needs that the session's principal may not have."""
        rights = session.rights
        remembered, audit = rights.remembered, self.audit
        for need in needs:
            decision = remembered.get(need) or rights.decide(*need)
            if audit.enabled:
                audit.decided(session, need, decision.allowed, decision.rule, _told(request))
            if not decision.allowed:
                error = not_authorized(session.principal, *need)
                error.audited = True
                raise error

    def allowed(self, request: Request, need: Need, rule: str) -> None:
        """A handler has judged a name of the body: it is written down like one of the path."""
        if self.audit.enabled:
            self.audit.decided(request.session, need, True, rule, _told(request))

    def refused(self, request: Request, error: ServiceError) -> None:
        """What a request was answered: if that refuses a right, a proof or a quota, it is written down, once. Handlers
        that answer by themselves tell of it (`Call.tell_refusal`)."""
        audit, session = self.audit, request.session
        if not audit.enabled:
            return
        if error.need is not None:
            if not error.audited:
                error.audited = True
                decision = session.rights.decide(*error.need)
                rule = error.message if decision.allowed else decision.rule  # not the rules have refused it
                audit.decided(session, error.need, False, rule, _told(request))
        elif isinstance(error, QuotaUsedUp):
            self._tell_quota(session, error, _told(request))
        elif isinstance(error, Unauthorized) and not isinstance(error, ProofEnded):  # its end has been told
            if session.proven:
                audit.decided(session, _PROOF, False, error.message, _told(request))
            else:
                audit.refused_proof(session.peer, session.transport, error.message, False, _told(request))

    def _tell_quota(self, session: Session, error: QuotaUsedUp, request: str) -> None:
        if self.audit.enabled and not error.audited:
            error.audited = True
            self.audit.used_up(session, error.quota, error.message, request)

    def stays(self, session: Session, request: str) -> None:
        """As `Witness` has it."""
        self.audit.stays(session, request)

    def answered(self, call: Call, response: Response, demand: Demand) -> None:
        """Keeps an eye on what the response leaves open, and counts what it has brought.

        Nothing of this is needed for a value that is neither bytes nor a stream, without an audit log.
        """
        session, value = call.request.session, response.value
        if self.audit.enabled and call.route.name.endswith(_INSTANCES):
            operation = call.route.name.rpartition(".")[2]
            self.audit.happened(session, operation, f"instances of group:{call.params['group']}", _told(call.request))
        if isinstance(value, bytes):
            if demand.reads and session.allowance.consume_bytes is not None:
                session.allowance.consumed(len(value))
        elif hasattr(value, "aclose"):
            self._opened(call, response, demand.needs)

    def _opened(self, call: Call, response: Response, needs: Sequence[Need]) -> None:
        session, stream = call.session, response.value
        if isinstance(stream, Feed) and session.allowance.consume_bytes is not None:
            stream = response.value = SlowedFeed(stream, session.allowance.pace())
        self.hold_call(stream, call, needs)
        if self.audit.enabled:
            self.audit.opened(session, stream, _told(call.request))

    def hold_call(self, what: Stream | Waiting, call: Call, needs: Sequence[Need]) -> None:
        """Ends what the call has left open, or its waiting, when its principal may not have all of this any more."""

        def all_needs() -> Iterable[Need]:
            changing = call.changing_needs
            return (*needs, *call.needs, *(changing() if changing is not None else ()))

        self.authorization.hold(what, call.session, all_needs)

    def hold(self, session: Session, needs: Needs) -> None:
        """Ends the whole session when it may not have all of this any more: for sockets that are no stream."""
        self.authorization.hold(session, session, needs)


def _opens_stream(route: Route, media_type: str) -> bool:
    """Whether the reply stays open, as far as that is known before."""
    kind = route.extras.get("streams")
    return (
        kind == "always"
        or media_type == media.EVENTS
        or route.name.endswith(_PUSHES)
        or (route.name.startswith(_SOCKETS))
    )


def _told(request: Request | None) -> str:
    return f"{request.method} {request.path}" if request is not None else ""
