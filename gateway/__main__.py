"""The command ``kafka-gateway``."""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import logging
import os
import re
import signal
import sys
from collections.abc import Sequence

from gateway.assembly.plugins import PluginError, Plugins
from gateway.commands import logs
from gateway.config import Config, ConfigError, load, peek
from gateway.kafka.clients.properties import client_notes
from gateway.kafka.clients.properties import faults as kafka_faults
from gateway.settings.keys import TRANSPORTS
from gateway.version import VERSION

log = logging.getLogger("gateway")

_DESCRIPTION = """\
Puts HTTP in front of Apache Kafka: the REST API of Confluent's proxy (v1 and v2), record streams, sockets, bridges, a
tunnel for native clients, and whatever plugins add.
Without FILE and bootstrap.servers it serves an embedded Kafka on http://127.0.0.1:8082, for trying out."""

PROPERTY = re.compile(r"[A-Za-z0-9._-]+=")
"""How KEY=VALUE begins; bin/start tells it from a file's name in the same way."""

_EPILOG = """\
KEY=VALUE sets a property and beats FILE; so does the environment: KAFKA_GATEWAY_BOOTSTRAP_SERVERS=localhost:9092.
etc/kafka-rest.properties and docs/configuration.md list all properties.

kafka-gateway tunnel: local ports through which any Kafka client reaches the brokers behind a gateway.
kafka-gateway producer, kafka-gateway consumer: one HTTP bridge.
kafka-gateway flasfka-serve: push and pull alone. Each has a --help of its own.

exit codes: 0 stopped as asked, 1 cannot start, 2 faulty configuration or command line;
with --check: 0 all well, 2 configuration, 3 name, 4 connection, 5 TLS, 6 SASL, 7 metadata, 8 advertised listener"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; the exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    # By name: nothing here imports a transport, and the gateway itself starts without what these need.
    if words and words[0] in ("tunnel", "tunnel-proxy"):
        return int(importlib.import_module("transports.tunnel.command").main(words[1:], _new_loop))
    if words and words[0] in ("producer", "consumer"):
        return int(importlib.import_module("gateway.commands.bytehoops").main(words, prog="kafka-gateway"))
    if words and words[0] == "flasfka-serve":
        return int(importlib.import_module("gateway.commands.flasfka").main(words[1:]))
    parser = argparse.ArgumentParser(
        prog="kafka-gateway",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="*", metavar="[FILE] [KEY=VALUE …]", help="a properties file; single properties")
    parser.add_argument(
        "--check", action="store_true", help="report every faulty key, then try Kafka step by step; serve nothing"
    )
    parser.add_argument("--json", action="store_true", help="with --check: one JSON object a line")
    parser.add_argument("--version", action="version", version=f"kafka-gateway {VERSION}")
    options = parser.parse_intermixed_args(words)
    overrides = [word for word in options.what if PROPERTY.match(word)]
    files = [word for word in options.what if word not in overrides]
    if len(files) > 1:
        parser.error(f"one properties file at most, not {', '.join(files)}")
    file = files[0] if files else None
    try:
        plugins = Plugins(disabled=disabled(file, overrides))
        keys = plugins.config_keys()
        if options.check:
            from gateway.commands.check import check

            return check(file, overrides, sys.stdout, as_json=options.json, keys=keys, checks=(plugins.faults,))
        config = load(keys, file, overrides, os.environ, checks=(kafka_faults, plugins.faults))
    except PluginError as error:
        print(f"kafka-gateway: {error}", file=sys.stderr)
        return 1
    except ConfigError as error:
        for fault in error.faults:
            print(f"kafka-gateway: {fault}", file=sys.stderr)
        return 2
    return run(config, plugins)


def websocket_proxy() -> int:
    """The command ``kafka-websocket-proxy``, as Kafka WebSocket Shim calls its own."""
    return main(["tunnel", *sys.argv[1:]])


def disabled(file: str | None, overrides: Sequence[str]) -> tuple[str, ...]:
    """The plugins that are switched off, read before all else: they must not even be asked for their keys."""
    key = next(key for key in TRANSPORTS if key.name == "plugins.disable")
    names = peek(key, file, overrides, os.environ)
    return names if isinstance(names, tuple) else ()


def run(config: Config, plugins: Plugins, *, hasty: bool = False) -> int:
    """Serves until SIGTERM or SIGINT; the exit code. With ``hasty`` a second signal ends the process at once (130)."""
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
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            runner.run(_serve(config, plugins, hasty))
    except ConfigError as error:
        for fault in error.faults:
            log.error(str(fault))
        return 2
    except (PluginError, OSError) as error:
        log.error(str(error))
        return 1
    return 0


async def _serve(config: Config, plugins: Plugins, hasty: bool) -> None:
    from gateway.assembly.app import run_until

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = 0

    def stop_now(*_: object) -> None:
        nonlocal signals
        signals += 1
        if hasty and signals > 1:
            os._exit(130)
        loop.call_soon_threadsafe(stop.set)

    # Not the loop's own way: it would take its handlers with it when it closes, and another signal in the last
    # milliseconds, of an impatient init system or of Ctrl-C held down, would turn exit code 0 into 143.
    before = {number: signal.signal(number, stop_now) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        await run_until(stop, config, plugins)
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if stop.is_set() else handler)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # not made for Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


if __name__ == "__main__":
    sys.exit(main())
