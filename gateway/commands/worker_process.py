"""A worker as its parent sees it: the sockets that belong to it, and the process that has them at present."""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import time
from typing import Final

from kafka_gateway.door.listening import bind_again

log = logging.getLogger("gateway.workers")

START = (
    # What is imported stays: the collector would walk it again and again. `run` turns it on.
    "import gc; gc.disable(); from kafka_gateway import early_signals; early_signals.keep(early_signals.HARMLESS);"
    " from kafka_gateway.commands.worker_main import start; start()"
)
"""What the interpreter of a worker runs. bin/stop knows a gateway by ``-m kafka_gateway``: its parent only."""

BACK_OFF_S: Final = 0.1
"""The first pause between the end of a process and the start of the next one."""
_BACK_OFF_MAX_S: Final = 5.0
_WELL_S: Final = 30.0
"""After a process that has served for so long the pause is the first one again."""
_SET_ASIDE_AFTER: Final = 3
"""After so many processes in a row that did not serve that long, connections do not wait for the next one."""


class WorkerProcess:
    """A worker, which outlives its processes. Belongs to the parent."""

    def __init__(self, number: int, peer: socket.socket | None, listeners: list[list[socket.socket]]) -> None:
        """``peer``: listens for the other workers; None if the process does that by itself."""
        self.number = number
        self.peer = peer
        self.listeners = listeners
        self.process: subprocess.Popen[bytes] | None = None
        self.channel: socket.socket | None = None
        self.heard = b""
        """What has come of a line that is not complete."""
        self._unsent = b""
        self.ready_at: float | None = None
        """When the process began to serve; None until then."""
        self.alive_at = 0.0
        """When something was last heard of it."""
        self.start_at = 0.0
        """When the next process may be started."""
        self._back_off_s = BACK_OFF_S
        self._ends = 0
        """Of processes in a row that have not served well."""
        self.restarts = 0
        self.drained = False
        self.reloading = False
        """Whether it was asked to read the configuration again and has not answered."""
        self.round = 0
        """Which of the accepted configurations it has (`Reloads`)."""

    @property
    def files(self) -> list[int]:
        """What its process inherits, beside the channel."""
        peer = [self.peer.fileno()] if self.peer is not None else []
        return [*peer, *(each.fileno() for sockets in self.listeners for each in sockets)]

    def begin(self, process: subprocess.Popen[bytes], channel: socket.socket) -> None:
        """Notes the process that was started for it."""
        self.process, self.channel = process, channel
        self.heard, self._unsent, self.ready_at = b"", b"", None
        self.drained = self.reloading = False
        self.alive_at = time.monotonic()

    def end(self) -> float:
        """Notes that its process has ended. Returns for how many seconds that has served."""
        served_s = time.monotonic() - self.ready_at if self.ready_at is not None else 0.0
        self.process, self.ready_at, self.reloading = None, None, False
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        if served_s >= _WELL_S:
            self._back_off_s, self._ends = BACK_OFF_S, 0
        self._ends += 1
        return served_s

    def set_aside(self) -> None:
        """After several processes that ended soon, lets connections go to the other workers: its sockets are bound anew
        and do not listen, and connections that wait on the old ones are reset. The next process listens again as soon
        as it serves. A Unix socket is shared by all workers, and stays."""
        if self._ends < _SET_ASIDE_AFTER:
            return
        try:
            again = [
                [each if each.family == socket.AF_UNIX else bind_again(each) for each in own] for own in self.listeners
            ]
        except OSError as error:
            log.error("worker %d: its addresses cannot be had again: %s", self.number, error)
            return
        for each in (each for own in self.listeners for each in own if each.family != socket.AF_UNIX):
            each.close()
        self.listeners = again
        if self._ends == _SET_ASIDE_AFTER:
            text = "worker %d has ended %d times in a row: connections go to the other workers until it serves"
            log.error(text, self.number, self._ends)

    def put_off(self) -> float:
        """Sets when the next process may be started. Returns in how many seconds that is: each time in a row twice as
        many, up to 5."""
        wait_s = self._back_off_s
        self.start_at = time.monotonic() + wait_s
        self._back_off_s = min(wait_s * 2, _BACK_OFF_MAX_S)
        return wait_s

    def tell(self, line: bytes) -> None:
        """Sends its process the line. What the process does not take is sent with the next line."""
        if self.channel is not None:
            self._unsent += line + b"\n"
            with contextlib.suppress(OSError):  # it has ended, or its buffer is full
                self._unsent = self._unsent[self.channel.send(self._unsent) :]
