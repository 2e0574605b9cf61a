"""The command ``kafka-gateway``, and which module serves which subcommand."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from functools import partial
from typing import TYPE_CHECKING

from kafka_gateway import early_signals
from kafka_gateway.assembly.plugins import PluginError, find_plugins
from kafka_gateway.commands.run import PROPERTY, run
from kafka_gateway.config import Config, ConfigError, Fault, PropertiesText, load
from kafka_gateway.kafka.clients.embedded_rules import embedded_faults
from kafka_gateway.kafka.clients.properties import faults as kafka_faults
from kafka_gateway.kafka.credentials.chosen import credential_faults
from kafka_gateway.settings.peer_keys import PEERS
from kafka_gateway.version import VERSION

if TYPE_CHECKING:
    from kafka_gateway.commands.worker import WorkerCommand

_WORDS = {
    "tunnel": "kafka_gateway.transports.tunnel.command",
    "tunnel-proxy": "kafka_gateway.transports.tunnel.command",
    "producer": "kafka_gateway.commands.bridge",
    "consumer": "kafka_gateway.commands.bridge",
    "flasfka-serve": "kafka_gateway.commands.push_pull",
    "init": "kafka_gateway.commands.init",
}
"""First word → module whose ``subcommand(words)`` answers the exit code."""

_DESCRIPTION = """\
Puts HTTP in front of Apache Kafka: the REST API of Confluent's proxy (v1, v2 and v3), record streams, sockets, bridges,
a tunnel for native clients, and whatever plugins add. /docs of a running gateway shows what it serves.
Without FILE and bootstrap.servers it serves an embedded Kafka on http://127.0.0.1:8082, for trying out."""

_EPILOG = """\
KEY=VALUE sets a property and beats FILE; so does the environment: KAFKA_GATEWAY_BOOTSTRAP_SERVERS=localhost:9092.

kafka-gateway init DIRECTORY: a properties file to begin with, which lists all properties and says what each is for; a
systemd unit, alert rules and a Grafana board.
kafka-gateway tunnel: local ports through which any Kafka client reaches the brokers behind a gateway.
kafka-gateway producer, kafka-gateway consumer: one HTTP bridge.
kafka-gateway flasfka-serve: push and pull alone.
Each of these has a --help of its own.

signals: TERM and INT stop in order; HUP reads again whatever can change at run time;
USR1 switches logging at DEBUG on, and off again.

exit codes: 0 stopped as asked, 1 cannot start, 2 faulty configuration or command line;
with --may: 0 yes, 1 no, 2 faulty rules or question;
with --check: 0 all well, 2 configuration, 3 name, 4 connection, 5 TLS, 6 SASL, 7 metadata, 8 advertised listener"""


def run_command(words: list[str], worker: WorkerCommand | None = None) -> int:
    """Runs what the words of the command line say; the exit code. ``worker``: see `kafka_gateway.commands.main`."""
    if words and words[0] in _WORDS:
        # By name: nothing here imports a transport, and the gateway itself starts without what these need.
        return int(importlib.import_module(_WORDS[words[0]]).subcommand(words))
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
    parser.add_argument(
        "--may",
        nargs=3,
        metavar=("PRINCIPAL", "OPERATION", "RESOURCE"),
        help="say whether the rules allow it and which line decides, e.g. --may User:alice read topic:orders",
    )
    parser.add_argument("--role", action="append", default=[], help="with --may: a role of the principal")
    parser.add_argument(
        "--claim", action="append", default=[], metavar="NAME=VALUE", help="with --may: a claim of its token"
    )
    parser.add_argument("--json", action="store_true", help="with --check: one JSON object a line")
    parser.add_argument("--version", action="version", version=f"kafka-gateway {VERSION}")
    options = parser.parse_intermixed_args(words)
    overrides = [word for word in options.what if PROPERTY.match(word)]
    files = [word for word in options.what if word not in overrides]
    if len(files) > 1:
        parser.error(f"one properties file at most, not {', '.join(files)}")
    # Read once: all that follows, and all workers, have the same text.
    file = PropertiesText.of(files[0]) if files else None
    if worker is not None:
        file = worker.text()
    tell = partial(print, "kafka-gateway:", file=sys.stderr) if worker is None else worker.tell
    try:
        plugins = find_plugins(file, overrides, os.environ)
        keys = plugins.config_keys()
        if options.check or options.may:
            early_signals.let_go()
        if options.check:
            from kafka_gateway.commands.check import check
            from kafka_gateway.commands.inherited import peer_directory_faults
            from kafka_gateway.door.forwarded import proxy_faults
            from kafka_gateway.door.tls import tls_faults

            checks = (plugins.faults, proxy_faults, tls_faults, peer_directory_faults, _peer_faults, _cluster_faults)
            return check(file, overrides, sys.stdout, as_json=options.json, keys=keys, checks=checks, told=plugins.told)
        if options.may:
            from kafka_gateway.commands.may import may

            config = load(keys, file, overrides, os.environ)
            return may(config, plugins, options.may, options.role, options.claim, sys.stdout, sys.stderr)
        judges = (kafka_faults, embedded_faults, credential_faults, plugins.faults, _peer_faults, _cluster_faults)

        def read(text: PropertiesText | None) -> Config:
            return load(keys, text, overrides, os.environ, judges)

        if worker is not None:
            return worker.run(plugins, read)
        config = read(file)
    except PluginError as error:
        tell(error)
        return 1
    except ConfigError as error:
        for fault in error.faults:
            tell(fault)
        return 2
    if config.integer("workers") != 1:
        from kafka_gateway.commands.parent import run_parent

        return run_parent(config, words, file)
    return run(config, plugins, read=lambda: read(PropertiesText.of(files[0]) if files else None))


def _peer_faults(config: Config) -> list[Fault]:
    """What is wrong with the connections to other nodes. Their code is loaded only if one of their keys is set."""
    if not any(config.given(key.name) for key in PEERS):
        return []
    from kafka_gateway.workers.peer_settings import peer_faults

    return peer_faults(config)


def _cluster_faults(config: Config) -> list[Fault]:
    """What keeps this gateway from being one of several nodes."""
    if not config.flag("cluster.enable"):
        return []
    from kafka_gateway.cluster.faults import faults
    from kafka_gateway.workers.part import count_of

    return faults(config, count_of(config))
