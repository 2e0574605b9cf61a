"""Whole messages as frames of a server, uncompressed: for `Socket.send_frames`."""

from __future__ import annotations

from typing import Final

from kafka_gateway.transports.records.frames import frame_head

_BINARY = 0x82
_TEXT_HEADS: Final = tuple(frame_head(length) for length in range(1024))
"""Those of most messages: each record and each result is one."""
_KNOWN: Final = len(_TEXT_HEADS)


def text_frame(payload: bytes) -> bytes:
    """A text message."""
    length = len(payload)
    return (_TEXT_HEADS[length] if length < _KNOWN else frame_head(length)) + payload


def binary_frame(payload: bytes) -> bytes:
    """A binary message."""
    return frame_head(len(payload), _BINARY) + payload
