"""Faults of a network, on any machine: TCP connections go through gates that can delay, stop and refuse, each way by
itself; and a balancer in front of the nodes that keeps nobody at one of them.

A gate that stops keeps what comes, as TCP does while packets are lost, and passes it on later.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, Literal, Self, TypeVar

from tests.faults.lines import FINE, KAFKA, Way, Weather, node_id

HOST = "127.0.0.1"
Address = tuple[str, int]
Direction = Literal["there", "back"]
"""From who has connected, and to it."""
ANYBODY = ""
RESEND_S = 0.3
"""How much longer a piece takes that was lost, and sent again by TCP."""
PROBE_S, PROBE_PATIENCE_S = 0.25, 1.0
_WHO = re.compile(rb'"process":"([^"/]+)/')


T = TypeVar("T")
G = TypeVar("G", bound="Gate")


class Network:
    """A thread with an event loop, on which all gates live."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gates", daemon=True)
        self._thread.start()
        self._gates: list[Gate] = []
        return self

    def __exit__(self, *exc: object) -> None:
        for gate in self._gates:
            self.run(gate.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What it returns, from whatever thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def gate(self, target: Address, port: int = 0) -> Gate:
        """A gate in front of whoever listens there; ``port``: its own, 0 for any."""
        gate = Gate(lambda: [target], port)
        return self._opened(gate)

    def balancer(self, targets: Mapping[Address, Address]) -> Balancer:
        """One in front of nodes: where each listens for clients, and where it says whether it is ready."""
        return self._opened(Balancer(targets))

    def _opened(self, gate: G) -> G:
        self.run(gate.open())
        self._gates.append(gate)
        return gate


class Gate:
    """Passes connections on. Where several connect through it, weather may be that of one of them: a process of a
    cluster says who it is in the first frame of a connection (cluster.md §9)."""

    def __init__(self, choose: Callable[[], Collection[Address]], port: int = 0) -> None:
        """``choose``: where a new connection is to go; to the first address at which somebody listens."""
        self._choose = choose
        self._weather: dict[tuple[str, Direction], Weather] = {}
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = port

    async def open(self) -> None:
        """On the network's loop, as all that is a coroutine here."""
        self._loop = asyncio.get_running_loop()
        self._server = await asyncio.start_server(self._accept, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """All connections end."""
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def set(self, weather: Weather, direction: Direction, of: str = ANYBODY) -> None:
        """From any thread. ``of``: the ``cluster.node.id`` of who has connected."""

        def change() -> None:
            self._weather[of, direction] = weather
            self._changed.set()
            self._changed = asyncio.Event()

        self._loop.call_soon_threadsafe(change)

    def clear(self) -> None:
        """It passes everything on at once again. From any thread."""

        def change() -> None:
            self._weather.clear()
            self._changed.set()
            self._changed = asyncio.Event()

        self._loop.call_soon_threadsafe(change)

    def _now(self, who: str, way: Direction) -> Weather:
        return self._weather.get((who, way)) or self._weather.get((ANYBODY, way), FINE)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._pass_on(reader, writer)
        except asyncio.CancelledError:
            pass  # the gate closes
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for address in self._choose():
            with contextlib.suppress(OSError):
                back, there = await asyncio.open_connection(*address)
                break
        else:
            return
        who: asyncio.Future[str] = self._loop.create_future()
        try:
            await asyncio.gather(self._line(reader, there, "there", who), self._line(back, writer, "back", who))
        finally:
            there.transport.abort()

    async def _line(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Direction, who: asyncio.Future[str]
    ) -> None:
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def take() -> None:
            data = b"-"
            while data:
                try:
                    data = await reader.read(1 << 16)
                except OSError:
                    data = b""
                if way == "there" and not who.done():
                    found = _WHO.search(data)
                    who.set_result(found[1].decode() if found else ANYBODY)
                weather = self._now(_told(who), way)
                late_s = weather.delay_s + (RESEND_S if random.random() < weather.lost else 0)
                pieces.put_nowait((self._loop.time() + late_s, data))

        async def give() -> None:
            while True:
                due, data = await pieces.get()
                if (left_s := due - self._loop.time()) > 0:
                    await asyncio.sleep(left_s)
                while not self._now(_told(who), way).passes:
                    await self._changed.wait()
                if not data:
                    if writer.can_write_eof() and not writer.is_closing():
                        writer.write_eof()
                    return
                writer.write(data)
                await writer.drain()

        with contextlib.suppress(OSError):
            await asyncio.gather(take(), give())


def _told(who: asyncio.Future[str]) -> str:
    return who.result() if who.done() else ANYBODY


class Balancer(Gate):
    """Gives each connection to the next node that is ready, as HAProxy does: it asks for ``/health/ready``, and tries
    another node where nobody listens. A node that is not ready any more keeps the connections that it has."""

    def __init__(self, targets: Mapping[Address, Address]) -> None:
        super().__init__(self._next)
        self._checks = dict(targets)
        self._targets = list(targets)
        self._turn = 0
        self._ready = set(targets)

    async def open(self) -> None:
        await super().open()
        self._tasks.update(self._loop.create_task(self._probe(*each)) for each in self._checks.items())

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def _next(self) -> list[Address]:
        self._turn += 1
        turn = self._turn % len(self._targets)
        targets = self._targets[turn:] + self._targets[:turn]
        return [each for each in targets if each in self._ready] or targets

    async def _probe(self, target: Address, check: Address) -> None:
        while True:
            if await _is_ready(check):
                self._ready.add(target)
            else:
                self._ready.discard(target)
            await asyncio.sleep(PROBE_S)


async def _is_ready(check: Address) -> bool:
    try:
        async with asyncio.timeout(PROBE_PATIENCE_S):
            reader, writer = await asyncio.open_connection(*check)
            try:
                writer.write(b"GET /health/ready HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")
                return (await reader.readline()).split(b" ")[1:2] == [b"200"]
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError):
        return False


class GateLines:
    """`Lines` through gates: every place is this machine's loopback. A gate answers connections that begin, also while
    it is cut, and passes on later what came meanwhile."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._to_kafka: dict[int, list[Gate]] = defaultdict(list)
        """Between that node and each broker."""
        self._to_node: dict[int, list[Gate]] = defaultdict(list)
        """In front of each worker of that node, for the other nodes."""

    def host(self, place: int) -> str:
        return HOST

    def begin(self, node: int) -> Sequence[str]:
        return ()

    def to_broker(self, node: int, port: int) -> str:
        gate = self._network.gate((HOST, port))
        self._to_kafka[node].append(gate)
        return f"{HOST}:{gate.port}"

    def to_node(self, node: int, ports: range, spares: range) -> str:
        for port, spare in zip(ports, spares, strict=True):
            self._to_node[node].append(self._network.gate((HOST, port), spare))
        return f"{HOST}:{spares[0]}"

    def set(self, weather: Weather, way: Way) -> None:
        sender, receiver = way
        if receiver == KAFKA:
            for gate in self._to_kafka[sender]:
                gate.set(weather, "there")
            return
        if sender == KAFKA:
            for gate in self._to_kafka[receiver]:
                gate.set(weather, "back")
            return
        for gate in self._to_node[receiver]:
            gate.set(weather, "there", of=node_id(sender))
        for gate in self._to_node[sender]:
            gate.set(weather, "back", of=node_id(receiver))

    def mend(self) -> None:
        for gates in (*self._to_kafka.values(), *self._to_node.values()):
            for gate in gates:
                gate.clear()
