"""The envelope: a small JSON head, directly followed by the content, in one message (atmosphere-binding.md §1).

A head ends where its object ends; nothing else marks the place. One scan finds that end and the members. Messages are
scanned as Latin-1, in which every byte is one character: then the scanner's index is the index into the bytes, and
content is never looked at, decoded or copied more than once. A head that is not ASCII is decoded again as UTF-8.

No I/O here. The other direction is in ``replying``.
"""

from __future__ import annotations

import enum
import functools
import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from kafka_gateway import jsonio
from kafka_gateway.errors import BadRequest

ID_MAX = 1024
"""Bytes of an id, quotes included. Every part of a reply repeats it, so it must be small beside the reply limit."""

REPLY_MAX = 65536
"""Characters of a message, unless told otherwise: what clients of the original take (§1.8)."""

_BLANK = b" \t\r\n"
_ACK = b"...ACK..."
_DROPPED = frozenset(
    {"host", "connection", "upgrade", "content-length", "transfer-encoding", "te", "trailer", "keep-alive"}
)
"""Headers that belong to the connection (§1.2); those that begin with ``proxy-`` and ``sec-websocket-`` too."""

_ONE = frozenset({"authorization", "x-kafka-auth"})
"""Headers that are no lists (RFC 9110 §11.6.2)."""


ACK = "ack"
"""In the place of a method: the client acknowledges records of the stream with that id, the content says which."""


class Form(enum.Enum):
    """The shape of a reply (§1.4)."""

    DETACHED = "detached"
    EMBEDDED = "embedded"
    DETACHED_LF = "detached-lf"


class InvalidMessage(BadRequest):
    """A message that is no valid envelope. ``id`` is there if the reply can carry it."""

    def __init__(self, reason: str, id: bytes | None = None, form: Form | None = None) -> None:
        super().__init__(f"Invalid message: {reason}")
        self.id = id
        self.form = form


class Envelope(msgspec.Struct, eq=False):
    """A request, or a part of one, as it came.

    ``id`` is the JSON string to echo, quotes included, or None. ``form`` is the reply form that the request's own
    shape suggests, None where it suggests nothing (§1.5). ``headers`` have lower-case names; ``type`` and ``accept``
    stand beside them and win.
    """

    id: bytes | None
    method: str
    path: str
    type: str | None
    accept: str | None
    headers: Mapping[str, str] | None
    more: bool
    content: bytes
    form: Form | None

    def drop_blank(self) -> None:
        """Treats content of white space only as none (§1.3): for a message that is no part of a sequence."""
        content = self.content
        if content and content[0] in _BLANK and (self.type is None or is_json(self.type)) and not content.strip(_BLANK):
            self.content = b""

    @property
    def target(self) -> tuple[str, str]:
        """Path and query as on an HTTP request line: with a leading slash, without a fragment. BadRequest for a URL."""
        if self.path[:8].lower().startswith(("http://", "https://")):
            raise BadRequest("Bad Request: path must not be a URL")
        path, _, query = self.path.partition("#")[0].partition("?")
        return (path if path[:1] == "/" else "/" + path), query


class _Number(str):
    """A number in its source spelling."""

    __slots__ = ()


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_scan = json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_no_constant).raw_decode


class _Data(jsonio.Struct):
    data: jsonio.Raw


_data_decoder = msgspec.json.Decoder(_Data)


_ID_FIRST = (b'{"id":"', b'{"id": "')
"""How heads begin that a EnvelopeReader knows again: as JavaScript, Go and Java write them, and as Python does."""
_PLAIN_ID = re.compile(rb'"[ !#-\[\]-~]{0,%d}"' % (ID_MAX - 2)).match
"""An id that a reply repeats as it is: ASCII that is printed, without a backslash."""
_REMEMBERED_MAX = 4096
"""Bytes of a head that a EnvelopeReader remembers."""


