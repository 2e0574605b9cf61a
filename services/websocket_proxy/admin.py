"""Kafka WebSocket Proxy's admin resources, and the plain ones beside its sockets (websocket-proxy.md §1.4, §1.8)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Annotated, Any, TypeVar

from kafka_gateway import jsonio, media
from kafka_gateway.errors import BadRequest, GroupActive, ServiceError
from kafka_gateway.kafka.ports.admin import Admin, GroupInfo
from kafka_gateway.kafka.ports.topics import PartitionOffset
from kafka_gateway.kafka_errors import KafkaAuthentication, KafkaAuthorization, KafkaError
from kafka_gateway.messages import Call, Response
from kafka_gateway.metrics.registry import TEXT
from kafka_gateway.rights import OPEN
from kafka_gateway.router import Route
from kafka_gateway.services.websocket_proxy.avro_schemas import SCHEMAS
from kafka_gateway.services.websocket_proxy.control import ProxyControl
from kafka_gateway.services.websocket_proxy.limits import DEFAULT, ClientLimits, Side, read_limits
from kafka_gateway.services.websocket_proxy.pretty_json import pretty

T = TypeVar("T")

PUBLIC_AREA = "websocket-proxy"
ADMIN_AREA = "websocket-proxy-admin"
METRICS_AREA = "websocket-proxy-metrics"

# The rights that the routes need (security.md §3): for groups those that Kafka asks for.
_METRICS = "read gateway:metrics"
_DESCRIBE = "describe group:{group}"
_ALTER = "read group:{group}; read topic:{topic}"
_DELETE = "delete group:{group}"
_DELETE_TOPIC = f"{_DELETE}; read topic:{{topic}}"

_HEALTHY = b"""{ "response": "I'm healthy" }"""
_ACTIVE = frozenset({"STABLE", "PREPARING_REBALANCE", "COMPLETING_REBALANCE"})
_INTERNAL = ("_", "ws-proxy-session-consumer", "ws-proxy-dynamic-config-handler-consumer")
_WORDS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}

_EMPTY = Response(b"")
_UNKNOWN = Response(b"", 404)
_DISABLED = Response(b"", 405)
"""Dynamic configuration is off (§1.8)."""


class _Offset(jsonio.Struct):
    topic: str
    partition: Annotated[int, jsonio.Meta(ge=0, le=2**31 - 1)]
    offset: Annotated[int, jsonio.Meta(ge=0, le=2**63 - 1)]
    metadata: str | None = None


_offsets = jsonio.Decoder(list[_Offset])


class ProxyAdmin:
    """The handlers. ``control`` has the limits and the metrics."""

    def __init__(self, control: ProxyControl, admin: Admin) -> None:
        self._control = control
        self._admin = admin

    def routes(self) -> list[Route]:
        """The routes, each in the area of its listener."""

        def route(
            area: str, method: str, path: str, handler: Callable[..., Any], name: str, permission: str = ""
        ) -> Route:
            return Route(
                method,
                path,
                handler,
                f"proxy.{name}",
                area=area,
                permission=permission or ("read gateway:admin" if method == "GET" else "alter gateway:admin"),
                produces=media.plain_json(),
                body="optional",
                service=self._control,
            )

        public, admin = partial(route, PUBLIC_AREA), partial(route, ADMIN_AREA)
        routes = [
            public("GET", "/healthcheck", self.healthcheck, "healthcheck", OPEN),
            public("GET", "/kafka/cluster/info", self.brokers, "cluster.info", "describe cluster"),
            *(
                public("GET", path, partial(self.schema, schema), path.strip("/").replace("/", "."), OPEN)
                for path, schema in SCHEMAS.items()
            ),
            admin("GET", "/admin/kafka/info", self.brokers, "cluster.admin-info", "describe cluster"),
            admin("GET", "/metrics", self.metrics, "metrics", _METRICS),
            route(METRICS_AREA, "GET", "/metrics", self.metrics, "metrics.exporter", _METRICS),
            admin("GET", "/admin/client/config", self.all_limits, "limits.all"),
            admin("DELETE", "/admin/client/config", self.clear_limits, "limits.clear"),
        ]
        sides: tuple[Side, ...] = ("consumer", "producer")
        for side in sides:
            base = f"/admin/client/config/{side}"
            routes += [
                admin("POST", base, partial(self.put_limits, side, False), f"limits.{side}.post"),
                admin("GET", base + "/{id}", partial(self.get_limits, side), f"limits.{side}.get"),
                admin("POST", base + "/{id}", partial(self.put_limits, side, False), f"limits.{side}.post-id"),
                admin("PUT", base + "/{id}", partial(self.put_limits, side, True), f"limits.{side}.put"),
                admin("DELETE", base + "/{id}", partial(self.delete_limits, side), f"limits.{side}.delete"),
            ]
        group = "/admin/consumer-group/{group}"
        return [
            *routes,
            admin("GET", "/admin/consumer-group/all", self.groups, "groups.all", "describe group"),
            admin("GET", group + "/describe", self.describe_group, "groups.describe", _DESCRIBE),
            admin("GET", group + "/offsets", self.offsets, "groups.offsets", _DESCRIBE),
            admin("PUT", group + "/offsets/alter/{topic}", self.alter_offsets, "groups.alter", _ALTER),
            admin(
                "DELETE",
                group + "/offsets/delete/{topic}",
                self.delete_offsets,
                "groups.delete-topic",
                _DELETE_TOPIC,
            ),
            admin("DELETE", group + "/offsets", self.delete_offsets, "groups.delete", _DELETE),
        ]

    # --- the cluster ------------------------------------------------------------------------------------------------

    async def healthcheck(self, call: Call) -> Response:
        """200 for as long as the process answers; Kafka is not asked."""
        return Response(_HEALTHY)

    async def schema(self, schema: Mapping[str, Any], call: Call) -> Response:
        """``GET /schemas/avro/…``: the schema of a message."""
        return Response(pretty(schema))

    async def brokers(self, call: Call) -> Response:
        nodes = await _plainly(self._admin.nodes())
        return Response(
            pretty([{"id": each.id, "host": each.host, "port": each.port, "rack": each.rack} for each in nodes])
        )

    async def metrics(self, call: Call) -> Response:
        return Response(await self._control.metrics.text(), media_type=TEXT)

    # --- limits of clients ------------------------------------------------------------------------------------------

    async def all_limits(self, call: Call) -> Response:
        limits = self._control.limits

        def both(side: Side) -> dict[str, Any]:
            fixed = [limits.defaults[side], *limits.static[side].values()]
            return {
                "static": [each.document() for each in fixed],
                "dynamic": [each.document() for each in limits.dynamic[side].values()],
            }

        return Response(pretty({"consumers": both("consumer"), "producers": both("producer")}))

    async def clear_limits(self, call: Call) -> Response:
        if self._control.dynamic is None:
            return _DISABLED
        await _plainly(self._control.dynamic.clear())
        return _EMPTY

    async def get_limits(self, side: Side, call: Call) -> Response:
        found = self._control.limits.find(side, call.params["id"])
        return _UNKNOWN if found is None else Response(jsonio.encode(found.document()))

    async def put_limits(self, side: Side, existing: bool, call: Call) -> Response:
        """Inserts or replaces; with ``existing`` it only replaces. The id of the body counts, not that of the path."""
        if self._control.dynamic is None:
            return _DISABLED
        limits = _limits_of(side, call.body)
        if existing and limits.id not in self._control.limits.dynamic[side]:
            return _UNKNOWN
        await _plainly(self._control.dynamic.save(limits))
        return _EMPTY

    async def delete_limits(self, side: Side, call: Call) -> Response:
        if self._control.dynamic is None:
            return _DISABLED
        return _EMPTY if await _plainly(self._control.dynamic.remove(side, call.params["id"])) else _UNKNOWN

    # --- consumer groups --------------------------------------------------------------------------------------------

    async def groups(self, call: Call) -> Response:
        active, internal = _flag(call, "activeOnly"), _flag(call, "includeInternals")
        groups = await _plainly(self._admin.groups())
        shown = set(call.session.rights.filter("describe", "group", [each.name for each in groups]))
        found = [
            {"groupId": each.name, "isSimple": each.simple, "state": each.state, "members": []}
            for each in groups
            if each.name in shown
            and (internal or not each.name.startswith(_INTERNAL))
            and (not active or each.state in _ACTIVE)
        ]
        return Response(pretty(found))

    async def describe_group(self, call: Call) -> Response:
        (found,) = await _plainly(self._admin.describe_groups([call.params["group"]]))
        return Response(pretty(_group(found)))

    async def offsets(self, call: Call) -> Response:
        found = await self._offsets_shown(call)
        return Response(pretty(_offset_documents(found))) if found else _UNKNOWN

    async def _offsets_shown(self, call: Call) -> list[PartitionOffset]:
        """The group's offsets, of topics that the client may know of."""
        found = await _plainly(self._admin.group_offsets(call.params["group"]))
        topics = set(call.session.rights.filter("describe", "topic", dict.fromkeys(each.topic for each in found)))
        return [each for each in found if each.topic in topics]

    async def alter_offsets(self, call: Call) -> Response:
        group = call.params["group"]
        try:
            wanted = jsonio.decode(call.body or b"", _offsets)
        except ValueError as error:
            raise BadRequest(str(error)) from None
        call.require("read", "topic", *dict.fromkeys(each.topic for each in wanted))
        places = [PartitionOffset(each.topic, each.partition, each.offset, each.metadata or "") for each in wanted]
        if any("\0" in each.metadata for each in places):
            raise BadRequest("metadata holds the character U+0000.")
        if places:
            await _plainly(self._admin.alter_group_offsets(group, places))
        return Response(pretty(_offset_documents(await self._offsets_shown(call))))

    async def delete_offsets(self, call: Call) -> Response:
        await _plainly(self._admin.delete_group_offsets(call.params["group"], call.params.get("topic")))
        return _EMPTY


