"""A client that speaks envelopes over a WebSocket of its own, at whatever pace a test wants."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, Self

from tests.transports.peer import Peer
from tests.waiting import PATIENCE_S

V1_JSON = "application/vnd.kafka.json.v1+json"
V2_JSON = "application/vnd.kafka.json.v2+json"

_decode = json.JSONDecoder().raw_decode


class Reply(NamedTuple):
    id: str
    status: int
    content: str

    @property
    def json(self) -> Any:
        return json.loads(self.content)


class EnvelopeClient:
    """Nothing is read but by ``reply``, which answers pings as well. ``peer`` is the socket."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self._begun: dict[str, str] = {}

    @classmethod
    async def open(cls, url: str) -> EnvelopeClient:
        return cls(await Peer.open(url))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.peer.kill()

    def pause(self) -> None:
        """Takes nothing from the system any more; ``resume`` does."""
        self.peer.wire.writer.transport.pause_reading()  # type: ignore[attr-defined]

    def resume(self) -> None:
        self.peer.wire.writer.transport.resume_reading()  # type: ignore[attr-defined]

    def write(self, id: str, method: str, path: str, body: Any = None, **head: str) -> None:
        content = "" if body is None else json.dumps(body, separators=(",", ":"))
        self.peer.write(json.dumps({"id": id, "method": method, "path": path, **head}) + content)

    async def reply(self, timeout_s: float = PATIENCE_S) -> Reply:
        """The next reply or push, put together if it comes in parts."""
        while True:
            text = await self.peer.text(timeout_s)
            head, end = _decode(text)
            content = self._begun.pop(head["id"], "") + text[end:]
            if not head.get("continue"):
                return Reply(head["id"], head["code"], content)
            self._begun[head["id"]] = content

    async def ask(self, method: str, path: str, body: Any = None, **head: str) -> Reply:
        """The reply to this request; whatever else comes before it is dropped."""
        self.write("ask", method, path, body, **head)
        while (reply := await self.reply()).id != "ask":
            pass
        return reply

    async def produce(self, topic: str, *values: Any) -> None:
        reply = await self.ask(
            "POST", f"/topics/{topic}", {"records": [{"value": value} for value in values]}, type=V2_JSON
        )
        assert reply.status == 200, reply
        assert {row["error_code"] for row in reply.json["offsets"]} == {None}, reply

    async def instance(self, group: str, name: str = "c", **settings: Any) -> str:
        """A new v1 instance that reads from the beginning; its path."""
        body = {"id": name, "format": "json", "auto.offset.reset": "smallest"} | settings
        reply = await self.ask("POST", f"/consumers/{group}", body, type="application/vnd.kafka.v1+json")
        assert reply.status == 200, reply
        return f"/consumers/{group}/instances/{name}"

    def subscribe(self, id: str, instance: str, topic: str, max_bytes: int = 0) -> None:
        """Pushes of the topic come under this id from now on."""
        query = f"?max_bytes={max_bytes}" if max_bytes else ""
        self.write(id, "GET", f"/ws{instance}/topics/{topic}{query}", accept=V1_JSON)
