"""A transport with a port of its own: one JSON object a line, in both directions.

A request: ``{"id": 1, "method": "GET", "path": "/plugin/echo?a=b", "headers": {…}, "body": …}``; all but ``path`` may
be missing. Its reply: ``{"id": 1, "status": 200, "body": …}``. A stream: ``{"id": 1, "status": 200, "stream": true}``,
then ``{"id": 1, "payload": "…"}`` for each payload, and ``{"id": 1, "end": true}``. The headers of a connection's first
request prove who the client is.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from kafka_gateway.config import Config
from kafka_gateway.errors import GONE, BadRequest, PayloadTooLarge, ServiceError
from kafka_gateway.messages import Reply, Request
from kafka_gateway.session import Session
from kafka_gateway.stream import Payload, Stream
from kafka_gateway.transport import Transport

if TYPE_CHECKING:
    from kafka_gateway.core import Gateway

_WRITE_TIMEOUT_S = 60.0


class LinesTransport(Transport):
    name = "lines"

    def __init__(self, config: Config) -> None:
        self.port = config.integer("transport.lines.port")
        self._line_max = config.integer("request.max.bytes")

    @contextlib.asynccontextmanager
    async def lifespan(self, gateway: Gateway) -> AsyncIterator[None]:
        clients: dict[asyncio.StreamWriter, asyncio.Event] = {}

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ended = clients[writer] = asyncio.Event()
            try:
                await Connection(gateway, reader, writer).serve()
            finally:
                writer.close()
                del clients[writer]
                ended.set()

        server = await asyncio.start_server(connected, "127.0.0.1", self.port, limit=self._line_max)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for writer, ended in list(clients.items()):
                writer.close()  # its reader finds the end
                await ended.wait()


class Connection:
    """One client: decodes its requests, and is the sink of its replies."""

    def __init__(self, gateway: Gateway, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._gateway = gateway
        self._reader = reader
        self._writer = writer

    async def serve(self) -> None:
        session: Session | None = None
        try:
            while (line := await self._line()).strip():
                request_id, fields = decode(line)
                if session is None:
                    peer = str(self._writer.get_extra_info("peername")[0])
                    session = await self._gateway.open_session("lines", fields["headers"], peer=peer)
                reply = await self._gateway.dispatch(Request(session, **fields))
                await self._answer(request_id, reply, session)
        except ServiceError as error:  # no session, or a line that is no request
            await self._write(status=error.status, body={"error_code": error.error_code, "message": error.message})
        except ConnectionError:
            return  # the client left
        finally:
            if session is not None:
                await self._gateway.close_session(session, GONE)

    async def _line(self) -> bytes:
        try:
            return await self._reader.readline()
        except ValueError:
            raise PayloadTooLarge("The line is longer than request.max.bytes.") from None

    async def _answer(self, request_id: Any, reply: Reply, session: Session) -> None:
        if isinstance(reply.body, bytes):
            await self._write(id=request_id, status=reply.status, body=json.loads(reply.body or b"null"))
        else:
            await self._write(id=request_id, status=reply.status, stream=True)
            # A task of the session, so that the client's leaving is noticed meanwhile, and ends the stream.
            session.spawn(self._deliver(request_id, reply.body, session))

    async def _deliver(self, request_id: Any, stream: Stream, session: Session) -> None:
        try:
            await self._gateway.deliver(stream, Sink(self, request_id), session, _WRITE_TIMEOUT_S)
            await self._write(id=request_id, end=True)
        except ServiceError as error:
            await self._write(id=request_id, end=True, message=error.message)
        except ConnectionError:
            return  # the client left

    async def _write(self, **fields: Any) -> None:
        try:
            async with asyncio.timeout(_WRITE_TIMEOUT_S):
                await self.send(fields)
        except TimeoutError:
            raise ConnectionError("the client does not read") from None

    async def send(self, fields: dict[str, Any]) -> None:
        self._writer.write(json.dumps(fields).encode() + b"\n")
        await self._writer.drain()


class Sink:
    """Where ``Gateway.deliver`` puts the payloads of one stream."""

    def __init__(self, connection: Connection, request_id: Any) -> None:
        self._connection = connection
        self._id = request_id

    async def send(self, payload: Payload) -> None:
        await self._connection.send({"id": self._id, "payload": payload.data.decode()})


def decode(line: bytes) -> tuple[Any, dict[str, Any]]:
    """The id of the request in a line, and the fields of a Request. BadRequest if there is none in it."""
    try:
        fields = json.loads(line)
        path, _, query = fields["path"].partition("?")
        headers = {name.lower(): str(value) for name, value in fields.get("headers", {}).items()}
        body = json.dumps(fields["body"]).encode() if "body" in fields else b""
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadRequest("The line is not a JSON object with a path.") from None
    request = {
        "method": str(fields.get("method", "GET")),
        "path": path,
        "query": dict(reversed(parse_qsl(query, keep_blank_values=True))),  # of several the first counts
        "headers": headers,
        "body": body,
    }
    return fields.get("id"), request
