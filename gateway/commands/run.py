"""Runs a gateway until a signal stops it: what all commands that serve have in common."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import re
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from kafka_gateway.assembly.plugins import PluginError, Plugins
from kafka_gateway.commands import logs
from kafka_gateway.commands.output import write_line
from kafka_gateway.commands.service_manager import ServiceManager
from kafka_gateway.config import Config, ConfigError
from kafka_gateway.event_loop import new_loop
from kafka_gateway.kafka.clients.properties import client_notes

if TYPE_CHECKING:
    from kafka_gateway.assembly.app import App

log = logging.getLogger("gateway")

PROPERTY = re.compile(r"[A-Za-z0-9._-]+=")
"""How KEY=VALUE begins; bin/start tells it from a file's name in the same way."""


READY = "Server started, listening for requests..."
"""On standard output when the gateway serves; bin/start waits for it."""

_NOT_YET = ("SIGHUP", "SIGUSR1", "SIGUSR2")
"""Signals by which an administrator, or a terminal that closes, may mean something that the gateway does not do."""


def run(config: Config, plugins: Plugins, *, hasty: bool = False) -> int:
    """Serves until SIGTERM or SIGINT; the exit code. With ``hasty`` a second signal ends the process at once (130).

    SIGHUP has the rules read again, and the audit log opened again. SIGUSR1 and SIGUSR2 are logged and change nothing:
    what a signal does without a handler is to kill.
    """
    for name in _NOT_YET:
        if number := getattr(signal, name, None):
            signal.signal(number, _note)
    logs.set_up(config.text("log.level"), config.text("log.format"))
    for warning in (*config.warnings, *client_notes(config)):
        log.warning(warning)
    # msgspec counts nested JSON against this limit; 1000 levels are allowed (kafka-rest-http.md, observed §3.4).
    sys.setrecursionlimit(2500)
    # What is loaded by now stays: the collector need not walk it again. A request makes a dozen objects and no cycles;
    # at the default threshold of 700 the collector took a tenth of the processor.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(_serve(config, plugins, hasty))
    except ConfigError as error:
        for fault in error.faults:
            log.error(str(fault))
        return 2
    except (PluginError, OSError) as error:
        log.error(str(error))
        return 1
    return 0


def _note(number: int, _: object) -> None:
    log.warning("%s is ignored: there is nothing that it does yet", signal.Signals(number).name)


async def _serve(config: Config, plugins: Plugins, hasty: bool) -> None:
    from kafka_gateway.assembly.app import run_until

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = 0

    def stop_now(*_: object) -> None:
        nonlocal signals
        signals += 1
        if hasty and signals > 1:
            os._exit(130)
        loop.call_soon_threadsafe(stop.set)

    reload: Callable[[], None] | None = None
    manager = ServiceManager(os.environ)

    def ready(app: App) -> None:
        nonlocal reload
        reload = app.gateway.reload
        manager.ready()
        write_line(READY)

    def read_again() -> None:
        if reload is not None:
            with manager.reloading():
                reload()

    def reload_soon(*_: object) -> None:
        loop.call_soon_threadsafe(read_again)

    # Not the loop's own way: it would take its handlers with it when it closes, and another signal in the last
    # milliseconds, of an impatient init system or of Ctrl-C held down, would turn exit code 0 into 143.
    before = {number: signal.signal(number, stop_now) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        if any(config.text(key) for key in ("authorization.file", "audit.log")):
            before[signal.SIGHUP] = signal.signal(signal.SIGHUP, reload_soon)
        async with manager.watching(stop):
            await run_until(stop, config, plugins, ready)
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if stop.is_set() else handler)
