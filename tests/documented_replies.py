"""Every reply of every test that asks a gateway of its own process is compared with what ``/openapi.json`` says.

A status that is not listed, or a JSON body that does not fit its schema, fails the test in which it was seen. Plugins
of tests say nothing of their routes and are left alone. Used by tests/conftest.py.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from kafka_gateway.core import Gateway
from kafka_gateway.description import Description
from kafka_gateway.dialect import ErrorBody
from kafka_gateway.errors import ServiceError
from kafka_gateway.messages import Reply, Request
from kafka_gateway.router import Route
from kafka_gateway.transports.docs.openapi import errors_of
from kafka_gateway.transports.docs.shapes import Shapes

_seen: list[str] = []


@functools.cache
def _statuses(route_key: tuple[str, str, str], description: int, asks: bool, judges: bool) -> frozenset[int]:
    route = _routes[route_key]
    replies = route.description.replies if route.description is not None else {200: None}
    return frozenset({*replies, *(error.status for error in errors_of(route, asks=asks, judges=judges))})


_routes: dict[tuple[str, str, str], Route] = {}
_validators: dict[tuple[int, int], Any] = {}
_kept: dict[int, Description] = {}
"""So that no description goes away and another gets its id."""


def _validator(told: Description, status: int) -> Any:
    key = (id(told), status)
    if key not in _validators:
        _kept[id(told)] = told
        wanted = [each for each in (told.replies.get(status),) if each is not None]
        if status >= 400 and not told.bare_errors:
            wanted += [each for each in (told.error_body, ErrorBody) if each is not None]
        if not wanted:
            _validators[key] = None
            return None
        shapes = Shapes()
        shapes.collect(wanted)
        found = [shapes.schema(each) for each in wanted]
        schema = {"anyOf": found, "components": {"schemas": shapes.components}}
        _validators[key] = jsonschema_rs.validator_for(schema)
    return _validators[key]


def _look(gateway: Gateway, request: Request, reply: Reply) -> None:
    try:
        routes = list(gateway.router.match(request.method, request.path, request.area).routes.values())
    except ServiceError:
        return  # no route has answered
    if reply.status == 404 and request.session.admin is not None:
        return  # other listeners offer it
    told = [route for route in routes if route.description is not None]
    if not told or len(told) < len(routes):
        return
    line = f"{request.method} {told[0].template}: {reply.status}"
    asks = gateway.config.asks_who
    judges = gateway.admission.authorization.is_on
    fitting = []
    for route in told:
        key = (route.method, route.template, route.name)
        _routes[key] = route
        known = _statuses(key, id(route.description), asks, judges)
        if reply.status in known or (reply.status == 200 and 101 in known):  # a socket's transport answers 101
            fitting.append(route)
    if not fitting:
        offered = set(map(id, gateway.offered()))
        if all(id(route) not in offered for route in routes):
            return  # switched off, so it is not in the document
        _seen.append(f"{line} is not in /openapi.json")
        return
    if not isinstance(reply.body, bytes) or not reply.body or "json" not in reply.media_type:
        return
    if reply.media_type == "application/x-ndjson" or request.dialect is not None:
        return  # another protocol's shapes
    try:
        body = json.loads(reply.body)
    except ValueError:
        if any("streams_body" in route.extras for route in fitting):
            return  # reports, one behind the other
        _seen.append(f"{line} is no JSON: {reply.body[:200]!r}")
        return
    validators = [
        validator for route in fitting if (validator := _validator(route.description, reply.status)) is not None
    ]
    if validators and not any(each.is_valid(body) for each in validators):
        why = "; ".join(str(next(iter(each.iter_errors(body))).message)[:200] for each in validators)
        _seen.append(f"{line} does not fit its schema ({why}): {reply.body[:300]!r}")


@pytest.fixture(autouse=True, scope="session")
def _watch_replies() -> Iterator[None]:
    dispatch = Gateway.dispatch

    @functools.wraps(dispatch)
    async def watched(self: Gateway, request: Request) -> Reply:
        reply = await dispatch(self, request)
        _look(self, request, reply)
        return reply

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Gateway, "dispatch", watched)
        yield


@pytest.fixture(autouse=True)
def documented_replies() -> Iterator[list[str]]:
    """What was seen that the API description does not say; the test fails if anything was."""
    _seen.clear()
    yield _seen
    seen = list(dict.fromkeys(_seen))
    _seen.clear()
    assert not seen, "\n".join(seen)
