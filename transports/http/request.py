"""HTTP requests on their way in, before they are dispatched: what all transports over HTTP do with one alike."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from aiohttp import HttpVersion11, web

from gateway.errors import (
    BadRequest,
    Forbidden,
    ServiceError,
)
from transports.http.cors import Cors


def give_up(request: web.BaseRequest, error: ServiceError) -> bool:
    """Whether the connection has to close behind the refusal of this request; its body is not read any more."""
    # What is left of a refused body would be read as the next request's head.
    return not request.content.is_eof() or isinstance(error, _Disputable)


class _Disputable(BadRequest):
    """A proxy in front may see the end of this request in another place than we do."""


def check_head(request: web.BaseRequest) -> None:
    """What aiohttp lets pass and a proxy in front may understand otherwise (reliability.md §2.3)."""
    headers = request.headers
    if request.method == "CONNECT":  # what follows would be a tunnel's, if anybody granted it
        raise _Disputable("The gateway is no proxy.")
    if request.version < HttpVersion11 and "Transfer-Encoding" in headers:
        raise _Disputable("Transfer-Encoding is not part of HTTP/1.0.")
    # What aiohttp could grant. Java's HttpClient offers h2c with its first request, which may well have a body.
    if headers.get("Upgrade", "").strip().lower() in ("websocket", "tcp") and (
        "Content-Length" in headers or "Transfer-Encoding" in headers
    ):
        raise _Disputable("A request to upgrade must not have a body.")


def base_url(request: web.BaseRequest, headers: Mapping[str, str]) -> str:
    """What absolute URLs in replies to this request start with."""
    return f"{_scheme(request)}://{headers.get('Host', 'localhost')}"


def check_origin(request: web.BaseRequest, cors: Cors) -> None:
    """Forbidden for a page of another origin that is not listed, whatever it asks for.

    For what lasts: a foreign page would use it with its reader's cookies and place in the network (reliability.md S11).
    """
    for origin in request.headers.getall("Origin", ()):
        if not _is_own(origin, request) and not cors.allows(origin):
            raise Forbidden("Pages of this origin may not use the gateway (access.control.allow.origin).")


def _is_own(origin: str, request: web.BaseRequest) -> bool:
    """Whether a page comes from the gateway itself: the same scheme, host and port (RFC 6454 §5)."""
    try:
        parts = urlsplit(origin)
        port, scheme = parts.port, parts.scheme
    except ValueError:
        return False
    host = request.headers.get("Host", "").lower()
    default = {"http": 80, "https": 443}.get(scheme)
    names = {f"{parts.hostname}:{port or default}"} | ({parts.hostname or ""} if port in (None, default) else set())
    return scheme == _scheme(request) and origin.isascii() and host in names


def _scheme(request: web.BaseRequest) -> str:
    return "https" if request._transport_sslcontext is not None else "http"
