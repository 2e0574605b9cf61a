"""What a transport may ask about a path before it dispatches a request to it."""

from __future__ import annotations

from kafka_gateway import media
from kafka_gateway.errors import ServiceError
from kafka_gateway.router import Route, Router

_WAIT = frozenset({"reads", "streams", "waits"})


def has_stream(router: Router, path: str) -> bool:
    """Whether a plain WebSocket to this path, undecoded, is for a record stream (streams.md §2)."""
    return any(kind != "events" for kind in _stream_kinds(router, path))


def wants_stream(router: Router, path: str, accept: str | None) -> bool:
    """Whether a plain GET of this path is answered with a record stream."""
    by_name = accept is not None and media.EVENTS in accept.lower()
    return any(by_name or kind == "always" for kind in _stream_kinds(router, path))


def takes_pieces(router: Router, method: str, path: str) -> bool:
    """Whether the body of such a request may be handed over piece by piece while it arrives.

    That is what a route with ``extras["streams_body"]`` does: its ``Request.body`` is an asynchronous iterator of
    bytes then, or bytes where all of it came with the head.
    """
    return any("streams_body" in route.extras for route in _routes(router, method, path))


def answers_once(router: Router, method: str, path: str, accept: str | None) -> bool:
    """Whether such a request has a route, and whichever it is, its reply ends."""
    if not _routes(router, method, path):
        return False
    return method != "GET" or not wants_stream(router, path, accept)


def waits(router: Router, method: str, path: str) -> bool:
    """Whether such a request may be answered only when there are records."""
    if method not in ("GET", "HEAD"):
        return False
    return any(map(may_wait, _routes(router, "GET", path)))


def may_wait(route: Route) -> bool:
    """Whether a request to this route may be answered only when there are records."""
    return not _WAIT.isdisjoint(route.extras)


def _stream_kinds(router: Router, path: str) -> list[str]:
    """What ``extras["streams"]`` says of the routes that fit: ``always``; ``accepted``, for clients that accept events
    and for sockets; ``events``, for clients that accept events.
    """
    return [str(route.extras["streams"]) for route in _routes(router, "GET", path) if "streams" in route.extras]


def _routes(router: Router, method: str, path: str) -> list[Route]:
    try:
        return list(router.match(method, path).routes.values())
    except ServiceError:
        return []
