"""Whole messages as frames of a server, uncompressed: for `Socket.send_frames`."""

from __future__ import annotations

from kafka_gateway.transports.records.frames import frame_head

_BINARY = 0x82


def text_frame(payload: bytes) -> bytes:
    """A text message."""
    return frame_head(len(payload)) + payload


def binary_frame(payload: bytes) -> bytes:
    """A binary message."""
    return frame_head(len(payload), _BINARY) + payload
