"""Sending the payloads of streams in envelopes: as pushes, or as the parts of one reply."""

from __future__ import annotations

from typing import Protocol

from kafka_gateway.messages import Reply
from kafka_gateway.stream import Payload, ReplyInParts
from kafka_gateway.transports.envelope.codec import Envelope


class Replying(Protocol):
    """Sends replies: `EnvelopeSession`."""

    async def push(self, reply: Reply, payload: Payload, part: Envelope) -> None: ...
    async def push_parts(self, reply: Reply, parts: list[bytes], part: Envelope, first: bool, ends: bool) -> None: ...
    def end_parts(self, reply: Reply, part: Envelope) -> None: ...


class PartsSink:
    """Sends each line of a reply as a part of it, as soon as it is there; the last one is marked (atmosphere-binding.md
    §1.8).

    If it is not known in time which is the last one, an empty part follows.
    """

    __slots__ = ("_conversation", "_ended", "_first", "_part", "_reply", "_stream")

    def __init__(self, conversation: Replying, reply: Reply, part: Envelope, stream: ReplyInParts) -> None:
        self._conversation, self._reply, self._part, self._stream = conversation, reply, part, stream
        self._first, self._ended = True, False

    async def send(self, payload: Payload) -> None:
        lines = payload.data.splitlines(keepends=True)
        first, self._first, self._ended = self._first, False, self._stream.is_over
        await self._conversation.push_parts(self._reply, lines, self._part, first, self._ended)

    def finish(self) -> None:
        """The stream has ended."""
        if not self._ended:
            self._conversation.end_parts(self._reply, self._part)


class PushSink:
    """Frames the payloads of a stream (gateway.delivery.Sink)."""

    __slots__ = ("_conversation", "_part", "_reply")

    takes_errors = True

    def __init__(self, conversation: Replying, reply: Reply, part: Envelope) -> None:
        self._conversation, self._reply, self._part = conversation, reply, part

    async def send(self, payload: Payload) -> None:
        await self._conversation.push(self._reply, payload, self._part)
