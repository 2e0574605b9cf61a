"""The command ``flasfka-serve``: push and pull alone, with the flags and the configuration file of flasfka 1.1.6.

See bridges.md §B1. Everything else is the gateway: its properties, in a file or after the flags, set all that is new.
"""

from __future__ import annotations

import argparse
import ast
import cProfile
import os
import pstats
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kafka_gateway import early_signals
from kafka_gateway.assembly.built_in import BUILT_IN
from kafka_gateway.assembly.plugins import PluginError, Plugins, find_plugins
from kafka_gateway.commands.run import PROPERTY, run
from kafka_gateway.config import Config, ConfigError, Fault, load
from kafka_gateway.kafka.clients.properties import faults as kafka_faults

_DESCRIPTION = "Pushes lists of texts to Kafka topics and pulls them, over HTTP: POST and GET /TOPIC/ and /TOPIC/NAME/."
_EPILOG = """\
FLASFKA_CONFIG names a file with HOSTS, CONSUMER_TIMEOUT, CONSUMER_LIMIT and DEFAULT_GROUP, as for flasfka. It is read,
not run: only literal values count. FILE and KEY=VALUE are the gateway's own properties, e.g. for TLS and passwords;
docs/push-pull.md has more."""

_PARTS = frozenset({"core", "http", "push_pull"})
"""The built-in plugins that take part; below the prefix / there is no room for others."""
_OTHERS = tuple(name for name in BUILT_IN if name not in _PARTS)
_DEFAULTS = {"bootstrap.servers": "localhost:9092", "push.pull.prefix": "/"}
_PROFILED = 40


def run_push_pull(words: Sequence[str]) -> int:
    """Runs the command; the exit code: 0 all well, 1 cannot start or self-test failed, 2 faulty configuration."""
    parser = argparse.ArgumentParser(
        prog="flasfka-serve",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="*", metavar="[FILE] [KEY=VALUE …]", help="a properties file; single properties")
    parser.add_argument("-d", "--debug", action="store_true", help="log more, and tell clients of unexpected errors")
    parser.add_argument("-p", "--port", type=int, default=5000, help="port to listen on (5000)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("-o", "--profile", action="store_true", help="print at the end where the time went")
    parser.add_argument("-t", "--test", action="store_true", help="push and pull on topics of its own, then exit")
    options = parser.parse_intermixed_args(words)
    given = [word for word in options.what if PROPERTY.match(word)]
    files = [word for word in options.what if word not in given]
    if len(files) > 1:
        parser.error(f"one properties file at most, not {', '.join(files)}")
    file = files[0] if files else None
    try:
        plugins = find_plugins(file, given, os.environ, _OTHERS)
        config = _configuration(plugins, options, file, given)
    except PluginError as error:
        print(f"flasfka-serve: {error}", file=sys.stderr)
        return 1
    except ConfigError as error:
        for fault in error.faults:
            print(f"flasfka-serve: {fault}", file=sys.stderr)
        return 2
    if options.test:
        early_signals.let_go()
        from kafka_gateway.commands.flasfka_check import try_out

        return try_out(config, plugins)
    if not options.profile:
        return run(config, plugins)
    profile = cProfile.Profile()
    code = profile.runcall(run, config, plugins)
    pstats.Stats(profile).sort_stats("tottime").print_stats(_PROFILED)
    return code


def subcommand(words: Sequence[str]) -> int:
    """The same as words of ``kafka-gateway``."""
    return run_push_pull(words[1:])


def _configuration(plugins: Plugins, options: argparse.Namespace, file: str | None, given: Sequence[str]) -> Config:
    properties: dict[str, str] = {}
    notes: list[str] = []
    if path := os.environ.get("FLASFKA_CONFIG"):
        properties, notes = read_settings(Path(path))
    if options.debug:
        properties |= {"debug": "true", "log.level": "DEBUG"}
    overrides = [*(f"{name}={text}" for name, text in properties.items()), *given]
    config = load(plugins.config_keys(), file, overrides, os.environ, checks=(kafka_faults, plugins.faults))
    host = f"[{options.host}]" if ":" in options.host else options.host
    defaults = {**_DEFAULTS, "listeners": f"http://{host}:{options.port}"}
    config = config.with_values({name: text for name, text in defaults.items() if not config.given(name)})
    return replace(config, warnings=(*config.warnings, *notes))


# --- the configuration file -------------------------------------------------------------------------------------------


def read_settings(path: Path) -> tuple[dict[str, str], list[str]]:
    """The properties that a flasfka configuration file means, and warnings. It is Python, and is not executed.

    Raises:
        ConfigError: it cannot be read, or a setting that is known has a value of another type.
    """
    try:
        lines = ast.parse(path.read_bytes(), str(path)).body
    except OSError as error:
        raise ConfigError([Fault("FLASFKA_CONFIG", "", f"{path} cannot be read: {error.strerror}")]) from None
    except (SyntaxError, ValueError) as error:
        raise ConfigError([Fault("FLASFKA_CONFIG", "", f"{path} is not Python: {error}")]) from None
    properties: dict[str, str] = {}
    notes: list[str] = []
    faults: list[Fault] = []
    for line in lines:
        place = f"{path}:{line.lineno}"
        if isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant):
            continue  # a text that stands alone is a comment
        name = _upper_case_name(line)
        if name is None:
            notes.append(f"{place}: not read; only NAME = literal counts, with NAME in upper case")
        elif (known := _SETTINGS.get(name)) is None:
            notes.append(f"{place}: {name} has no effect")
        else:
            try:
                properties[known[0]] = known[1](ast.literal_eval(line.value))  # type: ignore[attr-defined]
            except (ValueError, TypeError, SyntaxError, RecursionError):
                faults.append(Fault(place, name, f"must be {known[2]}, written as a literal"))
    if faults:
        raise ConfigError(faults)
    return properties, notes


