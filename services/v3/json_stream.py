"""JSON values out of bytes that come in pieces, concatenated or line by line (kafka-rest-http.md §7.10 "Framing").

Only the places where values begin and end are found here, by counting brackets outside of strings; whether a value is
valid shows when it is decoded. Every byte is looked at once, however small the pieces are.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|["{}\[\]]', re.DOTALL)
"""A whole string, a string that is not complete yet, or a bracket."""
_REST_OF_STRING = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BLANK = re.compile(rb"[ \t\r\n]*")
_SCALAR = re.compile(rb'[^ \t\r\n{}\[\]",:]+')
_BACKSLASHES = re.compile(rb"\\*\Z")
_BOM = b"\xef\xbb\xbf"


class CutOff(ValueError):
    """The rest cannot be read. ``values`` are those before this place."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.values: list[bytes] = []


class NotJson(CutOff):
    """What begins here is no JSON value."""


class ValueTooLong(CutOff):
    """A value has more bytes than are taken."""


class JsonSplitter:
    """Cuts values out of a stream of bytes.

    Args:
        longest: bytes of a value at most.
    """

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._buffer = bytearray()
        """A value that is not complete, from its first byte on."""
        self._at = 0
        """Up to where it has been looked at."""
        self._depth = 0
        self._in_string = False
        self._head: bytes | None = b""
        """The first bytes, while they may be a BOM."""

    @property
    def pending(self) -> bool:
        """Whether a value has begun that is not complete."""
        return bool(self._buffer)

    @property
    def pending_bytes(self) -> int:
        """How much of a value has come that is not complete."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """The values that are complete by now, in order.

        Raises NotJson or ValueTooLong; ``values`` of the exception are those before.
        """
        if self._head is not None:
            data = self._head + data
            if len(data) < len(_BOM) and _BOM.startswith(data):
                self._head = data
                return []
            self._head = None
            data = data.removeprefix(_BOM)
        values: list[bytes] = []
        at, end = 0, len(data)
        try:
            if self._buffer:
                at = self._go_on(data, values)
            while at < end:
                at = self._next(data, at, end, values)
        except CutOff as error:
            error.values = values
            raise
        return values

    def finish(self) -> list[bytes]:
        """The stream is over: a number or a word that ended with it. NotJson if a value was cut off."""
        rest = (self._head or b"") + bytes(self._buffer)
        self._head = None
        self._buffer.clear()
        if not rest:
            return []
        if self._depth or self._in_string or rest[:1] == b'"':
            raise NotJson("the request ends in the middle of a value")
        return [rest]

    def drop(self) -> None:
        """Nothing more is read: drops the beginning of a value."""
        self._buffer = bytearray()

    def _next(self, data: bytes, at: int, end: int, values: list[bytes]) -> int:
        """Reads one value that begins at or behind ``at``; the place behind it."""
        found = _BLANK.match(data, at)
        assert found is not None
        at = found.end()
        if at == end:
            return end
        first = data[at]
        if first in b"{[":
            return self._bracketed(data, at, end, values)
        if first == 0x22:
            string = _TOKEN.match(data, at)
            if string is not None and string.end() > at + 1:
                return self._take(data, at, string.end(), values)
            self._in_string = True
            return self._keep(data, at, end)
        scalar = _SCALAR.match(data, at)
        if scalar is None:
            raise NotJson(f"unexpected character {chr(first)!r} where a value should begin")
        if scalar.end() == end:  # more of it may come
            return self._keep(data, at, end)
        return self._take(data, at, scalar.end(), values)

    def _bracketed(self, data: bytes, at: int, end: int, values: list[bytes]) -> int:
        depth = 0
        for token in _TOKEN.finditer(data, at):
            start = token.start()
            character = data[start]
            if character in b"{[":
                depth += 1
            elif character in b"}]":
                depth -= 1
                if not depth:
                    return self._take(data, at, start + 1, values)
            elif token.end() == start + 1:  # a string that is not complete
                self._in_string = True
                break
        self._depth = depth
        return self._keep(data, at, end)

    def _take(self, data: bytes, at: int, end: int, values: list[bytes]) -> int:
        if end - at > self._longest:
            raise ValueTooLong
        values.append(data[at:end])
        return end

    def _keep(self, data: bytes, at: int, end: int) -> int:
        """The value goes on with the next piece."""
        if end - at > self._longest:
            raise ValueTooLong
        self._buffer += data[at:end]
        self._at = self._safe(len(self._buffer))
        return end

    def _safe(self, end: int) -> int:
        """Where to go on: not after a backslash whose character has not come yet."""
        if not self._in_string:
            return end
        found = _BACKSLASHES.search(self._buffer, max(0, end - 1024))
        return end - 1 if found is not None and len(found[0]) % 2 else end

    def _go_on(self, data: bytes, values: list[bytes]) -> int:
        """Completes the value that has begun, if it ends in ``data``; the place in ``data`` behind it."""
        before = len(self._buffer)
        self._buffer += data
        end = self._end()
        if end < 0:
            if len(self._buffer) > self._longest:
                raise ValueTooLong
            self._at = self._safe(len(self._buffer))
            return len(data)
        if end > self._longest:
            raise ValueTooLong
        values.append(bytes(self._buffer[:end]))
        self._buffer.clear()
        self._at = self._depth = 0
        self._in_string = False
        return end - before

    def _end(self) -> int:
        """Where the value in the buffer ends; -1 if that has not come yet."""
        buffer, at = self._buffer, self._at
        if self._in_string:
            rest = _REST_OF_STRING.match(buffer, at)
            if rest is None:
                return -1
            self._in_string = False
            at = rest.end()
            if not self._depth:
                return at
        elif not self._depth:
            scalar = _SCALAR.match(buffer, at)
            end = scalar.end() if scalar is not None else at
            return end if end < len(buffer) else -1
        depth = self._depth
        for token in _TOKEN.finditer(buffer, at):
            start = token.start()
            character = buffer[start]
            if character in b"{[":
                depth += 1
            elif character in b"}]":
                depth -= 1
                if not depth:
                    return start + 1
            elif token.end() == start + 1:
                self._in_string = True
                break
        self._depth = depth
        return -1
