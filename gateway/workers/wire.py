"""A connection between two workers, whichever end: frames out, frames in."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from typing import Final, cast

from kafka_gateway.workers.frames import FRAME_MAX, HELLO_MAX, VERSION, FrameError, FrameReader, Head, Hello, frame

log = logging.getLogger("gateway.workers")

_CREDENTIALS: Final = struct.Struct("3i")
"""struct ucred of unix(7): pid, uid, gid."""


class Wire(asyncio.Protocol):
    """Subclasses implement ``welcome``, ``take`` and ``lost``. The first frame each way is a `Hello`: an end that is no
    worker of the same gateway and user is cut off before anything else is read."""

    def __init__(self, worker: int, workers: int) -> None:
        self._me = Hello(VERSION, worker, workers)
        self._frames = FrameReader(HELLO_MAX)
        self._transport: asyncio.Transport | None = None
        self.other: int | None = None
        """Number of the worker at the other end, once it has said hello."""

    def welcome(self, other: int) -> None:
        """The other end is one of us."""
        raise NotImplementedError

    def take(self, head: Head, content: bytes) -> None:
        """A frame that came after the hello."""
        raise NotImplementedError

    def lost(self) -> None:
        """Nothing comes any more, and nothing can be sent. Called once."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not _is_of_this_user(transport.get_extra_info("socket")):
            log.error("another user has connected to the socket of a worker: cut off")
            self._transport.abort()
            return
        self._transport.write(frame(self._me))

    def data_received(self, data: bytes) -> None:
        try:
            for head, content in self._frames.feed(data):
                if self.other is not None:
                    self.take(head, content)
                elif isinstance(head, Hello) and (head.version, head.workers) == (VERSION, self._me.workers):
                    self.other, self._frames.longest = head.worker, FRAME_MAX
                    self.welcome(head.worker)
                else:
                    raise FrameError("no hello of a worker of this gateway")
        except FrameError as error:
            log.error("what came from worker %s cannot be read: %s", self.other, error)
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self.lost()

    def send(self, head: Head, content: bytes = b"") -> None:
        """Sends a frame; nothing happens if the connection is lost. FrameError: see ``frame``."""
        data = frame(head, content)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _is_of_this_user(connection: socket.socket) -> bool:
    if not hasattr(socket, "SO_PEERCRED"):  # not Linux: the directory, which is this user's alone, says the same
        return True
    shown = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(shown)[1] == os.getuid())
