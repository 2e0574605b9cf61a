"""One client's HTTP connection: aiohttp's, and what the door needs of it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, cast

from aiohttp import web
from aiohttp.web_protocol import MAX_MSG_QUEUE_SIZE, RequestHandler, RequestPayloadError

from kafka_gateway.client_time import once_read
from kafka_gateway.core import Gateway
from kafka_gateway.door.absence import Absence
from kafka_gateway.door.client_address import peer_of
from kafka_gateway.door.fixed_replies import TOO_MANY, WAITED
from kafka_gateway.door.forwarded import Proxies
from kafka_gateway.door.head_errors import head_error, unreadable
from kafka_gateway.door.http import Door
from kafka_gateway.door.known_heads import NO_BODY, UNKNOWN, KnownHead, is_simple, rest_of
from kafka_gateway.door.offer import Offer
from kafka_gateway.door.request import HttpRequest
from kafka_gateway.door.requests_in_order import RequestsInOrder
from kafka_gateway.door.unfinished_heads import UnfinishedHeads
from kafka_gateway.errors import ServiceError
from kafka_gateway.forwarded_at_once import ForwardedAtOnce
from kafka_gateway.session import Session
from kafka_gateway.transport import refusal

log = logging.getLogger("gateway.host")

WRITE_TIMEOUT_S = 60.0
"""A client that does not read its reply for this long is cut off."""
HALF_CLOSED_WAIT_S = 0.8
"""How long a read waits for records whose client has closed its sending side: one that has left altogether looks the
same, and its read holds up the next one of its instance meanwhile."""


class Listeners(Protocol):
    """What all connections share, and what is known of the listener of each: see `gateway.door.host.Host`."""

    gateway: Gateway
    door: Door
    heads: UnfinishedHeads
    head_max: int
    header_timeout_s: float
    proxies: Proxies
    connection_count: int
    connections: Counter[str]
    connections_max: int

    def server_of(self, listener: str) -> web.Server: ...
    def offer_of(self, listener: str) -> Offer: ...
    def is_admin(self, listener: str) -> bool: ...
    def certificate_of(self, listener: str, transport: asyncio.BaseTransport) -> str: ...
    def note_refused(self, peer: str, reason: BaseException | None) -> None: ...
    def forget(self, session: Session) -> None: ...
    def lose(self, session: Session, listener: str) -> None: ...


class HttpConnection(RequestHandler):
    """One client's connection: aiohttp's, plus a session, a deadline for the first head, and our own error bodies."""

    __slots__ = (
        "_abort_at",
        "_absence",
        "_arriving",
        "_at_work",
        "_give_up_at",
        "_head_deadline",
        "_host",
        "_idle_waiter",
        "_lost",
        "_rest",
        "_served",
        "_served_request",
        "admin",
        "certificate",
        "half_close",
        "half_closed",
        "handed_over",
        "listener",
        "offer",
        "peer",
        "proven",
        "proven_by",
        "proxied",
        "session",
        "trusted",
    )

    def __init__(self, host: Listeners, listener: str, **settings: Any) -> None:
        super().__init__(host.server_of(listener), **settings)
        limits = {name: value for name, value in settings.items() if name in _OF_PARSER}
        self._parser = cast(
            Any,
            RequestsInOrder(
                self, unreadable, MAX_MSG_QUEUE_SIZE, host.head_max, self._head_gathers,
                limit=self._read_bufsize, payload_exception=RequestPayloadError, **limits,
            ),
        )  # fmt: skip
        self._host, self.listener = host, listener
        self.offer = host.offer_of(listener)
        self.certificate = ""
        """What the client has shown at the beginning of TLS, and was verified."""
        self.admin = host.is_admin(listener)
        self.proxied = ""
        """The client's address, as the proxy says whose connection it is (PROXY protocol), or the proxy's own where it
        speaks for itself; "" where no proxy says so."""
        self.peer = ""
        """The client's address."""
        self.trusted = False
        """Whether it is a proxy whose requests say who their clients are."""
        self.session: Session | None = None
        self.proven_by: KnownHead | None = None
        self.proven: object = None
        """The known head whose proof was found to be a session's, and that proof: nobody compares these two again."""
        self.handed_over: Session | None = None
        """The session that went with the connection to another protocol."""
        self._head_deadline: asyncio.TimerHandle | None = None
        self._abort_at: asyncio.TimerHandle | None = None
        self._absence: Absence | None = None
        self.half_closed = False
        """Whether the client has closed its sending side and is still answered."""
        self.half_close: Callable[[], None] | None = None
        """Told so instead of us, by a protocol that has the connection and answers what came before."""
        self._give_up_at: asyncio.TimerHandle | None = None
        self._lost = False
        self._rest = 0
        """Bytes that are still to come of a request which aiohttp's parser is at; UNKNOWN: nobody but it can tell."""
        self._arriving: Any = None
        """The body of which so much is still to come, as aiohttp has it."""
        self._at_work: asyncio.Task[None] | ForwardedAtOnce | None = None
        """Serves a request whose head is known."""
        self._served: KnownHead | None = None
        """That head."""
        self._served_request: HttpRequest | None = None
        self._idle_waiter: asyncio.Future[None] | None = None
        """What aiohttp's task waits for meanwhile."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.certificate = self._host.certificate_of(self.listener, transport)
        self.peer = self.proxied or peer_of(self.peername)
        # The proxy has said who the client is, of all its requests: what is in them is the client's word.
        self.trusted = not self.proxied and self._host.proxies.any and self._host.proxies.trusts(self.peer)
        if self.trusted:  # its heads do not mean the same as those of other clients
            self._rest = UNKNOWN
        self._host.connection_count += 1
        self._host.connections[self.listener] += 1
        if self._host.connection_count > self._host.connections_max:
            self._host.gateway.counters.refused["connections"] += 1
            cast(asyncio.Transport, transport).write(TOO_MANY)  # uvloop's are not of asyncio's class
            self.force_close()
            return
        # aiohttp has no limit for the first head but its keep-alive time (reliability.md §2.3: 75 s for nothing).
        self._head_deadline = self._loop.call_later(
            self._host.header_timeout_s, once_read, self._loop, self._no_request_yet
        )

    def _head_gathers(self, size: int) -> None:
        """So many bytes have come of a head that is not complete; 0: it is now."""
        if size:
            self._host.heads.set_size(self._give_up_head, size)
        else:
            self._host.heads.complete(self._give_up_head)

    def _give_up_head(self) -> None:
        self._host.gateway.counters.refused["busy"] += 1
        self.force_close()

    def _no_request_yet(self) -> None:
        if self._request_count == 0:
            self.force_close()

    def _process_keepalive(self) -> None:
        once_read(self._loop, partial(self._end_idle, self._keepalive_handle))

    def _end_idle(self, due: asyncio.Handle | None) -> None:
        if self._keepalive_handle is due:  # no request has come and gone meanwhile
            super()._process_keepalive()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._lost = True
        self._host.connection_count -= 1
        self._host.connections[self.listener] -= 1
        self._host.heads.drop(self._give_up_head)
        if self._head_deadline is not None:
            self._head_deadline.cancel()
        if self._abort_at is not None:
            self._abort_at.cancel()
        if self._absence is not None:
            self._absence.stop()
        self.answers()
        session, self.session = self.session, None
        super().connection_lost(exc)
        if self._at_work is not None:
            self._at_work.cancel()
        if session is not None:
            self._host.forget(session)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            super().data_received(data)
            if self._rest != UNKNOWN:
                self._rest -= len(data)
                # Where the two do not agree on the end of the request, nothing is known of this connection any more.
                if self._rest < 0 or (not self._rest) != self._arriving.is_eof():
                    self._rest = UNKNOWN
            return
        end = data.find(b"\r\n\r\n") + 4
        head = data[:end]
        known = self.offer.heads.find(head)
        waiter = self._waiter
        if (
            known is not None
            and len(data) == end + known.length
            and waiter is not None  # no request is at work
            and not waiter.done()
            and not self._messages
            and not self._force_close
            and not self._close
        ):
            self._serve_known(known, data[end:], waiter)
            return
        messages = self._messages
        before = len(messages)
        self._waiter = None  # so that aiohttp's task stays where it is while what has come is looked at
        try:
            super().data_received(data)
        finally:
            self._waiter = waiter
        came = len(messages) - before
        if came:
            message, payload = messages[-1]
            self._rest = rest = rest_of(head, message, len(data)) if came == 1 else UNKNOWN
            if rest != UNKNOWN and (not rest) != payload.is_eof():
                self._rest = UNKNOWN
            self._arriving = payload
            if known is None and not self._rest and is_simple(message) and self.offer.heads.is_due(head):
                known = self._learn(head, message, len(data) - end)
                if known is not None and waiter is not None and not waiter.done() and len(messages) == 1:
                    messages.clear()
                    self._parser.message_consumed()  # type: ignore[union-attr]
                    # Read from aiohttp, which may hold the connection back for what is not read of it.
                    self._serve_known(known, payload.read_nowait(), waiter)
                    return
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
        elif data:
            self._rest = UNKNOWN

    def _learn(self, head: bytes, message: Any, length: int) -> KnownHead | None:
        """Has the head known from now on, if it is one of plain HTTP."""
        assert self._request_factory is not None
        request = cast(HttpRequest, self._request_factory(message, NO_BODY, self, cast(Any, None), cast(Any, None)))
        if request._message is not message:  # a proof was moved from the query into its header
            return None
        known = self._host.door.know(request, length, self)
        if known is not None:
            self.offer.heads.keep(head, known)
        return known

    def _serve_known(self, known: KnownHead, body: bytes, waiter: asyncio.Future[None]) -> None:
        """Serves a request without aiohttp's task. What arrives meanwhile waits in ``_messages``, as always."""
        self._waiter, self._idle_waiter = None, waiter
        self._request_count += 1
        self._request_in_progress = True
        self._served = known
        begun = self._host.door.begin_known(self, known, body)
        if begun is False:
            self.end_known_after(partial(self._host.door.serve_known, self, known, body), known)
        elif begun is not True:
            self._at_work = begun

    def end_known_after(self, work: Callable[[], Awaitable[bool]], known: KnownHead) -> asyncio.Task[None]:
        """As ``end_known``, when that has been done; it says whether the connection stays open."""
        self._at_work = task = self._loop.create_task(self._work(work, known))
        return task

    async def _work(self, work: Callable[[], Awaitable[bool]], known: KnownHead) -> None:
        stays = False
        try:
            stays = await work()
        except ConnectionError:
            log.debug("the client left")
        except Exception as error:
            await self._tell_failed(known, error)
        finally:
            self.end_known(stays)

    def end_known(self, stays: bool) -> None:
        """The request with a known head is answered; whether the connection stays open."""
        self._at_work = self._served = self._served_request = None
        self._request_in_progress = False
        waiter, self._idle_waiter = self._idle_waiter, None
        self._waiter = waiter
        if self._handler_waiter is not None:
            self._handler_waiter.set_result(None)
        if not stays or self._close or self._force_close:
            self.force_close()
        else:
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
            if self._keepalive_handle is None:
                self._keepalive_handle = self._loop.call_at(self._next_keepalive_close_time, self._process_keepalive)
            if self._messages and waiter is not None and not waiter.done():
                waiter.set_result(None)

    async def _tell_failed(self, known: KnownHead, error: Exception) -> None:
        try:
            request = self.request_of(known)
            response = self.handle_error(request, 500, error)
            await response.prepare(request)
            await response.write_eof()
        except ConnectionError:
            log.debug("the client left")

    def request_of(self, known: KnownHead) -> HttpRequest:
        """The request that is at work, which has this head, for what needs more of it than its head."""
        request = self._served_request
        if request is None:
            nothing = cast(Any, None)
            request = HttpRequest(known.message, NO_BODY, self, nothing, nothing, self._loop)
            self._served_request = request
            request.bodies, request.cors = self._host.door, known.cors
        return request

    async def start(self) -> None:
        await super().start()
        self._abort_unless_read(self.transport)

    def force_close(self) -> None:
        transport = self.transport
        super().force_close()
        self._abort_unless_read(transport)

    def _abort_unless_read(self, transport: asyncio.Transport | None) -> None:
        """Aborts a closed connection whose last reply is not read in time."""
        if self._lost or transport is None or self._abort_at is not None:
            return  # asyncio's TLS transport cannot be asked any more once it is lost
        try:
            unread = transport.get_write_buffer_size()
        except AttributeError:
            return  # asyncio's TLS transport, when it has been closed a second time
        if unread:
            self._abort_at = self._loop.call_later(WRITE_TIMEOUT_S, self._abort_unread, transport)

    def _abort_unread(self, transport: asyncio.Transport) -> None:
        carrier = self.session.transport if self.session is not None else "http"
        self._host.gateway.memory.slow_clients[carrier] += 1
        transport.abort()

    def retire(self) -> None:
        """For a gateway that stops: closes the connection, after the reply if a request is at work.

        aiohttp's ``close`` would drop what still comes of a request's body, and leave an idle connection open, without
        reading it, for as long as any other is at work.
        """
        if not self._request_in_progress and not self._messages:
            self.force_close()

    def hand_over(self, protocol: asyncio.Protocol, session: Session) -> Callable[[], None]:
        """Gives the connection to another protocol, for good; the request at work should return then.

        What is here for requests and replies is 9 KiB a connection, which one that is only written to can do without.
        The answer is to be called when the connection is lost: it ends the session and counts the connection out.
        """
        transport = self.transport
        assert transport is not None
        self.handed_over, self.session, self.transport = session, None, None
        # So that the handler, which brought us here, is not cancelled.
        self._current_request = None
        self._task_handler = None
        transport.set_protocol(protocol)
        super().connection_lost(None)
        self._host.heads.drop(self._give_up_head)
        if self._head_deadline is not None:
            self._head_deadline.cancel()
        return partial(self._host.lose, session, self.listener)

    def drained(self) -> asyncio.Future[None]:
        """Done when the client is not behind any more (``writing_paused``), or has left. Shared: shield it."""
        waiter = self._drain_waiter
        if waiter is None:
            waiter = self._drain_waiter = self._loop.create_future()
        return waiter

    def pause_reading(self) -> None:
        """The body is full. Whatever keeps the request from taking of it, its client is missed if it leaves."""
        super().pause_reading()
        if self._absence is None:
            self._absence = Absence(lambda: self._rest if self._reading_paused else None)
        if self.transport is not None:
            self._absence.watch(self.transport)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Only after a pause: aiohttp calls it for every body read, and it runs parser and selector each time."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio looks at the answer
        """The client has closed its sending side, as ``nc -N`` does: what it asked is answered, then the connection
        ends. A client that is gone looks the same, so what only ends with its client ends at once, and a read waits
        for ``HALF_CLOSED_WAIT_S`` at most. Only has_taken_all tells them apart, once there is something to write.
        """
        if self.half_close is not None and self.ssl_context is None:
            self.half_closed = True
            self.half_close()
            return True
        while self._messages and not self._messages[-1][1].is_eof():
            self._messages.pop()  # begun, and never to be finished: what came before it is answered all the same
        self.half_closed = self.ssl_context is None and self._all_is_answered_once()
        at_work = self._request_at_work()
        if self.half_closed and not self._messages:
            self._close = True  # also behind a reply that has just been written, before aiohttp's task waits again
            if at_work is not None:
                self._bound_wait(at_work)
        return self.half_closed

    def close_behind_the_last(self, request: HttpRequest) -> None:
        """For a request that is about to be served to a client that has closed its sending side."""
        self._close = not self._messages
        self._bound_wait(request)

    def _bound_wait(self, request: HttpRequest) -> None:
        """Ends the waiting of a read some time after its client has closed its sending side."""
        if request.lasts is None and self._host.door.reads(request):
            self._give_up_at = self._loop.call_later(HALF_CLOSED_WAIT_S, self._give_up, request)

    def _give_up(self, request: HttpRequest) -> None:
        if request is self._request_at_work() and self.transport is not None:
            self.transport.write(WAITED)
            self.force_close()

    def answers(self) -> None:
        """The reply is about to be written: nothing is given up any more."""
        if self._give_up_at is not None:
            self._give_up_at.cancel()
            self._give_up_at = None

    def _request_at_work(self) -> HttpRequest | None:
        if self._served is not None:
            return self.request_of(self._served)
        return cast("HttpRequest | None", self._current_request)

    def _all_is_answered_once(self) -> bool:
        if self._waiter is not None and not self._messages:
            return False
        # One that has been taken from the queue in this turn of the loop is looked at when its turn comes.
        at_work = self._request_at_work()
        if at_work is not None and (not at_work.arriving.is_eof() or self._host.door.lasts(at_work, self)):
            return False
        return all(payload.is_eof() for _, payload in self._messages)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What aiohttp's parser refuses, as our error body and one line of log (its own is a traceback each)."""
        if request.writer.output_size > 0:
            raise ConnectionError("the reply has begun")
        error: ServiceError
        if isinstance(exc, ConnectionError):
            raise exc  # the client left; aiohttp ends the connection
        if status >= 500:
            log.error("a request failed outside of dispatch: %r", exc, exc_info=exc)
            error = ServiceError()
        else:
            self._host.note_refused(self.peer, exc)
            error = head_error(exc, message)
            self._host.gateway.counters.refuse(error)
        asked = cast(HttpRequest, request)
        response = refusal(error, asked)
        response.force_close()
        self._host.door.note(asked, self.peer, response, is_readable=status >= 500)
        return response

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """aiohttp reports what went wrong round a handler; a client that broke its own request is not worth a line."""
        log.debug(*args, **kwargs)


_OF_PARSER = frozenset({"loop", "max_line_size", "max_field_size", "max_headers", "auto_decompress"})
