"""The command ``bytehoops``: one HTTP bridge as a process of its own, with Bytehoops' command line (bridges.md A1).

It is the gateway with nothing but that bridge in it. Flags become properties, which beat those of a properties file.
"""

from __future__ import annotations

import argparse
import csv
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from kafka_gateway.assembly.built_in import BUILT_IN
from kafka_gateway.assembly.plugins import PluginError, find_plugins
from kafka_gateway.commands.run import run
from kafka_gateway.config import ENVIRONMENT_PREFIX, ConfigError, environment_name, load
from kafka_gateway.kafka.clients.properties import faults as kafka_faults
from kafka_gateway.settings.properties import decode_properties, parse_properties

_PARTS = ("core", "http", "bridges")
"""The plugins that a bridge needs; none of the others is loaded."""

_USAGE = """\
Usage: {prog} [flags] producer|consumer [flags]

  producer   what is posted to /api/v1/write or /v1/write becomes a record of a topic
  consumer   the records of a topic are posted to a URL

{prog} producer --help and {prog} consumer --help list the flags.
"""

_MESSAGE_MAX_BYTES = 1_000_000
"""The default of producer.max.request.size."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"Error: {message}", file=sys.stderr)
        print(f"{self.prog} --help lists the flags.", file=sys.stderr)
        raise SystemExit(1)


class _Servers(argparse.Action):
    """A list in CSV; repeating the flag appends, its first use replaces the default."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[object] | None,
        option: str | None = None,
    ) -> None:
        given = getattr(namespace, "given_servers", [])
        row = next(csv.reader([str(values)]), [])
        namespace.given_servers = [*given, *row]


def run_bridge(words: Sequence[str], prog: str = "bytehoops") -> int:
    """Runs a bridge until SIGTERM or SIGINT; the exit code: 0 stopped as asked, 1 anything that keeps it from starting,
    130 for a second signal."""
    try:
        mode, rest = _split(words)
        if mode is None:
            print(_USAGE.format(prog=prog), end="")
            return 0
        if mode not in ("producer", "consumer"):
            print(f"Error: unknown command {mode!r} for {prog!r}", file=sys.stderr)
            return 1
        parser = _parser(mode, prog)
        defaults = parser.parse_args([])
        # argparse puts a default only where there is nothing: None stays for every flag that is not given.
        given = argparse.Namespace(**{name: None for name in vars(defaults) if name != "ignored"})
        parser.parse_intermixed_args(rest, given)
    except SystemExit as stop:  # --help, or a faulty flag
        return 1 if stop.code else 0
    try:
        properties = _properties(mode, vars(given), vars(defaults))
        overrides = [f"{name}={value}" for name, value in properties.items()]
        environment = {name: value for name, value in os.environ.items() if name != "KAFKAREST_OPTS"}
        others = [name for name in BUILT_IN if name not in _PARTS]
        plugins = find_plugins(given.config, overrides, environment, others)
        config = load(plugins.config_keys(), given.config, overrides, environment, (kafka_faults, plugins.faults))
    except (PluginError, ConfigError) as error:
        for line in str(error).splitlines():
            print(f"{prog}: {line}", file=sys.stderr)
        return 1
    return 1 if run(config, plugins, hasty=True) else 0


def subcommand(words: Sequence[str]) -> int:
    """The same as words of ``kafka-gateway``."""
    return run_bridge(words, prog="kafka-gateway")


