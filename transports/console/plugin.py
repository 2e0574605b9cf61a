"""The built-in plugin ``console``: the console page, and the page at ``/``."""

from __future__ import annotations

from kafka_gateway.config import Config
from kafka_gateway.transport import Transport, hookimpl


@hookimpl
def gateway_transports(config: Config) -> list[Transport]:
    """The console only with ``console.enabled``: true, or auto with the embedded Kafka."""
    from kafka_gateway.transports.console.start_page import StartPage
    from kafka_gateway.transports.console.transport import ConsoleTransport

    wanted = config.text("console.enabled").lower()
    enabled = wanted == "true" or (wanted == "auto" and not config.items("bootstrap.servers"))
    start = StartPage(enabled)
    return [start, ConsoleTransport()] if enabled else [start]
