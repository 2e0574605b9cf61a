"""The end of a connection between processes that asks: requests of clients of this one, answered by the other one."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from kafka_gateway import jsonio
from kafka_gateway.errors import InstanceUnavailable, ServiceError
from kafka_gateway.forwarding import Sent
from kafka_gateway.memory_budget import OutOfMemory
from kafka_gateway.messages import Reply, Request
from kafka_gateway.session import Session
from kafka_gateway.state_log import StateLog
from kafka_gateway.stream import Payload
from kafka_gateway.workers.failures import error_of
from kafka_gateway.workers.fields import FieldsOut
from kafka_gateway.workers.frames import (
    END_READS,
    Answer,
    Ask,
    Asker,
    Bye,
    Cancel,
    End,
    FrameError,
    Head,
    More,
    Part,
    Ping,
    Pong,
    Question,
    Settled,
    told,
)
from kafka_gateway.workers.greeting import Greeting
from kafka_gateway.workers.relayed_stream import InstanceLost, RelayedStream
from kafka_gateway.workers.terms import Terms
from kafka_gateway.workers.wire import NOBODYS, SILENT, Judge, LinkLost, Wire, no_fault

log = logging.getLogger("gateway.workers")

_PROOFS: Final = frozenset({"authorization", "proxy-authorization", "cookie"})
"""Header fields that stay in the process that has judged them, beside those that the authenticators read."""
_AGAIN_S: Final = 0.01
_WHO: Final = "as other processes are told of it"
"""In ``Session.state``: the principal and the proof that an `Asker` was made of, and it."""


_Asked = asyncio.Future[tuple[Answer, bytes]] | Sent
"""What is told of an answer."""


class Link(Wire):
    """Belongs to the event loop. ``gone`` is told when the connection is not to be used for new requests any more: it
    is lost, or the other process stops."""

    def __init__(
        self,
        greeting: Greeting,
        terms: Terms,
        gone: Callable[[Link], None] = lambda _: None,
        judge: Judge = no_fault,
        states: StateLog | None = None,
    ) -> None:
        super().__init__(greeting, judge, terms.memory, states)
        self._gone = gone
        self._terms = terms
        self._fields = FieldsOut(_PROOFS | terms.secret)
        self._ids = itertools.count(1)
        self._asked: dict[int, tuple[_Asked, float]] = {}
        """Requests that wait for an answer, and since when."""
        self._silence_max_s = max(terms.hold_s, 2 * terms.ping_s)
        self._look_at = 0.0
        self._looking: asyncio.TimerHandle | None = None
        self._streams: dict[int, RelayedStream] = {}
        self._unsettled: set[int] = set()
        """Answers of which the other process waits to hear whether they were delivered."""
        self._freed: asyncio.Event | None = None
        """Somebody waits until fewer requests are open."""
        self._is_leaving = False
        self.is_lost = False

    # --- asking -----------------------------------------------------------------------------------------------------

    async def ask(self, request: Request, relay: str = "") -> Reply:
        """The other process's reply. Cancelling it cancels the request there.

        ``relay``: the handler of `gateway.relays` that is asked, in place of ``Gateway.dispatch``; the other process
        has the client's proof then. It must be of the same machine. What the handler raises is raised.

        Raises LinkLost, InstanceUnavailable if that process hangs, or FrameError for a request whose head is too long
        to be sent.
        """
        body = request.body
        if not isinstance(body, bytes):
            raise FrameError("a body that is no bytes")
        id = next(self._ids)
        answer, content = await self._ask(id, self._ask_of(id, request, relay), body)
        if relay and answer.failure is not None:
            raise error_of(answer.failure)
        return self._reply(id, request, answer, content)

    def begin(self, request: Request, sent: Sent) -> bool:
        """As ``ask``, without a task (`Sent.answered`); False: nothing has happened, and ``ask`` says what is to be
        waited for, or why not."""
        body, asked = request.body, self._asked
        if (
            type(body) is not bytes
            or self.is_lost
            or len(asked) + len(self._streams) + len(self._unsettled) >= self._terms.requests_max
        ):
            return False
        id = next(self._ids)
        try:
            self.send(self._ask_of(id, request, ""), body, not asked)
        except FrameError:
            return False
        sent.carrier, sent.number, sent.request = self, id, request
        asked[id] = sent, self.said_at
        if self._looking is None:
            self.counted_from = self.said_at
            self._look_later()
        return True

    def drop(self, number: int) -> None:
        self._cancel(number)
        self._over(number)

    def _reply(self, id: int, request: Request, answer: Answer, content: bytes) -> Reply:
        reply = Reply(
            answer.status,
            answer.media_type,
            content,
            answer.headers,
            records=answer.records,
            route=answer.route,
        )
        if answer.failure is not None and request.dialect is not None:
            reply.body = request.dialect.error(error_of(answer.failure))
        if answer.streams:
            reply.body = self._streams[id]
        if answer.settles:
            reply.settle = partial(self._settle, id)
        return reply

    async def question(self, name: str, parameters: Any) -> list[Any]:
        """What the other process answers. LinkLost, InstanceUnavailable."""
        id = next(self._ids)
        _, content = await self._ask(id, Question(id, name), jsonio.encode(parameters))
        found = jsonio.decode_value(content)
        return found if isinstance(found, list) else []

    def end_reads(self) -> None:
        """This process stops: the reads that the other one was asked are to wait no longer."""
        if self._asked:
            self.send(Question(next(self._ids), END_READS))

    async def _ask(self, id: int, head: Head, content: bytes) -> tuple[Answer, bytes]:
        if self._open_count >= self._terms.requests_max:
            holding = self._terms.holding
            with holding.body(content) if holding is not None else contextlib.nullcontext():
                await self._room()
        if self.is_lost:
            raise LinkLost
        waiting: asyncio.Future[tuple[Answer, bytes]] = self._loop.create_future()
        self._asked[id] = waiting, self._loop.time()
        if self._looking is None:
            self.counted_from = self._loop.time()
            self._look_later()
        try:
            self.send(head, content, len(self._asked) == 1)
            return await waiting
        except (asyncio.CancelledError, ServiceError):
            self._cancel(id)
            raise
        finally:
            self._over(id)

    def _cancel(self, id: int) -> None:
        """Nobody wants the answer, nor what follows it."""
        self._outgoing.drop(id)
        self._arriving.drop(id)
        self._streams.pop(id, None)
        self._unsettled.discard(id)
        self.send(Cancel(id))

    def _over(self, id: int) -> None:
        """Nobody waits for the answer."""
        self._asked.pop(id, None)
        self._less_open()

    @property
    def _open_count(self) -> int:
        """Requests that the other process has not done with: never fewer than it counts itself."""
        return len(self._asked) + len(self._streams) + len(self._unsettled)

    async def _room(self) -> None:
        """Returns when a request more may be open, or the connection is lost. InstanceUnavailable."""
        try:
            async with asyncio.timeout(self._terms.hold_s):
                while self._open_count >= self._terms.requests_max and not self.is_lost:
                    if self._freed is None:
                        self._freed = asyncio.Event()
                    await self._freed.wait()
        except TimeoutError:
            raise InstanceUnavailable() from None

    def _less_open(self) -> None:
        if self._freed is not None:
            self._freed.set()
            self._freed = None
        if self._is_leaving and not self._open_count:
            self.finish()

    def _settle(self, id: int, taken: bool) -> None:
        self._unsettled.discard(id)
        self.send(Settled(id, taken), at_once=not self._asked)
        self._less_open()

    def _ask_of(self, id: int, request: Request, relay: str) -> Ask:
        base_url, session = request.base_url, request.session
        headers, query = self._fields.of(request)
        return Ask(
            id,
            self._who(session, self._terms.brings_proofs or bool(relay)),
            request.method,
            request.path if request.path.isascii() else told(request.path),
            query,
            headers,
            base_url if isinstance(base_url, str) else base_url(),
            request.id,
            request.one_reply,
            request.settles,
            request.default_generation,
            request.area,
            request.dialect is not None or bool(relay),
            request.creation,
            relay,
            session.principal.until if relay and session.principal.until < math.inf else None,
        )

    def _who(self, session: Session, brings_proofs: bool) -> jsonio.Raw:
        principal, proof = session.principal, session.proof
        known: tuple[object, object, bool, jsonio.Raw] | None = session.state.get(_WHO)
        if known is not None and known[0] is principal and known[1] is proof and known[2] is brings_proofs:
            return known[3]
        encoded = self._told_of(session, brings_proofs)
        session.state[_WHO] = principal, proof, brings_proofs, encoded
        return encoded

    def _told_of(self, session: Session, brings_proofs: bool) -> jsonio.Raw:
        principal = session.principal
        return jsonio.Raw(
            jsonio.encode(
                Asker(
                    principal.name,
                    principal.kind,
                    tuple(sorted(principal.roles)),
                    dict(principal.attributes) or None,
                    session.listener,
                    session.peer,
                    session.admin,
                    session.proven,
                    {name: told(value) for name, value in session.proof.items()} if brings_proofs else None,
                )
            )
        )

    # --- what comes -------------------------------------------------------------------------------------------------

    def take(self, head: Head, content: bytes) -> None:
        if type(head) is Answer:
            id = head.id
            known = self._asked.get(id)
            if known is None:
                return
            asked = known[0]
            if head.size > len(content):
                # The reply may be more than there is room for.
                self._arriving.begin(id, head, head.size, partial(self._fail, id, asked, OutOfMemory()))
                return
            if isinstance(asked, Sent):
                del self._asked[id]
                self._note(head)
                self._less_open()
                _tell(asked, self._reply(id, asked.request, head, content))
            elif not asked.done():
                self._note(head)
                asked.set_result((head, content))
        elif isinstance(head, Part):
            if (stream := self._streams.get(head.id)) is not None:
                if head.size > len(content):
                    self._arriving.begin(head.id, head, head.size, partial(stream.fail, OutOfMemory()))
                    return
                error = error_of(head.failure) if head.failure is not None else None
                stream.put(Payload(content, head.name, head.cursor, head.status, error))
        elif isinstance(head, More):
            self._put_piece(head.id, content)
        elif isinstance(head, End):
            if (stream := self._streams.pop(head.id, None)) is not None:
                stream.finish(error_of(head.failure) if head.failure is not None else None)
                self._less_open()
        elif isinstance(head, Bye):
            # From now on nothing is sent that it would not answer: it waits until this end has closed the connection.
            self._is_leaving = True
            self._gone(self)
            self._less_open()
        elif not isinstance(head, Pong):
            raise FrameError(f"{type(head).__name__} of a process that was asked")

    def _note(self, answer: Answer) -> None:
        """The request stays open for what follows this answer."""
        if answer.streams:
            self._streams[answer.id] = RelayedStream(self, answer.id, answer.heartbeat_s)
        elif answer.settles:
            self._unsettled.add(answer.id)

    def _fail(self, id: int, asked: _Asked, error: Exception) -> None:
        """There will be no answer to this request."""
        if not isinstance(asked, Sent):
            if not asked.done():
                asked.set_exception(error)
            return
        outcome = error if isinstance(error, ServiceError) else None
        if outcome is not None:
            self._cancel(id)
        self._over(id)
        # In a turn of its own: whoever says so may be at work on all that wait.
        self._loop.call_soon(_tell, asked, outcome, context=NOBODYS)

    def lost(self) -> None:
        self.is_lost = True
        self._gone(self)
        if self._looking is not None:
            self._looking.cancel()
        for id, (asked, _) in list(self._asked.items()):
            self._fail(id, asked, LinkLost(sent=True))
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.finish(InstanceLost())
        self._unsettled.clear()
        self._less_open()

    # --- silence ----------------------------------------------------------------------------------------------------

    def _look_later(self) -> None:
        self._look_at = self._loop.time() + self._terms.ping_s
        if self._asked:  # who has waited longest is not to wait longer than the limit
            longest = next(iter(self._asked.values()))[1]
            due = max(longest, self.heard_at, self.counted_from) + self._silence_max_s
            self._look_at = min(self._look_at, max(due, self._loop.time() + _AGAIN_S))
        self._looking = self._loop.call_at(self._look_at, self._look, context=NOBODYS)

    def _look(self) -> None:
        """Gives a sign of life, asks a silent process for one, and gives up what one was asked that hangs."""
        self._looking = None
        if self.is_lost or not self._open_count:
            return
        ping_s = self._terms.ping_s
        silent_s = self.silence(self._look_at, ping_s)
        now = self._loop.time()
        if self._terms.drops:
            if silent_s >= 2 * ping_s:
                self.give_up(f"it gives no sign of life for {silent_s:.1f} s", SILENT)
                return
        elif silent_s >= self._silence_max_s:
            for id, (asked, since) in list(self._asked.items()):
                if now - since >= self._silence_max_s:
                    self._fail(id, asked, InstanceUnavailable())
            for stream in list(self._streams.values()):
                stream.fail(InstanceUnavailable())
        if silent_s >= ping_s or now - self.said_at >= ping_s:
            self.send(Ping())
        self._look_later()

    def forget(self, id: int) -> None:
        """Nobody reads that stream any more."""
        self._arriving.drop(id)
        if self._streams.pop(id, None) is not None:
            self.send(Cancel(id))
            self._less_open()


def _tell(sent: Sent, outcome: Reply | ServiceError | None) -> None:
    try:
        sent.answered(outcome)
    except Exception:  # it is one request's, and the connection many others'
        log.exception("what another process answered could not be handed on")
