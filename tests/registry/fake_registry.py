"""A schema registry in memory over HTTP, which can be told to misbehave: for faults that a real one does not show."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from aiohttp import web

Misbehave = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FakeRegistry:
    """``url`` has a path, as some have. ``asked`` lists what came in: method, path, Authorization."""

    def __init__(self) -> None:
        self.schemas: dict[int, dict[str, Any]] = {}
        self.subjects: dict[str, list[int]] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.misbehave: Misbehave | None = None
        self.url = ""

    def add(self, subject: str, text: str, type: str = "AVRO", references: Any = (), id: int | None = None) -> int:
        """The id of a schema that is registered under the subject now."""
        number = id or len(self.schemas) + 1
        found = {"schema": text} | ({"schemaType": type} if type != "AVRO" else {})
        self.schemas[number] = found | ({"references": list(references)} if references else {})
        self.subjects.setdefault(subject, []).append(number)
        return number

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.path, request.headers.get("Authorization", "")))
        if self.misbehave is not None:
            return await self.misbehave(request)
        return await self.answer_well(request)

    async def answer_well(self, request: web.Request) -> web.Response:
        # Subjects may hold escaped slashes.
        parts = [unquote(each) for each in request.rel_url.raw_path.removeprefix("/base/v7/").split("/")]
        if parts[0] == "schemas" and request.method == "GET":
            return self._schema(int(parts[2]), parts[3:])
        if parts == ["subjects"]:
            return web.json_response(sorted(self.subjects))
        if parts[0] == "compatibility":
            if parts[2] not in self.subjects:
                return _error(404, 40401, "Subject not found.")
            return web.json_response({"is_compatible": True})
        subject = parts[1]
        if request.method == "POST":
            return self._post(subject, await request.json(), register=len(parts) > 2)
        return self._version(subject, parts[3])

    def _schema(self, id: int, more: list[str]) -> web.Response:
        found = self.schemas.get(id)
        if found is None:
            return _error(404, 40403, f"Schema {id} not found.")
        if more:
            places = [
                {"subject": subject, "version": ids.index(id) + 1}
                for subject, ids in self.subjects.items()
                if id in ids
            ]
            return web.json_response(places)
        return web.json_response(found)

    def _post(self, subject: str, body: dict[str, Any], register: bool) -> web.Response:
        for id in self.subjects.get(subject, ()):
            if self.schemas[id]["schema"] == body["schema"]:
                version = self.subjects[subject].index(id) + 1
                return web.json_response({"id": id} if register else {"id": id, "version": version, "subject": subject})
        if register:
            # Equal schemas have one id, whatever they stand under.
            type = body.get("schemaType", "AVRO")
            wanted = (body["schema"], type)
            has = (id for id, s in self.schemas.items() if (s["schema"], s.get("schemaType", "AVRO")) == wanted)
            return web.json_response({"id": self.add(subject, body["schema"], type, id=next(has, None))})
        return _error(404, 40403, "Schema not found")

    def _version(self, subject: str, word: str) -> web.Response:
        ids = self.subjects.get(subject)
        if not ids:
            return _error(404, 40401, "Subject not found.")
        version = len(ids) if word == "latest" else int(word)
        if not 1 <= version <= len(ids):
            return _error(404, 40402, "Version not found.")
        id = ids[version - 1]
        return web.json_response({"subject": subject, "version": version, "id": id, **self.schemas[id]})


def _error(status: int, code: int, message: str) -> web.Response:
    return web.json_response({"error_code": code, "message": message}, status=status)


@contextlib.asynccontextmanager
async def serving(registry: FakeRegistry, tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeRegistry]:
    """Serves it on a free port of the loopback address."""
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/base/v7/{path:.+}", registry.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    registry.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}/base/v7"
    try:
        yield registry
    finally:
        await runner.cleanup()


async def never(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)  # time itself: it never answers
    return web.Response()


async def html(request: web.Request) -> web.StreamResponse:
    return web.Response(text="<html>not a registry</html>", content_type="text/html")


async def server_error(request: web.Request) -> web.StreamResponse:
    return web.Response(status=500, text="Internal Server Error")


async def redirect(request: web.Request) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/elsewhere"})


async def half_body(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(json.dumps({"schema": '"int"'}).encode()[:10])
    assert request.transport is not None
    request.transport.abort()
    return response
