"""A transport with a port of its own: one JSON object a line, in both directions.

A request: ``{"id": 1, "method": "GET", "path": "/plugin/echo?a=b", "headers": {…}, "body": …}``; all but ``path`` may
be missing. Its reply: ``{"id": 1, "status": 200, "body": …}``. A stream: ``{"id": 1, "status": 200, "stream": true}``,
then ``{"id": 1, "payload": "…"}`` for each payload, and ``{"id": 1, "end": true}``. The headers of a connection's first
request prove who the client is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kafka_gateway.config import Config
from kafka_gateway.errors import BadRequest, ServiceError
from kafka_gateway.messages import Reply
from kafka_gateway.stream_server import StreamClient, StreamServer
from kafka_gateway.transport import Transport


class LinesTransport(Transport):
    name = "lines"

    def __init__(self, config: Config) -> None:
        self.server = StreamServer(
            self.name, self._serve, port=config.integer("transport.lines.port"), refuse=encode_error
        )

    async def _serve(self, client: StreamClient) -> None:
        while (line := await client.reader.readline()).strip():
            request_id, asked, headers, body = decode(line)
            if client.session is None:
                await client.sign_in(headers)
            reply = await client.ask(asked, headers, body)
            await self._answer(client, request_id, reply)

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


def encode(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def encode_error(error: ServiceError) -> bytes:
    """For a client that gets no session, or sends a line that is no request."""
    return encode(status=error.status, body={"error_code": error.error_code, "message": error.message})


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
