"""The OpenAPI 3.1 document of a gateway, made from the routes that serve its requests (observability.md §4).

Routes of several generations on one path and method are one operation: its media types tell them apart, as they do when
a request is served (kafka-rest-http.md §3.1). What a route may answer follows from the route itself: its media types,
its body, whether Kafka is asked, and the errors that its description names.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from kafka_gateway import media
from kafka_gateway.config import Config
from kafka_gateway.description import OF_KAFKA, Description, Parameter, Shape
from kafka_gateway.dialect import ErrorBody
from kafka_gateway.errors import (
    BadRequest,
    Forbidden,
    MethodNotAllowed,
    NotAcceptable,
    NotAuthorized,
    NotFound,
    PayloadTooLarge,
    RequestTimeout,
    ServiceError,
    ShuttingDown,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    Unprocessable,
    UnsupportedMediaType,
)
from kafka_gateway.limits import is_for_operators
from kafka_gateway.router import Route
from kafka_gateway.transports.docs.shapes import Shapes
from kafka_gateway.version import VERSION

_ALWAYS: Final[tuple[type[ServiceError], ...]] = (
    BadRequest,
    RequestTimeout,
    TooManyRequests,
    ServiceError,
    Unavailable,
    ShuttingDown,
)
"""What any request may be answered, whatever it is for."""

_METHODS: Final = ("GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE")
"""What a path item can hold."""
_WITH_BODY: Final = ("POST", "PUT", "PATCH")
_NEWEST_FIRST: Final = ("", "v3", "v2", "v1")
_VARIABLE: Final = re.compile(r"\{([^}:]+)(:int)?\}")
_INT32: Final = {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1}

_STATUS_TEXTS: Final[Mapping[int, str]] = {
    101: "The socket is open.",
    200: "Done.",
    201: "Created.",
    204: "Done; nothing to tell.",
    207: "Each part tells for itself.",
    301: "The path without its slash.",
    304: "Unchanged.",
    307: "The path without its slash.",
    308: "The path with its slash.",
}

_ABOUT: Final = """\
Apache Kafka over HTTP. This document was made by the gateway that serves it, from what it serves: with other settings,
or with plugins, it is another one. Requests that are refused before their path is looked at are not listed for each
path: a broken head (400, 431), an `Expect` that cannot be met (417), another version of HTTP (505). A path without the
method that was asked for is answered 405 with `Allow`.

What travels over sockets and streams is told by [asyncapi.json](asyncapi.json).\
"""


def errors_of(route: Route, *, asks: bool = False, judges: bool = False) -> list[type[ServiceError]]:
    """The errors that a route may answer, each class once.

    Args:
        asks: whether requests must prove who sends them.
        judges: whether rules say who may do what.
    """
    told = route.description
    found: list[type[ServiceError]] = [*_ALWAYS]
    if asks:
        found += (Unauthorized, Forbidden)
    if judges:
        found.append(NotAuthorized)
    if "{" in route.template:
        found.append(NotFound)
    if "names" in route.extras and route.method != "GET":
        found.append(MethodNotAllowed)  # of an embedded format that the lists of resources leave out
    if route.produces is not None:
        found.append(NotAcceptable)
    if route.consumes is not None:
        found.append(UnsupportedMediaType)  # a GET may have a body, too
    if _takes_body(route):
        found.append(PayloadTooLarge)
        if route.takes is not None:
            found.append(Unprocessable)
    if told is None or told.kafka:
        found += OF_KAFKA
    if told is not None:
        found += told.errors
    return list(dict.fromkeys(found))


def place_of(route: Route, config: Config) -> str:
    """Where the route is found: in its area, on the operators' listeners (``admin``), or anywhere ("")."""
    if is_for_operators(route, apart=bool(config.items("admin.listeners"))):
        return "admin"
    return route.area


