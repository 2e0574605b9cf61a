"""The addresses of the brokers, and TLS, for parts of the gateway that speak Kafka's protocol: from the properties of
all clients."""

from __future__ import annotations

import ssl

from kafka_gateway.addresses import split_address
from kafka_gateway.config import Config, ConfigError, Fault
from kafka_gateway.kafka.admin.admin import KafkaAdmin
from kafka_gateway.kafka.admin.own_token import OwnToken
from kafka_gateway.kafka.clients.probe import tls_context
from kafka_gateway.kafka.clients.properties import client_properties
from kafka_gateway.upstream import Sasl, Upstream
from kafka_gateway.wire.sasl import BEARER


def upstream(config: Config, bootstrap: str, admin: KafkaAdmin) -> Upstream:
    """The `Upstream` of ``bootstrap.servers``, ``client.`` and ``admin.``, with the gateway's own login.

    Args:
        bootstrap: where the embedded Kafka listens; "" if there is none.
    Raises:
        ConfigError: an address or a file cannot be used.
    """
    addresses, tls = way(config, bootstrap)
    settings = client_properties(config, "admin")
    sasl = None
    if settings.get("security.protocol", "").lower().startswith("sasl"):
        mechanism = settings.get("sasl.mechanism", "").upper()
        sasl = Sasl(mechanism, settings.get("sasl.username", ""), settings.get("sasl.password", ""))
        if mechanism == BEARER and OwnToken.is_possible(settings):
            try:
                own = OwnToken(settings)
            except OSError as error:
                raise ConfigError(
                    [Fault("", "client.https.ca.*", f"cannot be used: {error.strerror or error}")]
                ) from None
            extensions = settings.get("sasl.oauthbearer.extensions", "")
            sasl = Sasl(mechanism, "", "", own.token, own.renew, extensions)
    return Upstream(addresses, tls, sasl, admin.cluster)


def way(config: Config, bootstrap: str) -> tuple[tuple[tuple[str, int], ...], ssl.SSLContext | None]:
    """Hosts and ports to begin with, and TLS if the brokers speak it. Arguments and errors as for `upstream`."""
    settings = client_properties(config, "admin")
    protocol = settings.get("security.protocol", "plaintext").lower()
    servers = bootstrap.split(",") if bootstrap else config.items("bootstrap.servers")
    try:
        tls = tls_context(settings) if protocol.endswith("ssl") else None
    except OSError as error:
        raise ConfigError([Fault("", "client.ssl.*", f"cannot be used: {error.strerror or error}")]) from None
    try:
        addresses = tuple(split_address(server) for server in servers)
    except ValueError as error:
        raise ConfigError([Fault(config.place("bootstrap.servers"), "bootstrap.servers", str(error))]) from None
    return addresses, tls
