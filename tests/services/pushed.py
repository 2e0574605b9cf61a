"""Somebody at the other end of a subscription, for the tests of pushes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from kafka_gateway.errors import CloseReason
from kafka_gateway.messages import Reply, Request
from kafka_gateway.session import Session
from kafka_gateway.stream import Payload, Stream
from tests.services.conftest import V1, Rest, embedded
from tests.waiting import PATIENCE_S

"""The mock cluster lets the next member of a group in when the session of the one that left is over, after six seconds;
on a busy machine ten were not enough for that and a read."""
JSON = embedded("json", "v1")


class Client:
    """A client in a session of its own. What is pushed is taken at once, unless ``room`` is cleared."""

    def __init__(self, rest: Rest, session: Session | None = None) -> None:
        self.rest = rest
        self.session = session or Session("test")
        self.payloads: list[Payload] = []
        self.room = asyncio.Event()
        self.room.set()
        self.sending = asyncio.Event()
        """Set while a payload is being written."""
        self.breaks_at: int | None = None
        """The connection breaks when so many payloads have been taken."""
        self.delivering: asyncio.Task[CloseReason] | None = None
        self._arrived = asyncio.Event()

    async def ask(
        self, method: str, path: str, accept: str | None = JSON, query: dict[str, str] | None = None
    ) -> Reply:
        """The reply, whatever it is; nothing of a stream is delivered yet."""
        headers = {"accept": accept} if accept else {}
        request = Request(self.session, method, path, query or {}, headers, b"", self.rest.base_url)
        return await self.rest.gateway.dispatch(request)

    async def subscribe(self, path: str, accept: str | None = JSON, **query: str) -> Client:
        """Subscribes; pushes are taken from now on."""
        reply = await self.ask("GET", path, accept, query)
        assert (reply.status, isinstance(reply.body, bytes)) == (200, False), reply
        self.start(reply.body)
        return self

    def start(self, stream: bytes | Stream) -> None:
        assert not isinstance(stream, bytes)
        self.delivering = self.session.spawn(self.rest.gateway.deliver(stream, self, self.session))

    async def send(self, payload: Payload) -> None:
        self.sending.set()
        await self.room.wait()
        self.sending.clear()
        if len(self.payloads) == self.breaks_at:
            raise ConnectionResetError("the client left")
        self.payloads.append(payload)
        self._arrived.set()

    async def has(self, count: int) -> list[Any]:
        """What was pushed, when that are at least so many payloads."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.payloads) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return [json.loads(payload.data) for payload in self.payloads]

    @property
    def records(self) -> list[Any]:
        """All records that were pushed."""
        return [row for payload in self.payloads if payload.status == 200 for row in json.loads(payload.data)]

    @property
    def values(self) -> list[Any]:
        return [record["value"] for record in self.records]

    async def has_values(self, *values: Any) -> None:
        """Waits until exactly these have been pushed."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.values) < len(values):
                self._arrived.clear()
                await self._arrived.wait()
        assert self.values == list(values)

    async def over(self) -> CloseReason:
        """The reason for the end, when it has come."""
        assert self.delivering is not None
        async with asyncio.timeout(PATIENCE_S):
            return await self.delivering

    async def leave(self) -> None:
        """The connection is gone."""
        await self.rest.gateway.close_session(self.session)


async def create(rest: Rest, name: str = "c", group: str = "g", **settings: Any) -> str:
    """The path of a new v1 instance."""
    body = {"name": name, "format": "json", "auto.offset.reset": "smallest"} | settings
    answer = await rest.post(f"/consumers/{group}", body, V1)
    assert answer.status == 200, answer.body
    return f"/consumers/{group}/instances/{answer.body['instance_id']}"


def pushes(instance: str, topic: str = "t") -> str:
    return f"/ws{instance}/topics/{topic}"
