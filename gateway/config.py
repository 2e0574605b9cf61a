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

import difflib
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from gateway.settings.client_names import CLIENT_PROPERTIES
from gateway.settings.listeners import Listener, clashes, parse_listener
from gateway.settings.properties import decode_properties, parse_properties

KeyType = Literal["str", "int", "long", "float", "bool", "list", "secret", "duration", "size", "enum", "file"]
Value = str | int | float | bool | tuple[str, ...]

ENVIRONMENT_PREFIX = "KAFKA_GATEWAY_"
"""``KAFKA_GATEWAY_CONSUMER_REQUEST_TIMEOUT_MS`` sets ``consumer.request.timeout.ms``."""

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

CLIENT_PREFIXES = ("client.", "producer.", "consumer.", "admin.")
"""What stands under these names goes to librdkafka (Confluent REST Proxy, "pass-through"); see `Config.passthrough`."""

_INT_MAX = 2**31 - 1
_LONG_MAX = 2**63 - 1
_DURATION_MAX_MS = 100 * 365 * 24 * 3600 * 1000
"""A hundred years. uvloop cuts timers there, and locks of threads refuse more than some 290."""
_WHOLE = re.compile(r"[+-]?[0-9]{1,20}")
_DECIMAL = re.compile(r"[+-]?([0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20})")
_SECRET_NAME = re.compile(
    r"password|passwd|secret|credential|token|jaas|userinfo|user\.info|private|api\.?key"
    r"|key\.pem|keystore\.key|oauthbearer\.config|assertion",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"(?<=://)[^/@\s]*@")
_HIDDEN = "[hidden]"

