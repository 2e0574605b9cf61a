"""The base of the URLs in replies (kafka-rest-http.md §3.8)."""

from __future__ import annotations

from urllib.parse import urlsplit

from kafka_gateway.config import Config


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
        """The URL of a consumer instance; group and name stand in it as they are, unescaped, as upstream has them."""
        return f"{self.base(request_url)}/consumers/{group}/instances/{name}"
