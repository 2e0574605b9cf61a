"""Record streams in envelopes (streams.md §2): replies whose heads say ``cursor`` and ``event``.

Replies to clients that are in step differ only in the beginning of the head, the id; what follows is made once for
all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from kafka_gateway.stream import Feed, Payload
from kafka_gateway.transports.records.frames import array

STREAM_TYPE = "application/json"
"""What the content of these replies is, whatever the request accepts."""


@runtime_checkable
class Immediate(Protocol):
    """A channel whose connection can be written without waiting, and says when it is full."""

    def send_at_once(self, start: bytes, rest: bytes) -> None:
        """Sends a text message that consists of these two."""

    def follow_drain(self, drained: Callable[[], None]) -> None:
        """Calls ``drained`` each time the client has caught up after it was behind, until ``leave_drain``."""

    def leave_drain(self, drained: Callable[[], None]) -> None: ...
    @property
    def is_full(self) -> bool:
        """Whether so much waits for the client that a stream must pause."""


def members_of(event: Payload) -> bytes:
    """What the head says of an event, besides what all heads say."""
    members = []
    if event.cursor:
        members.append(b'"cursor":' + event.cursor)
    if event.name not in ("record", ""):
        members.append(b'"event":"%b"' % event.name.encode())
    return b",".join(members)


class EnvelopeOutlet:
    """Writes the events of one stream as replies (gateway.stream.Outlet).

    ``id`` is that of the request if its replies have the plain form, whose tail is the same for all clients; else
    None, and ``write_reply`` makes them.
    """

    __slots__ = ("_before", "_channel", "_feed", "_paused", "_reply_max", "_write_reply")

    def __init__(
        self,
        channel: Immediate,
        feed: Feed,
        id: bytes | None,
        reply_max: int,
        write_reply: Callable[[Payload], None],
    ) -> None:
        self._channel, self._feed, self._reply_max, self._write_reply = channel, feed, reply_max, write_reply
        self._before = b'{"code":200,"id":%b' % id if id is not None else b""
        self._paused = False
        channel.follow_drain(self._drained)

    def write(self, event: Payload) -> bool:
        before = self._before
        if before and event.status == 200:
            tail: bytes | None = event.frames.get(_tail)
            if tail is None:
                tail = event.frames[_tail] = _tail(event)
            if tail and len(before) + len(tail) <= self._reply_max:
                self._channel.send_at_once(before, tail)
                self._paused = self._channel.is_full
                return not self._paused
        self._write_reply(event)
        self._paused = self._channel.is_full
        return not self._paused

    def release(self) -> None:
        self._channel.leave_drain(self._drained)

    def _drained(self) -> None:
        if self._paused:
            self._paused = False
            self._feed.resume()


def _tail(event: Payload) -> bytes:
    """The reply behind the id. JSON is UTF-8 whatever is in the records, so it is text."""
    members = members_of(event)
    comma = b"," if members else b""
    return b',"type":"%b"%b%b}%b' % (STREAM_TYPE.encode(), comma, members, array(event))
