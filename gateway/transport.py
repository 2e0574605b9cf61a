"""What a transport plugin implements and imports: :class:`Transport`, ``hookimpl``, and the types that it meets."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from aiohttp import web

from gateway.errors import CloseReason, ServiceError
from gateway.hookspecs import hookimpl
from gateway.messages import Reply, Request
from gateway.session import Session

if TYPE_CHECKING:
    from gateway.core import Gateway

__all__ = ["CloseReason", "Reply", "Request", "ServiceError", "Session", "Transport", "hookimpl"]


class Transport:
    """One way for requests to come in and replies to go out.

    ``name`` labels it in logs and prefixes its keys (``transport.<name>.*``). A transport over HTTP overrides
    ``claims`` and ``handle``; one with a port of its own overrides ``lifespan``.
    """

    name: str = ""

    def claims(self, request: web.BaseRequest) -> bool:
        """Whether this HTTP request is for this transport. The newest plugin is asked first, ``http`` last."""
        return False

    async def handle(self, request: web.BaseRequest, session: Session, gateway: Gateway) -> web.StreamResponse:
        """Decodes, dispatches, writes the reply. The host has opened the session and closes it with the connection."""
        raise NotImplementedError

    @contextlib.asynccontextmanager
    async def lifespan(self, gateway: Gateway) -> AsyncIterator[None]:
        """Runs around the gateway's serving: open a port before the yield, stop taking work and close it after."""
        yield
