"""A WebSocket client that sends whatever bytes a test wants, and shows frames as they come."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import struct
from typing import Any, NamedTuple

from tests.transports.wire import Reply, Wire
from tests.waiting import PATIENCE_S

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Frame(NamedTuple):
    opcode: int
    payload: bytes
    final: bool = True
    rsv: int = 0

    @property
    def close_code(self) -> int:
        assert self.opcode == CLOSE, self
        return int.from_bytes(self.payload[:2], "big")


class Refused(Exception):
    """The upgrade was not granted."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(repr(reply))
        self.reply = reply


def frame(payload: bytes, opcode: int = TEXT, final: bool = True, rsv: int = 0) -> bytes:
    """A client's frame. The mask is zero, so the bytes on the wire can be read."""
    first = (0x80 if final else 0) | rsv << 4 | opcode
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", first, 0x80 | length)
    elif length < 65536:
        head = struct.pack("!BBH", first, 0x80 | 126, length)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, length)
    return head + bytes(4) + payload


class Peer:
    """One socket. Pings are answered by ``text`` only, unless a test does it."""

    def __init__(self, wire: Wire, headers: dict[str, str]) -> None:
        self.wire, self.headers = wire, headers

    @classmethod
    async def open(cls, address: str, target: str = "/", behind: bytes = b"", **headers: str) -> Peer:
        """The names of headers have ``_`` for ``-``; ``behind`` is sent together with the request. Raises Refused."""
        wire = await Wire.open(address)
        asked = {
            "Host": "localhost",
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        } | {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in asked.items() if value)]
        await wire.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + behind)
        async with asyncio.timeout(PATIENCE_S):
            line = await wire.reader.readuntil(b"\r\n")
            head = line + await wire.reader.readuntil(b"\r\n\r\n")
        found: dict[str, str] = {}
        for each in head.decode("latin-1").split("\r\n")[1:-2]:
            name, _, value = each.partition(": ")
            found[name.lower()] = value
        if b" 101 " not in line:
            body = await wire.reader.readexactly(int(found.get("content-length", "0")))
            wire.writer.close()
            raise Refused(Reply(int(line.split()[1]), "HTTP/1.1", found, body))
        return cls(wire, found)

    async def __aenter__(self) -> Peer:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.kill()

    def kill(self) -> None:
        """Ends the connection at once."""
        self.wire.writer.transport.abort()

    def write(self, message: str | bytes, opcode: int = TEXT, **more: Any) -> None:
        self.wire.write(frame(message.encode() if isinstance(message, str) else message, opcode, **more))

    async def send(self, message: str | bytes, opcode: int = TEXT, **more: Any) -> None:
        self.write(message, opcode, **more)
        await self.wire.writer.drain()

    async def frame(self, timeout_s: float = PATIENCE_S) -> Frame:
        """The next frame; ConnectionError if there is none any more."""
        reader = self.wire.reader
        try:
            async with asyncio.timeout(timeout_s):
                first, length = await reader.readexactly(2)
                if length == 126:
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                elif length == 127:
                    (length,) = struct.unpack("!Q", await reader.readexactly(8))
                payload = await reader.readexactly(length)
        except asyncio.IncompleteReadError:
            raise ConnectionError("closed") from None
        return Frame(first & 15, payload, bool(first & 0x80), first >> 4 & 7)

    async def text(self, timeout_s: float = PATIENCE_S) -> str:
        """The next message, which must be a text in one frame. A ping before it is answered, as clients do."""
        found = await self.frame(timeout_s)
        while found.opcode == PING:
            self.write(found.payload, PONG)
            found = await self.frame(timeout_s)
        assert found.opcode == TEXT, found
        assert found.final
        return found.payload.decode()

    async def ask(self, message: str) -> str:
        await self.send(message)
        return await self.text()

    async def closed(self, timeout_s: float = PATIENCE_S) -> int:
        """The code of the close frame, which must come next; it is answered, and the connection must end."""
        while (found := await self.frame(timeout_s)).opcode == PING:
            self.write(found.payload, PONG)
        code = found.close_code
        self.write(found.payload[:2], CLOSE)
        async with asyncio.timeout(timeout_s):
            with contextlib.suppress(ConnectionResetError):  # it had ended before it got the answer
                assert await self.wire.reader.read() == b""
        return code
