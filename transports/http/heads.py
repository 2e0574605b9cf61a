"""Heads of replies of plain HTTP, assembled from bytes that are made once for each kind of reply."""

from __future__ import annotations

import time
from http import HTTPStatus

from kafka_gateway.config import Config
from kafka_gateway.messages import Reply


class Heads:
    def __init__(self, config: Config) -> None:
        self._compress = config.flag("compression.enable")
        self.extra = _extra_headers(config.text("response.http.headers.config"))
        self.known: dict[tuple[int, str], bytes] = {}
        """What ``make`` has made, by status and media type."""
        self._date = b""
        self._date_at = 0

    def date_line(self) -> bytes:
        """The field ``Date``, as of this second."""
        now = int(time.time())
        if now != self._date_at:
            self._date_at = now
            self._date = time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n", time.gmtime(now)).encode()
        return self._date

    def make(self, key: tuple[int, str]) -> bytes:
        """The first lines of replies with this status and media type, which are remembered."""
        status, media_type = key
        try:
            reason = HTTPStatus(status).phrase
        except ValueError:
            reason = ""
        lines = [f"HTTP/1.1 {status} {reason}"]
        if media_type:
            lines.append(f"Content-Type: {media_type}")
        if self._compress:
            lines.append("Vary: Accept-Encoding")
        lines += [f"{name}: {value}" for name, value in self.extra]
        head = ("\r\n".join(lines) + "\r\n").encode("latin-1")
        if len(self.known) < 1000:
            self.known[key] = head
        return head

    def of_stream(self, reply: Reply, is_chunked: bool, close: bool) -> bytes:
        """The head of a reply that does not end."""
        parts = [self.known.get((reply.status, reply.media_type)) or self.make((reply.status, reply.media_type))]
        parts.append(self.date_line())
        parts.append(b"X-Request-Id: %b\r\n" % reply.request_id.encode())
        parts.append(b"Cache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\n")
        parts += [f"{name}: {value}\r\n".encode("latin-1") for name, value in reply.headers]
        if is_chunked:
            parts.append(b"Transfer-Encoding: chunked\r\n")
        parts.append(b"Connection: close\r\n\r\n" if close else b"\r\n")
        return b"".join(parts)


def _extra_headers(text: str) -> list[tuple[str, str]]:
    """``add X-Frame-Options: DENY, set Cache-Control: no-store`` as pairs (kafka-rest-http.md §9.5)."""
    pairs = []
    for item in text.split(","):
        words = item.strip().split(None, 1)
        if len(words) == 2 and words[0].lower() in ("add", "set") and ":" in words[1]:
            name, _, value = words[1].partition(":")
            pairs.append((name.strip(), value.strip()))
    return pairs
