"""Cross-origin requests of browsers (Fetch standard; kafka-rest-http.md §3.9)."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.config import Config
from gateway.messages import Reply

_DEFAULT_METHODS = ("GET", "POST", "HEAD")


class Cors:
    """Answers preflights and adds the headers that let listed origins read replies. Off without allowed origins."""

    def __init__(self, config: Config) -> None:
        self._origins = frozenset(origin.lower() for origin in config.items("access.control.allow.origin"))
        self.enabled = bool(self._origins)
        self._methods = ",".join(config.items("access.control.allow.methods") or _DEFAULT_METHODS)
        self._headers = ",".join(config.items("access.control.allow.headers"))
        self._exposed = ",".join(config.items("access.control.expose.headers"))

    def allows(self, origin: str) -> bool:
        """Whether pages of this origin may use the gateway: compared whole, never in part (S11)."""
        if origin.lower() in self._origins:
            return True
        return "*" in self._origins and _echoable(origin)

    def headers(self, request_headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """The headers that a reply to this request carries. Credentials are never allowed, so ``*`` is no danger to
        who has some (reliability.md S11)."""
        origin = request_headers.get("origin")
        if not origin or not self.allows(origin):
            return (("Vary", "Origin"),)  # a cache must not keep this reply for a page of a listed origin
        found = [("Access-Control-Allow-Origin", origin), ("Vary", "Origin")]
        if self._exposed:
            found.append(("Access-Control-Expose-Headers", self._exposed))
        return tuple(found)

    def preflight(self, request_headers: Mapping[str, str]) -> Reply | None:
        """The reply to a preflight of an allowed origin; None if the request is none."""
        origin = request_headers.get("origin")
        if not origin or "access-control-request-method" not in request_headers or not self.allows(origin):
            return None
        allowed_headers = self._headers or request_headers.get("access-control-request-headers", "")
        headers = [("Access-Control-Allow-Methods", self._methods), ("Access-Control-Max-Age", "1800")]
        if allowed_headers and _echoable(allowed_headers):
            headers.append(("Access-Control-Allow-Headers", allowed_headers))
        return Reply(200, "", b"", tuple(headers))


def _echoable(text: str) -> bool:
    """Whether text of a client can stand in a header of ours: origins and header names are visible ASCII."""
    return text.isascii() and text.isprintable()
