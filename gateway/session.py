"""One client's stay: a connection, a socket, or whatever a transport keeps between requests."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from kafka_gateway.errors import GONE, CloseReason, ServiceError
from kafka_gateway.principal import ANONYMOUS as ANONYMOUS
from kafka_gateway.principal import Principal as Principal
from kafka_gateway.rights import EVERYTHING, Need, Rights
from kafka_gateway.stream import Stream


class Owner(NamedTuple):
    """The owner of what outlives the session that made it."""

    principal: str
    """As ``kind:name``."""
    kafka: str = ""
    """The name by which Kafka knows the client; "": that of the gateway."""


ANYBODY = Owner("")

_LAST_WORD_S: Final = 1.0
_NONE: Final[frozenset[Any]] = frozenset()
T = TypeVar("T")
_NOTHING: Mapping[str, str] = {}

_numbers = itertools.count(1)


class Witness(Protocol):
    """The writer of the audit log (security.md §7), as handlers know it."""

    def allowed(self, request: Any, need: Need, rule: str) -> None:
        """The request may have what it needs for a name in its body, by this rule."""

    def refused(self, request: Any, error: ServiceError) -> None:
        """The request, or a part of it, is answered with this error."""

    def stays(self, session: Session, request: str) -> None:
        """The session stays open for a socket, or for what else `Session.keep_open` was called for."""


class Failable(Protocol):
    """What can be ended with an error that its client gets."""

    def fail(self, error: ServiceError) -> None: ...


class Waiting:
    """A request that waits for records, in its own task. It can be ended with an error, as a stream can."""

    __slots__ = ("__weakref__", "_task", "error")

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self.error: ServiceError | None = None

    def fail(self, error: ServiceError) -> None:
        """The request's work is cancelled, and the error raised in its place."""
        if self.error is None and self._task is not None:
            self.error = error
            self._task.cancel()

    async def run(self, work: Awaitable[T]) -> T:
        """What the work returns. Whoever cancels the task cancels the work, as without this."""
        try:
            return await work
        except asyncio.CancelledError:
            if self.error is not None and self._task is not None and not self._task.uncancel():
                raise self.error from None
            raise
        finally:
            self._task = None


