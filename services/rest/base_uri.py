"""The base of the URLs in replies (kafka-rest-http.md §3.8)."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, urlsplit

from kafka_gateway.config import Config

_SAFE: Final = "~!$&'()*+,;=:@-._"
"""Characters that a path segment may hold as they are (RFC 3986 §3.3)."""


def segment(text: str) -> str:
    """A name as one segment of a path, whatever is in it. One that stands for a place in the path has its dots
    escaped (RFC 3986 §3.3)."""
    if text.isalnum() and text.isascii():
        return text
    return text.replace(".", "%2E") if text in (".", "..") else quote(text, safe=_SAFE)


class BaseUrls:
    """Where clients reach this very gateway: consumer instances live in one process (§6.9)."""

    def __init__(self, config: Config) -> None:
        self._advertised: dict[str, str] = {}
        for entry in config.items("advertised.listeners"):
            parts = urlsplit(entry)
            self._advertised.setdefault(parts.scheme.lower(), parts.netloc)
        host = config.text("host.name")
        self._host = f"[{host}]" if ":" in host else host
        self._port = config.integer("port")
        self._ports = {listener.scheme: listener.port for listener in config.listeners() if listener.port}

    def base(self, request_url: str) -> str:
        """Scheme, authority and mount point, without a slash at the end.

        The authority is that of the first advertised listener of the request's scheme, else ``host.name`` and the port
        if the request named one, else that of the request.

        Args:
            request_url: the base URL under which the request came in, ``http://host:8082``.
        """
        parts = urlsplit(request_url)
        authority = self._advertised.get(parts.scheme)
        if authority is None:
            authority = parts.netloc
            if self._host:
                named = authority.rpartition("]")[2].partition(":")[2]
                port = self._ports.get(parts.scheme, self._port) or named
                authority = f"{self._host}:{port}" if named else self._host
        return f"{parts.scheme}://{authority}{parts.path.rstrip('/')}"

    def instance(self, request_url: str, group: str, name: str) -> str:
        """The URL of a consumer instance. Names of letters, digits, dots and the like stand in it as they are, as
        upstream has them; with others it would lead elsewhere."""
        return f"{self.base(request_url)}/consumers/{segment(group)}/instances/{segment(name)}"
