"""A transport with a port of its own: one JSON object a line, in both directions.

A request: ``{"id": 1, "method": "GET", "path": "/plugin/echo?a=b", "headers": {…}, "body": …}``; all but ``path`` may
be missing. Its reply: ``{"id": 1, "status": 200, "body": …}``. A stream: ``{"id": 1, "status": 200, "stream": true}``,
then ``{"id": 1, "payload": "…"}`` for each payload, and ``{"id": 1, "end": true}``. The headers of a connection's first
request prove who the client is.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from kafka_gateway.config import Config
from kafka_gateway.core import Gateway
from kafka_gateway.errors import BadRequest, PayloadTooLarge, ServiceError
from kafka_gateway.messages import Reply
from kafka_gateway.stream_server import StreamClient, StreamServer
from kafka_gateway.transport import Transport


class LinesTransport(Transport):
    name = "lines"

    def __init__(self, config: Config) -> None:
        port, limit = config.integer("transport.lines.port"), config.integer("request.max.bytes")
        self._server = StreamServer(self.name, self._serve, port=port, limit=limit)

    @contextlib.asynccontextmanager
    async def lifespan(self, gateway: Gateway) -> AsyncIterator[None]:
        async with self._server.open(gateway):
            self.port = self._server.port
            yield

    async def _serve(self, client: StreamClient) -> None:
        try:
            while (line := await read_line(client)).strip():
                request_id, asked, headers, body = decode(line)
                if client.session is None:
                    await client.sign_in(headers)
                reply = await client.ask(asked, headers, body)
                await self._answer(client, request_id, reply)
        except ServiceError as error:  # no session, or a line that is no request
            await client.write(encode(status=error.status, body=described(error)))

    async def _answer(self, client: StreamClient, request_id: Any, reply: Reply) -> None:
        if isinstance(reply.body, bytes):
            body = json.loads(reply.body or b"null")
            await client.answer(reply, encode(id=request_id, status=reply.status, body=body))
            return
        await client.answer(reply, encode(id=request_id, status=reply.status, stream=True))
        client.follow(
            reply.body,
            lambda payload: encode(id=request_id, payload=payload.data.decode()),
            lambda error: encode(id=request_id, end=True, **({"message": error.message} if error else {})),
        )


async def read_line(client: StreamClient) -> bytes:
    """The next line; empty when the client has left."""
    try:
        return await client.reader.readline()
    except ValueError:
        raise PayloadTooLarge("The line is longer than request.max.bytes.") from None


def encode(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def described(error: ServiceError) -> dict[str, Any]:
    return {"error_code": error.error_code, "message": error.message}


def decode(line: bytes) -> tuple[Any, str, Mapping[str, str], bytes]:
    """The id of the request in a line, its method and path, headers, and body. BadRequest if there is none in it."""
    try:
        fields = json.loads(line)
        asked = f"{fields.get('method', 'GET')} {fields['path']}"
        headers = {name: str(value) for name, value in fields.get("headers", {}).items()}
        body = json.dumps(fields["body"]).encode() if "body" in fields else b""
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadRequest("The line is not a JSON object with a path.") from None
    return fields.get("id"), asked, headers, body
