"""Kafka's protocol as bytes: the frames of a stream, and a cursor that steps through one without decoding all of it.

Kafka's stream is ``Size(INT32) Payload(Size bytes)``, repeated. In the tunnel one binary WebSocket message is one whole
frame, its Size included (bridges.md C1). Types and their encodings: Kafka's protocol guide, "Protocol Primitive Types";
compact ones and tag buffers: KIP-482. Integers are big-endian.
"""

from __future__ import annotations

import struct

FRAME_MAX = 104_857_600
"""The largest frame that Kafka brokers take by default (``socket.request.max.bytes``)."""

_INT16 = struct.Struct(">h")
_INT32 = struct.Struct(">i")


class WireError(Exception):
    """Bytes that are not what the protocol says; the text is short ASCII and holds none of them."""


class FrameTooLarge(WireError):
    """A frame announces more bytes than the limit allows."""


class Cutter:
    """Cuts a stream of bytes into frames (bridges.md C1).

    Args:
        limit: the largest Size that is taken.
        least: the smallest. A Size outside raises WireError as soon as its four bytes are there, so nothing is ever
            kept for a frame that cannot be.
    """

    def __init__(self, limit: int = FRAME_MAX, least: int = 0) -> None:
        self._limit, self._least = limit, least
        self._parts: list[bytes] = []
        self._have = 0
        self._need = 4
        """Bytes that must be there before anything can be done: those of the Size, or of the whole frame."""

    @property
    def pending_bytes(self) -> int:
        """Bytes of a frame that is not complete."""
        return self._have

    def cut(self, data: bytes) -> list[bytes]:
        """The frames that ``data`` completes, in order; what is left over begins the next one."""
        if self._have:
            self._parts.append(data)
            self._have += len(data)
            if self._have < self._need:
                return []
            data, self._parts, self._have = b"".join(self._parts), [], 0
        frames: list[bytes] = []
        at, end = 0, len(data)
        while True:
            left = end - at
            self._need = 4
            if left >= 4:
                (size,) = _INT32.unpack_from(data, at)
                if size > self._limit:
                    raise FrameTooLarge(f"frame of {size} bytes, at most {self._limit} are taken")
                if size < self._least:
                    raise WireError(f"frame size {size} is not possible")
                self._need = size + 4
            if left < self._need:
                break
            frames.append(data[at : at + self._need])
            at += self._need
        if left:
            self._parts, self._have = [data[at:] if at else data], left
        return frames


class Cursor:
    """Steps through a frame; WireError at the first thing that does not fit.

    ``replace`` notes what shall stand at a place instead; ``result`` puts it all together and corrects the Size.
    """

    __slots__ = ("_patches", "at", "data", "end")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at
        self.end = len(data)
        self._patches: list[tuple[int, int, bytes]] = []

    def skip(self, count: int) -> None:
        at = self.at + count
        if count < 0 or at > self.end:
            raise WireError("field reaches beyond the frame")
        self.at = at

    def int8(self) -> int:
        if self.at >= self.end:
            raise WireError("field reaches beyond the frame")
        value = self.data[self.at]
        self.at += 1
        return value if value < 128 else value - 256

    def int16(self) -> int:
        if self.at + 2 > self.end:
            raise WireError("field reaches beyond the frame")
        (value,) = _INT16.unpack_from(self.data, self.at)
        self.at += 2
        return int(value)

    def int32(self) -> int:
        if self.at + 4 > self.end:
            raise WireError("field reaches beyond the frame")
        (value,) = _INT32.unpack_from(self.data, self.at)
        self.at += 4
        return int(value)

    def uvarint(self) -> int:
        """UNSIGNED_VARINT of at most 32 bits."""
        value = shift = 0
        while True:
            if self.at >= self.end or shift > 28:
                raise WireError("not a varint")
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 128:
                if value >> 32:
                    raise WireError("not a varint")
                return value
            shift += 7

    def bytes_of(self, length: int) -> bytes:
        begin = self.at
        self.skip(length)
        return self.data[begin : self.at]

    def skip_string(self) -> None:
        """STRING or NULLABLE_STRING."""
        length = self.int16()
        if length >= 0:
            self.skip(length)
        elif length < -1:
            raise WireError("not a string length")

    def skip_compact(self) -> None:
        """COMPACT_STRING, COMPACT_BYTES, COMPACT_RECORDS, nullable or not."""
        length = self.uvarint()
        if length:
            self.skip(length - 1)

    def skip_tags(self) -> None:
        for _ in range(self.uvarint()):
            self.uvarint()
            self.skip(self.uvarint())

    def count(self) -> int:
        """Length of an ARRAY; 0 for null."""
        count = self.int32()
        if count < -1:
            raise WireError("not an array length")
        return max(0, count)

    def compact_count(self) -> int:
        """Length of a COMPACT_ARRAY; 0 for null."""
        return max(0, self.uvarint() - 1)

    # --- changing ---------------------------------------------------------------------------------------------------

    def replace(self, begin: int, end: int, new: bytes) -> int:
        """Puts ``new`` in place of the bytes from ``begin`` to ``end``. Returns by how much the frame grows. Places may
        come in any order."""
        self._patches.append((begin, end, new))
        return len(new) - (end - begin)

    def result(self) -> bytes:
        """The frame with all replacements; the very same object if there are none."""
        if not self._patches:
            return self.data
        parts: list[bytes] = [b""]
        copied = 4
        for begin, end, new in sorted(self._patches):
            parts += (self.data[copied:begin], new)
            copied = end
        parts.append(self.data[copied:])
        parts[0] = _INT32.pack(sum(map(len, parts)))
        return b"".join(parts)


def string(text: bytes) -> bytes:
    """STRING."""
    return _INT16.pack(len(text)) + text


def compact_string(text: bytes) -> bytes:
    """COMPACT_STRING."""
    return uvarint(len(text) + 1) + text


def uvarint(value: int) -> bytes:
    """UNSIGNED_VARINT."""
    out = bytearray()
    while value > 127:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def frame(*parts: bytes) -> bytes:
    """A frame of these parts, its Size before them."""
    payload = b"".join(parts)
    return _INT32.pack(len(payload)) + payload
