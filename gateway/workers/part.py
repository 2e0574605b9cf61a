"""What a worker process is given by its parent, and how the two talk while it runs.

The channel is a pair of sockets. The worker writes lines: ``ready``, ``reloaded`` or ``refused`` for each SIGHUP,
``alive`` now and then, ``drained`` when it stops and has answered its own clients, ``replaced`` when another process of
the cluster has taken its name. The parent writes ``end`` when all have drained, and how all workers are whenever that
changes (`States`). Its end of file means to each that the other is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final, cast

from kafka_gateway import jsonio
from kafka_gateway.config import Config

READY: Final = b"ready"
RELOADED: Final = b"reloaded"
REFUSED: Final = b"refused"
ALIVE: Final = b"alive"
DRAINED: Final = b"drained"
REPLACED: Final = b"replaced"
END: Final = b"end"
_STATES: Final = b"states "

States = list[tuple[bool, int]]
"""For each worker, whether it serves, and how often it was started again."""


class WorkerPart(jsonio.Struct, frozen=True):
    """One of several processes of a gateway. Numbers of files are those of sockets that it has inherited."""

    number: int
    """From 0."""
    workers: int
    directory: str
    """Has the sockets of all workers, below it where the gateway is a node of a cluster; its user's alone."""
    control: int
    """The channel to the parent."""
    peer: int
    """Listens for the other workers; -1 in a cluster, where each listens as a process of that."""
    listeners: list[list[int]]
    """For each listener, in the order of the configuration, its listening sockets."""
    texts: tuple[int, int, int]
    """The properties file in memory: of the start of the gateway, as it was taken last, and what SIGHUP offers."""
    log_format: str
    log_file: str
    embedded: str
    """Bootstrap address of the embedded Kafka that the parent has; empty for none."""
    beat_s: float
    """How often the parent wants a sign of life."""

    def address_of(self, worker: int) -> str:
        """Path of the socket on which that worker listens for the others."""
        return peer_address(self.directory, worker)

    def tidy(self) -> None:
        """Removes what the parent would have removed, which is gone: the last worker removes the directory."""
        with contextlib.suppress(OSError):
            os.unlink(self.address_of(self.number))
        with contextlib.suppress(OSError):  # another worker is still there, or something of somebody else's
            os.rmdir(self.directory)

    def sockets(self, place: int) -> list[socket.socket]:
        """The sockets of the listener at this place of the configuration."""
        return [socket.socket(fileno=number) for number in self.listeners[place]]


def count_of(config: Config) -> int:
    """How many workers ``workers`` asks for."""
    return config.integer("workers") or len(os.sched_getaffinity(0))


def peer_address(directory: str, worker: int) -> str:
    """Path of the socket of a worker."""
    return str(Path(directory) / f"{worker}.sock")


def read_part(text: str) -> WorkerPart:
    """The part, as ``written`` wrote it."""
    return jsonio.Decoder(WorkerPart).decode(text)


def written(part: WorkerPart) -> str:
    """The part as one word of a command line."""
    return jsonio.encode(part).decode()


_read_states: Final = jsonio.Decoder(States).decode


def written_states(states: States) -> bytes:
    """The line of the channel that tells it."""
    return _STATES + jsonio.encode(states)


class Parent(asyncio.Protocol):
    """The worker's end of the channel. Belongs to the event loop.

    Args:
        gone: called once, when the parent is: the worker is to stop.
    """

    def __init__(self, gone: Callable[[], None]) -> None:
        self._gone = gone
        self._transport: asyncio.Transport | None = None
        self._read = b""
        self._may_end = asyncio.Event()
        self.states: States = []
        """As the parent has told them last."""

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(cls, part: WorkerPart, gone: Callable[[], None]) -> AsyncIterator[Parent]:
        """The channel of this worker, open for as long as the block runs, with signs of life."""
        loop = asyncio.get_running_loop()
        channel = socket.socket(fileno=part.control)
        channel.setblocking(False)
        transport, parent = await loop.create_unix_connection(lambda: cls(gone), sock=channel)
        beating = loop.create_task(parent._beat(part.beat_s), name="signs of life for the parent")
        try:
            yield parent
        finally:
            beating.cancel()
            parent._gone = _nothing
            transport.close()

    def tell(self, word: bytes) -> None:
        """Says it, if anybody is there."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(word + b"\n")

    async def all_drained(self, timeout_s: float) -> None:
        """Tells that this worker's own clients have been answered, and waits, so long at most, until those of all
        others have: until then these may need it."""
        self.tell(DRAINED)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._may_end.wait()

    async def _beat(self, every_s: float) -> None:
        while True:
            self.tell(ALIVE)
            await asyncio.sleep(every_s)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        *words, self._read = (self._read + data).split(b"\n")
        for word in words:
            if word == END:
                self._may_end.set()
            elif word.startswith(_STATES):
                self.states = _read_states(word.removeprefix(_STATES))

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._may_end.set()
        self._gone()


def _nothing() -> None:
    """Stands for a listener that need not be told any more."""
