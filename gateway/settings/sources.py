"""Reads the properties that are set: in the file, the environment, ``KAFKAREST_OPTS`` and the arguments."""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kafka_gateway.settings.declaration import Fault
from kafka_gateway.settings.key_table import ENVIRONMENT_PREFIX, KeyTable
from kafka_gateway.settings.properties import decode_properties, parse_properties

FOREIGN_PREFIX = "WSPROXY_"
"""What the environment variables of kafka-websocket-proxy begin with: one that no key has is a fault too."""
FOREIGN_WITHOUT_EFFECT = (
    "WSPROXY_KAFKA_MONITORING_",
    "WSPROXY_KAFKA_METRICS_",
    "WSPROXY_LOGBACK_XML_CONFIG",
    "WSPROXY_LOGGING_CONFIG",
    "WSPROXY_LOG_ANSI_OFF",
)
"""Those among them that are told and otherwise ignored: they are about Java's logging and monitoring."""
# Kubernetes puts these for every Service of the namespace into every pod ("Docker links"). Because of a Service called
# kafka-gateway the gateway would stop at KAFKA_GATEWAY_PORT=tcp://10.0.0.1:8082; Confluent's image has that trouble.
_SERVICE_LINK = re.compile(r"SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?")
_SERVICE_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://")


@dataclass(frozen=True)
class PropertiesText(os.PathLike[str]):
    """The content of a properties file at one time: all who get it read the same."""

    path: str
    content: bytes = b""
    trouble: str = ""
    """Why it could not be read; told by `read_sources`."""

    def __fspath__(self) -> str:
        return self.path

    @classmethod
    def of(cls, file: str | os.PathLike[str]) -> PropertiesText:
        """What stands in the file now. Never raises."""
        if isinstance(file, cls):
            return file
        path = os.fspath(file)
        try:
            return cls(path, Path(path).read_bytes())
        except OSError as error:
            return cls(path, trouble=f"the file cannot be read: {error.strerror}")


def read_sources(
    table: KeyTable,
    file: str | os.PathLike[str] | None,
    overrides: Iterable[str],
    env: Mapping[str, str],
    faults: list[Fault],
    warnings: list[str],
) -> dict[str, tuple[str, str]]:
    """Every property that is set: its text, and the place where it is set (of several the one that counts).

    Adds to ``faults`` what must stop the start, and to ``warnings`` what has no effect.
    """
    return (
        _from_file(file, faults, warnings)
        | _from_java_options(env, table, warnings)
        | _from_environment(env, table, faults, warnings)
        | _from_arguments(overrides, faults)
    )


def _from_file(
    file: str | os.PathLike[str] | None, faults: list[Fault], warnings: list[str]
) -> dict[str, tuple[str, str]]:
    if file is None:
        return {}
    text = PropertiesText.of(file)
    if text.trouble:
        faults.append(Fault(text.path, "", text.trouble))
        return {}
    given: dict[str, tuple[str, str]] = {}
    for entry in parse_properties(decode_properties(text.content)):
        place = f"{text.path}:{entry.line}"
        if not entry.key:
            faults.append(Fault(place, "", "the line has no key before '='"))
            continue
        if entry.key in given:
            warnings.append(f"{place}: {entry.key} stands also at {given[entry.key][1]}; this later line counts")
        given[entry.key] = (entry.value, place)
    return given


def _from_environment(
    env: Mapping[str, str], table: KeyTable, faults: list[Fault], warnings: list[str]
) -> dict[str, tuple[str, str]]:
    given = {}
    for variable in sorted(env) if table.foreign else ():
        if variable.startswith(FOREIGN_WITHOUT_EFFECT) and variable not in table.foreign:
            warnings.append(f"environment {variable}: has no effect in the gateway")
        elif variable.startswith(FOREIGN_PREFIX) and variable not in table.foreign:
            near = difflib.get_close_matches(variable, list(table.foreign), 1, 0.8)
            place = f"environment {variable}"
            faults.append(Fault(place, "", "no property has this environment variable", near[0] if near else ""))
    for variable, name in reversed(table.foreign.items()):
        if variable in env:
            given[name] = (env[variable], f"environment {variable}")
    for variable, text in sorted(env.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        place = f"environment {variable}"
        rest = variable.removeprefix(ENVIRONMENT_PREFIX)
        name = table.variables.get(variable) or rest.lower().replace("_", ".")
        if _SERVICE_LINK.fullmatch(rest) or (rest == "PORT" and _SERVICE_LINK_VALUE.match(text)):
            warnings.append(f"{place}: not read; Kubernetes sets it for a Service called kafka-gateway")
        elif table.find(name) is None:
            near = difflib.get_close_matches(variable, list(table.variables), 1, 0.8)
            faults.append(Fault(place, "", "no property has this environment variable", near[0] if near else ""))
        else:
            given[name] = (text, place)
    return given


def _from_java_options(env: Mapping[str, str], table: KeyTable, warnings: list[str]) -> dict[str, tuple[str, str]]:
    given = {}
    place = "environment KAFKAREST_OPTS"
    try:
        options = shlex.split(env.get("KAFKAREST_OPTS", ""))
    except ValueError:
        warnings.append(f"{place}: not read, a quotation mark has no end")
        return {}
    for option in options:
        name, _, text = option.removeprefix("-D").partition("=")
        if option.startswith("-D") and table.find(name):
            given[name] = (text, place)
        else:
            # Whatever else stands there was meant for the Java virtual machine; it is no reason not to start.
            warnings.append(f"{place}: {option.partition('=')[0]} has no effect, there is no Java virtual machine")
    return given


def _from_arguments(overrides: Iterable[str], faults: list[Fault]) -> dict[str, tuple[str, str]]:
    given = {}
    for number, argument in enumerate(overrides, 1):
        name, equals, text = argument.partition("=")
        if equals and name.strip():
            given[name.strip()] = (text, "argument")
        else:
            # The argument is not repeated: it may be a password that was separated from its key.
            faults.append(Fault(f"argument {number}", "", "is not of the form KEY=VALUE"))
    return given
