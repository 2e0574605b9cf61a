"""Replies as messages: heads and contents, whole or cut into parts that fit (atmosphere-binding.md §1.5 to §1.10)."""

from __future__ import annotations

import base64
import functools

from kafka_gateway import jsonio
from kafka_gateway.transports.envelope.codec import REPLY_MAX, Form, is_json


def reply(
    form: Form,
    id: bytes | None,
    status: int,
    media_type: str,
    payload: bytes,
    limit: int = REPLY_MAX,
    headers: tuple[tuple[str, str], ...] = (),
    members: bytes = b"",
    *,
    in_parts: bool = False,
    more: bool = False,
) -> tuple[list[bytes], bool]:
    """The messages that carry a reply, and whether they have to be binary ones (§1.4, §1.6, §1.8).

    Without an id the payload goes alone, in one message, and an empty one not at all (§1.11). ``headers`` is for
    clients that asked for them (§1.10). A reply of more than ``limit`` UTF-16 code units, which is what the clients'
    limits count, goes in several messages. ``members`` are further members of the head, of the last one if there are
    several: ``"cursor":[…]``. ``in_parts``: the payload is a part of a reply, and with
    ``more`` not its end: every message says ``continue`` then.
    """
    if id is None:
        return ([payload] if payload else []), not _is_utf8(payload)
    if form is Form.DETACHED and not headers and not members and not more:
        before, after = _detached_head(status, media_type)
        message = before + id + after + payload
        if len(message) <= limit and payload.isascii():
            return [message], False
        heads = before + id + after, before[:-5] + b'"continue":true,"id":' + id + after
    else:
        heads = _heads(form, id, status, media_type, headers, bool(payload), members)
        if more:
            heads = heads[1], heads[1]
    if not payload:
        return [heads[0]], False
    is_text = _is_utf8(payload)
    if form is Form.EMBEDDED:
        return _embedded_reply(heads, media_type, payload, is_text, limit, in_parts), False
    return _cut(heads, payload, is_text, limit), not is_text


def short_head(id: bytes, status: int, media_type: str) -> bytes:
    """What `short_reply` puts before the payload."""
    before, after = _detached_head(status, media_type)
    return before + id + after


def short_reply(id: bytes, status: int, media_type: str, payload: bytes, limit: int) -> bytes | None:
    """What ``reply`` makes of a short one in the detached form: one message of text. None: it is for ``reply``."""
    before, after = _detached_head(status, media_type)
    message = before + id + after + payload
    return message if payload and len(message) <= limit and message.isascii() else None


@functools.lru_cache(maxsize=1024)
def _detached_head(status: int, media_type: str) -> tuple[bytes, bytes]:
    """The text before the id and after it."""
    after = b',"type":' + jsonio.encode(media_type) + b"}" if media_type else b"}"
    return b'{"code":%d,"id":' % status, after


def _heads(
    form: Form,
    id: bytes,
    status: int,
    media_type: str,
    headers: tuple[tuple[str, str], ...],
    has_payload: bool,
    members: bytes = b"",
) -> tuple[bytes, bytes]:
    """The head of the last part, and that of the parts before."""
    if form is Form.DETACHED:
        before = b'{"code":%d,' % status
        after = b'"id":' + id + _detached_head(status, media_type)[1]
        if headers:
            after = b'"headers":' + jsonio.encode(dict(headers)) + b"," + after
        last = after[:-1] + b"," + members + b"}" if members else after
        return before + last, before + b'"continue":true,' + after
    before = b'{"id": ' + id
    if status != 200 or not has_payload:
        before += b', "code": %d' % status
    if headers:
        before += b', "headers": ' + jsonio.encode(dict(headers))
    last = before + b", " + members if members else before
    if not has_payload:
        return last + b"}", b""
    if form is Form.EMBEDDED:
        return last, before + b', "continue":true'
    after = b', "detached": true}\n'
    return last + after, before + b', "continue":true' + after


def _embedded_reply(
    heads: tuple[bytes, bytes], media_type: str, payload: bytes, is_text: bool, limit: int, in_parts: bool
) -> list[bytes]:
    last, more = heads
    whole = not in_parts and is_text and is_json(media_type) and jsonio.is_json(payload)
    if whole and _units(last) + 11 + _units(payload) <= limit:
        return [last + b', "data": ' + payload + b"}"]
    if is_text:
        text, member = jsonio.encode(payload.decode())[1:-1], b', "data": "'
    else:
        text, member = base64.b64encode(payload), b', "encoding": "base64", "data": "'
    pieces = _pieces(text, limit - max(_units(more), _units(last)) - len(member) - 2, True, True)
    return [(last if place == len(pieces) - 1 else more) + member + piece + b'"}' for place, piece in enumerate(pieces)]


def _cut(heads: tuple[bytes, bytes], payload: bytes, is_text: bool, limit: int) -> list[bytes]:
    last, more = heads
    if len(last) + len(payload) <= limit or (is_text and _units(last) + _units(payload) <= limit):
        return [last + payload]
    pieces = _pieces(payload, limit - max(_units(more), _units(last)), is_text, False)
    parts = [more + piece for piece in pieces]
    parts[-1] = last + pieces[-1]
    return parts


def _pieces(text: bytes, size: int, is_text: bool, escaped: bool) -> list[bytes]:
    """The text in pieces of at most ``size`` code units, cut between characters and not within JSON escapes."""
    size = max(size, 16)
    if not is_text or text.isascii():
        return _byte_pieces(text, size, escaped)
    units = text.decode().encode("utf-16-le")
    pieces = []
    start, end_of_all = 0, len(units)
    while start < end_of_all:
        end = min(start + 2 * size, end_of_all)
        if end < end_of_all and units[end - 1] & 0xFC == 0xD8:  # the first half of a pair
            end -= 2
        piece = units[start:end].decode("utf-16-le")
        if escaped and end < end_of_all:
            piece = piece[: _before_escape(piece.encode("latin-1", "replace"))]
            end = start + len(piece.encode("utf-16-le"))
        pieces.append(piece.encode())
        start = end
    return pieces


def _byte_pieces(text: bytes, size: int, escaped: bool) -> list[bytes]:
    if not escaped:
        return [text[start : start + size] for start in range(0, len(text), size)]
    pieces = []
    start = 0
    while start < len(text):
        piece = text[start : start + size]
        if start + size < len(text):
            piece = piece[: _before_escape(piece)]
        pieces.append(piece)
        start += len(piece)
    return pieces


def _before_escape(piece: bytes) -> int:
    r"""The length of the piece without an escape (``\"``, ``\u001f``) that its end cuts in two."""
    at = piece.rfind(b"\\", max(0, len(piece) - 6))
    if at < 0:
        return len(piece)
    backslashes = len(piece[: at + 1]) - len(piece[: at + 1].rstrip(b"\\"))
    if backslashes % 2 == 0:  # the second one of an escaped backslash
        return len(piece)
    whole = 6 if piece[at + 1 : at + 2] == b"u" else 2
    return len(piece) if at + whole <= len(piece) else at


def _units(text: bytes) -> int:
    """The length of UTF-8 text in UTF-16 code units."""
    return len(text) if text.isascii() else len(text.decode().encode("utf-16-le")) // 2


def _is_utf8(payload: bytes) -> bool:
    if payload.isascii():
        return True
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
