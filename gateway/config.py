"""The configuration: what a key is, how the properties are read and checked, and the frozen `Config` they become.

`load` takes the keys (those of `gateway.settings.keys` and those that plugins add), reads the properties file, the
environment and the command line in that order of precedence, and gives a `Config`, or one `ConfigError` with *every*
fault found, each with the place where it stands. Nothing reads the environment or the file later: code receives the
`Config`.

A property that no key knows is a fault, because a misspelt limit that silently keeps its default is found only when it
is needed (Confluent REST Proxy ignores unknown properties; reliability S17). Keys of the programs the gateway replaces
that have no meaning here are known and marked `ConfigKey.ignored`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from kafka_gateway.settings.client_names import CLIENT_PROPERTIES
from kafka_gateway.settings.declaration import (
    ConfigError,
    ConfigKey,
    Fault,
    KeyType,
    Value,
    as_text,
    check_readable,
    redact,
    section,
)
from kafka_gateway.settings.key_table import ENVIRONMENT_PREFIX, KeyTable, environment_name
from kafka_gateway.settings.listeners import Listener, clashes, parse_listener
from kafka_gateway.settings.sources import PropertiesText, read_sources

__all__ = [
    "CLIENT_PREFIXES",
    "ENVIRONMENT_PREFIX",
    "Config",
    "ConfigError",
    "ConfigKey",
    "Fault",
    "KeyType",
    "PropertiesText",
    "Value",
    "check_readable",
    "environment_name",
    "load",
    "peek",
    "redact",
    "section",
]

CLIENT_PREFIXES = ("client.", "producer.", "consumer.", "admin.")
"""What stands under these names goes to librdkafka (Confluent REST Proxy, "pass-through"); see `Config.passthrough`."""


@dataclass(frozen=True, repr=False, eq=False)
class Config:
    """The configuration of one gateway; it does not change, and it never prints a secret.

    The typed methods raise `KeyError` for a name that no key has and `TypeError` for one of another type: both are
    mistakes of the calling code. ``warnings`` are lines to log once at start.
    """

    values: Mapping[str, Value]
    places: Mapping[str, str]
    warnings: tuple[str, ...]
    _open: Mapping[str, str]
    _table: KeyTable

    def __getitem__(self, name: str) -> Value:
        """The value of a property, its default where nothing set it."""
        if name in self.values:
            return self.values[name]
        return self._key(name).default

    def given(self, name: str) -> bool:
        """True when the file, the environment or the command line sets the property."""
        return name in self.places

    def place(self, name: str) -> str:
        """Where the property is set: ``file:line``, ``environment NAME``, ``argument``; empty for a default."""
        return self.places.get(name, "")

    def text(self, name: str) -> str:
        """The value of a ``str``, ``enum`` or ``file`` property."""
        return str(self._typed(name, "str", "enum", "file"))

    def integer(self, name: str) -> int:
        """The value of an ``int``, ``long``, ``duration`` (milliseconds) or ``size`` (bytes) property."""
        return int(self._typed(name, "int", "long", "duration", "size"))  # type: ignore[arg-type]

    def number(self, name: str) -> float:
        """The value of a property that is a number, fractions included."""
        return float(self._typed(name, "float", "int", "long", "duration", "size"))  # type: ignore[arg-type]

    def seconds(self, name: str) -> float:
        """The value of a property given in milliseconds, as seconds."""
        key = self._key(name)
        if key.unit != "ms":
            raise TypeError(f"{name} is not in milliseconds")
        return self.number(name) / 1000

    def flag(self, name: str) -> bool:
        """The value of a ``bool`` property."""
        return bool(self._typed(name, "bool"))

    def items(self, name: str) -> tuple[str, ...]:
        """The parts of a ``list`` property, without blanks and empty parts."""
        value = self._typed(name, "list")
        return value if isinstance(value, tuple) else (str(value),)

    def secret(self, name: str) -> str:
        """The value of a ``secret`` property; never log it."""
        return str(self._typed(name, "secret"))

    def under(self, prefix: str) -> dict[str, str]:
        """The given properties below a prefix key, without the prefix: ``under("client.")``; texts as they stand."""
        return {name.removeprefix(prefix): text for name, text in self._open.items() if name.startswith(prefix)}

    def passthrough(self, role: str) -> dict[str, str]:
        """What the operator gives the Kafka clients of a role, prefixes removed; the role's own beats ``client.``.

        Args:
            role: ``producer``, ``consumer`` or ``admin``. Names that are the gateway's own although they begin alike
                (``consumer.threads``) are not among them. `gateway.kafka.clients.properties` checks and translates the
                result.
        """
        return self.under("client.") | self.under(f"{role}.")

    def listeners(self) -> tuple[Listener, ...]:
        """The addresses to listen on; without ``listeners``, ``port`` of the loopback address, or of all addresses
        where clients must authenticate. Then those of ``admin.listeners``."""
        protocols = dict(item.split(":", 1) for item in self.items("listener.protocol.map"))
        given = self.items("listeners")
        if not given:
            host = "0.0.0.0" if self.asks_who else "127.0.0.1"
            ordinary = [Listener("http", "http", host, self.integer("port"), transports=self._transports())]
        else:
            listeners = (parse_listener(item, protocols) for item in given)
            ordinary = [replace(each, transports=self.for_listener(each.name)._transports()) for each in listeners]
        own = self.items("admin.listeners") if self._table.find("admin.listeners") else ()
        return (*ordinary, *(replace(parse_listener(item, protocols), admin=True) for item in own))

    @property
    def methods(self) -> tuple[str, ...]:
        """The names in ``authentication.method``, in capitals."""
        return tuple(name.upper() for name in self.items("authentication.method"))

    @property
    def asks_who(self) -> bool:
        """Whether clients have to prove who they are: ``NONE`` is not among the methods."""
        return "NONE" not in self.methods

    def _transports(self) -> tuple[str, ...]:
        return self.items("transports") if self._table.find("transports") else ()

    def for_listener(self, name: str) -> Config:
        """The configuration with what ``listener.name.<name>.`` sets in place of the general values."""
        prefix = f"listener.name.{name.lower()}."
        own = {given: given[len(prefix) :] for given in self.values if given.lower().startswith(prefix)}
        return replace(
            self,
            values=MappingProxyType({**self.values, **{general: self.values[given] for given, general in own.items()}}),
            places=MappingProxyType({**self.places, **{general: self.places[given] for given, general in own.items()}}),
        )

    def with_values(self, values: Mapping[str, object] | None = None, /, **more: object) -> Config:
        """The configuration with other values, checked like those of a file; for tests and small changes.

        Args:
            values: by name. more: by name with ``_`` for every dot: ``with_values(port=0, idle_timeout_ms=5)``.
        Raises:
            ConfigError: as `load` does.
        """
        changed = {**(values or {}), **{name.replace("_", "."): value for name, value in more.items()}}
        given = {**self._texts(), **{name: (as_text(value), "argument") for name, value in changed.items()}}
        return _build(self._table, given, self.warnings, [])

    def with_live_of(self, other: Config) -> Config:
        """What runs after a start with this configuration and a SIGHUP with the other one: the other's values of all
        properties that take effect at run time, and this one's of the rest. ConfigError: they do not go together."""
        own = {name: each for name, each in self._texts().items() if not self.is_live(name)}
        live = {name: each for name, each in other._texts().items() if self.is_live(name)}
        return _build(self._table, own | live, self.warnings, [])

    def texts(self) -> dict[str, str]:
        """Every given property with its text, secrets too: for comparing, never for printing."""
        return {name: text for name, (text, _) in self._texts().items()}

    def is_live(self, name: str) -> bool:
        """Whether the property takes effect when the configuration is read again."""
        key = self._table.find(name)
        return key is not None and key.live

    def dump(self) -> dict[str, str]:
        """Every given property with its text, secrets hidden; for the start-up log and diagnostics."""
        texts = sorted(self._texts().items())
        return {name: redact(name, text, self._table.find(name)) for name, (text, _) in texts}

    def __repr__(self) -> str:
        return f"Config({', '.join(f'{name}={text!r}' for name, text in self.dump().items())})"

    def _texts(self) -> dict[str, tuple[str, str]]:
        texts = {}
        for name, place in self.places.items():
            key = self._table.find(name)
            value = self.values.get(name, self._open.get(name, ""))
            texts[name] = (key.write(value) if key else as_text(value), place)
        return texts

    def _key(self, name: str) -> ConfigKey:
        key = self._table.find(name)
        if key is None or key.prefix:
            raise KeyError(f"no configuration key is called {name}")
        return key

    def _typed(self, name: str, *types: KeyType) -> Value:
        key = self._key(name)
        if key.type not in types:
            raise TypeError(f"{name} is of type {key.type}, not {' or '.join(types)}")
        return self.values.get(name, key.default)


