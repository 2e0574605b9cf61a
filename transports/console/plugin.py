"""The built-in plugin ``console``: the console page."""

from __future__ import annotations

from kafka_gateway.config import Config
from kafka_gateway.transport import Transport, hookimpl


@hookimpl
def gateway_transports(config: Config) -> list[Transport]:
    """None unless ``console.enabled``: true, or auto with the embedded Kafka."""
    from kafka_gateway.transports.console.transport import ConsoleTransport

    wanted = config.text("console.enabled").lower()
    enabled = wanted == "true" or (wanted == "auto" and not config.items("bootstrap.servers"))
    return [ConsoleTransport()] if enabled else []
