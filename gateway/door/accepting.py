"""A listener that accepts its connections itself, in place of asyncio's server.

It learns what asyncio keeps for itself: whose connection failed to begin TLS, and why, and how many have not begun yet.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from kafka_gateway.door.beginnings import Beginnings
from kafka_gateway.door.client_address import peer_of

log = logging.getLogger("gateway.host")

Refused = Callable[[str, OSError], None]
"""Is told the address of a client with which TLS could not begin, and the reason."""


class AcceptingServer:
    """Accepts connections from its beginning to ``close``. Belongs to the event loop.

    Args:
        listening: sockets that are bound; they are closed at the end.
        context: of TLS; None for none.
        serve: makes the protocol of a connection.
        refused: see `Refused`.
        wait_s: how long a client may take to begin TLS.
        beginnings: the gateway's.
    """

    def __init__(
        self,
        listening: list[socket.socket],
        context: ssl.SSLContext | None,
        serve: Callable[[], asyncio.Protocol],
        refused: Refused,
        wait_s: float,
        beginnings: Beginnings,
    ) -> None:
        self.sockets = listening
        self._context, self._serve, self._refused = context, serve, refused
        self._wait_s = wait_s
        self._beginnings = beginnings
        self._tasks: set[asyncio.Task[None]] = set()
        for each in listening:
            each.setblocking(False)
            each.listen(1024)
            # Also where it is closed before the task has run.
            self._spawn(self._accept(each)).add_done_callback(partial(_close, each))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name="accept")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def close(self) -> None:
        """Listens no more; connections that are served already stay."""
        for task in self._tasks:
            task.cancel()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(listening)
            except OSError as error:
                log.error("a connection could not be accepted: %s", error)
                await asyncio.sleep(1.0)
                continue
            task = self._spawn(self._begin(connection, peer_of(peer)))
            task.add_done_callback(partial(_close_cancelled, connection))
            self._beginnings.enter(task)

    async def _begin(self, connection: socket.socket, peer: str) -> None:
        """Takes the connection over; it closes it if it does not serve it."""
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self._hand_on(connection, peer, self._serve)

    async def _hand_on(self, connection: socket.socket, peer: str, serve: Callable[[], asyncio.Protocol]) -> None:
        """From here on the connection is asyncio's, which closes it."""
        try:
            within_s = self._wait_s if self._context is not None else None
            await asyncio.get_running_loop().connect_accepted_socket(
                serve, connection, ssl=self._context, ssl_handshake_timeout=within_s
            )
        except OSError as error:  # ssl.SSLError is one
            self._refused(peer, error)


def _close(listening: socket.socket, _: asyncio.Task[None]) -> None:
    listening.close()


def _close_cancelled(connection: socket.socket, task: asyncio.Task[None]) -> None:
    """Closes the connection that the task begins, also where it is cancelled before it has run."""
    if task.cancelled():
        connection.close()