class EnvelopeReader:
    """Reads the messages of one client, whose heads mostly differ only in their id.

    ``{"id":"7","method":"POST",…}``: what follows the id is compared with the head before. If it is equal, its meaning
    is the same, because an id without a backslash ends at the next quote. That takes a fourth of the time of a scan.
    """

    __slots__ = ("_first", "_heartbeat", "_like", "_rest")

    def __init__(self, heartbeat: bytes = b"X") -> None:
        self._heartbeat = heartbeat
        self._first = self._rest = b""
        """What the head before had in front of its id's text, and behind that."""
        self._like: Envelope | None = None

    def read(self, message: bytes) -> Envelope | None:
        """As the function ``read``."""
        like, first = self._like, self._first
        if like is not None and message.startswith(first):
            found = _PLAIN_ID(message, len(first) - 1)
            if found is not None:
                end, rest = found.end(), self._rest
                if message.startswith(rest, end - 1):
                    again: Envelope = like.__copy__()  # type: ignore[attr-defined]  # in C
                    again.id, again.content = found[0], message[end - 1 + len(rest) :]
                    return again
        part = read(message, self._heartbeat)
        if (
            part is not None
            and part.method is not ACK
            and part.form is None
            and message.startswith(_ID_FIRST)
            and part.id is not None
        ):
            first = _ID_FIRST[0] if message.startswith(_ID_FIRST[0]) else _ID_FIRST[1]
            length = len(message) - len(part.content)
            quote = message.find(b'"', len(first))
            rest = message[quote:length] if length <= _REMEMBERED_MAX else b""
            if rest and message[len(first) - 1 : quote + 1] == part.id and b'"id"' not in rest and 0x5C not in rest:
                self._first, self._rest = first, rest
                self._like = Envelope(
                    None, part.method, part.path, part.type, part.accept, part.headers, part.more, b"", None
                )
        return part


def read(message: bytes, heartbeat: bytes = b"X") -> Envelope | None:
    """The envelope in a message; None for a control message, which gets no reply (§1.12).

    Raises:
        InvalidMessage: it is neither; the members are checked, the content is not.
    """
    start = 0
    if message[:1] != b"{":
        found = _start(message, heartbeat)
        if found is None:
            return None
        start = found
    head, end = _scan_head(message, start)
    get = head.get
    id = _id(get("id"))
    method, path, type_, accept = get("method"), get("path"), get("type"), get("accept")
    more, detached = get("continue", False), get("detached", False)
    if more is not False and more is not True:
        more = _flag("continue", more, id)
    if detached is not False and detached is not True:
        detached = _flag("detached", detached, id)
    if path is None and "heartbeat" in head:
        return None
    if path is None and "ack" in head:
        return Envelope(id, ACK, "", None, None, None, False, message[start:end], None)
    if method.__class__ is not str or not method.isupper():
        method = _text("method", method, id, "GET").upper()
    if path.__class__ is not str:
        path = _text("path", path, id, "/")
    if (type_ is not None and (type_.__class__ is not str or not type_.isprintable())) or (
        accept is not None and (accept.__class__ is not str or not accept.isprintable())
    ):
        type_, accept = _header("type", type_, id), _header("accept", accept, id)
    headers = None
    if "headers" in head and head["headers"] is not None:
        headers = _headers(head["headers"], message[start:end], id)
    if more and id is None:
        raise InvalidMessage("continue needs an id")
    form: Form | None = None
    content = message[end:]
    if detached:
        form = Form.DETACHED_LF
        content = _without_line_feed(content)
    elif "data" in head:
        form = Form.EMBEDDED
        if content and content.strip(_BLANK):
            raise InvalidMessage("content behind the envelope as well as data", id, form)
        content = _embedded(message[start:end], head["data"], type_, id)
    return Envelope(id, method, path, type_, accept, headers, more, content, form)


def _start(message: bytes, heartbeat: bytes) -> int | None:
    """Where the envelope begins; None for a control message."""
    start = 0
    if message.startswith(b"@@"):  # push(message, dispatchUrl) of atmosphere.js
        close = message.find(b"@@", 2)
        if close < 0:
            raise InvalidMessage("expected '{' at position 0")
        start = close + 2
    text = message[start:]
    stripped = text.lstrip(_BLANK)
    if not stripped or text in (heartbeat, _ACK):
        return None
    start += len(text) - len(stripped)
    if stripped[:1] != b"{":
        raise InvalidMessage(f"expected '{{' at position {start}")
    return start


