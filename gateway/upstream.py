"""Kafka for a transport that speaks Kafka's own protocol: where the brokers are, and how to connect to them.

A transport gets it by calling ``gateway.state[Upstream]``. It is made of the operator's configuration alone; nothing
that a client says ever becomes an address here.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Broker:
    node: int
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Sasl:
    """Credentials for the brokers, the gateway's own or a client's; ``mechanism`` in capitals."""

    mechanism: str
    username: str = field(repr=False)
    password: str = field(repr=False)
    """With OAUTHBEARER the token, unless ``token`` is there."""
    token: Callable[[], str] | None = field(default=None, repr=False, compare=False)
    """The newest token, for a client that renews its own."""
    renew: Callable[[], Awaitable[None]] | None = field(default=None, repr=False, compare=False)
    """To be awaited before ``secret`` is used, for a token that the gateway fetches itself."""

    extensions: str = field(default="", repr=False)
    """What goes with a token: ``name=value,name=value``."""

    @property
    def secret(self) -> str:
        """The password or token that is valid now."""
        return self.token() if self.token is not None else self.password


@dataclass(frozen=True, slots=True)
class Upstream:
    """``servers`` are host and port of each bootstrap server. ``tls`` and ``sasl`` are None where there is none."""

    servers: tuple[tuple[str, int], ...]
    tls: ssl.SSLContext | None
    sasl: Sasl | None
    cluster: Callable[[], Awaitable[tuple[str, tuple[Broker, ...]]]]
    """Asks Kafka: the cluster's id and its brokers of now. ServiceError if Kafka does not say."""
