"""How many sockets a client may have, and how fast they may be: as configured, or as changed at run time
(websocket-proxy.md §1.8.1, §4.7, §5.4).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from kafka_gateway import jsonio
from kafka_gateway.config import Config, ConfigError, Fault
from kafka_gateway.errors import ServiceError

Side = Literal["consumer", "producer"]

DEFAULT = "__DEFAULT__"
ID_NAMES: Mapping[Side, str] = {"consumer": "group-id", "producer": "producer-id"}
_INT_MAX = 2**31 - 1
_KEY = "kafka.ws.proxy."


@dataclasses.dataclass(frozen=True, slots=True)
class ClientLimits:
    """The limits of a consumer group or a producer. None: not given; 0: no limit."""

    side: Side
    id: str
    most: int | None = None
    rate: int | None = None
    batch_size: int | None = None

    def document(self) -> dict[str, Any]:
        """Its JSON: members by name, without those that are not given."""
        members = {
            "batch-size": self.batch_size if self.side == "consumer" else None,
            ID_NAMES[self.side]: self.id,
            "max-connections": self.most,
            "messages-per-second": self.rate,
        }
        return {name: value for name, value in sorted(members.items()) if value is not None}


class _Document(jsonio.Struct, rename="kebab"):
    group_id: str | None = None
    producer_id: str | None = None
    max_connections: int | None = None
    messages_per_second: int | None = None
    batch_size: int | None = None


_decoder = jsonio.Decoder(_Document)
_FLAT = re.compile(r'\s*"?([A-Za-z-]+)"?\s*[=:]\s*(?:"([^"]*)"|([^,"{}\s][^,"{}]*?))\s*(?:,|$)')


def read_limits(side: Side, text: bytes) -> ClientLimits:
    """A limits object as clients send it. ValueError if it is none of this side."""
    return _limits(side, jsonio.decode(text, _decoder))


def read_record(key: str, value: bytes) -> ClientLimits:
    """A record of the topic: JSON, or the flat ``name=value,name=value`` that others write. ValueError if neither."""
    kind, _, _ = key.partition("-")
    side: Side = "consumer" if kind == "consumer" else "producer"
    try:
        found = _decoder.decode(value)
    except (ValueError, RecursionError):
        found = _decoder.decode(jsonio.encode(_flat(value.decode())))
    limits = _limits(side, found)
    if record_key(limits.side, limits.id) != key:
        raise ValueError("its key is that of another client")
    return limits


def record_key(side: Side, client: str) -> str:
    return f"{side}-{client}"


def _flat(text: str) -> dict[str, Any]:
    text = text.strip()
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1]
    members: dict[str, Any] = {}
    position = 0
    while position < len(text):
        found = _FLAT.match(text, position)
        if found is None or found.end() == position:
            raise ValueError("neither JSON nor name=value")
        quoted, plain = found[2], found[3]
        name = found[1]
        number = plain is not None and re.fullmatch(r"-?[0-9]{1,10}", plain.strip()) and not name.endswith("-id")
        members[name] = int(plain) if number else quoted if quoted is not None else plain.strip()
        position = found.end()
    return members


def _limits(side: Side, found: _Document) -> ClientLimits:
    given: Side = "consumer" if found.group_id is not None else "producer"
    client = found.group_id if given == "consumer" else found.producer_id
    if client is None or given != side:
        raise ValueError(f"no {ID_NAMES[side]}")
    for number in (found.max_connections, found.messages_per_second, found.batch_size):
        if number is not None and not 0 <= number <= _INT_MAX:
            raise ValueError(f"{number} is not 0 to {_INT_MAX}")
    batch_size = found.batch_size if side == "consumer" else None
    return ClientLimits(side, client, found.max_connections, found.messages_per_second, batch_size)


class Limits:
    """The limits that apply: those changed at run time, else those configured for the client, else the defaults."""

    def __init__(self, config: Config) -> None:
        """ConfigError for faulty lists of limits."""
        self.defaults: dict[Side, ClientLimits] = {
            side: ClientLimits(
                side,
                DEFAULT,
                config.integer(f"{_KEY}{side}.limits.default-max-connections-per-client"),
                config.integer(f"{_KEY}{side}.limits.default-messages-per-second"),
                config.integer(_KEY + "consumer.limits.default-batch-size") if side == "consumer" else None,
            )
            for side in ("consumer", "producer")
        }
        self.static: dict[Side, dict[str, ClientLimits]] = {
            "consumer": _configured(config, "consumer"),
            "producer": _configured(config, "producer"),
        }
        self.dynamic: dict[Side, dict[str, ClientLimits]] = {"consumer": {}, "producer": {}}

    def find(self, side: Side, client: str) -> ClientLimits | None:
        """The limits given for this client, or the defaults by their name; None if there are none."""
        if client == DEFAULT and client not in self.dynamic[side]:
            return self.defaults[side]
        return self.dynamic[side].get(client) or self.static[side].get(client)

    def of(self, side: Side, client: str) -> ClientLimits:
        """The limits of a socket that is opened now; every number is given."""
        layers = [
            each
            for each in (self.dynamic[side].get(client), self.static[side].get(client), self.defaults[side])
            if each is not None
        ]
        return ClientLimits(
            side,
            client,
            _first(each.most for each in layers),
            _first(each.rate for each in layers),
            _first(each.batch_size for each in layers),
        )


def _first(numbers: Iterable[int | None]) -> int:
    return next((number for number in numbers if number is not None), 0)


def _configured(config: Config, side: Side) -> dict[str, ClientLimits]:
    prefix = f"{_KEY}{side}.limits.client-specific-limits."
    entries: dict[int, dict[str, Any]] = {}
    for name, text in config.under(prefix).items():  # their keys have judged names and numbers
        number, _, member = name.partition(".")
        entries.setdefault(int(number), {})[member] = text if member == ID_NAMES[side] else int(text)
    found: dict[str, ClientLimits] = {}
    faults = []
    for index, members in sorted(entries.items()):
        try:
            limits = read_limits(side, jsonio.encode(members))
        except (ValueError, ServiceError) as error:
            place = next(config.place(f"{prefix}{index}.{member}") for member in members)
            faults.append(Fault(place, f"{prefix}{index}", str(error)))
            continue
        found[limits.id] = limits
    if faults:
        raise ConfigError(faults)
    return found
