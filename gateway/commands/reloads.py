"""Which text of the properties file the workers of a gateway read, and when.

The parent alone reads the file: at its start, and on SIGHUP. So all workers have the same text, whatever stands on the
disk when one of them starts. A worker that replaces another one takes the keys that need a start from the text of the
start, and live keys from the text that its siblings took last (`commands.worker`).
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence

from kafka_gateway.commands.worker_process import WorkerProcess
from kafka_gateway.config import PropertiesText
from kafka_gateway.workers.texts import SharedText


class Reloads:
    """Belongs to the parent. One reload at a time: the workers read from one file in memory.

    Args:
        text: the properties file as the gateway was started with; None: it has none.
        settled: called when all workers that serve have answered, with whether any has taken the text.

    OSError: there is no memory for the texts.
    """

    def __init__(
        self, text: PropertiesText | None, workers: Sequence[WorkerProcess], settled: Callable[[bool], None]
    ) -> None:
        self._workers = workers
        self._settled = settled
        self._current: PropertiesText | None = text
        self._started, self._taken, self._offered = SharedText(text), SharedText(text), SharedText(text)
        self._offer: PropertiesText | None = text
        self._is_new = False
        """Whether what is offered at present is to be the next text of all."""
        self._was_taken = False
        self._asked = False
        self._round = 0

    @property
    def numbers(self) -> tuple[int, int, int]:
        """Of the files in memory that a worker inherits: the text of the start, the one taken last, the one offered."""
        return self._started.number, self._taken.number, self._offered.number

    def ask(self) -> None:
        """Reads the file again, and has all workers read the new text."""
        self._asked = True
        self.go_on()

    def begin(self, worker: WorkerProcess) -> None:
        """Notes that a process was started for this worker. It has the text that was taken last."""
        worker.round = self._round

    def answered(self, worker: WorkerProcess, taken: bool) -> None:
        """Notes the worker's answer: whether it took the text that was offered."""
        if worker.reloading:
            worker.reloading = False
            self._was_taken = self._was_taken or taken
            self.go_on()

    def go_on(self) -> None:
        """Does what is due. To be called whenever a worker has begun to serve, or has ended."""
        if any(worker.reloading for worker in self._workers):
            return
        if self._is_new:
            self._is_new = False
            self._round += 1
            if self._was_taken:
                self._current = self._offer
                before, self._taken = self._taken, SharedText(self._current)
                before.close()
            self._settled(self._was_taken)
        serving = [worker for worker in self._workers if worker.ready_at is not None]
        if behind := [worker for worker in serving if worker.round != self._round]:
            # Started before the text was taken, or before files of the log were moved away.
            self._send(self._current, behind, self._round)
        elif self._asked and serving:
            self._asked, self._is_new = False, True
            text = PropertiesText.of(self._current.path) if self._current is not None else None
            self._send(text, serving, self._round + 1)

    def _send(self, text: PropertiesText | None, workers: Sequence[WorkerProcess], round: int) -> None:
        self._offer, self._was_taken = text, False
        self._offered.write(text)
        for worker in workers:
            worker.reloading, worker.round = True, round
            if worker.process is not None:
                worker.process.send_signal(signal.SIGHUP)

    def close(self) -> None:
        """Gives the memory back."""
        for each in (self._started, self._taken, self._offered):
            each.close()
