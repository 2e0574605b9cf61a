"""Sending the payloads of streams in envelopes: as pushes, or as the parts of one reply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kafka_gateway.messages import Reply
from kafka_gateway.stream import Payload, ReplyInParts
from kafka_gateway.transports.envelope.channel import Channel, Proving
from kafka_gateway.transports.envelope.codec import Envelope
from kafka_gateway.transports.envelope.replying import short_head


class Replying(Protocol):
    """Sends replies: `EnvelopeSession`."""

    def reply(self, reply: Reply, payload: bytes | Payload, part: Envelope, method: str = "", **kind: bool) -> int:
        """Sends a reply with this payload, or a part of one (`replying.reply`); how many bytes it has."""

    def send(self, message: bytes) -> None:
        """Sends a message, framed like all others."""


class PartsSink:
    """Sends each line of a reply as a part of it, as soon as it is there; the last one is marked (atmosphere-binding.md
    §1.8).

    If it is not known in time which is the last one, an empty part follows.
    """

    __slots__ = ("_channel", "_conversation", "_ended", "_first", "_part", "_reply", "_stream")

    def __init__(
        self, conversation: Replying, channel: Channel, reply: Reply, part: Envelope, stream: ReplyInParts
    ) -> None:
        self._conversation, self._channel = conversation, channel
        self._reply, self._part, self._stream = reply, part, stream
        self._first, self._ended = True, False

    async def send(self, payload: Payload) -> None:
        lines = payload.data.splitlines(keepends=True)
        first, self._first, self._ended = self._first, False, self._stream.is_over
        for number, line in enumerate(lines, 1):
            more = not (self._ended and number == len(lines))
            in_parts = more or not first or number > 1
            self._conversation.reply(self._reply, line, self._part, in_parts=in_parts, more=more)
        await self._channel.drain()

    def finish(self) -> None:
        """The stream has ended."""
        if not self._ended:
            self._conversation.reply(self._reply, b"", self._part)


class PushSink:
    """Frames the payloads of a stream (gateway.delivery.SendsAtOnce)."""

    __slots__ = ("_channel", "_conversation", "_head", "_part", "_proving", "_reply", "_reply_max")

    takes_errors = True

    def __init__(
        self, conversation: Replying, channel: Channel, reply: Reply, part: Envelope, is_plain: bool, reply_max: int
    ) -> None:
        """``is_plain``: a reply with a short payload is a `short_reply`."""
        self._conversation, self._channel, self._reply, self._part = conversation, channel, reply, part
        self._proving = channel if isinstance(channel, Proving) else None
        self._head = short_head(part.id, reply.status, reply.media_type) if is_plain and part.id is not None else None
        self._reply_max = reply_max

    async def send(self, payload: Payload) -> None:
        self._conversation.reply(self._reply, payload, self._part)
        await self._channel.drain()

    def send_at_once(self, data: bytes, delivered: Callable[[], None]) -> bool:
        if self._proving is None or not self._proving.can_prove:
            return False
        message = self._head + data if self._head is not None and data else b""
        if message and len(message) <= self._reply_max and message.isascii():
            self._conversation.send(message)
        else:
            self._conversation.reply(self._reply, data, self._part)
        self._proving.prove(delivered)
        return True
