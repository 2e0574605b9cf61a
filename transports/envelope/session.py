"""One client's envelopes, whatever carries them: messages in, requests to the gateway, replies out.

Each request runs in a task of its own, but for those that need none (gateway/at_once.py). Tasks begin in the order in
which they were made, and ``Gateway.dispatch`` hands a produce request to Kafka before it first waits, so records reach
Kafka in the order in which they were sent (atmosphere-binding.md §1.1). Replies go out as requests finish.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial

from kafka_gateway.core import Gateway
from kafka_gateway.errors import NO_MEMORY, RequestTimeout, ServiceError
from kafka_gateway.generations import error_media_type
from kafka_gateway.messages import NOTHING, Reply, Request
from kafka_gateway.query import parse_query
from kafka_gateway.request_ids import new_id
from kafka_gateway.route_traits import takes_pieces, waits
from kafka_gateway.session import Session
from kafka_gateway.stream import Acknowledged, Feed, Payload, ReplyInParts, Stream
from kafka_gateway.transports.envelope import codec as envelope
from kafka_gateway.transports.envelope.channel import Channel
from kafka_gateway.transports.envelope.codec import Envelope, Form, InvalidMessage
from kafka_gateway.transports.envelope.forwarded import Own, forward
from kafka_gateway.transports.envelope.identities import Identities
from kafka_gateway.transports.envelope.known_requests import Known, KnownRequests
from kafka_gateway.transports.envelope.replying import reply as reply_messages
from kafka_gateway.transports.envelope.replying import short_reply
from kafka_gateway.transports.envelope.request_headers import RequestHeaders
from kafka_gateway.transports.envelope.sequences import Sequences, TimedSequences
from kafka_gateway.transports.envelope.settings import EnvelopeSettings
from kafka_gateway.transports.envelope.sinks import PartsSink, PushSink
from kafka_gateway.transports.envelope.stream import STREAM_TYPE, EnvelopeOutlet, Immediate, members_of
from kafka_gateway.transports.envelope.streamed_bodies import StreamedBodies, StreamedBody
from kafka_gateway.transports.envelope.unanswered import Unanswered
from kafka_gateway.transports.records.frames import array

log = logging.getLogger("gateway.websocket")

_REPLY_HEADERS = frozenset({"location", "retry-after", "etag", "warning", "www-authenticate"})
_READING = ("GET", "HEAD")


class EnvelopeSession:
    """The requests and replies of one client.

    Args:
        headers: of the opening request; ``base_url`` is what its URLs start with.
        form: the reply form that the client asked for when it connected.
        binary: whether it wants binary messages; ``reply_headers``: headers of replies too (§1.10).
        wrap: turns a message into what travels; the Atmosphere framing.
        text_only: the channel moves nothing but text, and payloads that are none go as base64 (§1.6).
    """

    __slots__ = (
        "_access",
        "_acknowledged",
        "_base_url",
        "_binary",
        "_bodies",
        "_changing",
        "_channel",
        "_form",
        "_gateway",
        "_headers",
        "_holds",
        "_identities",
        "_is_plain",
        "_known",
        "_loop",
        "_read",
        "_reply_headers",
        "_running",
        "_sequences",
        "_session",
        "_settings",
        "_text_only",
        "_unanswered",
        "_unbegun",
        "_vacancy",
        "_wrap",
    )

    def __init__(
        self,
        settings: EnvelopeSettings,
        channel: Channel,
        session: Session,
        gateway: Gateway,
        headers: Mapping[str, str],
        base_url: str,
        *,
        form: Form | None = None,
        binary: bool = False,
        reply_headers: bool = False,
        wrap: Callable[[bytes], bytes] | None = None,
        text_only: bool = False,
    ) -> None:
        self._settings, self._channel, self._session, self._gateway = settings, channel, session, gateway
        self._access, self._base_url, self._wrap = gateway.access, base_url, wrap
        self._form = form or settings.form
        self._binary = binary or settings.binary
        self._reply_headers = reply_headers
        self._is_plain = self._form in (None, Form.DETACHED) and not reply_headers
        """Whether a reply is as `short_reply` makes it, if its request asks for nothing else."""
        self._text_only = text_only
        self._headers = RequestHeaders(headers, gateway.proofs.shown(session.proof))
        self._known = KnownRequests(gateway.at_once)
        self._identities = Identities(gateway, session)
        self._read = envelope.EnvelopeReader(settings.heartbeat).read
        self._loop = asyncio.get_running_loop()
        self._running = 0
        self._holds = False
        """Whether the channel is held, because so much is at work."""
        self._changing = 0
        """Requests that change something, and that a task or another process is at work on."""
        self._unbegun = 0
        """Tasks that have not run yet."""
        self._unanswered = Unanswered(lambda request: waits(gateway.router, request.method, request.path))
        self._acknowledged: dict[bytes | None, Acknowledged] | None = None
        """Streams whose clients may acknowledge, by the id of their requests."""
        self._vacancy: asyncio.Future[None] | None = None
        """Some wait for a request to finish."""
        self._sequences = TimedSequences(
            lambda: Sequences(
                settings.sequences_max,
                settings.body_max,
                settings.sequence_idle_s,
                gateway.memory.claim(lambda: channel.close(NO_MEMORY)),
            ),
            lambda first: self._refuse(RequestTimeout("Incomplete message sequence"), first),
        )
        self._bodies: StreamedBodies | None = None

    # --- in ---------------------------------------------------------------------------------------------------------

    def take(self, message: bytes, is_text: bool = True) -> None:
        """Takes a message: starts the request that it is, or answers what is wrong with it."""
        try:
            part = self._read(message)
        except InvalidMessage as error:
            self._refuse(error, Envelope(error.id, "-", "-", None, None, None, False, b"", error.form))
            return
        if part is None:
            return
        known = self._known.sets.get((part.path, part.accept, part.type))
        if known is not None and self._begin_at_once(part, known):
            return
        if part.method is envelope.ACK:
            stream = self._acknowledged.get(part.id) if self._acknowledged is not None else None
            if stream is not None:
                stream.acknowledge(part.content)
            return
        try:
            if self._bodies is not None and self._bodies.add(part):
                if self._bodies.is_full:
                    self._channel.hold()
                    self._holds = True
            elif part.more and self._takes_pieces(part):
                self._start(part, self._open_bodies().open(part))
            elif not self._sequences and not part.more and len(part.content) <= self._settings.body_max:
                part.drop_blank()
                self._start(part)
            elif (whole := self._sequences.add(part)) is not None:
                self._start(whole)
        except ServiceError as error:
            self._refuse(error, part)

    def _takes_pieces(self, part: Envelope) -> bool:
        """Whether the part begins a request whose body is handed over as it comes."""
        if part.id in self._sequences:
            return False
        path = part.path.partition("?")[0].partition("#")[0]
        return takes_pieces(self._gateway.router, part.method, path if path[:1] == "/" else "/" + path)

    def _open_bodies(self) -> StreamedBodies:
        if self._bodies is None:
            settings, memory = self._settings, self._gateway.memory
            claim = memory.claim(lambda: self._channel.close(NO_MEMORY))
            self._bodies = StreamedBodies(
                settings.sequences_max, settings.sequence_idle_s, memory, claim, self._read_on
            )
        return self._bodies

    def _start(self, part: Envelope, body: StreamedBody | None = None) -> None:
        session = self._session
        if session.closed is not None:
            return
        path, query = part.path, ""
        if path[:1] != "/" or "?" in path or "#" in path:
            path, query = part.target
        request = Request(
            session,
            part.method,
            path,
            parse_query(query) if query else NOTHING,
            self._headers.of(part),
            part.content if body is None else body,
            self._base_url,
            default_generation=self._settings.generation,
            settles=True,
        )
        self._running += 1
        if self._running >= self._settings.requests_max:
            self._channel.hold()
            self._holds = True
        own: Own = []  # asyncio.current_task() takes longer than all of this
        if part.method in _READING:
            self._unanswered.begin_read(id(own), request)
        else:
            self._unanswered.begin()
            self._changing += 1
        if (
            body is None
            and not self._unbegun  # what came before goes first
            and (homes := self._gateway.homes) is not None
            and forward(self, self._gateway, homes, self._channel, request, part, own)
        ):
            return
        self.go_on(request, part, own)
        if body is None and part.headers is None and part.method not in _READING:
            self._known.remember(part, request)

    def go_on(self, request: Request, part: Envelope, own: Own, reply: Reply | None = None) -> None:
        """Has a task serve the request, or send what another process has answered."""
        self._unbegun += 1
        task = self._loop.create_task(self._serve(request, part, own, reply))  # Session.spawn is called back at its end
        own.append(task)
        self._session.tasks.add(task)

    # --- requests without a task (gateway/at_once.py) ---------------------------------------------------------------

    def _begin_at_once(self, part: Envelope, known: Known) -> bool:
        """Begins the request, if it needs no task. Only while no task is at work on another one that changes something:
        what comes later must not reach Kafka before that."""
        session, content = self._session, part.content
        if (
            part.method != "POST"
            or part.headers is not None
            or part.more
            or content[:1] != b"{"
            or len(content) > self._settings.body_max
            or self._changing
            or self._bodies is not None
            or self._sequences
            or session.closed is not None
            or session.principal.until < time.monotonic()
        ):
            return False
        plan, path, headers = known
        request = Request(session, "POST", path, NOTHING, headers, content, self._base_url)
        started = time.perf_counter() if self._access.enabled else 0.0
        if not self._gateway.at_once.begin(plan, request, partial(self._answer, part, started)):
            return False
        self._running += 1
        if self._running >= self._settings.requests_max:
            self._channel.hold()
            self._holds = True
        self._unanswered.begin()
        return True

    def _answer(self, part: Envelope, started: float, reply: Reply) -> None:
        """Sends the reply to what was begun."""
        try:
            if self._session.closed is None:
                body: bytes = reply.body  # type: ignore[assignment]  # `RequestsAtOnce.begin`
                message = None
                if self._is_plain and part.id is not None and (self._form is not None or part.form is None):
                    message = short_reply(part.id, reply.status, reply.media_type, body, self._settings.reply_max)
                if message is None:
                    self.reply(reply, body, part, "POST")
                elif self._wrap is None:
                    self._channel.send(message, self._binary)
                else:
                    self.send(message)
                if self._access.enabled:
                    self.log(self._session, part, reply, len(body), started)
        finally:
            self._leave()
            self._unanswered.end()

    async def _serve(self, request: Request, part: Envelope, own: Own, reply: Reply | None = None) -> None:
        self._unbegun -= 1
        started = time.perf_counter() if self._access.enabled else 0.0
        holds_place = True
        changes = is_change = part.method not in _READING
        try:
            try:
                if reply is not None:
                    pass  # it was let in
                elif request.method == "PUT" and request.path == self._settings.renewal_path:
                    await self._renew(request)
                    self.reply(Reply(204, "", b""), b"", part)
                    return
                elif part.headers is not None or request.session.principal.until < time.monotonic():
                    request.session = await self._identities.of(request)
            except Exception as error:
                self._refuse(error, part)
                return
            if reply is None:
                reply = await self._gateway.dispatch(request)
            if isinstance(reply.body, bytes):
                if reply.settle is None:
                    sent = self.reply(reply, reply.body, part, request.method)
                else:
                    sent = await self._reply_and_settle(reply, reply.body, part, request.method, reply.settle)
                self.log(request.session, part, reply, sent, started)
                return
            self.log(request.session, part, reply, 0, started)
            holds_place = False
            self._leave()
            if changes and not isinstance(reply.body, ReplyInParts):
                changes = False
                self._unanswered.end()
            elif not changes:
                self._unanswered.end_read(id(own))
            await self._push(reply, reply.body, request, part)
        finally:
            if holds_place:
                self._leave()
            if changes:
                self._unanswered.end()
            else:
                self._unanswered.end_read(id(own))
            if isinstance(request.body, StreamedBody):
                request.body.drop()
            self._changing -= is_change
            self._session.tasks.discard(own[0])

    def over(self, part: Envelope, own: Own) -> None:
        """A request is answered that had no task, or its client has left."""
        self._leave()
        if part.method in _READING:
            self._unanswered.end_read(id(own))
        else:
            self._unanswered.end()
            self._changing -= 1

    def _leave(self) -> None:
        self._running -= 1
        if self._holds or self._vacancy is not None:
            self._read_on()

    @property
    def _is_full(self) -> bool:
        return self._running >= self._settings.requests_max or (self._bodies is not None and self._bodies.is_full)

    def _read_on(self) -> None:
        if not self._is_full:
            self._holds = False
            self._channel.release()
            self._let_in()

    async def room(self) -> None:
        """Returns when another request may begin: for channels whose messages do not come in one row."""
        while self._is_full and self._session.closed is None:
            if self._vacancy is None:
                self._vacancy = self._loop.create_future()
            await asyncio.shield(self._vacancy)

    def _let_in(self) -> None:
        if self._vacancy is not None:
            self._vacancy.set_result(None)
            self._vacancy = None

    async def _renew(self, request: Request) -> None:
        """Takes a newer proof of the client's principal, without an interruption (security.md §2)."""
        own = self._session
        await self._gateway.proofs.renew(own, request.headers, f"{request.method} {request.path}")
        self._headers.inherit(self._gateway.proofs.shown(own.proof))
        self._known.sets.clear()

    # --- out --------------------------------------------------------------------------------------------------------

    def reply(self, reply: Reply, payload: bytes | Payload, part: Envelope, method: str = "", **kind: bool) -> int:
        """Sends a reply with this payload, or a part of one (`replying.reply`); how many bytes it has."""
        media_type, status, members = reply.media_type, reply.status, b""
        if isinstance(payload, Payload):
            if payload.name:
                media_type, status, members = STREAM_TYPE, payload.status, members_of(payload)
            elif payload.status != 200:  # an error behind which the stream goes on
                status = payload.status
            payload = array(payload)
        if method == "HEAD":
            payload = b""
        elif not payload or reply.status == 204:
            payload, media_type = b"", ""
        form = self._form or part.form or Form.DETACHED
        headers: tuple[tuple[str, str], ...] = ()
        if self._reply_headers:
            headers = tuple((name, value) for name, value in reply.headers if name.lower() in _REPLY_HEADERS)
            if reply.request_id:
                headers = (*headers, ("x-request-id", reply.request_id))
        limit = self._settings.reply_max
        messages, binary = reply_messages(form, part.id, status, media_type, payload, limit, headers, members, **kind)
        if binary and self._text_only and part.id is not None:
            form = Form.EMBEDDED
            messages, binary = reply_messages(
                form, part.id, status, media_type, payload, limit, headers, members, **kind
            )
        for message in messages:
            self.send(message, binary)
        return len(payload)

    async def _reply_and_settle(
        self, reply: Reply, payload: bytes, part: Envelope, method: str, settle: Callable[[bool], None]
    ) -> int:
        """As ``reply``, and tells whoever gave the reply whether the client's connection has taken all of it."""
        written = False
        try:
            sent = self.reply(reply, payload, part, method)
            await self._channel.written()
            written = True
        except ConnectionError:
            pass  # the session ends by itself
        finally:
            settle(written)
        return sent

    def send(self, message: bytes, binary: bool = False) -> None:
        """Sends a message of the gateway's own, framed like all others."""
        self._channel.send(message if self._wrap is None else self._wrap(message), binary or self._binary)

    def _refuse(self, error: Exception, part: Envelope) -> None:
        """Answers a part that becomes no request, for a bug of ours, too; like all others it gets a line in the access
        log."""
        if not isinstance(error, ServiceError):
            log.error("%s %s failed before its dispatch", part.method, part.path.partition("?")[0], exc_info=error)
            error = ServiceError()
        media_type = error_media_type(part.accept, error.status, self._settings.generation)
        reply = Reply(error.status, media_type, b"", error.headers, request_id=new_id())
        sent = self.reply(reply, self._gateway.error_body(error, reply.request_id), part)
        now, facts = time.perf_counter(), reply.facts(len(part.content))
        self._access.finish(self._session, part.method, part.path, now, reply.status, sent, facts)

    async def _push(self, reply: Reply, stream: Stream, request: Request, part: Envelope) -> None:
        """Sends what a subscription yields under the id of the request that made it (§2.3); its end says nothing."""
        if isinstance(stream, Feed) and isinstance(self._channel, Immediate):
            await self._feed(reply, stream, request, part)
            return
        if isinstance(stream, Acknowledged):
            self._acknowledged = (self._acknowledged or {}) | {part.id: stream}
        parts = PartsSink(self, self._channel, reply, part, stream) if isinstance(stream, ReplyInParts) else None
        is_plain = self._is_plain and (self._form is not None or part.form is None)
        sink = parts or PushSink(self, self._channel, reply, part, is_plain, self._settings.reply_max)
        try:
            await self._gateway.deliver(stream, sink, request.session, None)
        except ServiceError as error:
            body = self._gateway.error_body(error, reply.request_id)
            self.reply(Reply(error.status, reply.media_type, b"", error.headers), body, part)
            return
        finally:
            if self._acknowledged is not None:
                self._acknowledged.pop(part.id, None)
        closed = self._session.closed
        if parts is not None and (closed is None or closed.error is not None):
            parts.finish()

    async def _feed(self, reply: Reply, feed: Feed, request: Request, part: Envelope) -> None:
        """As ``_push``, for a stream of records on a channel that takes them at once."""
        form = self._form or part.form or Form.DETACHED
        fast = part.id if form is Form.DETACHED and self._wrap is None and not self._binary else None

        def write(event: Payload) -> None:
            self.reply(reply, event, part)

        assert isinstance(self._channel, Immediate)
        outlet = EnvelopeOutlet(self._channel, feed, fast, self._settings.reply_max, write)
        try:
            await self._gateway.feed(feed, outlet, request.session)
        finally:
            outlet.release()

    def log(self, session: Session, part: Envelope, reply: Reply, sent: int, started: float) -> None:
        """The line of the access log for a request that is answered."""
        if self._access.enabled:
            facts = reply.facts(len(part.content))
            self._access.finish(session, part.method, part.path, started, reply.status, sent, facts)

    async def settle(self, questions: bool) -> None:
        """Returns when the client, which sends nothing any more, has been told what became of what it asked for.

        ``questions``: also of what changes nothing. A client that only closes its sending side waits for it; one that
        has sent a close frame does not.
        """
        if self._bodies is not None:
            self._bodies.close()
        await self._unanswered.settle(questions)

    async def aclose(self) -> None:
        """Forgets what is unfinished; the session itself, with the requests at work, belongs to the transport."""
        self._sequences.close()
        if self._bodies is not None:
            self._bodies.close()
        self._let_in()
        await self._identities.aclose()
