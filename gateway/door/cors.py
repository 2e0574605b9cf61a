"""Pages of other origins (Fetch standard; kafka-rest-http.md §3.9; reliability.md S11).

Browsers send the requests of a page to any address, with what its reader has there: cookies, and access to the
network. Pages of listed origins may do so, and read the replies. Others get no header that lets them read, and what
would change something, read records (which moves positions) or last is refused to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from aiohttp import web

from kafka_gateway.config import Config
from kafka_gateway.door.request import Headers, HttpRequest, scheme_of
from kafka_gateway.errors import Forbidden

_ELSEWHERE = frozenset({"cross-site", "same-site"})
"""What a browser says of a page of another origin; another port is another origin, and the same site."""
_DEFAULT_METHODS = ("GET", "POST", "HEAD")


class Cors:
    """Judges origins, and makes the headers that let listed ones read replies: none without allowed origins."""

    def __init__(self, config: Config) -> None:
        self._origins = frozenset(origin.lower() for origin in config.items("access.control.allow.origin"))
        self.enabled = bool(self._origins)
        self._methods = ",".join(config.items("access.control.allow.methods") or _DEFAULT_METHODS)
        self._headers = ",".join(config.items("access.control.allow.headers"))
        self._exposed = ",".join(config.items("access.control.expose.headers"))

    def allows(self, origin: str) -> bool:
        """Whether pages of this origin may use the gateway: compared whole, never in part."""
        if origin.lower() in self._origins:
            return True
        return "*" in self._origins and _echoable(origin)

    def check(self, request: HttpRequest) -> None:
        """Raises Forbidden for a page of another origin that is not listed.

        A browser names no origin where the page cannot read the reply anyhow (``<img>``, links): then it says how far
        the page is away, which no list answers.
        """
        origins = request.headers.getall("Origin", ())
        for origin in origins:
            if not _is_own(origin, request) and not self.allows(origin):
                raise Forbidden("Pages of this origin may not use the gateway (access.control.allow.origin).")
        if not origins and "*" not in self._origins:
            raise Forbidden(
                "A page of another origin may read records with fetch() only, in the mode cors, and if its origin is "
                "listed in access.control.allow.origin."
            )

    def headers(self, request_headers: Mapping[str, str]) -> Headers:
        """The headers that a reply to this request carries. Credentials are never allowed, so ``*`` gives nobody the
        use of a reader's cookies."""
        if not self.enabled:
            return ()
        origin = request_headers.get("origin")
        if not origin or not self.allows(origin):
            return (("Vary", "Origin"),)  # a cache must not keep this reply for a page of a listed origin
        found = [("Access-Control-Allow-Origin", origin), ("Vary", "Origin")]
        if self._exposed:
            found.append(("Access-Control-Expose-Headers", self._exposed))
        return tuple(found)

    def preflight(self, request_headers: Mapping[str, str]) -> Headers:
        """What the reply to a preflight says besides ``headers``; nothing to a page that may not use the gateway."""
        origin = request_headers.get("origin")
        if not origin or not self.allows(origin):
            return ()
        allowed_headers = self._headers or request_headers.get("access-control-request-headers", "")
        found = [("Access-Control-Allow-Methods", self._methods), ("Access-Control-Max-Age", "1800")]
        if allowed_headers and _echoable(allowed_headers):
            found.append(("Access-Control-Allow-Headers", allowed_headers))
        return tuple(found)


def is_of_a_page(headers: Mapping[str, str]) -> bool:
    """Whether a browser says that a page asks, of whatever origin, but for one that asks of its own origin without
    naming it (Fetch standard; Fetch Metadata)."""
    return "Origin" in headers or headers.get("Sec-Fetch-Site") in _ELSEWHERE


def is_preflight(request: web.BaseRequest) -> bool:
    """Whether a browser asks what a page may do (Fetch standard §3.3.2): it sends no proof, no body and no upgrade."""
    headers = request.headers
    return (
        request.method == "OPTIONS"
        and "Origin" in headers
        and "Access-Control-Request-Method" in headers
        and "Upgrade" not in headers
        and not request.body_exists
    )


def _echoable(text: str) -> bool:
    """Whether text of a client can stand in a header of ours: origins and header names are visible ASCII."""
    return text.isascii() and text.isprintable()


def _is_own(origin: str, request: HttpRequest) -> bool:
    """Whether a page comes from the gateway itself: the same scheme, host and port (RFC 6454 §5)."""
    try:
        parts = urlsplit(origin)
        port, scheme = parts.port, parts.scheme
    except ValueError:
        return False
    host = request.headers.get("Host", "").lower()
    default = {"http": 80, "https": 443}.get(scheme)
    names = {f"{parts.hostname}:{port or default}"} | ({parts.hostname or ""} if port in (None, default) else set())
    return scheme == scheme_of(request) and origin.isascii() and host in names
