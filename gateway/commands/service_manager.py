"""Tells the service manager the state of the gateway: systemd's protocol of NOTIFY_SOCKET (sd_notify(3)).

Without that variable nothing is sent. Messages are datagrams, so sending never waits. One that cannot be sent is lost,
and the manager's own time limits take over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Mapping

log = logging.getLogger("gateway")

_BEATS = 3
"""Signs of life in the time after which the manager takes the process for dead: one may be late, and one be lost."""


class ServiceManager:
    """The manager that started this process, if there is one. Belongs to the event loop.

    Args:
        environment: of the process: NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID count.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._is_stopping = False
        self.watchdog_s = _watchdog_s(environment) if self._address else 0.0
        """Seconds without a sign of life after which the manager restarts the process; 0: it does not."""

    def ready(self, *, refused: bool = False) -> None:
        """The gateway serves, or has read its configuration again; ``refused``: it goes on with the one before."""
        if not self._is_stopping:
            why = "; the configuration that was read last is refused, the log names every fault" if refused else ""
            self._tell("READY=1", f"STATUS=serving{why}")

    def stopping(self) -> None:
        """The gateway stops. After this ``ready`` and ``begin_reload`` send nothing."""
        self._is_stopping = True
        self._tell("STOPPING=1", "STATUS=stopping: requests at work are finished")

    def begin_reload(self) -> None:
        """The configuration is being read; ``ready`` ends that."""
        if self._is_stopping:
            return
        # CLOCK_MONOTONIC, by which Type=notify-reload tells this reload from the one before.
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def beat(self) -> None:
        """A sign of life."""
        self._tell("WATCHDOG=1")

    @contextlib.asynccontextmanager
    async def watching(self, stop: asyncio.Event) -> AsyncIterator[None]:
        """Sends signs of life while the block runs, and reports the stop when ``stop`` is set.

        The event loop itself sends them: a gateway whose loop is stuck serves nobody, and is restarted.
        """
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(self._announce(stop), name="tell the service manager of the stop")]
        if self.watchdog_s:
            tasks.append(loop.create_task(self._beat(), name="signs of life for the service manager"))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _announce(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self.stopping()

    async def _beat(self) -> None:
        while True:
            self.beat()
            await asyncio.sleep(self.watchdog_s / _BEATS)

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.setblocking(False)
                out.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.warning("the service manager cannot be told %s: %s", lines[0], error)


def _address(text: str) -> str:
    """``@`` at the beginning stands for the NUL byte of an abstract address."""
    return f"\0{text[1:]}" if text.startswith("@") else text


def _watchdog_s(environment: Mapping[str, str]) -> float:
    pid, micros = environment.get("WATCHDOG_PID", ""), environment.get("WATCHDOG_USEC", "")
    if not micros.isdigit() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(micros) / 1_000_000
