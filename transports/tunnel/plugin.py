"""The built-in plugin ``tunnel``: Kafka's own protocol through a WebSocket."""

from __future__ import annotations

from kafka_gateway.config import Config, ConfigKey
from kafka_gateway.transport import Transport, hookimpl
from kafka_gateway.transports.tunnel.keys import TUNNEL


@hookimpl
def gateway_config_keys() -> list[ConfigKey]:
    return list(TUNNEL)


@hookimpl
def gateway_transports(config: Config) -> list[Transport]:
    """None unless ``tunnel.enable``. ConfigError: its settings contradict each other."""
    if not config.flag("tunnel.enable"):
        return []
    from kafka_gateway.transports.tunnel.endpoint import TunnelTransport, check

    check(config)
    return [TunnelTransport(config)]
