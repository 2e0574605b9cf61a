"""Runs a gateway until a signal stops it: what all commands that serve have in common."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import logging
import os
import re
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from kafka_gateway import early_signals, jsonio
from kafka_gateway.assembly.plugins import PluginError, Plugins
from kafka_gateway.commands.output import write_line
from kafka_gateway.commands.service_manager import ServiceManager
from kafka_gateway.commands.start_notes import start_notes
from kafka_gateway.config import Config, ConfigError
from kafka_gateway.event_loop import new_loop
from kafka_gateway.following import Change
from kafka_gateway.homes import REPLACED, NodeReplaced
from kafka_gateway.logs.levels import LEVELS
from kafka_gateway.logs.logs import Logs, a_line

if TYPE_CHECKING:
    from kafka_gateway.assembly.app import App, Worker
    from kafka_gateway.workers.part import WorkerPart

log = logging.getLogger("gateway")

PROPERTY = re.compile(r"[A-Za-z0-9._-]+=")
"""How KEY=VALUE begins; bin/start tells it from a file's name in the same way."""


READY = "Server started, listening for requests..."
"""On standard output when the gateway serves; bin/start waits for it."""


def run(
    config: Config,
    plugins: Plugins,
    *,
    hasty: bool = False,
    read: Callable[[], Config] | None = None,
    part: WorkerPart | None = None,
    logs: Logs | None = None,
) -> int:
    """Serves until SIGTERM or SIGINT; the exit code, 70 if another node has taken this one's name.

    With ``hasty`` a second signal ends the process at once (130).

    SIGHUP opens the log's files again and reads the configuration again with ``read`` (gateway/assembly/reload.py);
    without ``read`` only rules, users and certificates. SIGUSR1 sets everything to DEBUG and back. SIGUSR2 is logged
    and changes nothing: a signal without a handler would kill the process. ``part``: this process is one of several;
    its parent informs the user and the service manager. ``logs``: where the log goes already.
    """
    early_signals.keep(early_signals.KEPT if part is None else early_signals.HARMLESS)
    logs = logs or open_logs(config.text("log.format"), config.text("log.file"))
    if logs is None:
        return 1
    LEVELS.configure(config)
    if part is None:
        for warning in start_notes(config):
            log.warning(warning)
        if config.integer("workers") != 1:
            log.warning("workers has no effect on this command: it serves with one process")
    sys.setrecursionlimit(jsonio.RECURSION_LIMIT)
    # What is loaded by now stays: the collector need not walk it again. A request makes a dozen objects and no cycles;
    # at the default threshold of 700 the collector took a tenth of the processor.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    gc.enable()
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(_serve(config, plugins, hasty, logs, read, part))
    except ConfigError as error:
        for fault in error.faults:
            log.error(str(fault))
        return 2
    except (PluginError, OSError) as error:
        log.error(str(error))
        return 1
    except NodeReplaced as error:
        log.error("another process has taken the name of this node (cluster.node.id), which has ended: %s", error)
        return REPLACED
    return 0


def open_logs(form: str, path: str, worker: int | None = None, *, shared: bool = False) -> Logs | None:
    """Sends the whole log there from now on. None if the file cannot be opened; standard error says why.

    ``worker``: the number of this process, one of several; ``shared``: others write to the same file.
    """
    try:
        logs = Logs(form, path, shared=shared or worker is not None, worker=worker)
    except OSError as error:
        print(f"kafka-gateway: log.file: {path} cannot be opened: {error.strerror}", file=sys.stderr)
        return None
    logs.catch_all()
    return logs


def tell_ready(form: str) -> None:
    """Says on standard output that the gateway serves. In the form of the log, since both may go to one file."""
    write_line(a_line(form, "gateway", READY) if form == "json" else READY)


async def _join(stack: contextlib.AsyncExitStack, part: WorkerPart, stop: asyncio.Event) -> Worker:
    """Connects to the parent process. When that ends, this worker stops."""
    from kafka_gateway.assembly.app import Worker
    from kafka_gateway.workers.part import Parent

    def gone() -> None:
        log.error("the parent process is gone: worker %d stops", part.number)
        if part.peer < 0:  # this process has made its socket itself, and removes it at the end
            stack.callback(part.tidy)
        else:
            part.tidy()
        stop.set()

    return Worker(part, await stack.enter_async_context(Parent.connected(part, gone)))


def on_the_loop(loop: asyncio.AbstractEventLoop, what: Callable[[], object]) -> Callable[..., None]:
    """A signal handler that has the loop call ``what`` soon.

    ``what`` runs in the context of this call, not in that of the code which the signal interrupts: it belongs to no
    request.
    """
    own = contextvars.copy_context()

    def handler(*_: object) -> None:
        loop.call_soon_threadsafe(what, context=own)

    return handler


def _note() -> None:
    log.warning("SIGUSR2 is ignored: there is nothing that it does yet")


async def _serve(
    config: Config,
    plugins: Plugins,
    hasty: bool,
    logs: Logs,
    read: Callable[[], Config] | None,
    part: WorkerPart | None,
) -> None:
    from kafka_gateway.assembly.app import run_until
    from kafka_gateway.assembly.reload import Reload

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    end = on_the_loop(loop, stop.set)
    signals = 0

    def stop_now(*_: object) -> None:
        nonlocal signals
        signals += 1
        if hasty and signals > 1:
            os._exit(130)
        end()

    reload: Reload | None = None
    is_asked = False
    """Whether SIGHUP came before there was anything to be read again."""
    reading: set[asyncio.Task[None]] = set()
    manager = ServiceManager(os.environ if part is None else {})
    worker: Worker | None = None

    def ready(app: App) -> None:
        nonlocal reload, is_asked
        gateway = app.gateway
        logs.take_over(gateway.access)
        gateway.following.append(lambda new: Change(lambda: LEVELS.configure(new)))
        resources = [each for transport in app.host.transports for each in transport.resources]
        reload = Reload(gateway, config, read or (lambda: config), resources)
        if worker is not None:
            worker.parent.tell(b"ready")
        else:
            manager.ready()
            tell_ready(logs.form)
            if is_asked:  # a worker is asked by its parent
                is_asked = False
                read_again()

    async def read_config() -> None:
        taken = False
        if reload is not None:
            manager.begin_reload()
            taken = await reload()
            manager.ready(refused=not taken)
        if worker is not None:
            worker.parent.tell(b"reloaded" if taken else b"refused")

    def read_again() -> None:
        nonlocal is_asked
        logs.reopen()
        if reload is None or stop.is_set():
            is_asked = True
            return
        reading.add(task := loop.create_task(read_config(), name="reload"))
        task.add_done_callback(reading.discard)

    # Not the loop's own way: it would take its handlers with it when it closes, and another signal in the last
    # milliseconds, of an impatient init system or of Ctrl-C held down, would turn exit code 0 into 143.
    before = {number: signal.signal(number, stop_now) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        # On the loop, and not where the signal finds the process: that may be in the middle of a line of the log.
        taken: tuple[tuple[signal.Signals, Callable[[], object]], ...] = (
            (signal.SIGHUP, read_again),
            (signal.SIGUSR1, LEVELS.toggle),
            (signal.SIGUSR2, _note),
        )
        for number, what in taken:
            before[number] = signal.signal(number, on_the_loop(loop, what))
        early_signals.serve()
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(manager.watching(stop))
            if part is not None:
                worker = await _join(stack, part, stop)
                await run_until(stop, config, plugins, ready, worker)
            else:
                await run_until(stop, config, plugins, ready)
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if stop.is_set() else handler)
