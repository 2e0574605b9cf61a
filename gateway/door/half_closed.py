"""Whether a client that has closed its sending side (``nc -N``) still reads, or is gone: both look the same before
something is written to it.

The system of a client that reads acknowledges what it is sent. If the client is gone, its system resets the
connection (RFC 9293 §3.10.7.4). Only records need this: those of a client that is gone go to the next one.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
import time
from typing import Final

PATIENCE_S: Final = 10.0
"""How long a client's system may take to acknowledge the reply."""
_FIRST_LOOK_S: Final = 0.001
_LAST_LOOK_S: Final = 0.1
_CLOSED: Final = 7
"""TCP_CLOSE of Linux's tcp_states.h: the connection was reset."""


async def has_taken_all(transport: asyncio.Transport) -> bool:
    """Whether the client's system has acknowledged all that was written, within ``PATIENCE_S``.

    False where the system cannot say so (it needs Linux): then the records are given again, rather than lost.
    """
    connection = transport.get_extra_info("socket")
    if connection is None or not hasattr(socket, "TCP_INFO"):
        return False
    if connection.family == socket.AF_UNIX:
        return True  # there writing fails when nobody reads any more
    until, pause_s = time.monotonic() + PATIENCE_S, _FIRST_LOOK_S
    while not transport.is_closing():
        # In this order: a connection that is reset in between has nothing left that is not acknowledged, either.
        is_empty = not transport.get_write_buffer_size() and not _unacknowledged(connection.fileno())
        if connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _CLOSED:
            return False
        if is_empty:
            return True
        if time.monotonic() > until:
            return False
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LAST_LOOK_S)
    return False


def _unacknowledged(descriptor: int) -> int:
    """Bytes in the system's queue that the other side has not acknowledged (tcp(7), SIOCOUTQ)."""
    return int(struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, b"\0\0\0\0"))[0])