def openapi(
    routes: Iterable[Route],
    config: Config,
    *,
    judges: bool = False,
    servers: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """The document, ready to be encoded.

    Args:
        routes: all that are served, those that transports serve by themselves too.
        servers: URLs of the listeners on which routes are found that not all listeners have, by `place_of`.
    """
    return _Document(config, judges, servers or {}).of(routes)


class _Document:
    def __init__(self, config: Config, judges: bool, servers: Mapping[str, Sequence[str]]) -> None:
        self._methods = config.methods if config.asks_who else ()
        self._judges = judges
        self._config = config
        self._servers = servers
        self._shapes = Shapes()
        self._names: set[str] = set()

    def of(self, routes: Iterable[Route]) -> dict[str, Any]:
        operations: dict[tuple[str, str], list[Route]] = {}
        templates: dict[str, str] = {}
        for route in sorted(routes, key=lambda each: _NEWEST_FIRST.index(each.generation or "")):
            # Templates that differ in the names of their variables only are one path.
            template = templates.setdefault(_VARIABLE.sub("{}", route.template), route.template)
            if route.method in _METHODS:
                operations.setdefault((template, route.method), []).append(route)
        self._shapes.collect(ErrorBody)
        for each in operations.values():
            for route in each:
                self._collect(route)
        paths: dict[str, Any] = {}
        tags: dict[str, None] = {}
        for (template, method), meant in sorted(operations.items()):
            slash = "/" if _told(meant[0]).slash else ""
            item = paths.setdefault(_VARIABLE.sub(r"{\1}", template) + slash, {})
            item[method.lower()] = operation = self._operation(template, method, meant)
            tags |= dict.fromkeys(operation["tags"])
            urls = [url for route in meant for url in self._servers.get(place_of(route, self._config), ())]
            if urls:
                known = item.setdefault("servers", [])
                known += [{"url": url} for url in dict.fromkeys(urls) if {"url": url} not in known]
        responses = _share(paths)
        document: dict[str, Any] = {
            "openapi": "3.1.0",
            "info": {
                "title": "Kafka Gateway",
                "version": VERSION,
                "description": _ABOUT,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "tags": [{"name": name} for name in sorted(tags)],
            "paths": paths,
            "components": {"schemas": self._shapes.components, "responses": responses},
        }
        return document | self._security(document["components"])

    def _collect(self, route: Route) -> None:
        told = route.description
        if told is None:
            return
        self._shapes.collect(list(told.replies.values()))
        self._shapes.collect(told.error_body)
        for shape in self._bodies(route).values():
            self._shapes.collect(shape)

    def _security(self, components: dict[str, Any]) -> dict[str, Any]:
        if not self._methods:
            return {}
        components["securitySchemes"] = {each.lower(): _security_scheme(each) for each in self._methods}
        return {"security": [{each.lower(): []} for each in self._methods]}

    # --- one operation ----------------------------------------------------------------------------------------------

    def _operation(self, template: str, method: str, routes: Sequence[Route]) -> dict[str, Any]:
        told = [_told(route) for route in routes]
        texts = list(dict.fromkeys(each.text for each in told if each.text))
        operation: dict[str, Any] = {
            "operationId": self._name(routes[0], method),
            "summary": told[0].summary,
            "tags": list(dict.fromkeys(each.tag for each in told)),
            "x-resources": [route.name for route in routes],
            "x-permissions": list(dict.fromkeys(route.permission for route in routes if route.permission)),
        }
        if texts:
            operation["description"] = "\n\n".join(texts)
        if parameters := self._parameters(template, told):
            operation["parameters"] = parameters
        if body := self._body(routes):
            operation["requestBody"] = body
        operation["responses"] = self._responses(routes)
        return operation

    def _name(self, route: Route, method: str) -> str:
        name = re.sub(r"[^A-Za-z0-9]+", "_", route.name.removeprefix("api.")).strip("_") or "operation"
        if name in self._names:
            name = f"{name}_{method.lower()}"
        number = 2
        while name in self._names:
            name = f"{name.rstrip('0123456789')}{number}"
            number += 1
        self._names.add(name)
        return name

    def _parameters(self, template: str, told: Sequence[Description]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        docs: dict[str, str] = {}
        for each in reversed(told):
            docs |= each.path
        for name, is_integer in _VARIABLE.findall(template):
            found.append(
                {
                    "name": name,
                    "in": "path",
                    "required": True,
                    "description": docs.get(name, name),
                    "schema": dict(_INT32) if is_integer else {"type": "string", "minLength": 1},
                }
            )
        seen: dict[tuple[str, str], list[Parameter]] = {}
        for each in told:
            for parameter in each.parameters:
                seen.setdefault((parameter.name, parameter.place), []).append(parameter)
        for (name, place), meant in seen.items():
            one = {
                "name": name,
                "in": place,
                "required": all(each.required for each in meant) and len(meant) == len(told),
                "description": meant[0].doc,
                "schema": dict(meant[0].schema),
            }
            if meant[0].example is not None:
                one["example"] = meant[0].example
            found.append(one)
        return found

    # --- bodies of requests -----------------------------------------------------------------------------------------

    def _bodies(self, route: Route) -> dict[str, Shape]:
        """What a request's body holds, by media type."""
        told = _told(route)
        if told.body is None or not _takes_body(route):
            return {}
        if route.consumes is None:
            return {kind: told.body if not _is_function(told.body) else told.body("") for kind in told.body_types}
        kinds = {kind: format for kind, format in route.consumes.formats.items() if kind != media.OCTETS}
        if not any(kinds.values()):
            # They all mean the same: one is enough to write a client with, and `x-media-types` has the others.
            kinds = dict(list(kinds.items())[:1])
        return {kind: told.body(format) if _is_function(told.body) else told.body for kind, format in kinds.items()}

    def _body(self, routes: Sequence[Route]) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for route in routes:
            example = _told(route).body_example
            formats = route.consumes.formats if route.consumes is not None else {}
            for kind, shape in self._bodies(route).items():
                entry: dict[str, Any] = {"schema": self._shapes.schema(shape)}
                if _is_function(_told(route).body) and isinstance(example, Mapping):
                    if formats.get(kind) in example:
                        entry["example"] = example[formats[kind]]
                elif example is not None:
                    entry["example"] = example
                content.setdefault(kind, entry)
        if not content:
            return {}
        others = {kind for route in routes if route.consumes is not None for kind in route.consumes.formats} - set(
            content
        )
        if others:
            return {
                "required": all(route.body == "required" for route in routes),
                "content": content,
                "x-media-types": sorted(others),
            }
        return {"required": all(route.body == "required" for route in routes), "content": content}

    # --- replies ----------------------------------------------------------------------------------------------------

    def _responses(self, routes: Sequence[Route]) -> dict[str, Any]:
        found: dict[int, dict[str, Any]] = {}
        for route in routes:
            for status, shape in _told(route).replies.items():
                self._add_reply(found.setdefault(status, {}), route, status, shape)
        for route in routes:
            for status, errors in self._errors(route).items():
                self._add_errors(found.setdefault(status, {}), route, status, errors)
        return {str(status): found[status] for status in sorted(found)}

    def _errors(self, route: Route) -> dict[int, list[type[ServiceError]]]:
        found: dict[int, list[type[ServiceError]]] = {}
        for error in errors_of(route, asks=bool(self._methods), judges=self._judges):
            found.setdefault(error.status, []).append(error)
        return found

    def _add_reply(self, response: dict[str, Any], route: Route, status: int, shape: Shape) -> None:
        told = _told(route)
        response.setdefault("description", _STATUS_TEXTS.get(status, "As told."))
        if shape is None:
            return
        types = told.reply_types.get(status) or (route.produces.types if route.produces else (media.JSON,))
        for kind in types:
            text = kind in (media.EVENTS, media.NDJSON)
            entry = {"schema": {"type": "string"} if text else self._shapes.schema(shape)}
            if told.reply_example is not None and not text and status < 300:
                entry["example"] = told.reply_example
            _merge(response.setdefault("content", {}), kind, entry)

    def _add_errors(
        self, response: dict[str, Any], route: Route, status: int, errors: Sequence[type[ServiceError]]
    ) -> None:
        told = _told(route)
        lines = [f"- {error.error_code}: {_one_line(error.text)}" for error in errors]
        before = response.get("description", "")
        if "content" in response or not before.startswith("- "):
            before = "" if before == "As told." else before
        known = before.split("\n") if before else []
        response["description"] = "\n".join(dict.fromkeys([*known, *lines]))
        if told.bare_errors:
            return
        body = self._shapes.schema(told.error_body or ErrorBody)
        types = told.reply_types.get(status)
        if types is None:
            own = route.produces.types if route.produces and told.error_body is None else ()
            types = [*(kind for kind in own if kind != media.EVENTS and "json" in kind), media.JSON]
        for kind in dict.fromkeys(types):
            entry: dict[str, Any] = {"schema": {"type": "string"} if kind.startswith("text/") else body}
            _merge(response.setdefault("content", {}), kind, entry)


def _share(paths: Mapping[str, Any]) -> dict[str, Any]:
    """Replaces the errors that several operations have by references; what they refer to, by name."""
    uses: dict[str, list[tuple[dict[str, Any], str]]] = {}
    for item in paths.values():
        for operation in item.values():
            if not isinstance(operation, dict):
                continue  # the path's servers
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    uses.setdefault(status + json.dumps(response), []).append((operation["responses"], status))
    shared: dict[str, Any] = {}
    for places in uses.values():
        if len(places) < 2:
            continue
        name = f"Error{places[0][1]}"
        number = 2
        while name in shared:
            name = f"Error{places[0][1]}-{number}"
            number += 1
        shared[name] = places[0][0][places[0][1]]
        for responses, status in places:
            responses[status] = {"$ref": f"#/components/responses/{name}"}
    return shared


def _merge(content: dict[str, Any], kind: str, entry: dict[str, Any]) -> None:
    """Adds the entry to those that the media type has."""
    known = content.get(kind)
    if known is None:
        content[kind] = entry
        return
    choices = known["schema"].get("anyOf") or [known["schema"]]
    if entry["schema"] not in choices:
        known["schema"] = {"anyOf": [*choices, entry["schema"]]}


def _takes_body(route: Route) -> bool:
    return route.body != "none" or route.takes is not None or route.method in _WITH_BODY


def _is_function(shape: Any) -> bool:
    return inspect.isfunction(shape)


def _told(route: Route) -> Description:
    """The route's description, or one made of the route itself."""
    if route.description is not None:
        told = route.description
        return told if told.tag else Description(**{**_members(told), "tag": route.owner})
    doc = inspect.getdoc(route.handler) or ""
    body = {"description": "See the documentation of its plugin."} if _takes_body(route) else None
    return Description(_one_line(doc.partition("\n")[0]) or route.name, tag=route.owner, body=body)


def _members(told: Description) -> dict[str, Any]:
    return {name: getattr(told, name) for name in Description.__dataclass_fields__}


def _one_line(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


def _security_scheme(method: str) -> dict[str, str]:
    """How the clients of an authenticator prove who they are; of a plugin's it is taken for a token."""
    if method == "MTLS":
        return {"type": "mutualTLS"}
    return {"type": "http", "scheme": "basic" if method in ("BASIC", "SINGLE-USER", "KAFKA") else "bearer"}
