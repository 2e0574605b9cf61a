"""The protocol of Redis (RESP 2) as a transport: any Redis client produces, reads and follows.

PING · AUTH user password · PUBLISH topic value: the record's offset · SUBSCRIBE topic: its records from now on ·
CALL "GET /topics" [body [content-type [accept]]]: status, media type and body of any request
"""

from __future__ import annotations

import base64
import json
from functools import partial
from urllib.parse import quote as quoted

from kafka_gateway.config import Config, ConfigKey
from kafka_gateway.errors import BadRequest, CloseReason, ServiceError
from kafka_gateway.records import OutgoingRecord
from kafka_gateway.stream import Payload
from kafka_gateway.stream_server import StreamClient, StreamServer
from kafka_gateway.transport import Transport, hookimpl

quote = partial(quoted, safe="", errors="surrogateescape")
BINARY = {"content-type": "application/vnd.kafka.binary.v2+json"}


class RespTransport(Transport):
    name = "resp"

    def __init__(self, config: Config) -> None:
        port = config.integer("transport.resp.port")
        self.server = StreamServer(self.name, self._serve, port=port, farewell=_farewell, refuse=_error)

    async def _serve(self, client: StreamClient) -> None:
        while command := await self._command(client):
            try:
                await self._run(client, command[0].upper(), command[1:])
            except ServiceError as error:
                await client.write(_error(error))

    async def _command(self, client: StreamClient) -> list[bytes]:
        """An array of bulk strings; empty when the client has left."""
        count = _number(b"*", await client.reader.readline() or b"*0", most=8)
        sizes = (_number(b"$", await client.reader.readline()) for _ in range(count))
        return [(await client.reader.readexactly(size + 2))[:-2] async for size in sizes]

    async def _run(self, client: StreamClient, name: bytes, words: list[bytes]) -> None:
        match name, [word.decode(errors="surrogateescape") for word in words]:
            case b"PING", []:
                await client.write(b"+PONG\r\n")
            case b"AUTH", [_, _]:
                await client.sign_in({"authorization": "Basic " + base64.b64encode(b":".join(words)).decode()})
                await client.write(b"+OK\r\n")
            case b"PUBLISH", [topic, _]:
                reply = await client.ask(f"POST /topics/{quote(topic)}", BINARY, [OutgoingRecord(None, words[1])])
                row = (json.loads(reply.body).get("offsets") or [json.loads(reply.body)])[0]
                if row.get("error_code"):
                    raise BadRequest(row.get("error") or row.get("message"))
                await client.answer(reply, b":%d\r\n" % row["offset"])
            case b"SUBSCRIBE", [topic]:
                reply = await client.ask(f"GET /topics/{quote(topic)}/stream", {"accept": "text/event-stream"})
                if isinstance(reply.body, bytes):
                    raise BadRequest(json.loads(reply.body)["message"])
                await client.write(b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%b\r\n:1\r\n" % (len(words[0]), words[0]))
                client.follow(reply.body, lambda payload: _messages(words[0], payload), _end)
            case b"CALL", [line, *more]:
                fields = dict(zip(("content-type", "accept"), more[1:], strict=False))
                reply = await client.ask(line, {k: v for k, v in fields.items() if v}, words[1] if more else b"")
                body = reply.body if isinstance(reply.body, bytes) else b""
                await client.answer(reply, _array(b"%d" % reply.status, reply.media_type.encode(), body))
                if not isinstance(reply.body, bytes):
                    client.follow(reply.body, lambda each: _array(b"payload", each.name.encode(), each.data), _end)
            case _:
                raise BadRequest("no such command, or with other arguments")


def _number(kind: bytes, line: bytes, most: int = 1 << 40) -> int:
    """What stands behind the kind of thing that must come now."""
    digits = line[1:].strip()
    if line[:1] != kind or not digits.isdigit() or (number := int(digits)) > most:
        raise BadRequest(f"{kind.decode()} and a number up to {most} was to come here")
    return number


def _array(*parts: bytes) -> bytes:
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def _messages(channel: bytes, payload: Payload) -> bytes:
    lines = payload.data.splitlines() if payload.name == "record" else []
    return b"".join(_array(b"message", channel, line) for line in lines)


def _end(error: ServiceError | None) -> bytes:
    return _array(b"end", error.message.encode() if error else b"")


def _error(error: ServiceError) -> bytes:
    return b"-ERR %b\r\n" % error.message.encode()


def _farewell(reason: CloseReason) -> bytes:
    return b"-ERR %b\r\n" % reason.text.encode()


@hookimpl
def gateway_transports(config: Config) -> list[Transport]:
    return [RespTransport(config)]


@hookimpl
def gateway_config_keys() -> list[ConfigKey]:
    doc = "Port of 127.0.0.1 for Redis clients; 0: any."
    return [ConfigKey(name="transport.resp.port", type="int", default=6379, minimum=0, maximum=65535, doc=doc)]
