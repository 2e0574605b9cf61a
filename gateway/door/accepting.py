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
from kafka_gateway.door.listening import Accepted

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
            accepted = Accepted(connection)
            connection.setblocking(False)
            task = self._spawn(self._begin(accepted, peer_of(peer)))
            accepted.follow(task)
            self._beginnings.enter(task)

    async def _begin(self, accepted: Accepted, peer: str) -> None:
        """Hands the connection on, or returns."""
        accepted.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self._hand_on(accepted, peer, self._serve)

    async def _hand_on(self, accepted: Accepted, peer: str, serve: Callable[[], asyncio.Protocol]) -> None:
        try:
            within_s = self._wait_s if self._context is not None else None
            await asyncio.get_running_loop().connect_accepted_socket(
                serve, accepted.take(), ssl=self._context, ssl_handshake_timeout=within_s
            )
        except OSError as error:  # ssl.SSLError is one
            self._refused(peer, error)


def _close(listening: socket.socket, _: asyncio.Task[None]) -> None:
    listening.close()
