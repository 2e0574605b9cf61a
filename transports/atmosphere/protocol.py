"""What the Atmosphere clients say when they connect, and the texts that they expect (atmosphere-binding.md §3).

No I/O. The clients put their headers into the query string, because a browser cannot set any on a WebSocket.
"""

from __future__ import annotations

import enum
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from kafka_gateway.config import Config
from kafka_gateway.errors import BadRequest
from kafka_gateway.transports.envelope.codec import Form

TRACKING_ID = "X-Atmosphere-tracking-id"
FIRST_REQUEST = "X-Atmosphere-first-request"
ERROR = "X-Atmosphere-error"

_FORMS = {"true": Form.DETACHED, "lf": Form.DETACHED_LF}
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
"""Ids that a gateway has made. Clients that never learned theirs invent one from the time, which others can guess (S6);
what is no id of ours counts as none."""
_HTTP = frozenset({"sse", "streaming", "long-polling"})
_ELSEWHERE = frozenset({"jsonp", "webtransport", "websocket"})
_OWN_NAMES = frozenset({"x-heartbeat-server", "_"})
_HEADER_NAMES = frozenset({"accept", "content-type", "authorization"})


@dataclass(frozen=True, slots=True)
class AtmosphereSettings:
    """What the configuration says about Atmosphere clients; intervals of 0 are switched off."""

    heartbeat_s: int
    client_heartbeat_ms: int
    heartbeat: bytes
    delimiter: bytes

    @classmethod
    def of(cls, config: Config) -> AtmosphereSettings:
        beats = "org.atmosphere.interceptor.HeartbeatInterceptor."
        return cls(
            heartbeat_s=max(0, config.integer(beats + "heartbeatFrequencyInSeconds")),
            client_heartbeat_ms=max(0, config.integer(beats + "clientHeartbeatFrequencyInSeconds")) * 1000,
            heartbeat=config.text(beats + "paddingChar").encode(),
            delimiter=config.text("org.atmosphere.client.TrackMessageSizeInterceptor.delimiter").encode(),
        )


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of one connection (§3.1)."""

    transport: str
    """``X-Atmosphere-Transport`` in lower case; empty for clients that are no Atmosphere clients."""
    tracking_id: str
    """Empty for a new connection, and for what is no id of a gateway."""
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

    def quiet_s(self, configured_s: int) -> int:
        """After how many seconds without a message the heartbeat is sent; 0 for never (§3.5)."""
        if self.heartbeat_s is None:
            return configured_s
        return max(self.heartbeat_s, configured_s) if self.heartbeat_s else 0


def parameters(headers: Mapping[str, str], query: Mapping[str, str]) -> Parameters:
    """Reads them: the header before the query parameter, names in any case."""
    lower = {name.lower(): value for name, value in query.items()}

    def get(name: str) -> str:
        return headers.get(name) or lower.get(name, "")

    def flag(name: str) -> bool:
        return get(name).lower() == "true"

    tracking_id = get("x-atmosphere-tracking-id")
    if not _ID.fullmatch(tracking_id):
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


class Kind(enum.Enum):
    """What an HTTP request is to the Atmosphere protocol."""

    OPEN = "open"
    """It opens a stream, or polls."""
    PUSH = "push"
    """It carries something for the connection that its tracking id names; what is answered goes there."""
    CLOSE = "close"
    UNSUPPORTED = "unsupported"
    """It asks for a transport that does not exist here, or not by HTTP: the client falls back to another."""
    REST = "rest"
    """Nothing of Atmosphere's."""


def classify(method: str, path: str, accept: str, parameters: Parameters, live: bool) -> Kind:
    """What a request is that is no upgrade; ``live``: its tracking id names a client that is there (§3.2)."""
    transport = parameters.transport
    if transport == "close":
        return Kind.CLOSE if method in ("GET", "POST") else Kind.REST
    if method == "GET":
        if transport in _HTTP or (not transport and path == "/" and "text/event-stream" in accept.lower()):
            return Kind.OPEN
    elif transport in _HTTP:
        return Kind.PUSH if live else Kind.REST
    if transport == "polling" and live:
        return Kind.PUSH
    return Kind.UNSUPPORTED if transport in _ELSEWHERE else Kind.REST


def pushed_request(headers: Mapping[str, str], query: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Headers and query of the REST request in a push (§3.10, style P).

    The protocol's own parameters are taken out of the query; ``accept``, ``content-type``, ``authorization`` and
    ``x-*`` are headers of clients that cannot set any. A real header wins, unless it says nothing.

    Raises:
        BadRequest: a parameter has a character that no header may have.
    """
    found = {name.lower(): value for name, value in headers.items()}
    left = {}
    for name, value in query.items():
        lower = name.lower()
        if lower.startswith("x-atmo") or lower in _OWN_NAMES:
            continue
        if lower not in _HEADER_NAMES and not lower.startswith("x-"):
            left[name] = value
        elif found.get(lower, "*/*") == "*/*":
            if not (value.isprintable() and lower.isprintable()):
                raise BadRequest("A parameter that stands for a header has a character that no header may have.")
            found[lower] = value
    return found, left


def new_id(mark: str = "") -> str:
    """122 random bits from the system, as the clients expect to see them (S6); 90 behind a mark of eight digits, by
    which another process knows whose client it is (cluster.md §5.1)."""
    made = str(uuid.uuid4())
    return mark + made[8:] if mark else made


def response_headers(parameters: Parameters, tracking_id: str) -> dict[str, str]:
    """What is in every response to an Atmosphere client (§3.14)."""
    headers = {"Expires": "-1", "Cache-Control": "no-store, no-cache, must-revalidate", "Pragma": "no-cache"}
    if tracking_id:
        headers[TRACKING_ID] = tracking_id
        if not parameters.tracking_id:
            headers[FIRST_REQUEST] = "true"
    return headers


def handshake(tracking_id: str, heartbeat_ms: int, heartbeat: str) -> bytes:
    """The very first message of a connection (§3.3)."""
    return f"{tracking_id}|{heartbeat_ms}|{heartbeat}|".encode()


def json_heartbeat(heartbeat_id: str) -> bytes:
    """The heartbeat of clients that need not know Atmosphere (§1.12)."""
    return f'{{"heartbeat": "{heartbeat_id}", "time": {time.time_ns() // 1_000_000}}}'.encode()


def as_text(message: bytes) -> bytes:
    """The message for a transport that carries UTF-8 only; other bytes become U+FFFD.

    Only payloads without an id can have others: in an envelope they are base64 (§1.6).
    """
    if message.isascii():
        return message
    return message.decode(errors="replace").encode()


def with_length(message: bytes, delimiter: bytes = b"|") -> bytes:
    """The message after its length in UTF-16 code units, as JavaScript counts (§3.4); in bytes if it is no UTF-8."""
    if message.isascii():
        length = len(message)
    else:
        try:
            length = len(message.decode().encode("utf-16-le")) // 2
        except UnicodeDecodeError:
            length = len(message)
    return b"%d%b%b" % (length, delimiter, message)
