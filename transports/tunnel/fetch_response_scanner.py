"""Finds the end of the records in a long Fetch reply while it passes.

From version 16 on the last few bytes of such a reply may name the addresses of new leaders (KIP-951). To hold megabytes
of records for their sake would cost memory and time, so the reply goes on as it comes and only its end is held. Its
Size has been sent by then, so its length must stay: the hint is blanked out, as if the broker had given none. Then the
client asks for the metadata, as it does with brokers that give no hints.
"""

from __future__ import annotations

from collections.abc import Generator

from kafka_gateway.wire.frames import Cursor, WireError

TAIL_MAX = 64 * 1024
"""How many bytes may stand behind the records; they are held."""
_UNKNOWN_TAG = 0x7F
"""A number that Kafka has given to no field of Fetch; clients skip tags that they do not know (KIP-482)."""

Steps = Generator[int, int, None]
"""Yields how many bytes to skip, or 0 to be sent the next byte."""


class FetchResponseScanner:
    """Finds the end of the records in a reply to Fetch of version 16 to 18, given piece by piece.

    Args:
        length: of the reply behind Size and correlation id.
    """

    def __init__(self, length: int) -> None:
        self._left = length
        self._steps = _fetch()
        self._skip = next(self._steps)
        self._walking = True

    def pass_on(self, data: bytes, at: int, end: int) -> int:
        """Where to stop: of the bytes from ``at`` to ``end`` those before it go on to the client, the rest is held.

        Raises:
            WireError: the reply does not fit its layout.
        """
        while self._walking and at < end:
            if self._skip:
                step = min(self._skip, end - at)
                at += step
                self._left -= step
                self._skip -= step
                if self._skip:
                    break
                answer = 0
            else:
                answer = data[at]
                at += 1
                self._left -= 1
            try:
                self._skip = self._steps.send(answer)
            except StopIteration:
                self._walking = False
                if not 0 < self._left <= TAIL_MAX:
                    raise WireError("more behind the records than can be") from None
            if self._skip > self._left or not self._left:
                raise WireError("field reaches beyond the frame")
        return at


def without_hint(tail: bytes) -> bytes:
    """The last tag buffer of the reply without addresses, as long as it was; the same object if it had none."""
    cursor = Cursor(tail)
    changed: bytearray | None = None
    for _ in range(cursor.uvarint()):
        at = cursor.at
        tag = cursor.uvarint()
        size = cursor.uvarint()
        begin = cursor.at
        cursor.skip(size)
        if tag == 0:
            if tail[at] != 0:
                raise WireError("tag number of more bytes than it needs")
            changed = bytearray(tail) if changed is None else changed
            changed[at] = _UNKNOWN_TAG
            changed[begin : begin + size] = bytes(size)
    return tail if changed is None else bytes(changed)


def _fetch() -> Steps:
    yield from _tags()
    yield 4 + 2 + 4
    for _topic in range((yield from _uvarint()) - 1):
        yield 16
        for _partition in range((yield from _uvarint()) - 1):
            yield 4 + 2 + 8 + 8 + 8
            for _aborted in range((yield from _uvarint()) - 1):
                yield 16
                yield from _tags()
            yield 4
            records = yield from _uvarint()
            if records > 1:
                yield records - 1
            yield from _tags()
        yield from _tags()


def _tags() -> Steps:
    for _ in range((yield from _uvarint())):
        yield from _uvarint()
        size = yield from _uvarint()
        if size:
            yield size


def _uvarint() -> Generator[int, int, int]:
    value = shift = 0
    while True:
        byte = yield 0
        value |= (byte & 0x7F) << shift
        if byte < 128:
            return value
        shift += 7
        if shift > 28:
            raise WireError("not a varint")
