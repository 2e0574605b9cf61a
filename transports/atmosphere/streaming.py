"""A text response that never ends, read while it comes (atmosphere-binding.md §3.8).

Messages follow each other without a boundary; clients that need one have their lengths sent (§3.4).
"""

from __future__ import annotations

from kafka_gateway.transports.atmosphere import protocol as atmosphere
from kafka_gateway.transports.atmosphere.channel import Framing

PADDING = b" " * 2048 + b"\n"
"""Old browsers report nothing before so many bytes; clients of version 5 would take it for a message."""

STREAMING = Framing(
    name="streaming",
    media_type="text/plain;charset=utf-8",
    text=atmosphere.as_text,
    frame=lambda message: message,
    opening=lambda major_version: b"" if major_version >= 5 else PADDING,
    json_heartbeats=False,
)
