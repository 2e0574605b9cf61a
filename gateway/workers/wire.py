"""A connection between two processes of a gateway, whichever end: frames out, frames in."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import socket
import ssl
import struct
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final, cast

from kafka_gateway.memory_budget import MemoryBudget
from kafka_gateway.state_log import StateLog
from kafka_gateway.workers.frames import (
    FRAME_MAX,
    HELLO_MAX,
    PIECE_MAX,
    FrameError,
    FrameReader,
    Head,
    Long,
    More,
    frame,
)
from kafka_gateway.workers.greeting import Greeting
from kafka_gateway.workers.pieces import Arriving, Outgoing

log = logging.getLogger("gateway.workers")

_CREDENTIALS: Final = struct.Struct("3i")
"""struct ucred of unix(7): pid, uid, gid."""

_GATHERED_MAX: Final = 64
_GATHERED_BYTES_MAX: Final = 16 * 1024
"""So many frames wait for the end of a turn of the event loop, none of which is longer than that."""

SILENT: Final = "no sign of life"
"""The kind of trouble with a process of which nothing is heard, for `StateLog`."""
NOBODYS: Final = contextvars.Context()
"""For what a request sets going and what does not belong to it: its id is not to stand in the log."""

Judge = Callable[["Wire"], str]
"""What is wrong with the other end, beside its greeting; "" for nothing."""


def no_fault(_: Wire) -> str:
    """Whoever has greeted is welcome."""
    return ""


class LinkLost(Exception):
    """The process at the other end is gone, or cannot be heard, and whatever it was at work on.

    ``sent``: whether what was asked may have reached it. ``why``: what is known of the reason, "" for nothing.
    ``refused``: the process that was wanted is there, and one end has not let the other one in.
    """

    def __init__(self, sent: bool = False, why: str = "", refused: bool = False) -> None:
        super().__init__(sent)
        self.sent = sent
        self.why = why
        self.refused = refused


class Wire(asyncio.Protocol):
    """Belongs to the event loop. Subclasses implement ``take`` and ``lost``. The first frames each way are a greeting:
    an end that is no process of the same gateway is cut off before anything else is read.
    """

    def __init__(
        self,
        greeting: Greeting,
        judge: Judge = no_fault,
        memory: MemoryBudget | None = None,
        states: StateLog | None = None,
    ) -> None:
        """``memory``: where what goes and comes in pieces counts. ``states``: of all connections of this process, which
        says once what goes wrong with many of them."""
        self._states = states if states is not None else StateLog(log)
        self._greeting = greeting
        self._outgoing = Outgoing(self._write_piece, memory)
        self._arriving: Arriving[Long] = Arriving(memory)
        self._judge = judge
        self._is_met = False
        self._frames = FrameReader(HELLO_MAX)
        self._gathered: list[bytes] = []
        """Frames of this turn of the event loop, which leave in one write: each write is a call of the system, and
        wakes the other process up."""
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self.heard_at = self.said_at = self._loop.time()
        """When something came, and went, last: seconds of the loop."""
        self.counted_from = 0.0
        """Silence before that is nobody's."""
        self.ready: asyncio.Future[None] = self._loop.create_future()
        """Done when the other end has proved to be one of us; LinkLost if it never did."""
        self.address = ""
        """Of the other end, for the log; empty until it is connected."""
        self.trouble = ""
        """Why it was given up at this end."""

    @property
    def other(self) -> str:
        """The process at the other end, once it has greeted; "" before."""
        return self.claimed if self._is_met else ""

    @property
    def claimed(self) -> str:
        """The process that the other end says it is, to be believed if nothing else is wrong with it."""
        return self._greeting.other.process if self._greeting.other is not None else ""

    @property
    def certificate(self) -> Mapping[str, Any]:
        """What the other end has shown in TLS; empty without."""
        return (self._transport.get_extra_info("peercert") if self._transport is not None else None) or {}

    def take(self, head: Head, content: bytes) -> None:
        """A frame that came after the greeting."""
        raise NotImplementedError

    def lost(self) -> None:
        """Nothing comes any more, and nothing can be sent. Called once."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        connection = transport.get_extra_info("socket")
        if connection.family == socket.AF_UNIX:
            self.address = "a socket of this machine"
            if not _is_of_this_user(connection):
                self.give_up("another user has connected")
                return
        else:
            self.address = told_address(transport.get_extra_info("peername"))
        self.send(self._greeting.hello)

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._loop.time()
        try:
            if self._is_met and (whole := self._frames.whole(data)) is not None:
                self.take(*whole)
                return
            for head, content in self._frames.feed(data):
                if self._is_met:
                    self.take(head, content)
                else:
                    self._greet(head)
        except FrameError as error:
            self.give_up(str(error))

    def _greet(self, head: Head) -> None:
        proof = self._greeting.take(head)
        if proof is not None:
            self.send(proof)
        if self._greeting.done:
            if trouble := self._judge(self):
                raise FrameError(trouble)
            self._is_met, self._frames.longest = True, FRAME_MAX
            self.ready.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._gathered.clear()
        self._outgoing.clear()
        self._arriving.clear()
        if not self.ready.done():
            why = self.trouble or (f"the connection broke: {error}" if isinstance(error, ssl.SSLError) else "")
            self.ready.set_exception(LinkLost(why=why, refused=self._greeting.other is not None))
            self.ready.exception()  # whoever waits gets it; nobody need
        self.lost()

    def send(self, head: Head, content: bytes = b"", at_once: bool = False) -> None:
        """Sends a frame, and a long content behind it in pieces, together with whatever else is sent in this turn of
        the event loop; nothing happens if the connection is lost. FrameError: see ``frame``.

        ``at_once``: nothing else is to be expected in this turn, and what was sent before leaves with it."""
        if len(content) > PIECE_MAX:
            self._send_long(head, content)
            return
        data, gathered = frame(head, content), self._gathered
        if not gathered:
            if self._transport is None:
                return
            self.said_at = self._loop.time()
            if not at_once:
                self._loop.call_soon(self._flush, context=NOBODYS)
        gathered.append(data)
        if at_once or len(data) > _GATHERED_BYTES_MAX or len(gathered) >= _GATHERED_MAX:
            self._flush()

    def _flush(self) -> None:
        """Writes what was gathered, if that has not been done meanwhile."""
        gathered, transport = self._gathered, self._transport
        if gathered and transport is not None:
            if not transport.is_closing():
                transport.write(gathered[0] if len(gathered) == 1 else b"".join(gathered))
            gathered.clear()

    def _send_long(self, head: Head, content: bytes) -> None:
        if not isinstance(head, Long):
            raise FrameError(f"a {type(head).__name__} of {len(content)} bytes")
        head.size = len(content)
        self.send(head)
        if self._transport is not None:
            self._outgoing.add(head.id, content)

    def _write_piece(self, id: int, piece: memoryview) -> None:
        self._flush()
        if self._transport is not None and not self._transport.is_closing():
            self.said_at = self._loop.time()
            self._transport.write(frame(More(id), piece))

    def pause_writing(self) -> None:
        self._outgoing.is_held = True

    def resume_writing(self) -> None:
        self._outgoing.is_held = False
        self._outgoing.go_on()

    def _put_piece(self, id: int, piece: bytes) -> None:
        if (whole := self._arriving.put(id, piece)) is not None:
            self.take(*whole)

    def give_up(self, reason: str, kind: str = "") -> None:
        """Ends the connection at once, because of what the other end does or is. The log says so if both knew each
        other; else `trouble` is for whoever has opened or accepted it. ``kind``: see `StateLog.trouble`."""
        if self._transport is not None and not self._transport.is_closing():
            self.trouble = reason
            if self.other:
                who = f"process {self.other} at {self.address}"
                tell_cut_off(self._states, (type(self), self.other), who, reason, kind)
        self.close()

    def close(self) -> None:
        """Ends the connection at once; what the system does not take now is lost."""
        self._flush()
        if self._transport is not None:
            self._transport.abort()

    def finish(self) -> None:
        """Ends the connection when what was sent has left."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def silence(self, look_at: float, patience_s: float) -> float:
        """For how many seconds nothing has come, looked at when ``look_at`` was due. A process that itself stood still
        for longer than ``patience_s`` has not heard yet what came meanwhile: that is nobody's silence."""
        now, since = self._loop.time(), max(self.heard_at, self.counted_from)
        if (late_s := now - look_at) > patience_s:
            self.counted_from = since = since + late_s
        return now - since


def tell_cut_off(states: StateLog, subject: Hashable, who: str, reason: str, kind: str = "") -> None:
    """A connection does not come about, or must end, for this reason. ``subject``, ``kind``: see `StateLog.trouble`."""
    text = "a connection between processes is cut off, with %s: %s"
    states.trouble(subject, kind or reason, logging.ERROR, text, who, reason)


def told_address(name: object) -> str:
    """An address of a socket as a log line has it."""
    if isinstance(name, tuple) and len(name) >= 2:
        return f"[{name[0]}]:{name[1]}" if ":" in str(name[0]) else f"{name[0]}:{name[1]}"
    return str(name)


def _is_of_this_user(connection: socket.socket) -> bool:
    if not hasattr(socket, "SO_PEERCRED"):  # not Linux: the directory, which is this user's alone, says the same
        return True
    shown = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(shown)[1] == os.getuid())