def _scan_head(message: bytes, start: int) -> tuple[dict[str, Any], int]:
    try:
        head, end = _scan(str(message, "latin-1"), start)
        raw = message[start:end]
        if not raw.isascii():
            head, _ = _scan(raw.decode(), 0)
        if b"\\u" in raw:
            jsonio.decode_value(raw)  # the scanner accepts lone surrogates, which UTF-8 cannot express
    except json.JSONDecodeError as error:
        raise InvalidMessage(f"{error.msg} at position {error.pos}") from None
    except UnicodeDecodeError:
        raise InvalidMessage("the envelope is not UTF-8") from None
    except RecursionError:
        raise InvalidMessage("the envelope is nested too deeply") from None
    except ValueError as error:
        raise InvalidMessage(str(error)) from None
    return head, end


def _id(value: Any) -> bytes | None:
    if value is None:
        return None
    if value.__class__ is not str and value.__class__ is not _Number:
        raise InvalidMessage("id is neither a string nor a number")
    id = jsonio.encode(str(value))
    if len(id) > ID_MAX:
        raise InvalidMessage(f"id is longer than {ID_MAX} bytes")
    return id


def _flag(name: str, value: Any, id: bytes | None) -> bool:
    if value is None:
        return False
    if value.__class__ is str and value in ("true", "false"):
        return bool(value == "true")
    raise InvalidMessage(f"{name} is not a boolean", id)


def _text(name: str, value: Any, id: bytes | None, default: str) -> str:
    if value is None:
        return default
    if value.__class__ is not str:
        raise InvalidMessage(f"{name} is not a string", id)
    return value


def _header(name: str, value: Any, id: bytes | None) -> str | None:
    if value is None:
        return None
    if value.__class__ is not str:
        raise InvalidMessage(f"{name} is not a string", id)
    if not value.isprintable():  # a line break would end the header where the value is passed on (H10)
        raise InvalidMessage(f"{name} has a character that no header may have", id)
    return value


def _headers(value: Any, head: bytes, id: bytes | None) -> dict[str, str]:
    """The headers by lower-case names, ``head`` being the envelope's own text.

    A name in two spellings is refused, and so are two proofs: JSON's readers differ in which one counts (RFC 8259 §4).
    """
    if value.__class__ is not dict:
        raise InvalidMessage("headers is not an object", id)
    headers: dict[str, str] = {}
    for name, item in value.items():
        lower = name.lower()
        if lower in headers or (lower in _ONE and _comes_twice(head, name)):
            raise InvalidMessage(f"headers has {lower!r} twice", id)
        if lower in _DROPPED or lower.startswith(("proxy-", "sec-websocket-")) or item is None:
            continue
        items = item if item.__class__ is list else [item]
        texts = [("true" if each else "false") if each.__class__ is bool else each for each in items]
        if not lower or any(not isinstance(each, str) for each in texts):
            raise InvalidMessage(f"header {name!r} is not a string, a number, a boolean or an array of strings", id)
        if lower in _ONE and len(texts) > 1:
            raise InvalidMessage(f"headers has several of {lower!r}", id)
        text = ", ".join(texts)
        if not text.isprintable() or not lower.isprintable():
            raise InvalidMessage("headers has a character that no header may have", id)
        headers[lower] = text
    return headers


def _comes_twice(head: bytes, name: str) -> bool:
    """Whether ``headers`` has the name twice, spelled alike: of these the scanner has kept the last."""
    if b"\\u" not in head and head.count(b'"%b"' % name.encode()) == 1:
        return False
    headers: list[tuple[str, Any]] = dict(json.loads(head, object_pairs_hook=list))["headers"]
    return sum(each == name for each, _ in headers) > 1


def _without_line_feed(rest: bytes) -> bytes:
    """What follows the line feed that separates head and content in generation 1; all of it if there is none."""
    content = rest.lstrip(b" \t")
    if content[:1] == b"\n":
        return content[1:]
    return content[2:] if content[:2] == b"\r\n" else rest


def _embedded(head: bytes, value: Any, type: str | None, id: bytes | None) -> bytes:
    if value.__class__ is str and type is not None and not is_json(type):
        return value.encode()
    try:  # the source of the value: spellings of numbers must survive
        return bytes(_data_decoder.decode(head).data)
    except (ValueError, RecursionError):
        raise InvalidMessage("data is not JSON", id, Form.EMBEDDED) from None


@functools.lru_cache(maxsize=256)
def is_json(media_type: str) -> bool:
    """Whether this is ``application/json`` or ``application/*+json``, parameters aside."""
    name = media_type.partition(";")[0].strip().lower()
    return name == "application/json" or (name.startswith("application/") and name.endswith("+json"))
