"""HTTP as bytes, for tests of what no well-behaved client sends."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from typing import Any
from urllib.parse import urlsplit

from tests.waiting import PATIENCE_S

"""Longest wait for anything that must happen; no test waits for it when all is well."""


class Reply:
    """A reply as it came over the wire. Header names are lower case; one that came twice is joined with a comma."""

    def __init__(self, status: int, version: str, headers: dict[str, str], body: bytes) -> None:
        self.status, self.version, self.headers, self.body = status, version, headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def closes(self) -> bool:
        return self.headers.get("connection", "").lower() == "close"

    def __repr__(self) -> str:
        return f"<{self.version} {self.status} {self.headers} {self.body[:200]!r}>"


class Wire:
    """One connection. Nothing is sent that a test does not send."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, address: str, context: ssl.SSLContext | None = None) -> Wire:
        """A connection to ``http://host:port``, ``https://…`` or ``unix:/path``."""
        if address.startswith("unix:"):
            return cls(*await asyncio.open_unix_connection(address[5:]))
        url = urlsplit(address)
        return cls(*await asyncio.open_connection(url.hostname, url.port, ssl=context))

    async def __aenter__(self) -> Wire:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.writer.transport.abort()

    def write(self, data: bytes | str) -> None:
        self.writer.write(data.encode("latin-1") if isinstance(data, str) else data)

    async def send(self, data: bytes | str) -> None:
        self.write(data)
        await self.writer.drain()

    async def reply(self, head_only: bool = False, timeout_s: float = PATIENCE_S) -> Reply:
        """The next reply; ConnectionError if the gateway closed instead."""
        async with asyncio.timeout(timeout_s):
            try:
                head = await self.reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError as error:
                raise ConnectionError(f"closed after {error.partial!r}") from None
            first, *lines = head.decode("latin-1").split("\r\n")[:-2]
            found = re.fullmatch(r"(HTTP/1\.[01]) (\d{3}) ([ -~]*)", first)
            assert found, first
            headers: dict[str, str] = {}
            for line in lines:
                name, colon, value = line.partition(": ")
                assert colon, line
                name = name.lower()
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
            status = int(found[2])
            body = b""
            if not head_only and status not in (100, 204):
                body = await self.reader.readexactly(int(headers["content-length"]))
            return Reply(status, found[1], headers, body)

    async def ask(self, method: str, target: str, body: bytes = b"", version: str = "1.1", **headers: str) -> Reply:
        """Sends a request and takes its reply. ``_`` in names of headers stands for a hyphen."""
        self.write(request(method, target, body, version, **headers))
        return await self.reply(head_only=method == "HEAD")

    async def closed(self, timeout_s: float = PATIENCE_S) -> bytes:
        """What still comes until the gateway closes the connection. TimeoutError if it does not."""
        async with asyncio.timeout(timeout_s):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""


def request(method: str, target: str, body: bytes = b"", version: str = "1.1", **headers: str) -> bytes:
    """The bytes of a request, with Host and, if there is a body, Content-Length."""
    lines = [f"{method} {target} HTTP/{version}"]
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if "Host" not in named:
        lines.append("Host: gateway")
    if body and "Content-Length" not in named and "Transfer-Encoding" not in named:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in named.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


JSON_V2 = "application/vnd.kafka.json.v2+json"
V2 = "application/vnd.kafka.v2+json"


def produce(topic: str, body: bytes = b'{"records":[{"value":1}]}', **headers: str) -> bytes:
    """A produce request of JSON records."""
    return request("POST", f"/topics/{topic}", body, Content_Type=JSON_V2, **headers)
