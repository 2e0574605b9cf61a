r"""Server-sent events (HTML standard §9.2; atmosphere-binding.md §3.7): one message, one event.

A client takes ``\n``, ``\r`` and ``\r\n`` alike for the end of a line, so no payload may have one of them inside a
``data`` line: it could begin events of its own (reliability.md H10).
"""

from __future__ import annotations

from kafka_gateway.transports.atmosphere import protocol as atmosphere
from kafka_gateway.transports.atmosphere.channel import Framing

PADDING = b" " * 2000 + b"\n"
"""Makes old browsers and proxies hand on what has come; it is a field without a known name."""


def text(message: bytes) -> bytes:
    r"""The message as the client will have it: lines are joined again with ``\n``, whatever was between them.

    Lengths are those of this text: with those of another the client would wait for characters that never come.
    """
    if 0x0D in message:
        message = message.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return atmosphere.as_text(message)


def event(message: bytes) -> bytes:
    """The event for a message that ``text`` has made."""
    if 0x0A not in message and message[:1] != b" ":
        return b"data:" + message + b"\r\n\r\n"
    # The client removes one space after the colon.
    lines = [(b"data: " if line[:1] == b" " else b"data:") + line for line in message.split(b"\n")]
    return b"\r\n".join(lines) + b"\r\n\r\n"


SSE = Framing(
    name="sse",
    media_type="text/event-stream;charset=utf-8",
    text=text,
    frame=event,
    opening=lambda major_version: PADDING,
    json_heartbeats=True,
)
