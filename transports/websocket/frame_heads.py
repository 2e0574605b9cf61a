"""The head of a WebSocket frame, wherever frames are looked at without being put together (RFC 6455 §5.2)."""

from __future__ import annotations

from typing import NamedTuple


class FrameHead(NamedTuple):
    first: int
    """The first byte: whether it is the last fragment, reserved bits, opcode."""
    length: int
    """Of the payload."""
    masked: bool
    begin: int
    """Where the payload begins, behind the mask."""

    @property
    def opcode(self) -> int:
        return self.first & 0x0F

    @property
    def is_final(self) -> bool:
        return self.first >= 0x80

    @property
    def is_control(self) -> bool:
        return bool(self.first & 0x08)


def read_head(data: bytes, at: int, end: int) -> FrameHead | None:
    """The head that begins there; None if some of it is missing."""
    if end - at < 2:
        return None
    first, second = data[at], data[at + 1]
    length, begin = second & 0x7F, at + 2
    if length == 126:
        begin = at + 4
    elif length == 127:
        begin = at + 10
    lengths_end = begin
    if second & 0x80:
        begin += 4
    if begin > end:
        return None
    if length > 125:
        length = int.from_bytes(data[at + 2 : lengths_end], "big")
    return FrameHead(first, length, second >= 0x80, begin)
