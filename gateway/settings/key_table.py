"""All keys by name, with the families that one key stands for, and what is wrong with their declarations."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator

from kafka_gateway.settings.declaration import PYTHON_TYPES, ConfigKey, Fault

ENVIRONMENT_PREFIX = "KAFKA_GATEWAY_"
"""``KAFKA_GATEWAY_CONSUMER_REQUEST_TIMEOUT_MS`` sets ``consumer.request.timeout.ms``."""


def environment_name(key: str) -> str:
    """The environment variable that sets a property."""
    return ENVIRONMENT_PREFIX + re.sub(r"[.-]", "_", key).upper()


class KeyTable:
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
            self.faults += declaration_faults(key)
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


def declaration_faults(key: ConfigKey) -> list[Fault]:
    """What is wrong with a key itself; for authors of plugins."""
    if key.prefix and not key.name.endswith("."):
        return [Fault("", key.name, f"declared by {key.owner}: the name of a prefix ends with a dot")]
    types = PYTHON_TYPES.get(key.type, (str,))
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
