"""The parent of several workers: it has their listening sockets, starts them, and starts a new one for each that ends.

It serves nobody and has no event loop: it waits for signals, for its children to end, and for what they say on their
channels (`kafka_gateway.workers.part`). The sockets stay open while a worker is away, so connections wait for the next
one instead of being refused (cluster.md §8).
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Final

from kafka_gateway import early_signals
from kafka_gateway.commands.inherited import bind_listeners, open_embedded, peer_directory
from kafka_gateway.commands.reloads import Reloads
from kafka_gateway.commands.run import open_logs, tell_ready
from kafka_gateway.commands.service_manager import ServiceManager
from kafka_gateway.commands.start_notes import start_notes
from kafka_gateway.commands.worker_process import START, WorkerProcess
from kafka_gateway.config import Config, PropertiesText
from kafka_gateway.door.listening import bind_unix
from kafka_gateway.homes import REPLACED
from kafka_gateway.logs.levels import LEVELS
from kafka_gateway.logs.logs import Logs
from kafka_gateway.workers import part as parts
from kafka_gateway.workers.part import WorkerPart, count_of, peer_address

log = logging.getLogger("gateway.workers")

_KILL_AFTER_S: Final = 10.0
"""So long after ``shutdown.graceful.ms`` a worker that has not ended is killed."""
_START_S: Final = 60.0
"""A process that replaces another one may be silent for so long before it serves; then it is killed. It imports
everything first, on a machine that may be busy."""
_LOOKS: Final = 6
"""In the longest silence that is allowed a worker gives so many signs of life, and the parent looks so often."""
_TAKEN: Final = (*early_signals.KEPT, signal.SIGINT, signal.SIGCHLD)


def run_parent(config: Config, words: Sequence[str], text: PropertiesText | None) -> int:
    """Serves with as many workers as ``workers`` says until SIGTERM or SIGINT; the exit code.

    ``words`` are the arguments of the command, which the workers get, too; ``text`` is the properties file among them,
    as ``config`` was read from it.
    """
    logs = open_logs(config.text("log.format"), config.text("log.file"), shared=True)
    if logs is None:
        return 1
    LEVELS.configure(config)
    if not hasattr(socket, "SO_REUSEPORT"):
        log.error("workers: this system has no sockets that processes can share (SO_REUSEPORT); set workers=1")
        return 2
    for warning in start_notes(config):
        log.warning(warning)
    early_signals.keep((signal.SIGINT,))  # what is made from here on is to be gone at the end
    with contextlib.ExitStack() as stack:
        try:
            parent = _Parent(config, words, text, logs, stack)
        except OSError as error:
            log.error(str(error))
            return 1
        return parent.run()


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Signals to processes that are started meanwhile wait until those have handlers (`early_signals.keep`)."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*early_signals.HARMLESS, signal.SIGINT))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Parent:
    """The parent process. Raises OSError if an address, or the directory of the workers' sockets, cannot be had."""

    def __init__(
        self,
        config: Config,
        words: Sequence[str],
        text: PropertiesText | None,
        logs: Logs,
        stack: contextlib.ExitStack,
    ) -> None:
        self._words = list(words)
        self._logs = logs
        self._is_node = config.flag("cluster.enable")
        self._grace_s = config.seconds("shutdown.graceful.ms")
        if self._is_node:
            for key in ("cluster.handover.timeout.ms", "cluster.drain.wait.ms"):
                self._grace_s += config.seconds(key)
        self._manager = ServiceManager(os.environ)
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        }
        count = count_of(config)
        self._log_to = config.text("log.format"), config.text("log.file")
        self._directory = peer_directory(config, stack)
        listeners = bind_listeners(config, count, stack)
        self._embedded = open_embedded(config, stack)
        self._workers: list[WorkerProcess] = []
        for number in range(count):
            peer = None
            if not self._is_node:
                peer = stack.enter_context(bind_unix(peer_address(self._directory, number)))
                peer.listen(1024)
            self._workers.append(WorkerProcess(number, peer, [sockets[number] for sockets in listeners]))
        self._reloads = Reloads(text, self._workers, self._tell_reloaded)
        stack.callback(self._reloads.close)
        self._selector = stack.enter_context(selectors.DefaultSelector())
        self._signals: list[int] = []
        self._stop_by: float | None = None
        """When what has not ended is killed; None while the gateway is to serve."""
        self._served = False
        self._code = 0
        silence_s = config.seconds("cluster.session.timeout.ms")
        self._silence_s = min(silence_s, self._manager.watchdog_s or silence_s)
        self._look_at = 0.0
        self._beat_at = 0.0

    def run(self) -> int:
        with self._hearing_signals():
            for worker in self._workers:
                self._start(worker)
            while self._stop_by is None or any(worker.process for worker in self._workers):
                for key, _ in self._selector.select(self._wait_s()):
                    key.data()
                while self._signals:
                    self._take(self._signals.pop(0))
                self._reap()
                self._start_again()
                self._watch()
        return self._code

    # --- signals ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _hearing_signals(self) -> Iterator[None]:
        """Signals wake the loop, which takes them one after the other."""
        woken, wakes = socket.socketpair()
        with woken, wakes:
            woken.setblocking(False)
            wakes.setblocking(False)
            self._selector.register(woken, selectors.EVENT_READ, lambda: woken.recv(4096))
            before = {number: signal.signal(number, lambda taken, _: self._signals.append(taken)) for number in _TAKEN}
            old = signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
            try:
                early_signals.serve()
                yield
            finally:
                signal.set_wakeup_fd(old)
                for number in before:
                    # Not as before: a last signal of an impatient init system would turn exit code 0 into 143.
                    signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else signal.SIG_IGN)

    def _take(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            if self._stop_by is None:
                log.info("stopping")
                self._stop(0)
        elif number == signal.SIGHUP:
            self._logs.reopen()
            if self._stop_by is None:
                if self._served:
                    self._manager.begin_reload()
                self._reloads.ask()
        elif number == signal.SIGUSR1 and self._served:  # before, the workers would not hear it
            LEVELS.toggle()
            self._send(number)
        elif number == signal.SIGUSR2:
            log.warning("SIGUSR2 is ignored: there is nothing that it does yet")

    def _send(self, number: int) -> None:
        for worker in self._workers:
            if worker.process is not None and worker.ready_at is not None:
                worker.process.send_signal(number)

    def _stop(self, code: int) -> None:
        self._code = code
        self._stop_by = time.monotonic() + self._grace_s + _KILL_AFTER_S
        self._manager.stopping()
        for worker in self._workers:
            for each in (each for own in worker.listeners for each in own):
                each.close()  # the workers have theirs
            if worker.process is not None:
                worker.process.terminate()
        self._tell_drained()

    # --- workers ----------------------------------------------------------------------------------------------------

    def _start(self, worker: WorkerProcess) -> None:
        channel, theirs = socket.socketpair()
        texts = self._reloads.numbers
        part = WorkerPart(
            worker.number,
            len(self._workers),
            self._directory,
            theirs.fileno(),
            worker.peer.fileno() if worker.peer is not None else -1,
            [[each.fileno() for each in sockets] for sockets in worker.listeners],
            texts,
            *self._log_to,
            self._embedded.bootstrap if self._embedded is not None else "",
            self._silence_s / _LOOKS,
        )
        # -P: nothing is imported from where the user happens to stand.
        command = [sys.executable, "-P", "-c", START, parts.written(part), *self._words]
        files = (theirs.fileno(), *texts, *worker.files)
        with theirs:
            try:
                with _held_back():
                    process = subprocess.Popen(command, env=self._environment, pass_fds=files, stdin=subprocess.DEVNULL)
            except OSError as error:
                channel.close()
                self._not_started(worker, error)
                return
        channel.setblocking(False)
        worker.begin(process, channel)
        self._reloads.begin(worker)
        self._selector.register(channel, selectors.EVENT_READ, lambda: self._hear(worker, channel))
        self._tell_states()

    def _not_started(self, worker: WorkerProcess, error: OSError) -> None:
        """The system has no process for it."""
        if not self._served:
            log.error("worker %d cannot start (%s): the gateway stops", worker.number, error)
            self._stop(1)
        else:
            log.error("worker %d cannot be started: %s; tried again in %g s", worker.number, error, worker.put_off())

    def _hear(self, worker: WorkerProcess, channel: socket.socket) -> None:
        try:
            data = channel.recv(4096)
        except (BlockingIOError, ConnectionResetError):
            return
        if not data:
            self._selector.unregister(channel)
            return
        worker.alive_at = time.monotonic()
        *words, worker.heard = (worker.heard + data).split(b"\n")
        for word in words:
            if word == parts.READY:
                worker.ready_at = worker.alive_at
                if self._served:
                    log.info("worker %d serves again", worker.number)
                elif all(each.ready_at is not None for each in self._workers):
                    self._served = True
                    log.info("%d workers serve, processes %s", len(self._workers), self._pids())
                    self._manager.ready()
                    tell_ready(self._log_to[0])
                self._tell_states()
                self._reloads.go_on()
            elif word in (parts.RELOADED, parts.REFUSED):
                self._reloads.answered(worker, word == parts.RELOADED)
            elif word == parts.REPLACED:
                self._replaced(worker)
            elif word == parts.DRAINED:
                worker.drained = True
                self._tell_drained()

    def _tell_states(self) -> None:
        """Tells each worker the states of all: any of them may be asked for the metrics."""
        line = parts.written_states([(each.ready_at is not None, each.restarts) for each in self._workers])
        for worker in self._workers:
            worker.tell(line)

    def _pids(self) -> str:
        return ", ".join(str(worker.process.pid) for worker in self._workers if worker.process is not None)

    def _tell_reloaded(self, taken: bool) -> None:
        if self._served:
            self._manager.ready(refused=not taken)

    def _tell_drained(self) -> None:
        """Lets the workers end, once all have answered their clients: from then on none needs another one."""
        if self._stop_by is not None and all(worker.drained or not worker.process for worker in self._workers):
            for worker in self._workers:
                if worker.drained:
                    worker.tell(parts.END)

    def _reap(self) -> None:
        for worker in self._workers:
            if worker.process is not None and (code := worker.process.poll()) is not None:
                self._ended(worker, code)

    def _ended(self, worker: WorkerProcess, code: int) -> None:
        if worker.channel is not None:
            with contextlib.suppress(KeyError, ValueError):  # its end was read already
                self._selector.unregister(worker.channel)
        served_s = worker.end()
        if self._stop_by is not None:
            # One that was told to stop before it could listen to that ends by the signal.
            if code and not self._code and (code not in (-signal.SIGTERM, -signal.SIGINT) or served_s):
                self._code = 1
                log.error("worker %d ended with %s", worker.number, _told(code))
            self._tell_drained()
            return
        if code == REPLACED and self._served:
            self._replaced(worker)
            return
        self._tell_states()
        self._reloads.go_on()
        if not self._served:  # the reason holds for all workers, and stands in the log
            log.error("worker %d cannot start (%s): the gateway stops", worker.number, _told(code))
            self._stop(code if code > 0 else 1)
            return
        lost = "its consumer instances wait for the next one" if self._is_node else "its consumer instances are gone"
        what = lost if served_s else "it did not come to serve, as it says above"
        text = "worker %d ended with %s: %s; it is started again in %g s"
        worker.set_aside()  # whoever reads the line may connect at once
        log.error(text, worker.number, _told(code), what, worker.put_off())

    def _replaced(self, worker: WorkerProcess) -> None:
        """Another process of the cluster has its name. The two would take it from each other for ever, so the gateway
        stops."""
        if self._stop_by is None:
            log.error("worker %d has lost its name to another process: the gateway stops", worker.number)
            self._stop(REPLACED)

    def _start_again(self) -> None:
        if self._stop_by is None:
            for worker in self._workers:
                if worker.process is None and worker.start_at <= time.monotonic():
                    worker.restarts += self._served
                    self._start(worker)

    # --- time -------------------------------------------------------------------------------------------------------

    def _wait_s(self) -> float:
        """Seconds until something has to be looked at."""
        if self._stop_by is not None:
            due = self._stop_by
        else:
            due = min([self._look_at, *(worker.start_at for worker in self._workers if worker.process is None)])
            if self._manager.watchdog_s:
                due = min(due, self._beat_at)
        return max(0.0, due - time.monotonic())

    def _watch(self) -> None:
        """Kills workers that have not ended in time, or are silent for too long, and tells systemd that this process
        lives."""
        now = time.monotonic()
        if self._stop_by is not None:
            if now >= self._stop_by:
                for worker in self._workers:
                    if worker.process is not None:
                        log.error("worker %d does not end: it is killed", worker.number)
                        worker.process.kill()
                self._stop_by = now + _KILL_AFTER_S
            return
        if now >= self._look_at:
            self._look(now)
        if self._manager.watchdog_s and now >= self._beat_at:
            self._beat_at = now + self._manager.watchdog_s / 3
            if self._served:
                self._manager.beat()

    def _look(self, now: float) -> None:
        """Looks for workers that hang."""
        every_s = self._silence_s / _LOOKS
        late_s = now - self._look_at if self._look_at else 0.0
        self._look_at = now + every_s
        if not self._served:  # the service manager has its own limit for a start
            return
        for worker in self._workers:
            if late_s > every_s:  # this process stood still, so most likely the whole machine did: no worker was silent
                worker.alive_at += late_s
            longest_s = self._silence_s if worker.ready_at is not None else max(_START_S, self._silence_s)
            if worker.process is not None and now - worker.alive_at > longest_s:
                log.error("worker %d gives no sign of life for %g s: it is killed", worker.number, longest_s)
                worker.process.kill()
                worker.alive_at = now  # its end is on the way


def _told(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
