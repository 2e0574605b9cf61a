"""The other workers of this gateway: where the home of something is, and the way there (cluster.md §5.1, §9, reduced to
one machine and a table that never changes).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any, Final

from kafka_gateway.all_workers import AllWorkers, answers_of
from kafka_gateway.cluster.ports import Process
from kafka_gateway.config import Config
from kafka_gateway.core import Gateway
from kafka_gateway.errors import HeadTooLarge, InstanceUnavailable, ServiceError, ShuttingDown
from kafka_gateway.forwarding import Join, Sent, Told
from kafka_gateway.holding import Holding
from kafka_gateway.home_keys import HomeKeys
from kafka_gateway.homes import Elsewhere
from kafka_gateway.messages import Reply, Request, Response, Unanswered
from kafka_gateway.metrics.families import counter, gauge
from kafka_gateway.metrics.joined import worker_states
from kafka_gateway.metrics.registry import Families
from kafka_gateway.relays import Relays
from kafka_gateway.slots import murmur2
from kafka_gateway.state_log import StateLog
from kafka_gateway.workers.answering import Answering
from kafka_gateway.workers.frames import FrameError
from kafka_gateway.workers.greeting import Greeting
from kafka_gateway.workers.link import Link
from kafka_gateway.workers.part import Parent, WorkerPart
from kafka_gateway.workers.peer_settings import brings_proofs
from kafka_gateway.workers.slots import StaticTable
from kafka_gateway.workers.terms import Terms
from kafka_gateway.workers.wire import NOBODYS, LinkLost, tell_cut_off

log = logging.getLogger("gateway.workers")

_SENT_MAX: Final = 3
"""How often a request is sent whose worker ends before it has answered."""
_AGAIN_S: Final = 0.1
_STOPPING_S: Final = 1.5
"""Longest hold while this gateway stops."""


class _Sent(Sent):
    """A request that another worker has, and that no task waits for."""

    __slots__ = ("_began", "_counts", "_worker")

    def __init__(self, worker: int, counts: Counter[tuple[str, str]], told: Told) -> None:
        self._worker, self._counts = str(worker), counts
        self._told = told
        self._began = time.monotonic()

    def answered(self, outcome: Reply | ServiceError | None) -> None:
        told, self._told = self._told, None
        if isinstance(outcome, Reply):
            self._counts[self._worker, str(outcome.status)] += 1
        if told is not None:
            told(outcome if outcome is not None else Unanswered(self._worker, self._began))


class Siblings:
    """`kafka_gateway.forwarding.Forwarder` and `kafka_gateway.relays.Way` of a worker. Belongs to the event loop."""

    is_fixed = True

    def __init__(self, gateway: Gateway, part: WorkerPart, parent: Parent) -> None:
        self._gateway = gateway
        self._parent = parent
        self._part = part
        self._me = Process("", str(part.number), "")
        self._table = StaticTable(part.workers)
        self._all = AllWorkers(part.number, part.workers, self.forward)
        self._hold_s = gateway.config.seconds("cluster.hold.ms")
        self._holding = Holding.of(gateway)
        self._links: dict[int, Link] = {}
        self._opening: dict[int, asyncio.Task[Link]] = {}
        self._answering: set[Answering] = set()
        self._one_over = asyncio.Event()
        self._homes = HomeKeys(lambda: gateway.router, self._table.home)
        self._states = StateLog(log)
        self._held = 0
        self._forwarded: Counter[tuple[str, str]] = Counter()
        self.mark = _mark(part.number)
        self._marks = {_mark(number): number for number in range(part.workers)}
        Relays.of(gateway).way = self
        gateway.metrics.add(self._families)
        gateway.reloads.append(self._homes.forget)

    def _families(self) -> Families:
        """What this worker has sent to others, and what the parent tells of all."""
        rows = [(labels, float(count)) for labels, count in self._forwarded.items()]
        yield counter("forwarded", "Requests answered by another worker", ("to", "status"), rows)
        yield gauge("held_requests", "Requests that wait for another worker to serve", (), [((), self._held)])
        yield from worker_states(self._parent.states)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Answers the other workers for as long as the block runs."""
        loop = asyncio.get_running_loop()
        listening = socket.socket(fileno=self._part.peer)
        server = await loop.create_unix_server(self._accept, sock=listening, backlog=1024)
        try:
            yield
        finally:
            server.close()
            for opening in self._opening.values():
                opening.cancel()
            for wire in (*self._links.values(), *self._answering):
                wire.close()
            while self._answering:  # what they are at work on ends with them
                self._one_over.clear()
                await self._one_over.wait()

    def _accept(self) -> Answering:
        made = Answering(Greeting(self._me, asks=False), self._gateway, self._over, states=self._states)
        self._answering.add(made)
        made.ready.add_done_callback(partial(self._met, made))
        return made

    def _met(self, answering: Answering, ready: asyncio.Future[None]) -> None:
        """A stranger has no way in here, but for another process of this user."""
        if not ready.cancelled() and ready.exception() is not None and answering.trouble:
            tell_cut_off(self._states, Answering, answering.address, answering.trouble)

    def _over(self, answering: Answering) -> None:
        self._answering.discard(answering)
        self._one_over.set()

    # --- homes ------------------------------------------------------------------------------------------------------

    def is_here(self, *key: str) -> bool:
        return self._table.home(*key) == self._part.number

    def check_here(self, *key: str) -> None:
        if (home := self._table.home(*key)) != self._part.number:
            raise Elsewhere(home)

    def elsewhere(self, method: str, path: str, area: str) -> int | None:
        home = self._homes.find(method, path, area)
        return home if home != self._part.number else None

    def follow(self, request: Request, response: Response) -> None:
        """They never change."""

    def told(self, *key: str) -> Mapping[str, Any]:
        return {"workers": self._part.workers} | ({"home": self._table.home(*key)} if key else {})

    # --- what a worker keeps ----------------------------------------------------------------------------------------

    def elsewhere_marked(self, mark: str) -> int | None:
        worker = self._marks.get(mark)
        if worker is None:
            worker = int(mark, 16) % self._part.workers
        return worker if worker != self._part.number else None

    # --- the way there ----------------------------------------------------------------------------------------------

    def begin(self, request: Request, worker: int, told: Told) -> Sent | None:
        link = self._links.get(worker)
        if link is None:
            return None
        sent = _Sent(worker, self._forwarded, told)
        return sent if link.begin(request, sent) else None

    async def forward(self, request: Request, worker: int, after: Unanswered | None = None) -> Reply:
        return await self._send("", request, worker, _SENT_MAX if after is None else _SENT_MAX - 1)

    async def relay(self, name: str, request: Request, worker: int) -> Reply:
        return await self._send(name, request, worker, _SENT_MAX)

    async def _send(self, name: str, request: Request, worker: int, sent_max: int) -> Reply:
        for _ in range(sent_max):
            link = self._links.get(worker)
            if link is None:
                with self._holding.body(request.body):
                    link = await self._hold(worker)
            try:
                reply = await link.ask(request, name)
            except LinkLost:
                # It has crashed, and what it had is lost: nothing was done that could be done twice.
                continue
            except FrameError as error:
                raise HeadTooLarge(f"The request cannot be sent to another worker: {error}.") from None
            self._forwarded[str(worker), str(reply.status)] += 1
            return reply
        raise InstanceUnavailable()

    async def _hold(self, worker: int) -> Link:
        """The link to the worker, as soon as that serves."""
        # At the end of this gateway the others serve until all are done, and will not be started again.
        hold_s = min(self._hold_s, _STOPPING_S) if self._gateway.stopping else self._hold_s
        self._held += 1
        try:
            async with asyncio.timeout(hold_s or 0.001):
                return await asyncio.shield(self._open(worker))
        except TimeoutError:
            raise (ShuttingDown if self._gateway.stopping else InstanceUnavailable)() from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():  # this worker ends
                raise ShuttingDown() from None
            raise
        finally:
            self._held -= 1

    def _open(self, worker: int) -> asyncio.Task[Link]:
        opening = self._opening.get(worker)
        if opening is None:
            opening = self._opening[worker] = asyncio.get_running_loop().create_task(
                self._connect(worker), context=NOBODYS.copy()
            )
            opening.add_done_callback(lambda done: self._opened(worker, done))
        return opening

    def _opened(self, worker: int, done: asyncio.Task[Link]) -> None:
        self._opening.pop(worker, None)
        if not done.cancelled() and (error := done.exception()) is not None:
            text = "worker %d cannot be reached"
            self._states.trouble(worker, str(error), logging.ERROR, text, worker, error=error)

    async def _connect(self, worker: int) -> Link:
        """Connects, however long that takes. The parent keeps the socket of a worker that ends, so the connection is
        there at once, and its hello comes when the next one serves."""
        terms = terms_of(self._gateway.config, self._gateway)
        while True:
            link = Link(Greeting(self._me, asks=True, expected=str(worker)), terms, self._lost, states=self._states)
            try:
                path = self._part.address_of(worker)
                await asyncio.get_running_loop().create_unix_connection(partial(_same, link), path)
                await link.ready
            except (OSError, LinkLost):
                if link.trouble:
                    tell_cut_off(self._states, worker, f"worker {worker}", link.trouble)
                await asyncio.sleep(_AGAIN_S)
            except asyncio.CancelledError:
                link.close()
                raise
            else:
                self._links[worker] = link
                self._states.well(worker, (Link, str(worker)), text="worker %d is reached again", values=(worker,))
                return link

    def _lost(self, link: Link) -> None:
        for worker, known in self._links.items():
            if known is link:
                del self._links[worker]
                break

    # --- all of them ------------------------------------------------------------------------------------------------

    async def join(self, request: Request, reply: Reply, join: Join) -> Reply:
        return await self._all.join(request, reply, join)

    async def ask_all(self, name: str, parameters: Mapping[str, Any]) -> list[Any]:
        async def question(worker: int) -> list[Any]:
            link = self._links.get(worker) or await self._hold(worker)
            try:
                return await link.question(name, parameters)
            except LinkLost:
                raise InstanceUnavailable() from None

        return await answers_of(self._all.others, question)


def terms_of(config: Config, gateway: Gateway) -> Terms:
    """What holds for the connections on which a process of this gateway asks others of its machine."""
    return Terms(
        secret=frozenset(name.decode() for name in gateway.proofs.fields),
        brings_proofs=brings_proofs(config),
        hold_s=config.seconds("cluster.hold.ms"),
        ping_s=config.seconds("cluster.peer.connect.timeout.ms"),
        requests_max=config.integer("cluster.peer.max.requests"),
        memory=gateway.memory,
        holding=Holding.of(gateway),
    )


def _mark(worker: int) -> str:
    return f"{murmur2(str(worker).encode()):08x}"


def _same(link: Link) -> Link:
    return link
