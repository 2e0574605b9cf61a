"""The whole program as a child process, for tests that need the real thing: its signals, its memory, its exit code."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[1]
NO_OTHERS = {"KAFKA_GATEWAY_PLUGINS_INSTALLED": "false", "KAFKA_GATEWAY_ERRORS_HELP": "false"}
"""For the environment of tests: a plugin that is installed on this machine does not change what they find, and errors
have the members of the contract alone."""


class GatewayProcess:
    """``python -m kafka_gateway port=0 KEY=VALUE …``; ready when the block is entered, gone when it is left.

    ``output`` has the lines written so far, standard output and error together.
    """

    def __init__(
        self,
        *properties: str,
        bootstrap: str = "",
        environment: dict[str, str] | None = None,
        own_port: bool = True,
        start_s: float = PATIENCE_S,
    ) -> None:
        """``own_port`` False: the properties say where it listens. ``start_s``: longest wait for it to serve; several
        workers share the cores."""
        self._start_s = start_s
        kafka = [f"bootstrap.servers={bootstrap}"] if bootstrap else []
        self.command = ["kafka_gateway", *(["port=0"] if own_port else []), *kafka, *properties]
        self._environment = {**os.environ, **NO_OTHERS, "PYTHONPATH": str(ROOT), **(environment or {})}
        self.output: list[str] = []
        self.url = ""
        self._changed = threading.Condition()
        self._ended = False

    def __enter__(self) -> GatewayProcess:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", *self.command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.url = self.wait_for(r"Listening on (http://[^\s,]+)", self._start_s)[1]
            self.wait_for(r"Server started", self._start_s)
        except BaseException:
            self.__exit__(None, None, None)  # a gateway that does not start in time must not outlive its test
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_for(self, pattern: str, timeout_s: float = PATIENCE_S) -> re.Match[str]:
        """The first line of output, past or to come, in which the pattern is found."""
        deadline = time.monotonic() + timeout_s
        seen = 0
        with self._changed:
            while True:
                for line in self.output[seen:]:
                    if found := re.search(pattern, line):
                        return found
                seen = len(self.output)
                if self._ended or not self._changed.wait(deadline - time.monotonic()):
                    raise AssertionError(f"no line with {pattern!r} in:\n" + "\n".join(self.output))

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = PATIENCE_S) -> int:
        """Sends the signal and waits; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def rss_bytes(self) -> int:
        """Resident memory now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.output.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