def _split(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The word ``producer`` or ``consumer``, and all other words. Flags may stand before it, each with its value."""
    place = 0
    while place < len(words):
        word = words[place]
        if word in ("-h", "--help"):
            break
        if not word.startswith("-"):
            return word, [*words[:place], *words[place + 1 :]]
        place += 1 if "=" in word or (not word.startswith("--") and len(word) > 2) else 2
    if words and not any(word in ("-h", "--help") for word in words):
        _Parser(prog="bytehoops", add_help=False).error(f"no producer or consumer in {' '.join(words)}")
    for word in ("producer", "consumer"):
        if word in words:
            return word, [each for each in words if each != word]
    return None, list(words)


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Tells the default of every option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, "", [], False) else super()._get_help_string(action)


def _parser(mode: str, prog: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"{prog} {mode}",
        allow_abbrev=False,
        formatter_class=_Help,
        description=(
            "Stores what is posted to /api/v1/write or /v1/write in a topic: body and header fields as they are."
            if mode == "producer"
            else "Posts the records of a topic to a URL, headers too, and commits offsets when it has accepted them."
        ),
    )
    add = parser.add_argument
    add("ignored", nargs="*", help=argparse.SUPPRESS)
    add("-b", "--bootstrap-servers", action=_Servers, metavar="HOST:PORT,…", default="localhost:9092",
        help="Kafka brokers; may be given several times")  # fmt: skip
    add("-t", "--topic", default="prometheus", help="topic")
    add("--config", metavar="FILE", default=None, help="properties file of the gateway; options here beat it")
    add("--shutdown-timeout", type=float, metavar="SECONDS", default=30.0, help="how long a stop waits for requests")
    if mode == "producer":
        add("-l", "--listen-address", metavar="HOST:PORT", default=f":{os.environ.get('PORT') or '8080'}",
            help="address to listen on; without a host: all interfaces; $PORT sets the default port")  # fmt: skip
        add("--key-header", metavar="NAME", default="", help="header field whose value becomes the record's key")
        add(
            "--multi-value",
            choices=("join", "repeat"),
            default="join",
            help="how several fields of one name are stored",
        )
        add("--header-allow", action="append", metavar="GLOB", default=[], help="only these fields become headers")
        add("--header-deny", action="append", metavar="GLOB", default=[], help="these fields do not become headers")
        add("--max-body-bytes", type=int, metavar="BYTES", default=1_000_000, help="largest body")
        add("--max-inflight", type=int, metavar="N", default=1000, help="how many requests may wait for Kafka")
        return parser
    decisions = ("dlq", "block", "stop", "drop")
    add("--listen-address", metavar="HOST:PORT", default="127.0.0.1:0",
        help="address of /bridges, /bridges/metrics, /healthz and /readyz; port 0: any free one")  # fmt: skip
    add("-g", "--group-name", default="bytehoops", help="consumer group")
    add("-s", "--sink-endpoint", metavar="URL", default="http://localhost:9009/api/v1/push", help="URL to post to")
    add("--sink-timeout", type=float, metavar="SECONDS", default=10.0, help="how long one attempt may take")
    add("--sink-ca", metavar="FILE", default="", help="PEM file with the CA of an https sink")
    add("--sink-certificate", metavar="FILE", default="", help="PEM file with the client's certificate and key")
    add("--sink-token", metavar="FILE", default="", help="file with a bearer token for the sink")
    add("--offset-reset", choices=("earliest", "latest", "error"), default="earliest", help="where a new group begins")
    add("--ordering", choices=("partition", "key", "none"), default="partition", help="what keeps its order")
    add("--max-concurrency", type=int, metavar="N", default=16, help="how many posts may run at the same time")
    add("--max-buffered-records", type=int, metavar="N", default=1000, help="records that may be read ahead")
    add(
        "--max-buffered-bytes", type=int, metavar="BYTES", default=64 * 1024 * 1024, help="bytes that may be read ahead"
    )
    add("--retry-initial", type=float, metavar="SECONDS", default=2.0, help="pause after the first failed attempt")
    add("--retry-factor", type=float, metavar="X", default=2.0, help="factor by which each further pause is longer")
    add("--retry-max", type=float, metavar="SECONDS", default=120.0, help="longest pause")
    add("--retry-jitter", type=float, metavar="SECONDS", default=5.0, help="random time added to each pause")
    add("--max-attempts", type=int, metavar="N", default=10, help="attempts before --on-exhausted")
    add("--on-exhausted", choices=decisions, default=None, help="what then; default: dlq with --dlq-topic, else block")
    add("--on-permanent", choices=decisions, default=None, help="what to do after 3xx and 4xx; the same default")
    add("--dlq-topic", default="", help="topic for records that are not accepted")
    add("--commit-interval", type=float, metavar="SECONDS", default=1.0, help="how often offsets are committed")
    add(
        "--revoke-timeout",
        type=float,
        metavar="SECONDS",
        default=20.0,
        help="wait for posts when a partition is revoked",
    )
    add("--metadata-headers", action="store_true", help="add X-Kafka-Topic, -Partition, -Offset, -Timestamp, -Key")
    add("--split-commas", action="store_true", help="split headers at commas, as Bytehoops did")
    return parser


def _properties(mode: str, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, str]:
    """What the flags say, and their defaults for what neither properties file nor environment says."""
    make = _producer if mode == "producer" else _consumer
    elsewhere = _names_in(given["config"]) | {name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX)}
    usual = make({name: value for name, value in defaults.items() if value is not None})
    usual = {
        name: value
        for name, value in usual.items()
        if name not in elsewhere and environment_name(name) not in elsewhere
    }
    return usual | make({name: value for name, value in given.items() if value is not None})


def _names_in(file: str | None) -> set[str]:
    try:
        content = Path(file).read_bytes() if file is not None else b""
    except OSError:
        return set()  # `load` tells
    return {entry.key for entry in parse_properties(decode_properties(content))}


_PRODUCER = {
    "topic": "topic",
    "key_header": "key.header",
    "multi_value": "multi.value",
    "header_allow": "header.allow",
    "header_deny": "header.deny",
    "max_body_bytes": "max.body.bytes",
    "max_inflight": "max.inflight",
}
_CONSUMER = {
    "topic": "topic",
    "group_name": "group",
    "sink_endpoint": "sink",
    "sink_timeout": "sink.timeout.ms",
    "sink_ca": "sink.ca.location",
    "sink_certificate": "sink.certificate.location",
    "sink_token": "sink.token.location",
    "offset_reset": "offset.reset",
    "ordering": "ordering",
    "max_concurrency": "max.concurrency",
    "max_buffered_records": "max.buffered.records",
    "max_buffered_bytes": "max.buffered.bytes",
    "retry_initial": "retry.initial.ms",
    "retry_factor": "retry.factor",
    "retry_max": "retry.max.ms",
    "retry_jitter": "retry.jitter.ms",
    "max_attempts": "max.attempts",
    "on_exhausted": "on.exhausted",
    "on_permanent": "on.permanent",
    "dlq_topic": "dlq.topic",
    "commit_interval": "commit.interval.ms",
    "revoke_timeout": "revoke.timeout.ms",
    "metadata_headers": "metadata.headers",
    "split_commas": "split.commas",
}
"""Flags, and the properties of the bridge that they set."""


def _of_bridge(prefix: str, names: Mapping[str, str], flags: Mapping[str, Any]) -> dict[str, str]:
    found = {prefix + names[flag]: _text(names[flag], value) for flag, value in flags.items() if flag in names}
    if "given_servers" in flags:
        found["bootstrap.servers"] = ",".join(flags["given_servers"])
    elif "bootstrap_servers" in flags:
        found["bootstrap.servers"] = flags["bootstrap_servers"]
    if "shutdown_timeout" in flags:
        found["shutdown.graceful.ms"] = _text("ms", flags["shutdown_timeout"])
    return found


def _producer(flags: Mapping[str, Any]) -> dict[str, str]:
    found = _of_bridge("bridge.producer.bytehoops.", _PRODUCER, flags)
    if (longest := flags.get("max_body_bytes", 0)) > _MESSAGE_MAX_BYTES:
        # Room for the headers, which count for the record.
        found["producer.max.request.size"] = str(longest + 64 * 1024)
        found["request.max.bytes"] = str(max(longest, 16 * 1024 * 1024))
    return found | _listening(flags.get("listen_address"))


def _consumer(flags: Mapping[str, Any]) -> dict[str, str]:
    found = _of_bridge("bridge.consumer.bytehoops.", _CONSUMER, flags)
    if "sink_endpoint" in flags:
        # A host that the command line names is allowed. If its name leads to a link-local address, it is refused all
        # the same.
        found["bridge.sink.allow"] = urlsplit(flags["sink_endpoint"]).hostname or ""
    return found | _listening(flags.get("listen_address"))


def _listening(address: str | None) -> dict[str, str]:
    """The listener. Without a host it is on all interfaces, and nobody need authenticate, as with Bytehoops: the log
    warns."""
    if address is None:
        return {}
    host, _, port = address.rpartition(":")
    host = host or ("[::]" if socket.has_dualstack_ipv6() else "0.0.0.0")
    return {"listeners": f"http://{host}:{port}", "listeners.insecure": "true"}


def _text(property: str, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(value)
    if isinstance(value, float):
        return str(round(value * 1000)) if property.endswith("ms") else f"{value:g}"
    return str(value)
