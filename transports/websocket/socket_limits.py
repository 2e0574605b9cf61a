"""What a WebSocket may send, and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """``text_max`` and ``binary_max`` in bytes, None without a limit; times in seconds, 0 for ``ping_s``: no pings,
    for ``idle_s``: never closed for being idle. ``echo_close``: a client's close is answered with its own reason, and
    with 1000 if it has no code. ``server_name`` is for the header of that name; none if empty.
    """

    text_max: int | None = 65536
    binary_max: int | None = 65536
    idle_s: float = 300.0
    write_timeout_s: float = 60.0
    ping_s: float = 60.0
    compress: bool = False
    buffer_bytes: int = 1024 * 1024
    """What may wait for a client to which streams are sent (stream.buffer.bytes)."""
    fragments_s: float = 0.0
    """How long a message in fragments may take; 0: no limit."""
    message_rate: int = 0
    """Bytes a second at which a long message must come; 0: no limit."""
    echo_close: bool = False
    server_name: str = "kafka-gateway"
