"""What is known of a request before its body is looked at: route, parameters, media types, what it needs and costs.

It is worked out once for each spelling of method, path, Accept and Content-Type, and remembered: on the way of the next
such request it costs one dictionary lookup. A § means kafka-rest-http.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from kafka_gateway import media
from kafka_gateway.codec import Codec
from kafka_gateway.config import Config
from kafka_gateway.door.admission import NO_DEMAND, Demand, demand_of
from kafka_gateway.errors import NotAcceptable, NotFound, ServiceError
from kafka_gateway.forwarding import Join
from kafka_gateway.generations import can_mean, classify
from kafka_gateway.homes import OF_ALL
from kafka_gateway.limits import Limits, is_for_operators
from kafka_gateway.messages import Reply, Request
from kafka_gateway.own_names import own_refusal
from kafka_gateway.replies import Replies
from kafka_gateway.route_traits import may_wait
from kafka_gateway.router import Match, Route, Router

_REMEMBERED_MAX = 4096
_KEY_MAX = 1024
"""Characters of a remembered spelling: hostile clients must not fill the memory with long ones."""

PlanKey = tuple[str, str, str | None, str | None, bool, str, str]
"""Method, path, Accept, Content-Type, whether there is a body, the generation of requests that do not tell, area."""


@dataclasses.dataclass(slots=True)
class Plan:
    """What is done with a request of one spelling."""

    route: Route
    params: Mapping[str, Any]
    media_type: str
    """Of the reply."""
    format: str
    """The embedded format of the body, or of a read's reply; "" for none."""
    codec: Codec | None
    cost: int
    """Permits of the rate limit."""
    prepares: bool
    """Whether ``takes`` wants the parameters of path and query, and may answer a Preparing."""
    demand: Demand = NO_DEMAND
    waits: bool = False
    """Whether its reply may be long in coming, because it waits for records."""
    epoch: int = 0
    """`Plans.epoch` when it was made: in a later one it may be wrong."""
    join: Join | None = None
    """How the replies of all workers become one (`gateway.homes.OF_ALL`)."""
    admin: bool = False
    """Whether the resource is for operators: of listeners it is offered by those of ``admin.listeners``."""


class Plans:
    """The plans of one gateway."""

    def __init__(
        self, config: Config, router: Router, codecs: Mapping[str, Codec], limits: Limits, replies: Replies
    ) -> None:
        self._router = router
        self._codecs = codecs
        self._limits = limits
        self._replies = replies
        self._default_generation = config.text("api.default.generation")
        self._operators_apart = bool(config.items("admin.listeners"))
        self.known: dict[PlanKey, Plan] = {}
        self.epoch = 0
        """Grows when plans that were made before count no more."""

    def forget(self) -> None:
        """Forgets all plans, because what they are made from has changed."""
        self.known.clear()
        self.epoch += 1

    def make(self, request: Request, key: PlanKey) -> Plan | Reply:
        """The plan for a request that is not ``known`` yet, or the reply where that needs none (OPTIONS).

        Raises ServiceError: NotFound, MethodNotAllowed, BadRequest, NotAcceptable, UnsupportedMediaType, and
        KafkaAuthorization for what is the gateway's own in Kafka.
        """
        method, path, accept, content_type, has_body, default, area = key
        try:
            match = self._router.match(method, path, area)
        except NotFound as error:
            if area:
                raise
            nearest = self._router.nearest(method, path)
            if not nearest:
                raise
            route, _ = self._choose(Match(nearest, {}), method, accept, content_type, default)
            near = self._negotiated(route, {}, accept, content_type, has_body)
            error.with_help("Give a whole number of 32 bits, from 0 on, where the path of this route has one.")
            return self._replies.render_error(request, error, near.media_type)
        if not match.routes:
            return Reply(200, "", b"", (("Allow", ", ".join(match.allow)),))
        route, remember = self._choose(match, method, accept, content_type, default)
        plan = self._negotiated(route, match.params, accept, content_type, has_body)
        plan.waits, plan.epoch = may_wait(route), self.epoch
        plan.join = route.extras.get(OF_ALL)
        plan.admin = is_for_operators(route, self._operators_apart)
        plan.demand = demand_of(route, match.params, plan.media_type)
        for operation, resource, name in plan.demand.needs:
            # The refusal of single records is told by the services, in the row of the record.
            is_of_records = resource == "topic" and operation in ("read", "write")
            if not is_of_records and (own := own_refusal(resource, (name,), operation)) is not None:
                raise own
        if remember and len(path) + len(accept or "") + len(content_type or "") <= _KEY_MAX:
            if len(self.known) >= _REMEMBERED_MAX:
                self.known.clear()
            self.known[key] = plan
        return plan

    def meant(self, request: Request) -> Plan | None:
        """The plan, as far as it is known here, for a request that another process was to answer and did not: its error
        is one of the route. None: of no route."""
        headers = request.headers
        accept, content_type = headers.get("accept"), headers.get("content-type")
        has_body = request.body not in (None, b"")
        key = request.method, request.path, accept, content_type, has_body, request.default_generation, request.area
        try:
            made = self.make(request, key)
        except ServiceError:  # the request has another fault, which whoever answers it will tell
            return None
        return made if isinstance(made, Plan) else None

    def _negotiated(
        self, route: Route, params: Mapping[str, Any], accept: str | None, content_type: str | None, has_body: bool
    ) -> Plan:
        """What the headers say of a request to this route (§3.3)."""
        format_, codec = "", None
        if route.consumes is not None:  # before the response: a broken or foreign type is refused whatever is accepted
            format_ = route.consumes.select(content_type, has_body).format
        media_type = _response_type(route, accept)
        if not format_ and route.extras.get("reads"):
            format_ = media.read_format(media_type)
        if format_:
            codec = self._codecs.get(format_)
        name = route.extras.get("names", {}).get(format_, route.name)
        self._limits.check_offered(name, route)
        prepares = bool(getattr(route.takes, "prepares", False))
        return Plan(route, params, media_type, format_, codec, self._limits.cost(name, route), prepares)

    def _choose(
        self, match: Match, method: str, accept: str | None, content_type: str | None, default: str
    ) -> tuple[Route, bool]:
        """The route among the generations that share the path, and whether the same request always gets it (§3.1)."""
        routes = match.routes
        if len(routes) == 1:
            return next(iter(routes.values())), True
        default = default or self._default_generation
        group, instance = match.params.get("group"), match.params.get("instance")
        about_instance = group is not None and instance is not None
        if about_instance:
            # The generation of the instance says more than headers that a client sends with all of its requests.
            for service in {route.service for route in routes.values() if route.service is not None}:
                own = routes.get(service.generation_of(str(group), str(instance)) or "")
                if own is None:
                    continue
                if can_mean(own.generation, own.produces, accept, content_type):
                    return own, False
                others = [route for route in routes.values() if route is not own]
                if len(others) == 1:
                    return others[0], False
        return routes[classify(method, accept, content_type, default, routes.keys())], not about_instance


def _response_type(route: Route, accept: str | None) -> str:
    if route.produces is None:
        return media.JSON
    try:
        return route.produces.negotiate(accept)
    except NotAcceptable:
        if route.method != "DELETE":
            raise
        # It is answered without content, so there is nothing that its client could not read (RFC 9110 §12.5.1).
        return route.produces.default
