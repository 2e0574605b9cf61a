"""What an operator can ask a running gateway for: its metrics, its log levels (observability.md §1, §3)."""

from __future__ import annotations

from collections.abc import Mapping

from kafka_gateway.config import Config
from kafka_gateway.errors import Unprocessable
from kafka_gateway.homes import OF_ALL
from kafka_gateway.logs.levels import LEVELS
from kafka_gateway.messages import NO_CONTENT, Call, Response
from kafka_gateway.metrics.joined import join_metrics
from kafka_gateway.metrics.registry import Metrics
from kafka_gateway.router import Route, described
from kafka_gateway.services.common.json_members import check_names, read_document, read_text
from kafka_gateway.services.operation.descriptions import DESCRIPTIONS, Level, Loggers


class Operation:
    """The handlers of ``/metrics``, ``/admin/loggers`` and ``/cluster``."""

    def __init__(self, config: Config, metrics: Metrics) -> None:
        self._config = config
        self._metrics = metrics

    def routes(self) -> list[Route]:
        """None where no listener is the operators' own."""
        if is_public(self._config):
            return []
        see, change, admin = "read gateway:admin", "alter gateway:admin", {"admin": True}
        routes = [
            Route("GET", "/admin/loggers", self.loggers, "operation.loggers", permission=see, extras=admin),
            Route(
                "PUT", "/admin/loggers/{name}", self.set_level, "operation.set-level", permission=change,
                takes=_read_level, body="required", extras=admin,
            ),
        ]  # fmt: skip
        if self._config.flag("cluster.enable"):
            routes.append(Route("GET", "/cluster", self.cluster, "operation.cluster", permission=see, extras=admin))
        if self._config.flag("metrics.enable"):
            told = "read gateway:metrics"
            routes.append(
                Route(
                    "GET",
                    "/metrics",
                    self.metrics,
                    "operation.metrics",
                    permission=told,
                    extras=admin | {OF_ALL: join_metrics},
                )
            )
        return described(routes, DESCRIPTIONS, {"name": "Name of a logger, such as gateway.kafka; root for all."})

    async def metrics(self, call: Call) -> Response:
        """``GET /metrics``"""
        body, media_type = await self._metrics.render(call.request.headers.get("accept"))
        return Response(body, media_type=media_type)

    async def cluster(self, call: Call) -> Response:
        """``GET /cluster?group=<group>&instance=<name>``"""
        assert call.homes is not None  # a node of a cluster has them
        group, name = call.query.get("group"), call.query.get("instance")
        told = call.homes.told(*((group, name) if group is not None and name is not None else ()))
        return Response(told)

    async def loggers(self, call: Call) -> Response:
        """``GET /admin/loggers``: every logger with the level that counts for it."""
        return Response(Loggers(LEVELS.shown()))

    async def set_level(self, call: Call) -> Response:
        """``PUT /admin/loggers/{name}`` with ``{"level": "DEBUG"}``: until the next start or SIGHUP."""
        known: Mapping[str, str] = LEVELS.shown()
        name = str(call.params["name"])
        if name not in known:
            raise Unprocessable(f"There is no logger {name[:80]!r}; GET /admin/loggers lists them.")
        try:
            LEVELS.set(name, call.body.level)
        except ValueError as error:
            raise Unprocessable(f"level: {error}") from None
        return NO_CONTENT


def _read_level(body: bytes, _: object) -> Level:
    """BadRequest for what is no JSON object; Unprocessable for other members, or none."""
    members = read_document(body) or {}
    check_names(members, ("level",))
    level = read_text(members["level"], "level") if "level" in members else None
    if level is None:
        raise Unprocessable('The body names a level: {"level": "DEBUG"}.')
    return Level(level)


def is_public(config: Config) -> bool:
    """Whether a client on another machine can reach every listener that there is, whatever it has to prove there: then
    none is the operators' (security.md §6)."""
    if config.items("admin.listeners"):  # `Gateway.dispatch` keeps it to them
        return False
    return not all(listener.loopback for listener in config.listeners())