# Kubernetes puts these for every Service of the namespace into every pod ("Docker links"). Because of a Service called
# kafka-gateway the gateway would stop at KAFKA_GATEWAY_PORT=tcp://10.0.0.1:8082; Confluent's image has that trouble.
_SERVICE_LINK = re.compile(r"SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?")
_SERVICE_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigKey:
    """One property: its name, how its text is read, its default and what it means.

    ``name`` may hold ``<name>`` for one part of the user's choice (``transport.<name>.enable``). With ``prefix`` the
    name ends with a dot and stands for every property below it; such properties are plain text.

    ``minimum`` and ``maximum`` are inclusive and bound numbers; without them an ``int`` has 32 bits, a ``long`` and a
    ``size`` (bytes) have 64, a ``duration`` (whole milliseconds) is at most 100 years; the last two are not negative.
    ``choices`` are the words of an ``enum``; ``hint`` follows the message about a faulty value. With ``optional`` an
    empty text means the default. ``per_listener`` allows ``listener.name.<name>.`` before the name.

    ``ignored`` says why a property that is accepted has no effect; it is told once at start. ``refused`` says what to
    do instead of any other value than the default: for what may protect somebody, so that ignoring it would be a hole.

    ``judges`` is asked about each property below a prefix, with the rest of its name and its text: what is wrong with
    it, or "".

    For keys of programs that the gateway replaces: ``reads`` turns their spelling of a value into ours (ValueError if
    it is none), ``variables`` are their environment variables, of which the first that is set counts, and ``implies``
    is asked once all properties are known, if this one is set or one below it: it gets the texts of all and answers
    which others follow, each with its text and the property that it follows from. What follows beats what is given.

    The shipped file has ``example`` in place of the default, commented out like it, and ``shipped`` as a line in force.
    """

    name: str
    type: KeyType = "str"
    default: Value = ""
    doc: str
    unit: str = ""
    section: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    prefix: bool = False
    per_listener: bool = False
    optional: bool = False
    hint: str = ""
    ignored: str = ""
    refused: str = ""
    example: str = ""
    shipped: str = ""
    judges: Callable[[str, str], str] | None = None
    reads: Callable[[str], str] | None = None
    variables: tuple[str, ...] = ()
    implies: Callable[[Mapping[str, str]], Mapping[str, tuple[str, str]]] | None = None
    owner: str = "the gateway"

    def bounds(self) -> tuple[float | None, float | None]:
        """The least and the greatest number allowed; None where there is no bound."""
        low, high = self.minimum, self.maximum
        if self.type == "int":
            low, high = -(2**31) if low is None else low, _INT_MAX if high is None else high
        elif self.type in ("long", "duration", "size"):
            least = -(2**63) if self.type == "long" else 0
            most = _DURATION_MAX_MS if self.type == "duration" else _LONG_MAX
            low, high = least if low is None else low, most if high is None else high
        return low, high

    def read(self, text: str) -> Value:
        """The value of the text.

        Raises:
            ValueError: with a message for the operator that names no value of a secret.
        """
        text = text.strip()
        if self.optional and not text:
            return self.default
        if self.reads is not None:
            text = self.reads(text)
        match self.type:
            case "bool":
                if text.lower() not in ("true", "false"):
                    raise ValueError(f"{self._shown(text)} is not true or false")
                return text.lower() == "true"
            case "int" | "long" | "duration" | "size":
                if not _WHOLE.fullmatch(text):
                    what = f"number of {self.unit}" if self.unit else "number"
                    raise ValueError(f"{self._shown(text)} is not a whole {what}")
                return self._bounded(int(text))
            case "float":
                if not _DECIMAL.fullmatch(text):
                    raise ValueError(f"{self._shown(text)} is not a number")
                return self._bounded(float(text))
            case "list":
                return tuple(item for item in (part.strip() for part in text.split(",")) if item)
            case "enum":
                by_word = {choice.lower(): choice for choice in self.choices}
                if text.lower() not in by_word:
                    raise ValueError(f"{self._shown(text)} is not one of {', '.join(self.choices)}")
                return by_word[text.lower()]
            case "file":
                if text:
                    check_readable(text)
                return text
            case _:
                return text

    def write(self, value: Value) -> str:
        """The text that `read` turns into the value."""
        if isinstance(value, bool):
            return "true" if value else "false"
        return ",".join(value) if isinstance(value, tuple) else str(value)

    def _bounded(self, number: float) -> int | float:
        low, high = self.bounds()
        if (low is not None and number < low) or (high is not None and number > high):
            raise ValueError(f"{number} is outside {_range(low, high)}")
        return number

    def _shown(self, text: str) -> str:
        return repr(redact(self.name, text)[:80])


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with the configuration: where it stands, which property, what to do, perhaps the name meant."""

    place: str
    key: str
    message: str
    suggestion: str = ""

    def __str__(self) -> str:
        subject = f"{self.place}: " if self.place else ""
        if self.key:
            subject += f"{self.key}: "
        meant = f" (did you mean {self.suggestion}?)" if self.suggestion else ""
        return f"{subject}{self.message}{meant}"


class ConfigError(Exception):
    """The configuration cannot be used; ``faults`` holds everything that is wrong with it, not the first thing only."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


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
    _table: _KeyTable

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
        where clients must authenticate."""
        protocols = dict(item.split(":", 1) for item in self.items("listener.protocol.map"))
        given = self.items("listeners")
        if not given:
            host = "127.0.0.1" if self.text("authentication.method").upper() == "NONE" else "0.0.0.0"
            return (Listener("http", "http", host, self.integer("port"), transports=self._transports()),)
        listeners = (parse_listener(item, protocols) for item in given)
        return tuple(replace(each, transports=self.for_listener(each.name)._transports()) for each in listeners)

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
        given = {**self._texts(), **{name: (_as_text(value), "argument") for name, value in changed.items()}}
        return _build(self._table, given, self.warnings, [])

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
            texts[name] = (key.write(value) if key else _as_text(value), place)
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


def section(title: str, *keys: ConfigKey) -> tuple[ConfigKey, ...]:
    """The keys as one section of the reference."""
    return tuple(replace(key, section=title) for key in keys)


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
        file: a properties file (`gateway.properties`); a key that stands twice counts with its last line.
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
    table = _KeyTable(keys)
    faults += table.faults
    given = _given(table, file, overrides, env or {}, faults, warnings)
    return _build(table, given, warnings, faults, checks)


def peek(
    key: ConfigKey, file: str | os.PathLike[str] | None, overrides: Iterable[str], env: Mapping[str, str]
) -> Value:
    """The value of one key, by the rules of `load`, before it is known which other keys there are.

    What is wrong with the sources is left for `load` to tell.
    """
    text, _ = _given(_KeyTable([key]), file, overrides, env, [], []).get(key.name, (key.write(key.default), ""))
    return key.read(text)


def _given(
    table: _KeyTable,
    file: str | os.PathLike[str] | None,
    overrides: Iterable[str],
    env: Mapping[str, str],
    faults: list[Fault],
    warnings: list[str],
) -> dict[str, tuple[str, str]]:
    """Every property that is set: its text and the place of it that counts."""
    return (
        _from_file(file, faults, warnings)
        | _from_java_options(env, table, warnings)
        | _from_environment(env, table, faults, warnings)
        | _from_arguments(overrides, faults)
    )


def redact(name: str, text: str, key: ConfigKey | None = None) -> str:
    """The text of a property as it may be printed: hidden where key or name say that it is a secret, and URLs without
    their user and password."""
    # Where a secret stands may be told: what "...location" names is never the secret itself.
    hidden = _SECRET_NAME.search(name) and not name.endswith((".location", ".url"))
    if text and (hidden or (key is not None and key.type == "secret")):
        return _HIDDEN
    return _USERINFO.sub(f"{_HIDDEN}@", text)


def environment_name(key: str) -> str:
    """The environment variable that sets a property."""
    return ENVIRONMENT_PREFIX + re.sub(r"[.-]", "_", key).upper()


class _KeyTable:
    """The keys by name, with the families (``<name>``, prefixes) that one key stands for."""

    def __init__(self, keys: Iterable[ConfigKey]) -> None:
        self.exact: dict[str, ConfigKey] = {}
        self.families: list[tuple[re.Pattern[str], ConfigKey]] = []
        self.faults: list[Fault] = []
        variables: dict[str, ConfigKey] = {}
        for key in keys:
            other = self.exact.get(key.name) or variables.get(environment_name(key.name))
            if other is not None:
                also = "" if other.name == key.name else f" ({other.name} and {key.name} have one environment variable)"
                message = f"declared twice, by {other.owner} and by {key.owner}{also}; one of them must rename it"
                self.faults.append(Fault("", key.name, message))
                continue
            self.faults += _declaration_faults(key)
            self.exact[key.name] = key
            variables[environment_name(key.name)] = key
            if key.prefix or "<name>" in key.name:
                self.families.append((_family(key.name, key.prefix), key))
            if key.per_listener:
                self.families.append((_family(f"listener.name.<name>.{key.name}", False), key))
        self.variables = {variable: key.name for variable, key in variables.items() if "<" not in key.name}
        self.foreign = {variable: key.name for key in self.exact.values() for variable in reversed(key.variables)}
        """Environment variables of other programs."""
        # The longest first, so that "schema.registry.ssl." would beat "schema.registry.".
        self.families.sort(key=lambda family: -len(family[1].name))

    def find(self, name: str) -> ConfigKey | None:
        """The key of a property."""
        key = self.exact.get(name)
        if key is not None and not key.prefix and "<" not in name:
            return key
        return next((key for pattern, key in self.families if pattern.fullmatch(name)), None)

    def names(self) -> Iterator[str]:
        """The names a user may have meant."""
        return (name for name in self.exact if not name.endswith("."))

    def suggestion(self, name: str) -> str:
        """The known name nearest to an unknown one, or nothing."""
        near = difflib.get_close_matches(name, list(self.names()), 1, 0.75)
        if near:
            return near[0]
        by_lower = {known.lower(): known for known in self.names()}
        near = difflib.get_close_matches(name.lower(), by_lower, 1, 0.75)
        return by_lower[near[0]] if near else ""


_PYTHON_TYPES: Mapping[KeyType, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "long": (int,),
    "duration": (int,),
    "size": (int,),
    "float": (int, float),
    "list": (tuple,),
}


def _declaration_faults(key: ConfigKey) -> list[Fault]:
    """What is wrong with a key itself; for authors of plugins."""
    if key.prefix and not key.name.endswith("."):
        return [Fault("", key.name, f"declared by {key.owner}: the name of a prefix ends with a dot")]
    types = _PYTHON_TYPES.get(key.type, (str,))
    good = isinstance(key.default, types) and (key.type == "bool" or not isinstance(key.default, bool))
    if good and key.type != "file":
        try:
            good = key.read(key.write(key.default)) == key.default
        except ValueError:
            good = key.type == "enum" and key.default == ""
    if not good:
        return [Fault("", key.name, f"declared by {key.owner}: the default {key.default!r} is not a {key.type}")]
    return []


def _family(name: str, prefix: bool) -> re.Pattern[str]:
    pattern = re.escape(name).replace("<name>", r"[A-Za-z0-9_-]+")
    return re.compile(pattern + (r".+" if prefix else ""), re.DOTALL)


def _from_file(
    file: str | os.PathLike[str] | None, faults: list[Fault], warnings: list[str]
) -> dict[str, tuple[str, str]]:
    if file is None:
        return {}
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        faults.append(Fault(os.fspath(file), "", f"the file cannot be read: {error.strerror}"))
        return {}
    given: dict[str, tuple[str, str]] = {}
    for entry in parse_properties(decode_properties(content)):
        place = f"{os.fspath(file)}:{entry.line}"
        if not entry.key:
            faults.append(Fault(place, "", "the line has no key before '='"))
            continue
        if entry.key in given:
            warnings.append(f"{place}: {entry.key} stands also at {given[entry.key][1]}; this later line counts")
        given[entry.key] = (entry.value, place)
    return given


def _from_environment(
    env: Mapping[str, str], table: _KeyTable, faults: list[Fault], warnings: list[str]
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


def _from_java_options(env: Mapping[str, str], table: _KeyTable, warnings: list[str]) -> dict[str, tuple[str, str]]:
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


def _build(
    table: _KeyTable,
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
        if key.prefix:
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
        faults += _listener_faults(config, notes)
        config = replace(config, warnings=tuple(dict.fromkeys(notes)))
    for check in checks:
        faults += check(config)
    if faults:
        raise ConfigError(faults)
    return config


def _with_what_follows(table: _KeyTable, given: Mapping[str, tuple[str, str]]) -> Mapping[str, tuple[str, str]]:
    """The properties, with those that others imply (`ConfigKey.implies`)."""
    asked = {key.implies: None for name in given if (key := table.find(name)) is not None and key.implies is not None}
    for implies in asked:
        followed = implies({name: text for name, (text, _) in given.items()})
        given = {**given, **{name: (text, given[source][1]) for name, (text, source) in followed.items()}}
    return given


def _unknown(table: _KeyTable, name: str, place: str) -> Fault:
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
    for item in config.items("listeners"):
        try:
            listeners.append(parse_listener(item, protocols))
        except ValueError as error:
            faults.append(Fault(place, "listeners", redact("listeners", str(error))))
    faults += [Fault(place, "listeners", message) for message in clashes(listeners)]
    open_to_all = config.text("authentication.method").upper() == "NONE"
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


def check_readable(path: str) -> None:
    """Open the file and close it again.

    Raises:
        ValueError: with a message for the operator. A PEM text given in place of a file is not repeated, it is a key.
    """
    shown = "a text" if "-----" in path or "\n" in path else path[:200]
    try:
        with open(path, "rb"):
            pass
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not the name of a file"
        raise ValueError(f"{shown} cannot be read: {reason}") from None


def _range(low: float | None, high: float | None) -> str:
    if high is None:
        return f"{low} and above"
    return f"{low} to {high}"


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ",".join(str(item) for item in value)
    return str(value)
