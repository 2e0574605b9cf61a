"""Long-polling (atmosphere-binding.md §3.9): each message is the reply to a request that waited for it.

Between two polls the client is not connected. Messages wait then, and a client that does not return in time ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

from kafka_gateway.config import Config
from kafka_gateway.errors import GONE, IDLE, SLOW
from kafka_gateway.transports.atmosphere import protocol as atmosphere
from kafka_gateway.transports.atmosphere.channel import Framing, HttpChannel

LONG_POLLING = Framing(
    name="long-polling",
    media_type="text/plain;charset=utf-8",
    text=atmosphere.as_text,
    frame=lambda message: message,
    opening=lambda major_version: b"",
    json_heartbeats=False,
)

_TAKE_BYTES = 1024 * 1024
"""What one poll of a client that can tell messages apart takes at most."""


class PollLimits:
    """What may wait, and for how long."""

    def __init__(self, config: Config) -> None:
        self.messages_max = config.integer("transport.long-polling.queue.max.messages")
        self.bytes_max = config.integer("transport.long-polling.queue.max.bytes")
        self.expiry_s = config.seconds("transport.long-polling.expiry.ms")


class PolledChannel(HttpChannel):
    """Carries the messages of a client that polls."""

    def __init__(self, limits: PollLimits, on_end: Callable[[], None], *rest: Any) -> None:
        super().__init__(LONG_POLLING, *rest)
        self._limits = limits
        self._on_end = on_end
        self._unconfirmed: list[bytes] = []
        """Written, and the client has not polled again, which it does when it has them."""
        self._checked = False
        self._open = False
        """Whether a poll was taken, whose head tells the client that it is open."""
        self.polls = 0
        """How many are waiting, or being answered."""
        self._expiry: asyncio.TimerHandle | None = None
        self.aborted = False
        """Whether the last poll ended before it was answered."""

    def _begin(self, idle_s: float) -> None:
        self._expire_later()  # polls have their own heartbeats, and a time-out between them

    def send(self, payload: bytes, binary: bool = False) -> None:
        """Ends the client if it has too much to fetch already.

        It is checked once in a turn of the loop: otherwise the parts of one large reply could never wait together.
        """
        send_queue, limits = self.send_queue, self._limits
        if not self._checked:
            if send_queue.size_bytes >= limits.bytes_max or len(send_queue) >= limits.messages_max:
                self.give_up(SLOW)
                return
            self._checked = True
            self._loop.call_soon(self._check_again)
        send_queue.put(payload)

    async def written(self) -> None:
        # The client shows that it has a message by its next poll, and what it does about it may come before that.
        if self.send_queue.closed:
            raise ConnectionResetError("the client left")

    def has_written(self) -> bool:
        return not self.send_queue.closed

    def _check_again(self) -> None:
        self._checked = False

    async def room(self) -> None:
        # Not until the send queue is empty: the next poll may need the connection on which the request waits.
        await self.client.conversation.room()

    async def poll(self, in_browser: bool) -> AsyncGenerator[bytes, None]:
        """Answers a poll: with a message, the heartbeat when it is time for that, or nothing when it is over.

        The head of the response leaves with the first piece, at once: clients up to 4.x are open when they have it.
        Chromium tells scripts of a head only when the body begins. So browsers get a space with the first, which these
        clients trim; servers of Atmosphere do so too (``PaddingAtmosphereInterceptor``).
        """
        self.polls += 1
        self._do_not_expire()
        confirmed, self._unconfirmed = self._unconfirmed, []
        self.send_queue.written(confirmed)
        taken: list[bytes] = []
        try:
            is_first = not self._open and not self.send_queue
            yield b" " if is_first and in_browser and self.parameters.major_version < 5 else b""
            self._open = True
            try:
                async with asyncio.timeout(self.parameters.quiet_s(self._settings.heartbeat_s) or None):
                    if await self.send_queue.filled():
                        taken = self.send_queue.take(_TAKE_BYTES if self.parameters.track_length else 0)
                data = b"".join(taken)
            except TimeoutError:
                data = self.wrap(self._settings.heartbeat)
            if data:
                yield data
            self._unconfirmed += taken
            self.aborted = False
        except (GeneratorExit, asyncio.CancelledError):  # the client left
            self.send_queue.back(taken)
            self.aborted = True
            if not self.send_queue and self.client.session.idle:
                self.close(GONE)  # there is nothing for a further poll
            raise
        finally:
            self.polls -= 1
            if not self.polls and self.ended is None:
                self._expire_later()

    def _over(self) -> None:
        self._do_not_expire()
        self._on_end()

    def _expire_later(self) -> None:
        self._expiry = self._loop.call_later(self._limits.expiry_s, self.close, IDLE)

    def _do_not_expire(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
