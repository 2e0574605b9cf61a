"""An Atmosphere client over HTTP, as bytes: opens streams, polls and pushes, and shows what comes as it comes."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

from tests.transports.wire import Reply, Wire
from tests.waiting import PATIENCE_S

V3, V5 = "3.1.3-javascript", "5.0.7"


def target(
    transport: str, id: str = "0", version: str = V3, path: str = "/", protocol: bool = True, **more: str
) -> str:
    """The request target of a client of that version. ``_`` in names of parameters stands for a hyphen."""
    parameters = {
        "X-Atmosphere-tracking-id": id,
        "X-Atmosphere-Framework": version,
        "X-Atmosphere-Transport": transport,
    }
    if protocol:
        parameters["X-atmo-protocol"] = "true"
    parameters |= {name.replace("_", "-") if len(name) > 1 else name: value for name, value in more.items()}
    return path + "?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())


class Listener:
    """One response that does not end, or a poll."""

    def __init__(self, wire: Wire, status: int, headers: dict[str, str]) -> None:
        self.wire, self.status, self.headers = wire, status, headers
        self._text = b""
        self.ended = False

    @classmethod
    async def open(cls, address: str, asked: str, **headers: str) -> Listener:
        """Returns when the head of the response is there, as browsers do."""
        wire = await Wire.open(address)
        lines = [f"GET {asked} HTTP/1.1", "Host: gateway"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await wire.send("\r\n".join(lines) + "\r\n\r\n")
        return await cls.on(wire)

    @classmethod
    async def on(cls, wire: Wire) -> Listener:
        """The response that comes next on this connection."""
        async with asyncio.timeout(PATIENCE_S):
            head = await wire.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        found = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return cls(wire, int(first.split()[1]), found)

    async def __aenter__(self) -> Listener:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.wire.writer.transport.abort()

    @property
    def id(self) -> str:
        return self.headers["x-atmosphere-tracking-id"]

    async def chunk(self, timeout_s: float = PATIENCE_S) -> bytes:
        """What was written at once; empty when the response is over."""
        async with asyncio.timeout(timeout_s):
            if "content-length" in self.headers:
                self.ended = True
                return await self.wire.reader.readexactly(int(self.headers["content-length"]))
            size = int(await self.wire.reader.readuntil(b"\r\n"), 16)
            data = await self.wire.reader.readexactly(size + 2)
        self.ended = self.ended or size == 0
        return data[:-2]

    async def rest(self) -> bytes:
        """All until the response is over."""
        found = b""
        while not self.ended:
            found += await self.chunk()
        return found

    async def event(self) -> str:
        """The data of the next server-sent event, read by the HTML standard §9.2.6."""
        data: list[str] = []
        while True:
            line = await self._line()
            if not line:
                if data:
                    return "\n".join(data)
            elif line.startswith("data:"):
                data.append(line[5:].removeprefix(" "))
            else:
                assert not line.strip(), line

    async def _line(self) -> str:
        while b"\n" not in self._text:
            chunk = await self.chunk()
            if not chunk:
                raise EOFError
            self._text += chunk
        line, _, self._text = self._text.partition(b"\n")
        assert b"\r" not in line[:-1]
        return line.decode().removesuffix("\r")


async def push(address: str, asked: str, body: bytes | str = b"", method: str = "POST", **headers: str) -> Reply:
    """Sends a request on a connection of its own."""
    async with await Wire.open(address) as wire:
        data = body.encode() if isinstance(body, str) else body
        return await wire.ask(method, asked, data, **headers)


async def handshake(address: str, version: str = V3, **more: str) -> str:
    """Connects a client that polls; its tracking id."""
    async with await Listener.open(address, target("long-polling", version=version, **more)) as opened:
        body = (await opened.rest()).decode()
    assert body.endswith(f"{opened.id}|0|X|"), body
    return opened.id