def load(
    keys: Iterable[ConfigKey],
    file: str | os.PathLike[str] | None = None,
    overrides: Iterable[str] = (),
    env: Mapping[str, str] | None = None,
    checks: Iterable[Callable[[Config], Iterable[Fault]]] = (),
) -> Config:
    """The configuration from defaults, file, environment and command line, each beating those before it.

    Args:
        keys: every key there is; plugins add theirs.
        file: a properties file (`gateway.properties`), or what somebody has read in one; a key that stands twice counts
            with its last line.
        overrides: ``KEY=VALUE`` arguments.
        env: the environment. Of it count ``KAFKA_GATEWAY_<NAME>``, the property's name in capitals with ``_`` for every
            dot and hyphen, and the ``-Dname=value`` of ``KAFKAREST_OPTS``, which belonged to the Java scripts.
        checks: further judges of the whole, such as `gateway.kafka.clients.properties.faults`; what they find is
            reported with the rest. They see a `Config` in which faulty properties have their defaults.
    Raises:
        ConfigError: with every fault found.
    """
    faults: list[Fault] = []
    warnings: list[str] = []
    table = KeyTable(keys)
    faults += table.faults
    given = read_sources(table, file, overrides, env or {}, faults, warnings)
    return _build(table, given, warnings, faults, checks)