def _upper_case_name(line: ast.stmt) -> str | None:
    if isinstance(line, ast.Assign) and len(line.targets) == 1 and isinstance(line.targets[0], ast.Name):
        name = line.targets[0].id
        return name if name.isupper() else None
    return None


def _hosts(value: Any) -> str:
    hosts = value.split(",") if isinstance(value, str) else list(value)
    named = [host.strip() for host in hosts]
    return ",".join(host if re.search(r":[0-9]+$", host) else f"{host}:9092" for host in named if host)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode()
    if not isinstance(value, str):
        raise TypeError
    return value


def _whole(value: Any) -> str:
    if isinstance(value, bool) or int(value) != value:
        raise TypeError
    return str(int(value))


def _milliseconds(value: Any) -> str:
    if isinstance(value, bool):
        raise TypeError
    return str(max(1, round(float(value) * 1000)))


def _flag(value: Any) -> str:
    if not isinstance(value, bool):
        raise TypeError
    return "true" if value else "false"


_SETTINGS: Mapping[str, tuple[str, Any, str]] = {
    "HOSTS": ("bootstrap.servers", _hosts, 'a list of "host:port"'),
    "CONSUMER_TIMEOUT": ("push.pull.timeout.ms", _milliseconds, "a number of seconds"),
    "CONSUMER_LIMIT": ("push.pull.limit", _whole, "a whole number"),
    "DEFAULT_GROUP": ("push.pull.group.default", _text, "a text"),
    "CONSUMER_LIMIT_MAX": ("push.pull.limit.max", _whole, "a whole number"),
    "CONSUMER_MAX_WAIT": ("push.pull.wait.max.ms", _milliseconds, "a number of seconds"),
    "CONSUMER_MAX_BYTES": ("push.pull.response.max.bytes", _whole, "a whole number"),
    "AUTO_CREATE_TOPICS": ("auto.create.topics.enable", _flag, "True or False"),
}
