"""``kafka-gateway --check``: everything that is wrong with the configuration, then the way to Kafka step by step.

The exit code tells the kind of the first failure, so that a deployment script can branch on it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TextIO

from kafka_gateway.commands.output import write_line
from kafka_gateway.commands.start_notes import start_notes
from kafka_gateway.config import Config, ConfigError, ConfigKey, Fault, load
from kafka_gateway.kafka.clients import probe, properties
from kafka_gateway.kafka.clients.embedded_rules import embedded_faults
from kafka_gateway.kafka.credentials.chosen import credential_faults
from kafka_gateway.kafka.credentials.principal_map import map_told

EXIT_OK = 0
EXIT_CONFIGURATION = 2
EXIT_CODES: Mapping[str, int] = {
    probe.NAME: 3,
    probe.CONNECTION: 4,
    probe.TLS: 5,
    probe.SASL: 6,
    probe.METADATA: 7,
    probe.ADVERTISED: 8,
}
"""Kind of the failed step → exit code. 1 is left out: Python exits with it after an unhandled exception."""


def check(
    file: str | os.PathLike[str] | None,
    overrides: Iterable[str],
    out: TextIO,
    as_json: bool,
    keys: Iterable[ConfigKey],
    env: Mapping[str, str] | None = None,
    checks: Iterable[Callable[[Config], Iterable[Fault]]] = (),
    told: Callable[[Config], str] = lambda config: "",
) -> int:
    """The exit code: 0, or the code of the first kind of failure (`EXIT_CONFIGURATION`, `EXIT_CODES`).

    Blocks for at most ``kafka.connect.timeout.ms`` a step. Nothing it writes contains a secret.

    Args:
        file, overrides, keys, checks: as for `gateway.config.load`.
        env: the environment, by default that of the process.
        told: what was read of users and rules, in one line; "" for nothing.
        out: gets one line for each finding; with ``as_json`` a JSON object in each, and a last one with the exit code.
    """
    report = _Report(out, as_json)
    try:
        checks = (properties.faults, embedded_faults, credential_faults, *checks)
        config = load(keys, file, overrides, os.environ if env is None else env, checks)
        faults = tuple(probe.client_faults(config))
    except ConfigError as error:
        faults = error.faults
    if faults:
        for fault in faults:
            report.add_fault(fault)
        return report.finish(EXIT_CONFIGURATION)
    source = os.fspath(file) if file is not None else "the defaults"
    report.add(True, "configuration", f"configuration: no fault in {source}")
    if read := "; ".join(filter(None, (told(config), map_told(config)))):
        report.add(True, "configuration", f"read: {read}")
    for warning in start_notes(config):
        report.add(None, "configuration", warning)
    for live, text in ((True, "take effect on SIGHUP"), (False, "take effect with the next start only")):
        if names := [name for name in sorted(config.places) if config.is_live(name) is live]:
            report.add(True, "reload", f"{text}: {', '.join(names)}", reloads=live, properties=names)
    return report.finish(_check_kafka(config, report))


def _check_kafka(config: Config, report: _Report) -> int:
    if not config.items("bootstrap.servers"):
        report.add(
            True,
            "embedded",
            "no bootstrap.servers: the Kafka embedded in the gateway would be used, which loses all records at its end",
        )
        return EXIT_OK
    failed: list[str] = []
    reached = False
    for step in probe.probe(config, config.seconds("kafka.connect.timeout.ms")):
        line = f"{step.subject} {step.text} ({step.duration_ms:.0f} ms)"
        report.add(step.ok, step.kind, line, subject=step.subject, duration_ms=round(step.duration_ms, 1))
        if not step.ok:
            failed.append(step.kind)
        reached = reached or (step.ok and step.kind == probe.METADATA)
    if reached:
        # One dead server of several in bootstrap.servers is a line of the report, not a failure: Kafka was reached.
        failed = [kind for kind in failed if kind == probe.ADVERTISED]
        if failed:
            report.add(
                None,
                probe.ADVERTISED,
                "clients use the advertised addresses after the first contact: set advertised.listeners of the brokers"
                " to addresses that this machine can reach",
            )
    return EXIT_CODES[failed[0]] if failed else EXIT_OK


class _Report:
    """Writes findings as lines of text, or of JSON, as soon as they are known."""

    def __init__(self, out: TextIO, as_json: bool) -> None:
        self._out = out
        self._as_json = as_json

    def add(self, ok: bool | None, step: str, text: str, **details: object) -> None:
        """One finding; ``ok`` None is a warning."""
        word = {True: "ok", False: "FAIL", None: "warn"}[ok]
        # One finding is one line, whatever a file name or a host contains (reliability S10).
        clean = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
        if self._as_json:
            self._write(json.dumps({"result": word.lower(), "step": step, "text": clean, **details}))
        else:
            self._write(f"{word:<5}{clean}")

    def add_fault(self, fault: Fault) -> None:
        """A fault of the configuration."""
        details = {"place": fault.place, "key": fault.key, "message": fault.message, "did_you_mean": fault.suggestion}
        self.add(False, "configuration", str(fault), **details)

    def finish(self, exit_code: int) -> int:
        """The exit code, which the last line of JSON holds, too."""
        if self._as_json:
            self._write(json.dumps({"exit_code": exit_code}))
        return exit_code

    def _write(self, line: str) -> None:
        write_line(line, self._out)
