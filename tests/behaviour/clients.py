"""How the behaviour suite talks to a gateway: one small interface, a class for each transport."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, Protocol

import aiohttp

V1 = "application/vnd.kafka.v1+json"
V2 = "application/vnd.kafka.v2+json"


def v1(fmt: str) -> str:
    return f"application/vnd.kafka.{fmt}.v1+json"


def v2(fmt: str) -> str:
    return f"application/vnd.kafka.{fmt}.v2+json"


class Answer(NamedTuple):
    status: int
    media_type: str
    payload: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.payload)

    @property
    def error_code(self) -> int:
        code: int = self.json["error_code"]
        return code

    @property
    def message(self) -> str:
        text: str = self.json["message"]
        return text


class Client(Protocol):
    """``body`` is JSON-encoded unless it is bytes already; None sends none."""

    async def request(
        self, method: str, path: str, body: Any = None, *, content_type: str | None = None, accept: str | None = None
    ) -> Answer: ...

    async def close(self) -> None: ...


def encoded(body: Any) -> bytes | None:
    if body is None or isinstance(body, bytes):
        return body
    return json.dumps(body).encode()


class HttpClient:
    """Plain HTTP with keep-alive."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = aiohttp.ClientSession()

    async def request(
        self, method: str, path: str, body: Any = None, *, content_type: str | None = None, accept: str | None = None
    ) -> Answer:
        headers = {"Content-Type": content_type} if content_type else {}
        if accept:
            headers["Accept"] = accept
        skip = () if content_type else ("Content-Type",)
        async with self._session.request(
            method, self._url + path, data=encoded(body), headers=headers, skip_auto_headers=skip
        ) as response:
            return Answer(response.status, response.headers.get("Content-Type", ""), await response.read())

    async def close(self) -> None:
        await self._session.close()


TRANSPORTS = {"http": HttpClient}
