"""The answering end of a connection between processes: it serves requests of clients of the other one.

They go through ``Gateway.dispatch`` like all others, in a session that has the principal which the other process has
made sure of. The proof is judged there; rights, limits, media types and bodies are judged here, where it is known
what the request means.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, cast

from kafka_gateway import jsonio
from kafka_gateway.core import Gateway
from kafka_gateway.dialect import Dialect
from kafka_gateway.errors import GONE, SHUTDOWN, ServiceError
from kafka_gateway.memory_budget import Claim
from kafka_gateway.messages import Reply, Request
from kafka_gateway.relays import UNKNOWN, Relays
from kafka_gateway.session import Session
from kafka_gateway.shortened import Shortened
from kafka_gateway.state_log import StateLog
from kafka_gateway.stream import Stream
from kafka_gateway.workers.client_sessions import ClientSessions, ForwardedClient
from kafka_gateway.workers.failures import failure_of
from kafka_gateway.workers.fields import FieldsIn
from kafka_gateway.workers.frames import (
    END_READS,
    Answer,
    Ask,
    Bye,
    Cancel,
    End,
    Failure,
    FrameError,
    Head,
    More,
    Next,
    Part,
    Ping,
    Pong,
    Question,
    Settled,
    untold,
)
from kafka_gateway.workers.greeting import Greeting
from kafka_gateway.workers.wire import SILENT, Judge, Wire, no_fault

log = logging.getLogger("gateway.workers")

_PINGS_MISSED: Final = 4


class _Work(jsonio.Struct, eq=False):
    """A request of the other process that is not over. A struct, because it is made in a quarter of the time."""

    client: ForwardedClient
    query: Mapping[str, str]
    headers: Mapping[str, str]
    creates: bool
    """Whether it makes something that is known by `Request.creation`."""
    shortened: Shortened | None
    """Ends its waiting, of what only asks."""
    task: asyncio.Task[None] | None = None
    """Serves it, or fetches the next payload of its stream."""
    session: Session | None = None
    stream: Stream | None = None
    settle: Callable[[bool | None], None] | None = None


class Answering(Wire):
    """Belongs to the event loop. ``over`` is called when the connection is lost and all its requests have ended.

    An end that has more than ``requests_max`` requests open does not keep to what is agreed: it is cut off. So is one
    that asked something and then gives none of the signs of life that it has promised in its hello.
    """

    def __init__(
        self,
        greeting: Greeting,
        gateway: Gateway,
        over: Callable[[Answering], None],
        requests_max: int = 4096,
        judge: Judge = no_fault,
        states: StateLog | None = None,
    ) -> None:
        super().__init__(greeting, judge, gateway.memory, states)
        self._gateway = gateway
        self._relays = Relays.of(gateway)
        self._over = over
        self._requests_max = requests_max
        self._looking: asyncio.TimerHandle | None = None
        self._look_at = 0.0
        self._works: dict[int, _Work] = {}
        self._clients = ClientSessions(gateway)
        self._fields = FieldsIn()
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, head: Head, content: bytes) -> None:
        if isinstance(head, Ask):
            id, works, arriving, fields = head.id, self._works, self._arriving.open, self._fields
            if len(works) + len(arriving) >= self._requests_max:
                raise FrameError(f"more than {self._requests_max} open requests (cluster.peer.max.requests)")
            if id in works or id in arriving:
                raise FrameError("two open requests of one number")
            if self._looking is None:
                self._look_later()
            if head.size > len(content):
                self._arriving.begin(id, head, head.size)
                return
            if (query := fields.known(bytes(head.query))) is None:
                query = fields.read(head.query)
            if (headers := fields.known(bytes(head.headers))) is None:
                headers = fields.read(head.headers)
            works[id] = begun = _Work(
                self._clients.client(head.who),
                query,
                headers,
                bool(head.creation),
                Shortened() if head.method == "GET" else None,
            )
            begun.task = task = self._loop.create_task(self._serve(head, content, begun))
            self._tasks.add(task)
        elif isinstance(head, More):
            self._put_piece(head.id, content)
        elif isinstance(head, Next):
            work = self._works.get(head.id)
            if work is not None and work.stream is not None:
                work.task = self._spawn(self._advance(head.id, work, work.stream))
        elif isinstance(head, Settled):
            work = self._works.pop(head.id, None)
            if work is not None and work.settle is not None:
                work.settle(head.taken)
        elif isinstance(head, Cancel):
            self._cancel(head.id)
        elif isinstance(head, Question):
            self._answer_question(head, content)
        elif isinstance(head, Ping):
            self.send(Pong())
        else:
            raise FrameError(f"{type(head).__name__} of a process that asks")

    def lost(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        for id in list(self._works):
            self._cancel(id)
        self._tell_if_over()

    def end(self) -> None:
        """It is to ask nothing new, and ends the connection when it has all answers."""
        self.send(Bye())

    # --- silence ----------------------------------------------------------------------------------------------------

    def _look_later(self) -> None:
        hello = self._greeting.other
        if hello is not None and hello.ping_ms > 0:
            self._look_at = self._loop.time() + hello.ping_ms / 1000
            self._looking = self._loop.call_at(self._look_at, self._look, hello.ping_ms / 1000)

    def _look(self, ping_s: float) -> None:
        self._looking = None
        if self._works or self._outgoing or self._arriving.open:
            if (silent_s := self.silence(self._look_at, ping_s)) >= _PINGS_MISSED * ping_s:
                self.give_up(f"it gives no sign of life for {silent_s:.1f} s", SILENT)
            else:
                self._look_later()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a request of process %s failed", self.other, exc_info=error)
        if self._transport is None:
            self._tell_if_over()

    def _tell_if_over(self) -> None:
        if self._transport is None and not self._tasks:
            self._over(self)

    # --- requests ---------------------------------------------------------------------------------------------------

    async def _serve(self, ask: Ask, body: bytes, work: _Work) -> None:
        gateway, client = self._gateway, work.client
        claim: Claim | None = None
        if body:
            claim = gateway.memory.claim()
            claim.set_to(len(body))
        dialect = _Telling() if ask.tells_errors else None
        session: Session | None = None
        is_over = True
        try:
            try:
                session = client.take() or await client.open(ask.until)
            except ServiceError as error:
                reply = gateway.refusal(error)
            else:
                work.session = session
                request = Request(
                    session,
                    ask.method,
                    ask.path if ask.path.isascii() else untold(ask.path),
                    work.query,
                    work.headers,
                    body,
                    ask.base_url,
                    dialect,
                    True,  # the other worker has taken it
                    ask.one_reply,
                    ask.generation,
                    None,
                    ask.settles,
                    ask.area,
                    ask.request_id,
                    ask.creation,
                    shortened=work.shortened,
                )
                reply = await (self._relayed(ask.relay, request) if ask.relay else gateway.dispatch(request))
            failure = dialect.failure if dialect is not None else None
            settle, content, heartbeat_s = reply.settle, reply.body, 0
            if not isinstance(content, bytes):
                work.stream, is_over = content, False
                content, heartbeat_s, failure = b"", getattr(content, "heartbeat_s", 0), None
            elif settle is not None:
                work.settle, is_over = settle, False
            self.send(
                Answer(
                    ask.id,
                    reply.status,
                    reply.media_type,
                    reply.headers,
                    reply.route,
                    reply.records,
                    settle is not None,
                    work.stream is not None,
                    heartbeat_s,
                    failure,
                ),
                content,
                len(self._works) == 1,
            )
        except Exception:
            log.exception("a request of process %s failed", self.other)
        finally:
            if claim is not None:
                claim.release()
            if is_over:
                self._works.pop(ask.id, None)
            try:
                if session is not None and work.stream is None and not client.keep(session):
                    await gateway.close_session(session, GONE)
            finally:
                # As `_done`: to be called back costs each request another turn of the loop.
                self._tasks.discard(cast("asyncio.Task[None]", work.task))
                if self._transport is None:
                    self._tell_if_over()

    async def _relayed(self, name: str, request: Request) -> Reply:
        """What a handler of this process does with it; what it raises is told."""
        handler = self._relays.handlers.get(name)
        if handler is None:
            return Reply(UNKNOWN, "", b"")
        try:
            return await handler(request)
        except ServiceError as error:
            assert request.dialect is not None
            return Reply(error.status, "", request.dialect.error(error), error.headers)

    def _answer_question(self, question: Question, content: bytes) -> None:
        if question.name == END_READS:
            self._end_reads()
        asked = self._gateway.questions.get(question.name)
        found = asked(jsonio.decode_value(content)) if asked is not None else []
        self.send(Answer(question.id), jsonio.encode(found))

    def _end_reads(self) -> None:
        for work in list(self._works.values()):
            if work.shortened is not None and work.stream is None and work.settle is None:
                work.shortened.end()

    # --- streams ----------------------------------------------------------------------------------------------------

    async def _advance(self, id: int, work: _Work, stream: Stream) -> None:
        try:
            payload = await anext(stream)
        except StopAsyncIteration:
            await self._end(id, work, None)
        except ServiceError as error:
            await self._end(id, work, failure_of(error))
        else:
            failure = failure_of(payload.error) if payload.error is not None else None
            self.send(Part(id, payload.name, payload.cursor, payload.status, failure), payload.data)

    async def _end(self, id: int, work: _Work, failure: Failure | None) -> None:
        self.send(End(id, failure))
        self._works.pop(id, None)
        await self._close(work)

    async def _close(self, work: _Work) -> None:
        if work.stream is not None:
            if work.session is not None:
                work.session.streams.discard(work.stream)
            await work.stream.aclose()
        if work.session is not None:
            await self._gateway.close_session(work.session, SHUTDOWN if self._gateway.stopping else GONE)

    def _cancel(self, id: int) -> None:
        self._arriving.drop(id)
        self._outgoing.drop(id)
        work = self._works.pop(id, None)
        if work is None:
            return
        is_lost = self._transport is None
        if work.settle is not None:
            work.settle(None if is_lost else False)
        elif work.stream is None:
            # What is being made is known by its uid: whoever has asked for it may be about to send that again.
            if work.task is not None and not (is_lost and work.creates):
                work.task.add_done_callback(self._done)  # it may not have begun
                work.task.cancel()
        else:
            if is_lost and (lose := getattr(work.stream, "lose", None)) is not None:
                lose()
            self._spawn(self._break_off(work))

    async def _break_off(self, work: _Work) -> None:
        """Ends a stream whose reader is gone: its task first, for two must not ask it at the same time."""
        if work.task is not None:
            work.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([work.task])
        await self._close(work)


class _Telling(Dialect):
    """Keeps the error for a caller that tells it in its own words."""

    def __init__(self) -> None:
        self.failure: Failure | None = None

    def error(self, error: ServiceError) -> bytes:
        self.failure = failure_of(error)
        return b""
