"""What the events of a record stream look like on each carrier (streams.md §2). The same payload bytes on all of them.

An event is framed once for each carrier, whatever the number of clients: ``Payload.frames`` keeps the result. Nothing
in an event can end a frame early: payload and cursor are JSON on one line, names are words of the gateway's own (H10).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from kafka_gateway.stream import Payload

RETRY = b"retry: 2000\n\n"
"""How long a client waits before it comes back, ms: the first bytes of every event stream."""

Frame = Callable[[Payload], bytes]


def array(event: Payload) -> bytes:
    """The payload as one JSON value: of records, their array."""
    if event.name != "record":
        return event.data
    found = event.frames.get(array)
    if found is None:
        # Lines hold no other line feed: in JSON strings it is escaped, and nothing else has any.
        found = event.frames[array] = b"[%b]" % event.data[:-1].replace(b"\n", b",")
    assert isinstance(found, bytes)
    return found


def named(event: Payload) -> bytes:
    """The object of an event that is no batch, with its name as first member."""
    return b'{"event":"%b",%b' % (event.name.encode(), event.data[1:])


def sse(event: Payload) -> bytes:
    """A server-sent event: id, name if it has one, data on one line (HTML standard §9.2)."""
    head = b"id: %b\n" % event.cursor if event.cursor else b""
    if event.name != "record":
        return b"%bevent: %b\ndata: %b\n\n" % (head, event.name.encode(), event.data)
    return b"%bdata: [%b]\n\n" % (head, event.data[:-1].replace(b"\n", b","))


def lines(event: Payload) -> bytes:
    """One record a line; an event that is no batch is a line with its name."""
    return named(event) + b"\n" if event.name != "record" else event.data


def message(event: Payload) -> bytes:
    """The content of a WebSocket message."""
    return array(event) if event.name in ("record", "") else named(event)


def text_frame(event: Payload) -> bytes:
    """A WebSocket text message in one unmasked frame (RFC 6455 §5.2)."""
    return frame_head(len(payload := message(event))) + payload


def frame_head(length: int, first: int = 0x81) -> bytes:
    """The head of a server's frame."""
    if length < 126:
        return _LEN7(first, length)
    if length < 65536:
        return _LEN16(first, 126, length)
    return _LEN64(first, 127, length)


_LEN7, _LEN16, _LEN64 = struct.Struct("!BB").pack, struct.Struct("!BBH").pack, struct.Struct("!BBQ").pack


PING_FRAME = b"\x89\x00"


def chunk(data: bytes) -> bytes:
    """Data as one chunk (RFC 9112 §7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def chunked(frame: Frame) -> Frame:
    """The frames of ``frame``, each in a chunk of its own."""

    def framed(event: Payload) -> bytes:
        return chunk(frame(event))

    return framed


LAST_CHUNK = b"0\r\n\r\n"

chunked_sse, chunked_lines = chunked(sse), chunked(lines)