def peek(
    key: ConfigKey, file: str | os.PathLike[str] | None, overrides: Iterable[str], env: Mapping[str, str]
) -> Value:
    """The value of one key, by the rules of `load`, before it is known which other keys there are.

    What is wrong with the sources is left for `load` to tell.
    """
    text, _ = read_sources(KeyTable([key]), file, overrides, env, [], []).get(key.name, (key.write(key.default), ""))
    return key.read(text)


_PLACEHOLDER = re.compile(r"\$\{\w+:[^{}]*\}")
_NOT_REPLACED = (
    "is a placeholder that nobody has replaced: the gateway has no config.providers, and reads the environment itself"
    " (KAFKA_GATEWAY_ and the name in capitals, with _ for every dot)"
)


def _build(
    table: KeyTable,
    given: Mapping[str, tuple[str, str]],
    warnings: Iterable[str],
    faults: list[Fault],
    checks: Iterable[Callable[[Config], Iterable[Fault]]] = (),
) -> Config:
    values: dict[str, Value] = {}
    texts: dict[str, str] = {}
    places: dict[str, str] = {}
    notes = list(warnings)
    given = _with_what_follows(table, given)
    for name, (text, place) in given.items():
        key = table.find(name)
        if key is None:
            faults.append(_unknown(table, name, place))
            continue
        places[name] = place
        if _PLACEHOLDER.fullmatch(text.strip()):
            faults.append(Fault(place, name, _NOT_REPLACED))
        elif key.prefix:
            texts[name] = text.strip()
            if key.judges is not None and (message := key.judges(name.removeprefix(key.name), texts[name])):
                faults.append(Fault(place, name, message))
        elif key.ignored:
            values[name] = text.strip()
        else:
            try:
                values[name] = key.read(text)
            except ValueError as error:
                faults.append(Fault(place, name, f"{error}; {key.hint}" if key.hint else str(error)))
            else:
                if key.refused and values[name] != key.default:
                    faults.append(Fault(place, name, f"not offered: {key.refused}"))
        if key.ignored:
            notes.append(f"{place}: {name} has no effect: {key.ignored}")
    config = Config(
        values=MappingProxyType(values),
        places=MappingProxyType(places),
        warnings=tuple(dict.fromkeys(notes)),
        _open=MappingProxyType(texts),
        _table=table,
    )
    if "listeners" in table.exact:
        wrong = _listener_faults(config, notes)
        faults += wrong
        config = replace(config, warnings=tuple(dict.fromkeys(notes)))
        if wrong:
            # The other checks ask for the listeners, and go on with the usual one.
            without = {name: value for name, value in values.items() if not name.endswith("listeners")}
            config = replace(config, values=MappingProxyType({**without, "listeners": (), "admin.listeners": ()}))
    read_wrong = {fault.key for fault in faults}
    for check in checks:  # which see defaults instead of faulty values
        faults += [fault for fault in check(config) if not fault.key or fault.key not in read_wrong]
    if faults:
        raise ConfigError(faults)
    return config


