"""What the Atmosphere clients say when they connect, and the texts that they expect (atmosphere-binding.md §3).

No I/O. The clients put their headers into the query string, because a browser cannot set any on a WebSocket.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from transports.envelope import Form

TRACKING_ID = "X-Atmosphere-tracking-id"
FIRST_REQUEST = "X-Atmosphere-first-request"
ERROR = "X-Atmosphere-error"

_FORMS = {"true": Form.DETACHED, "lf": Form.DETACHED_LF}
_ID_MAX = 64


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of one connection (§3.1)."""

    transport: str
    """``X-Atmosphere-Transport`` in lower case; empty for clients that are no Atmosphere clients."""
    tracking_id: str
    """Empty for a new connection."""
    major_version: int
    protocol: bool
    """``X-atmo-protocol``: the handshake is wanted."""
    track_length: bool
    heartbeat_s: int | None
    """``X-Heartbeat-Server``; None if the client did not say."""
    binary: bool
    form: Form | None
    reply_headers: bool

    @property
    def is_atmosphere(self) -> bool:
        return bool(self.transport or self.tracking_id or self.protocol or self.track_length)

    @property
    def wants_handshake(self) -> bool:
        """Clients up to 4.x deliver a handshake on reconnect to the application; 5.x breaks without one (§3.3)."""
        return self.protocol and (not self.tracking_id or self.major_version >= 5)


def parameters(headers: Mapping[str, str], query: Mapping[str, str]) -> Parameters:
    """Reads them: the header before the query parameter, names in any case."""
    lower = {name.lower(): value for name, value in query.items()}

    def get(name: str) -> str:
        return headers.get(name) or lower.get(name, "")

    def flag(name: str) -> bool:
        return get(name).lower() == "true"

    tracking_id = get("x-atmosphere-tracking-id")
    if tracking_id == "0" or len(tracking_id) > _ID_MAX or not (tracking_id.isascii() and tracking_id.isprintable()):
        tracking_id = ""
    form = None
    detached = get("x-atmosphere-simplerestprotocoldetached").lower()
    if detached:
        form = _FORMS.get(detached, Form.EMBEDDED)
    heartbeat = get("x-heartbeat-server")
    version = get("x-atmosphere-framework").partition(".")[0]
    return Parameters(
        transport=get("x-atmosphere-transport").lower(),
        tracking_id=tracking_id,
        major_version=int(version) if version.isascii() and version.isdigit() and len(version) < 4 else 2,
        protocol=flag("x-atmo-protocol"),
        track_length=flag("x-atmosphere-trackmessagesize"),
        heartbeat_s=int(heartbeat) if heartbeat.isascii() and heartbeat.isdigit() and len(heartbeat) < 8 else None,
        binary=flag("x-atmosphere-binary"),
        form=form,
        reply_headers=flag("x-atmosphere-simplerestheaders"),
    )


def new_id() -> str:
    return str(uuid.uuid4())


def handshake(tracking_id: str, heartbeat_ms: int, heartbeat: str) -> bytes:
    """The very first message of a connection (§3.3)."""
    return f"{tracking_id}|{heartbeat_ms}|{heartbeat}|".encode()


def with_length(message: bytes, delimiter: bytes = b"|") -> bytes:
    """The message behind its length in UTF-16 code units, as JavaScript counts (§3.4); in bytes if it is no UTF-8."""
    if message.isascii():
        length = len(message)
    else:
        try:
            length = len(message.decode().encode("utf-16-le")) // 2
        except UnicodeDecodeError:
            length = len(message)
    return b"%d%b%b" % (length, delimiter, message)
