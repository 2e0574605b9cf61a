"""Programs as child processes, none of which outlives its test."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.waiting import PATIENCE_S


@contextlib.contextmanager
def killed_at_the_end(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """The process, which is killed when the block is left, if it has not ended.

    Popen's own block would wait for it instead: for ever, where a test fails because the process hangs.
    """
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        with process:  # waits, and closes its pipes
            pass


class OutputProcess:
    """A program that is started when the block is entered, and gone when it is left.

    ``output`` has the lines written so far, standard output and error together.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """``environment``: beside that of the tests."""
        self.command = command
        self.output: list[str] = []
        self._environment = {**os.environ, **environment}
        self._changed = threading.Condition()
        self._ended = False

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self._environment
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.started()
        except BaseException:
            if self._ended:  # its output, and so the program: it is to have its exit code
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(PATIENCE_S)
            self.__exit__(None, None, None)  # what does not start in time must not outlive its test
            raise
        return self

    def started(self) -> None:
        """Returns when it does what it is for."""
        raise NotImplementedError

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