def _with_what_follows(table: KeyTable, given: Mapping[str, tuple[str, str]]) -> Mapping[str, tuple[str, str]]:
    """The properties, with those that others imply (`ConfigKey.implies`)."""
    asked = {key.implies: None for name in given if (key := table.find(name)) is not None and key.implies is not None}
    for implies in asked:
        followed = implies({name: text for name, (text, _) in given.items()})
        given = {**given, **{name: (text, given[source][1]) for name, (text, source) in followed.items()}}
    return given


def _unknown(table: KeyTable, name: str, place: str) -> Fault:
    prefix = CLIENT_PROPERTIES.get(name)
    if prefix is not None:
        message = (
            f"is a property of the Kafka clients, which need a prefix: write {prefix}{name}"
            f" ({', '.join(CLIENT_PREFIXES)} choose the client; version 1 had no prefixes)"
        )
        return Fault(place, name, message)
    return Fault(place, name, "no such property", table.suggestion(name))


def _listener_faults(config: Config, notes: list[str]) -> list[Fault]:
    faults = []
    protocols: dict[str, str] = {}
    for item in config.items("listener.protocol.map"):
        name, _, protocol = item.partition(":")
        protocols[name] = protocol.lower()
        if protocol.lower() not in ("http", "https"):
            message = f"{item!r} is not NAME:http or NAME:https"
            faults.append(Fault(config.place("listener.protocol.map"), "listener.protocol.map", message))
    place = config.place("listeners")
    listeners = []
    for key in ("listeners", "admin.listeners"):
        for item in config.items(key) if key in config._table.exact else ():
            try:
                listeners.append(parse_listener(item, protocols))
            except ValueError as error:
                faults.append(Fault(config.place(key), key, redact("listeners", str(error))))
    faults += [Fault(place, "listeners", message) for message in clashes(listeners)]
    open_to_all = not config.asks_who
    for listener in listeners:
        if listener.tls and not config.for_listener(listener.name).text("ssl.keystore.location"):
            message = f"{listener} needs a certificate: set ssl.keystore.location to a PEM file with chain and key"
            faults.append(Fault(place, "listeners", message))
        insecure = config.for_listener(listener.name).flag("listeners.insecure")
        if open_to_all and not listener.loopback and insecure:
            notes.append(
                f"DANGER: {listener} is open (listeners.insecure): everyone who reaches it can read and write Kafka"
            )
        elif open_to_all and not listener.loopback:
            message = (
                f"{listener} can be reached from other machines and nobody need authenticate; set"
                " authentication.method, or listeners.insecure=true to have it so, or listen on 127.0.0.1"
            )
            faults.append(Fault(place, "listeners", message))
    return faults
