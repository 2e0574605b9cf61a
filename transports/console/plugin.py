"""The built-in plugin ``console``: the console page and what it asks for, and the page at ``/``."""

from __future__ import annotations

from collections.abc import Sequence

from kafka_gateway import media
from kafka_gateway.config import Config
from kafka_gateway.description import Description, Parameter
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.router import Route
from kafka_gateway.transport import Transport, hookimpl


@hookimpl
def gateway_transports(config: Config) -> list[Transport]:
    """The console only with ``console.enabled``: true, or auto with the embedded Kafka."""
    from kafka_gateway.transports.console.start_page import StartPage
    from kafka_gateway.transports.console.transport import ConsoleTransport

    start = StartPage(_enabled(config))
    return [start, ConsoleTransport(config)] if _enabled(config) else [start]


@hookimpl
def gateway_routes(config: Config, kafka: Kafka) -> Sequence[Route]:
    from kafka_gateway.services.common.log_ends import LogEnds

    if not _enabled(config):
        return []
    handler = LogEnds(kafka.admin).ends
    needs, produces = "read gateway:console", media.plain_json()
    told = Description(
        "Ends of the logs of topics, by partition",
        tag="Pages",
        replies={200: dict[str, dict[str, int]]},
        parameters=(Parameter("topics", "Names of topics, with commas between."),),
    )
    return [
        Route("GET", "/console/ends", handler, "console.ends", permission=needs, produces=produces, description=told)
    ]


def _enabled(config: Config) -> bool:
    wanted = config.text("console.enabled").lower()
    return wanted == "true" or (wanted == "auto" and not config.items("bootstrap.servers"))