class Session:
    """Everything that ends with a client: its running requests and its open streams.

    Belongs to one event loop. ``state`` is for what a transport wants to keep with the session.

    `aclose`, and rules that have changed, end what is open in one way: ``fail(error)``. A stream has it, and so has a
    read that waits for records (`Waiting`). Each gives the error to its client like errors of its own.
    """

    __slots__ = (
        "__weakref__",
        "admin",
        "allowance",
        "closed",
        "forwarded",
        "guarded",
        "id",
        "kafka",
        "listener",
        "on_close",
        "opened_at",
        "peer",
        "preparing",
        "principal",
        "proof",
        "proven",
        "rights",
        "state",
        "streams",
        "tasks",
        "transport",
        "unsaid",
        "waiting",
        "way",
        "witness",
    )

    def __init__(
        self,
        transport: str,
        listener: str = "",
        peer: str = "",
        principal: Principal = ANONYMOUS,
        proof: Mapping[str, str] = _NOTHING,
        *,
        proven: bool = True,
    ) -> None:
        self.id = next(_numbers)
        self.transport = transport
        self.listener = listener
        self.peer = peer
        self.opened_at = time.monotonic()
        self.principal = principal
        self.proof = proof
        """The header fields with which it was opened, to be looked at again. Secret: for no log and no reply."""
        self.proven = proven
        """False for a session that was let in for one open path: it is served nothing else."""
        self.admin: bool | None = None
        """Whether it has come through a listener of ``admin.listeners``: True, and it is served what is the operators'
        and nothing else; False: all but that; None: both."""
        self.rights: Rights = EVERYTHING
        """What its principal may do."""
        self.witness: Witness | None = None
        """Writes down what its requests were allowed and refused."""
        self.allowance: Any = None
        """How much its principal may use (gateway.door.quotas.Allowance), from the moment when it was let in."""
        self.kafka: Any = None
        """The Kafka clients of its own credentials (kafka_gateway.caller.KafkaLease); None: it brought none."""
        self.forwarded = False
        """Whether its client is connected to another worker, which has made sure who that is."""
        self.guarded = False
        """Whether rights, quotas or the audit log have to look at its requests."""
        self.way: Any = None
        """Where its requests are counted (kafka_gateway.door.counters.Way); set with the first of them."""
        self.streams: set[Stream] = set()
        # Most sessions never need these two, and there are many sessions.
        self.waiting: AbstractSet[Failable] = _NONE
        """Requests at work that may wait long for records."""
        self.unsaid: AbstractSet[asyncio.Future[None]] = _NONE
        """Done when what is open has told its client how it ended (`telling`)."""
        self.preparing: asyncio.Future[None] | None = None
        """Done when the newest request that waits for a schema, or behind one that does, is on its way (see
        gateway.schemas.in_order)."""
        self.state: dict[object, Any] = {}
        self.closed: CloseReason | None = None
        self.on_close: Callable[[CloseReason], None] | None = None
        """What a transport does when its client's session ends while the client is there: a close frame, say. Set by
        ``keep_open``."""
        self.tasks: set[asyncio.Task[Any]] = set()
        """Cancelled when the session closes. Who adds one without ``spawn`` removes it at its end."""

    def spawn(self, work: Coroutine[Any, Any, Any], name: str = "") -> asyncio.Task[Any]:
        """Runs ``work`` as a task that is cancelled when the session closes."""
        if self.closed is not None:
            work.close()
            raise RuntimeError(f"session {self.id} is closed: {self.closed.text}")
        task = asyncio.get_running_loop().create_task(work, name=name or f"session-{self.id}")
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def add_stream(self, stream: Stream) -> None:
        """The stream is closed with the session, or now if that has ended while the stream was being made."""
        if self.closed is None:
            self.streams.add(stream)
        else:
            self.tasks.add(closing := asyncio.get_running_loop().create_task(stream.aclose()))
            closing.add_done_callback(self.tasks.discard)

    def keep_open(self, close: Callable[[CloseReason], None], request: str | None) -> None:
        """It stays for more than a request, until ``on_close`` is None again, and ``close`` is how its end is told: for
        every socket, stream and client that a transport keeps.

        Args:
            request: what has opened it, as method and path, or "" for a connection that no request has opened: the
                audit log tells of it (security.md §7). None for what begins with a stream of ``Gateway.dispatch``,
                which is told of already.
        """
        self.on_close = close
        if request is not None and self.witness is not None:
            self.witness.stays(self, request)

    @property
    def owner(self) -> Owner:
        """The owner of what it makes and what outlives it."""
        return Owner(str(self.principal), "" if self.kafka is None else self.kafka.user)

    def end_by(self, until: float) -> None:
        """Its proof is looked at again at that time (time.monotonic()), or earlier."""
        if until < self.principal.until:
            self.principal = dataclasses.replace(self.principal, until=until)

    @property
    def idle(self) -> bool:
        """Whether nothing is open that closing it would end."""
        return not self.tasks and not self.streams

    @property
    def stays(self) -> bool:
        """Whether something is open that a client without a valid proof must not keep."""
        return self.on_close is not None or bool(self.tasks or self.streams or self.waiting)

    @contextlib.contextmanager
    def telling(self, waiting: Failable | None = None) -> Iterator[None]:
        """A context for giving a reply or a stream to its client: a session that ends waits a moment for it.

        ``waiting``: the request that waits for records, if it is one.
        """
        told = asyncio.get_running_loop().create_future()
        self.unsaid |= {told}
        if waiting is not None:
            self.waiting |= {waiting}
        try:
            yield
        finally:
            self.unsaid -= {told}
            if waiting is not None:
                self.waiting -= {waiting}
            if not told.done():
                told.set_result(None)

    async def aclose(self, reason: CloseReason = GONE) -> None:
        """Ends all that the session owns; safe to call twice, the first reason counts.

        A reason with an error is told to the client first, by everything that is open; at most for a second, so that
        the session of a client that reads nothing ends as well.
        """
        if self.closed is not None:
            return
        self.closed = reason
        if reason.error is not None:
            for each in (*self.waiting, *self.streams):
                if (fail := getattr(each, "fail", None)) is not None:
                    fail(reason.error)
            if self.unsaid:
                await asyncio.wait(self.unsaid, timeout=_LAST_WORD_S)
        if self.on_close is not None:
            self.on_close(reason)
        for waiting in self.waiting:
            if (leave := getattr(waiting, "leave", None)) is not None:  # there is no task that could be cancelled
                leave()
        current = asyncio.current_task()
        tasks = [task for task in self.tasks if task is not current]
        for task in tasks:
            task.cancel()
        streams, self.streams = self.streams, set()
        for stream in streams:
            await stream.aclose()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
