"""The parent of several workers: it has their listening sockets, starts them, and starts again whichever ends.

It serves nobody and has no event loop: it waits for signals, for its children to end, and for what they say on their
channels (`kafka_gateway.workers.part`). The sockets stay open while a worker is away, so connections wait for the next
one instead of being refused (cluster.md §8).
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kafka_gateway.commands.output import write_line
from kafka_gateway.commands.run import READY
from kafka_gateway.commands.service_manager import ServiceManager
from kafka_gateway.commands.worker import START
from kafka_gateway.config import Config
from kafka_gateway.door.listening import bind_shared, bind_unix
from kafka_gateway.kafka.clients.properties import client_notes
from kafka_gateway.logs.levels import LEVELS
from kafka_gateway.logs.logs import Logs
from kafka_gateway.workers import part as parts
from kafka_gateway.workers.part import WorkerPart, peer_address

if TYPE_CHECKING:
    from kafka_gateway.kafka.clients.embedded import EmbeddedKafka

log = logging.getLogger("gateway.workers")

_BACK_OFF_S: Final = 0.1
_BACK_OFF_MAX_S: Final = 5.0
_WELL_S: Final = 30.0
"""A worker that has served so long counts as well: the next one is started at once."""
_KILL_AFTER_S: Final = 10.0
"""Behind ``shutdown.graceful.ms``: a worker that has not ended by then is killed."""
_FORWARDED: Final = (signal.SIGHUP, signal.SIGUSR1)
_TAKEN: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGUSR2, *_FORWARDED)


class _Worker:
    """A place among the workers: its sockets, and the process that has them at present."""

    def __init__(self, number: int, peer: socket.socket, listeners: list[list[socket.socket]]) -> None:
        self.number = number
        self.peer = peer
        self.listeners = listeners
        self.process: subprocess.Popen[bytes] | None = None
        self.channel: socket.socket | None = None
        self.heard = b""
        self.ready_at: float | None = None
        """When it began to serve; None until then."""
        self.alive_at = 0.0
        self.start_at = 0.0
        """When the next process may be started."""
        self.back_off_s = _BACK_OFF_S
        self.drained = False
        self.reloading = False

    @property
    def files(self) -> list[int]:
        return [self.peer.fileno(), *(each.fileno() for sockets in self.listeners for each in sockets)]


def run_parent(config: Config, words: Sequence[str]) -> int:
    """Serves with as many workers as ``workers`` says until SIGTERM or SIGINT; the exit code.

    ``words`` are the arguments of the command, which the workers get, too.
    """
    for number in (*_FORWARDED, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    try:
        logs = Logs(config.text("log.format"), config.text("log.file"), shared=True)
    except OSError as error:
        print(f"kafka-gateway: log.file: {config.text('log.file')} cannot be opened: {error.strerror}", file=sys.stderr)
        return 1
    logs.catch_all()
    LEVELS.configure(config)
    if not hasattr(socket, "SO_REUSEPORT"):
        log.error("workers: this system has no sockets that processes can share (SO_REUSEPORT); set workers=1")
        return 2
    for warning in (*config.warnings, *client_notes(config)):
        log.warning(warning)
    with contextlib.ExitStack() as stack:
        try:
            parent = _Parent(config, words, logs, stack)
        except OSError as error:
            log.error(str(error))
            return 1
        return parent.run()


def count_of(config: Config) -> int:
    """How many workers ``workers`` asks for."""
    return config.integer("workers") or len(os.sched_getaffinity(0))


class _Parent:
    """OSError: an address cannot be had."""

    def __init__(self, config: Config, words: Sequence[str], logs: Logs, stack: contextlib.ExitStack) -> None:
        self._words = list(words)
        self._logs = logs
        self._grace_s = config.seconds("shutdown.graceful.ms")
        self._manager = ServiceManager(os.environ)
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        }
        count = count_of(config)
        self._directory = _directory(config.text("cluster.peer.dir"), stack)
        listeners = _listen(config, count, stack)
        self._embedded = _embedded(config, stack)
        self._workers = []
        for number in range(count):
            peer = stack.enter_context(bind_unix(peer_address(self._directory, number)))
            peer.listen(1024)
            self._workers.append(_Worker(number, peer, [sockets[number] for sockets in listeners]))
        self._selector = stack.enter_context(selectors.DefaultSelector())
        self._signals: list[int] = []
        self._stop_by: float | None = None
        """When what has not ended is killed; None while the gateway is to serve."""
        self._listening = [each for sockets in listeners for own in sockets for each in own]
        self._served = False
        self._code = 0
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
            self._manager.begin_reload()
            for worker in self._workers:
                worker.reloading = worker.ready_at is not None
            self._send(number)
            self._tell_reloaded()
        elif number == signal.SIGUSR1:
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
        for each in self._listening:
            each.close()  # the workers have theirs
        for worker in self._workers:
            if worker.process is not None:
                worker.process.terminate()
        self._tell_drained()

    # --- workers ----------------------------------------------------------------------------------------------------

    def _start(self, worker: _Worker) -> None:
        channel, theirs = socket.socketpair()
        part = WorkerPart(
            worker.number,
            len(self._workers),
            self._directory,
            theirs.fileno(),
            worker.peer.fileno(),
            [[each.fileno() for each in sockets] for sockets in worker.listeners],
            self._embedded.bootstrap if self._embedded is not None else "",
            self._manager.watchdog_s,
        )
        # -P: nothing is imported from where the user happens to stand.
        command = [sys.executable, "-P", "-c", START, parts.written(part), *self._words]
        with theirs:
            worker.process = subprocess.Popen(
                command, env=self._environment, pass_fds=(theirs.fileno(), *worker.files), stdin=subprocess.DEVNULL
            )
        channel.setblocking(False)
        worker.channel, worker.heard, worker.ready_at, worker.drained = channel, b"", None, False
        worker.reloading = False
        self._selector.register(channel, selectors.EVENT_READ, lambda: self._hear(worker, channel))

    def _hear(self, worker: _Worker, channel: socket.socket) -> None:
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
                    write_line(READY)
            elif word == parts.RELOADED:
                worker.reloading = False
                self._tell_reloaded()
            elif word == parts.DRAINED:
                worker.drained = True
                self._tell_drained()

    def _pids(self) -> str:
        return ", ".join(str(worker.process.pid) for worker in self._workers if worker.process is not None)

    def _tell_reloaded(self) -> None:
        if not any(worker.reloading for worker in self._workers) and self._served:
            self._manager.ready()

    def _tell_drained(self) -> None:
        """Once all have answered their clients none needs another any more, and all may end."""
        if self._stop_by is not None and all(worker.drained or not worker.process for worker in self._workers):
            for worker in self._workers:
                if worker.channel is not None and worker.drained:
                    with contextlib.suppress(OSError):  # it has ended already
                        worker.channel.send(parts.END + b"\n")

    def _reap(self) -> None:
        for worker in self._workers:
            if worker.process is not None and (code := worker.process.poll()) is not None:
                self._ended(worker, code)

    def _ended(self, worker: _Worker, code: int) -> None:
        served_s = time.monotonic() - worker.ready_at if worker.ready_at is not None else 0.0
        worker.process = None
        channel, worker.channel, worker.ready_at, worker.reloading = worker.channel, None, None, False
        if channel is not None:
            with contextlib.suppress(KeyError, ValueError):  # its end was read already
                self._selector.unregister(channel)
            channel.close()
        if self._stop_by is not None:
            # One that was told to stop before it could listen to that ends by the signal.
            if code and not self._code and (code != -signal.SIGTERM or served_s):
                self._code = 1
                log.error("worker %d ended with %s", worker.number, _told(code))
            self._tell_drained()
            return
        self._tell_reloaded()
        if not self._served:  # what is wrong is wrong with all of them, and told by itself
            log.error("worker %d cannot start (%s): the gateway stops", worker.number, _told(code))
            self._stop(code if code > 0 else 1)
            return
        if served_s >= _WELL_S:
            worker.back_off_s = _BACK_OFF_S
        worker.start_at = time.monotonic() + worker.back_off_s
        log.error(
            "worker %d ended with %s: its consumer instances are gone; it is started again in %g s",
            worker.number,
            _told(code),
            worker.back_off_s,
        )
        worker.back_off_s = min(worker.back_off_s * 2, _BACK_OFF_MAX_S)

    def _start_again(self) -> None:
        if self._stop_by is None:
            for worker in self._workers:
                if worker.process is None and worker.start_at <= time.monotonic():
                    self._start(worker)

    # --- time -------------------------------------------------------------------------------------------------------

    def _wait_s(self) -> float | None:
        """How long nothing has to be looked at; None: until something happens."""
        now = time.monotonic()
        due = [worker.start_at for worker in self._workers if worker.process is None and self._stop_by is None]
        if self._stop_by is not None:
            due.append(self._stop_by)
        elif self._manager.watchdog_s:
            due.append(now + self._manager.watchdog_s / 6)
        return max(0.0, min(due) - now) if due else None

    def _watch(self) -> None:
        """Kills what has not ended in time, or shows no sign of life where a watchdog wants some; beats itself."""
        now = time.monotonic()
        if self._stop_by is not None:
            if now >= self._stop_by:
                for worker in self._workers:
                    if worker.process is not None:
                        log.error("worker %d does not end: it is killed", worker.number)
                        worker.process.kill()
                self._stop_by = now + _KILL_AFTER_S
            return
        if not self._manager.watchdog_s or not self._served:  # who starts shares the cores with those that wait
            return
        for worker in self._workers:
            if (
                worker.process is not None
                and worker.ready_at is not None
                and now - worker.alive_at > self._manager.watchdog_s
            ):
                log.error("worker %d shows no sign of life: it is killed", worker.number)
                worker.process.kill()
        if now >= self._beat_at:
            self._beat_at = now + self._manager.watchdog_s / 3
            self._manager.beat()


def _told(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _directory(path: str, stack: contextlib.ExitStack) -> str:
    """The directory for the sockets between workers: this user's alone, and gone at the end."""
    if not path:
        made = tempfile.mkdtemp(prefix="kafka-gateway-workers-")
        stack.callback(shutil.rmtree, made, ignore_errors=True)
        return made
    directory = Path(path)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.stat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise OSError(f"cluster.peer.dir: {path} must belong to the user of the gateway alone: mode 0700")
    return path


def _listen(config: Config, count: int, stack: contextlib.ExitStack) -> list[list[list[socket.socket]]]:
    """For each listener, the sockets of each worker. A Unix socket is one for all of them."""
    found = []
    for listener in config.listeners():
        try:
            if listener.scheme == "unix":
                one = stack.enter_context(bind_unix(listener.path))
                one.listen(1024)
                stack.callback(_remove, listener.path)
                found.append([[one] for _ in range(count)])
            else:
                found.append(bind_shared(listener, count))
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise OSError(f"cannot listen on {listener}: {reason}") from None
    return found


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _embedded(config: Config, stack: contextlib.ExitStack) -> EmbeddedKafka | None:
    """The embedded Kafka of all workers, where there is no other."""
    if config.items("bootstrap.servers"):
        return None
    from kafka_gateway.kafka.clients.embedded import EmbeddedKafka

    embedded = EmbeddedKafka(config.items("embedded.topics"))
    stack.callback(embedded.close)
    return embedded
