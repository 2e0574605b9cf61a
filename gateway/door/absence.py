"""Whether the client is gone of a connection that is not read for the moment: no event of the loop tells it then.

A connection is not read while the body of its request is full: what works on it waits for a quota, for memory, or for
Kafka. Its client may leave meanwhile, and its request must end then, as that of any other client that leaves.
"""

from __future__ import annotations

import asyncio
import fcntl
import select
import struct
import termios
from collections.abc import Callable
from typing import Final

_EVERY_S: Final = 1.0
_HALF_CLOSED: Final = getattr(select, "POLLRDHUP", 0)
"""The client has closed its sending side (poll(2), Linux)."""


class Absence:
    """Misses the client of one connection. Belongs to the event loop."""

    __slots__ = ("_missing", "_timer", "_transport")

    def __init__(self, missing: Callable[[], int | None]) -> None:
        """``missing``: bytes of the request that have not been read, 0 or less where nobody knows; None while the
        connection is read."""
        self._missing = missing
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, transport: asyncio.Transport) -> None:
        """The connection is not read from now on; it is aborted if its client is found gone."""
        if self._timer is None:
            self._transport = transport
            self._timer = asyncio.get_running_loop().call_later(_EVERY_S, self._look)

    def stop(self) -> None:
        """Looks no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._transport = None

    def _look(self) -> None:
        transport, missing = self._transport, self._missing()
        self._timer = self._transport = None
        if transport is None or missing is None:
            return
        if has_left(transport, missing):
            transport.abort()
        else:
            self.watch(transport)


def has_left(transport: asyncio.Transport, missing: int) -> bool:
    """Whether the client is gone, of whose request so many bytes have not been read; 0 or less: nobody knows how many.

    One that has closed its sending side is gone if it has not sent those; else only when it has reset the connection,
    as its system does when it gets a part of the reply. False where the system cannot say so.
    """
    connection = transport.get_extra_info("socket")
    if connection is None or not hasattr(select, "poll") or (descriptor := connection.fileno()) < 0:
        return False
    asked = select.poll()
    asked.register(descriptor, _HALF_CLOSED)
    events = sum(each for _, each in asked.poll(0))
    if events & ~_HALF_CLOSED:  # POLLHUP, POLLERR
        return True
    return bool(events) and missing > 0 and _unread(descriptor) < missing


def _unread(descriptor: int) -> int:
    """Bytes in the system's queue that have not been read (tcp(7), SIOCINQ); of TLS those that are encrypted."""
    return int(struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0\0\0\0"))[0])
