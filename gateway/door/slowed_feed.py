"""A feed whose client has a limit of bytes a second: it is paused until its principal may have more."""

from __future__ import annotations

import asyncio

from kafka_gateway.door.quotas import ReadPace
from kafka_gateway.errors import ServiceError
from kafka_gateway.stream import Feed, Payload


class SlowedFeed(Feed):
    """Stands before a feed, and is the outlet of it."""

    __slots__ = ("_feed", "_full", "_pace", "_timer")

    def __init__(self, feed: Feed, pace: ReadPace) -> None:
        super().__init__(feed.heartbeat_s)
        self._feed = feed
        self._pace = pace
        self._timer: asyncio.TimerHandle | None = None
        self._full = False
        """Whether the client's connection has no room."""

    def begin(self) -> None:
        self._feed.connect(self, self.end)

    def write(self, payload: Payload) -> bool:
        """Passes on what the feed writes (gateway.stream.Outlet)."""
        room = self.outlet.write(payload)
        self._full = not room
        self._pace.owe(len(payload.data))
        if self._timer is None:
            self._pay()
        return room and self._timer is None

    def pause(self) -> None:
        self._full = True
        self._feed.pause()

    def resume(self) -> None:
        self._full = False
        if self._timer is None:
            self._feed.resume()

    def fail(self, error: ServiceError) -> None:
        """Says why and ends."""
        self._feed.fail(error)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._feed.end()

    def _pay(self) -> None:
        if (wait_s := self._pace.pay()) > 0:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        self._pay()
        if not self._full:
            self.resume()