def _limits_of(side: Side, body: bytes | None) -> ClientLimits:
    try:
        limits = read_limits(side, body or b"")
    except (ValueError, ServiceError):
        raise BadRequest(f"Invalid JSON for {side} config.") from None
    if limits.id == DEFAULT:
        raise BadRequest(f"{DEFAULT} names the defaults, which are configured.")
    return limits


def _group(found: GroupInfo) -> dict[str, Any]:
    return {
        "groupId": found.name,
        "isSimple": found.simple,
        "state": found.state,
        "partitionAssignor": found.assignor,
        "members": list(found.members),
    }


def _offset_documents(found: list[PartitionOffset]) -> list[dict[str, Any]]:
    return [
        {
            "topic": each.topic,
            "partition": each.partition,
            "offset": each.offset,
            "metadata": each.metadata if each.metadata.strip() else None,
        }
        for each in found
    ]


def _flag(call: Call, name: str) -> bool:
    text = call.query.get(name, "")
    if not text:
        return False
    value = _WORDS.get(text.lower())
    if value is None:
        raise BadRequest(f"'{text[:80]}' is not a valid Boolean value")
    return value


class _KafkaFailed(ServiceError):
    """A failure of Kafka's: 500 with its text (§1.2)."""

    help = KafkaError.help


async def _plainly(work: Awaitable[T]) -> T:
    """Kafka's answer. A refusal has the status that clients of this protocol know: 401, 403 or 412, else 500."""
    try:
        return await work
    except (KafkaAuthentication, KafkaAuthorization, GroupActive):
        raise
    except ServiceError as error:
        raise _KafkaFailed(error.message) from error
