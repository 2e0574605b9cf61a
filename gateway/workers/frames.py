"""What two workers say to each other: frames of ``u32 length, u16 head length, head, content`` (cluster.md §9).

The head is JSON, the content whatever bytes belong to it; the length counts both, and the two bytes of the other one.
Both ends have proved that they belong together before anything but a greeting is read (``greeting``), so a frame that
cannot be read is a fault of the program, or comes of somebody who broke in: the connection is dropped. No I/O here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

from kafka_gateway import jsonio

VERSION: Final = 3
HELLO_MAX: Final = 1024
PIECE_MAX: Final = 256 * 1024
"""Bytes of content in one frame; what is longer goes in pieces (`gateway.workers.pieces`)."""
_HEAD_MAX: Final = 0xFFFF
FRAME_MAX: Final = PIECE_MAX + _HEAD_MAX + 3
"""No frame has so many bytes behind its length."""
_LENGTHS: Final = struct.Struct(">IH")
_pack, _unpack = _LENGTHS.pack, _LENGTHS.unpack_from
_LENGTHS_SIZE: Final = _LENGTHS.size


class FrameError(Exception):
    """What came is no frame."""


class Hello(jsonio.Struct, tag="hello", tag_field="is"):
    """The first frame each way (`gateway.workers.greeting`)."""

    version: int
    cluster: str
    process: str
    boot: str
    nonce: str
    ping_ms: int = 0
    """How often this end gives a sign of life while a request is open that it has asked; 0: it promises none."""


class Proof(jsonio.Struct, tag="proof", tag_field="is"):
    """The second one, where there is a secret."""

    proof: str
    """An HMAC, in hexadecimal digits."""


class Asker(jsonio.Struct, omit_defaults=True):
    """Whose request it is, as the worker found out that the client came to."""

    principal: str
    kind: str
    roles: tuple[str, ...] = ()
    attributes: dict[str, Any] | None = None
    listener: str = ""
    peer: str = ""
    admin: bool | None = None
    proven: bool = True
    proof: dict[str, str] | None = None
    """Only where the client's own Kafka credentials are needed, or the other process keeps the client. Secret."""


class Ask(jsonio.Struct, tag="ask", tag_field="is", omit_defaults=True):
    """A request; its body is the content."""

    id: int
    who: jsonio.Raw
    """An `Asker`, encoded: the receiver need not read the same one again."""
    method: str
    path: str
    query: jsonio.Raw
    """An object of strings, like ``headers`` (`gateway.workers.fields`)."""
    headers: jsonio.Raw
    base_url: str = ""
    request_id: str = ""
    one_reply: bool = False
    settles: bool = False
    generation: str = ""
    area: str = ""
    tells_errors: bool = False
    """An error is told as a `Failure` and not rendered: the asker has words of its own for it."""
    creation: str = ""
    """`gateway.messages.Request.creation`."""
    relay: str = ""
    """Which of the handlers of `gateway.relays` it is for; empty for ``Gateway.dispatch``."""
    until: float | None = None
    """`Principal.until`, where the other process has to look at the proof again: seconds of time.monotonic(), which all
    processes of a machine have in common."""
    size: int = 0
    """Bytes of the content, if it follows as `More`; 0: it is here."""


class Question(jsonio.Struct, tag="question", tag_field="is"):
    """Something other than a request (`gateway.homes.Question`); its parameters are the content."""

    id: int
    name: str


END_READS: Final = "end reads"
"""The name of a `Question` by which a process that stops has the reads answered that it has asked for, with what they
have. It is one, and no frame of its own, because processes of before it know how to answer questions that they do not
know."""


class Cancel(jsonio.Struct, tag="cancel", tag_field="is"):
    """Nobody waits for the reply any more, or for more of it."""

    id: int


class Next(jsonio.Struct, tag="next", tag_field="is"):
    """The payload before, if there was one, has left for the client: the next one is wanted."""

    id: int


class Settled(jsonio.Struct, tag="settled", tag_field="is"):
    """Whether the whole reply has left for the client (`Response.settle`)."""

    id: int
    taken: bool


class Failure(jsonio.Struct, omit_defaults=True):
    """A ServiceError, as clients are told it."""

    status: int
    code: int
    message: str
    retriable: bool = False
    help: str = ""
    headers: tuple[tuple[str, str], ...] = ()


