"""Whether the embedded Kafka may be used: only if no setting speaks of production.

It keeps records in memory and confirms every one of them. A deployment that has lost its ``bootstrap.servers``, by an
empty variable of a container for example, must not start with it, ready and empty.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from kafka_gateway.config import Config, Fault

_KEY = "bootstrap.servers"
_ROLES = ("client.", "producer.", "consumer.", "admin.")


def embedded_faults(config: Config) -> list[Fault]:
    """What speaks against the embedded Kafka, as one fault, where ``bootstrap.servers`` names no broker; a check for
    `gateway.config.load`."""
    if config.items(_KEY):
        return []
    choice = config.text("embedded.enable")
    if choice == "true":
        return []
    reasons = ["embedded.enable is false"] if choice == "false" else list(dict.fromkeys(_signs_of_production(config)))
    if not reasons:
        return []
    message = (
        f"names no broker, and {', '.join(reasons)}: the Kafka embedded in the gateway is for trying out and loses all"
        " records when it stops. Set bootstrap.servers, or embedded.enable=true if that is what you want"
    )
    return [Fault(config.place(_KEY), _KEY, message)]


def _signs_of_production(config: Config) -> Iterator[str]:
    if config.given(_KEY):
        yield "it is given, but empty"
    if config.given("zookeeper.connect"):  # how version 1 of Confluent's proxy found its Kafka
        yield "zookeeper.connect is set"
    if config.asks_who:
        yield f"authentication.method is {','.join(config.items('authentication.method'))}"
    with contextlib.suppress(ValueError):  # a listener that cannot be read is a fault of its own
        yield from _of_listeners(config)
    for name in config.places:
        own = next((name.removeprefix(role) for role in _ROLES if name.startswith(role)), "")
        if name.startswith("ssl.") or own.startswith(("ssl.", "sasl.", "security.protocol")):
            yield f"{name} is set"
            return


def _of_listeners(config: Config) -> Iterator[str]:
    for listener in config.listeners():
        if not listener.loopback:
            yield f"{listener} is open beyond this machine"
        if listener.tls:
            yield f"{listener} has TLS"
