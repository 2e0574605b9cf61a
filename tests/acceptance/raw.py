"""A client that can leave in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import Any
from urllib.parse import urlsplit

from tests.behaviour.clients import v2


class RawRead:
    """One read on a connection of its own."""

    def __init__(self, url: str, path: str, query: str) -> None:
        self._address = urlsplit(url)
        self._target = f"{path}/records?{query}"

    async def start(self, room: int = 0) -> None:
        """Sends the request. ``room``: how many bytes the system may keep for a client that does not read them."""
        address = self._address
        raw = socket.socket()
        if room:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, (address.hostname, address.port))
        self._reader, self._writer = await asyncio.open_connection(sock=raw)
        fields = f"Host: {address.netloc}\r\nConnection: close\r\nAccept: {v2('json')}\r\n"
        self._writer.write(f"GET {self._target} HTTP/1.1\r\n{fields}\r\n".encode())
        await self._writer.drain()

    async def finish(self) -> list[Any]:
        """The records."""
        head, _, body = (await self._reader.read(-1)).partition(b"\r\n\r\n")
        self.leave()
        assert head.startswith(b"HTTP/1.1 200 "), head + body
        records: list[Any] = json.loads(body)
        return records

    async def finish_in_part(self, count: int) -> None:
        """Takes that many bytes of the answer, or fewer."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await self._reader.readexactly(count)

    def leave(self, reset: bool = False) -> None:
        """Closes the connection, in order or not."""
        if reset:
            self._writer.transport.abort()
        else:
            self._writer.close()
