"""What an operator asks the running gateway for: its metrics (observability.md §1)."""

from __future__ import annotations

from kafka_gateway.config import Config
from kafka_gateway.description import described
from kafka_gateway.messages import Call, Response
from kafka_gateway.metrics.registry import Metrics
from kafka_gateway.router import Route
from kafka_gateway.services.operation.descriptions import DESCRIPTIONS


class Operation:
    """The handlers of ``/metrics``."""

    def __init__(self, config: Config, metrics: Metrics) -> None:
        self._config = config
        self._metrics = metrics

    def routes(self) -> list[Route]:
        """None where the metrics would be told to everybody who reaches the gateway from elsewhere."""
        if not self._config.flag("metrics.enable") or is_public(self._config):
            return []
        routes = [Route("GET", "/metrics", self.metrics, "operation.metrics", permission="read gateway:metrics",
                        extras={"admin": True})]  # fmt: skip
        return described(routes, DESCRIPTIONS)

    async def metrics(self, call: Call) -> Response:
        """``GET /metrics``"""
        body, media_type = await self._metrics.render(call.request.headers.get("accept"))
        return Response(body, media_type=media_type)


def is_public(config: Config) -> bool:
    """Whether somebody on another machine, who proves nothing, reaches an ordinary listener."""
    if config.asks_who or config.items("admin.listeners"):  # `Gateway.dispatch` keeps it to the latter
        return False
    return not all(listener.loopback for listener in config.listeners())