class Answer(jsonio.Struct, tag="answer", tag_field="is", omit_defaults=True):
    """A reply; its body is the content, or follows as `Part`."""

    id: int
    status: int = 200
    media_type: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    route: str = ""
    records: int = 0
    settles: bool = False
    streams: bool = False
    heartbeat_s: int = 0
    failure: Failure | None = None
    size: int = 0
    """As in `Ask`."""


class Part(jsonio.Struct, tag="part", tag_field="is", omit_defaults=True):
    """One payload of a stream; its data is the content."""

    id: int
    name: str = ""
    cursor: bytes = b""
    status: int = 200
    failure: Failure | None = None
    size: int = 0
    """As in `Ask`."""


class More(jsonio.Struct, tag="more", tag_field="is"):
    """A piece of the content whose head has this number: so long as not all of it is here, nothing else of that number
    comes from this end but `Cancel`."""

    id: int


class End(jsonio.Struct, tag="end", tag_field="is", omit_defaults=True):
    """The stream has ended, for a reason or well."""

    id: int
    failure: Failure | None = None


class Ping(jsonio.Struct, tag="ping", tag_field="is"):
    """Whether the other worker is alive: asked where nothing was heard of it for a while."""


class Pong(jsonio.Struct, tag="pong", tag_field="is"):
    """It is."""


class Bye(jsonio.Struct, tag="bye", tag_field="is"):
    """The process stops: it answers what it was asked, and is to be asked nothing more. Whoever hears that ends the
    connection when all is answered."""


Head = Ping | Pong | Hello | Proof | Bye | Ask | Question | Cancel | Next | Settled | Answer | Part | More | End

Long = Ask | Answer | Part
"""The heads whose content may come in pieces."""

_decode: Final = jsonio.Decoder(Head).decode


def frame(head: Head, content: bytes | memoryview = b"") -> bytes:
    """The frame's bytes; of a content that is no longer than `PIECE_MAX`. FrameError for a head that is too long: of a
    request with very long header fields."""
    text = jsonio.encode(head)
    size = len(text)
    if size > _HEAD_MAX:
        raise FrameError(f"a head of {size} bytes")
    if not content:
        return _pack(2 + size, size) + text
    return b"".join((_pack(2 + size + len(content), size), text, content))


class FrameReader:
    """Takes bytes as they come, and gives whole frames."""

    __slots__ = ("_data", "longest")

    def __init__(self, longest: int = FRAME_MAX) -> None:
        """``longest``: bytes that a frame may have; it may be changed between two frames."""
        self._data = bytearray()
        self.longest = longest

    def whole(self, data: bytes) -> tuple[Head, bytes] | None:
        """The one frame that this is, as it mostly is; None: it is for ``feed``. FrameError: the head is none."""
        size = len(data)
        if self._data or size < _LENGTHS_SIZE:
            return None
        length, head = _unpack(data)
        behind = 6 + head
        if length != size - 4 or length >= self.longest or behind > size:
            return None
        try:
            return _decode(data[6:behind]), data[behind:]
        except ValueError as error:
            raise FrameError(str(error)) from None

    def feed(self, data: bytes) -> Iterator[tuple[Head, bytes]]:
        """The frames that are complete now. FrameError: it is none, and nothing behind it can be read."""
        held = self._data
        if held:
            held += data
            if self._lacks_more(held):
                return
            data = bytes(held)
            held.clear()
        start, size, longest = 0, len(data), self.longest
        try:
            while size - start >= 4:
                length = int.from_bytes(data[start : start + 4])
                if not 2 <= length < longest:
                    raise FrameError(f"a length of {length}")
                end = start + 4 + length
                if size < end:
                    break
                begin, behind = start + 6, start + 6 + int.from_bytes(data[start + 4 : start + 6])
                if behind > end:
                    raise FrameError("a head longer than its frame")
                start = end
                try:
                    head = _decode(data[begin:behind])
                except ValueError as error:
                    raise FrameError(str(error)) from None
                yield head, data[behind:end]
                longest = self.longest
        finally:
            held += data[start:]

    def _lacks_more(self, held: bytearray) -> bool:
        """Whether the first frame is not complete: then nothing is copied."""
        return len(held) < 4 or self.longest > int.from_bytes(held[:4]) > len(held) - 4


def told(text: str) -> str:
    """A text in a form that JSON can carry: header fields may hold bytes that are no UTF-8 (as lone surrogates)."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("latin-1")


def untold(text: str) -> str:
    """The text that ``told`` was given."""
    return text if text.isascii() else text.encode("latin-1").decode("utf-8", "surrogateescape")
