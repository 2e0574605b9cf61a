"""Plain HTTP as flasfka speaks it (bridges.md §B2): its version on every reply, its slashes, and errors of its own.

Routes that every transport serves do the pushing and pulling; this is what only its HTTP has.
"""

from __future__ import annotations

import re
from typing import Final

from aiohttp import web

from kafka_gateway import jsonio
from kafka_gateway.config import Config
from kafka_gateway.core import Gateway
from kafka_gateway.dialect import Dialect
from kafka_gateway.errors import ServiceError
from kafka_gateway.messages import Reply, Request
from kafka_gateway.transports.http.transport import HttpTransport

VERSION: Final = "1.1.6"
"""Of the flasfka whose clients are served."""

_HEADER = ("X-Flasfka-Version", VERSION)
# No empty segment, and nothing that a browser might take for the beginning of another host.
_UNSLASHED = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+){1,2}")


class PushPullDialect(Dialect):
    def error(self, error: ServiceError) -> bytes:
        return jsonio.encode({"error": error.message})


class PushPullTransport(HttpTransport):
    name = "push-pull"
    _dialect = PushPullDialect()

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._root = config.text("push.pull.prefix").rstrip("/")
        self._below = self._root + "/"
        self.paths = (self._root, self._below + "*")
        self._heads.extra.append(_HEADER)

    def claims(self, request: web.BaseRequest) -> bool:
        path = request.raw_path
        if path[:1] != "/":  # an absolute URL
            path = "/" + path.partition("://")[2].partition("/")[2]
        return path.startswith(self._below) or path.partition("?")[0] == self._root

    async def _dispatch(self, gateway: Gateway, request: Request, query: str) -> Reply:
        path = request.path
        if (
            request.method in ("GET", "POST")
            and _UNSLASHED.fullmatch(path.removeprefix(self._root))
            and query.isascii()
        ):
            return Reply(308, "", b"", (("Location", f"{path}/?{query}" if query else path + "/"),))
        request.dialect = self._dialect
        reply = await gateway.dispatch(request)
        if reply.media_type.startswith("application/vnd.kafka"):  # of an error that no route has answered
            reply.media_type = "application/json"
        return reply
