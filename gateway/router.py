"""Which routes a method and a path belong to.

The templates of all routes form a tree with one level per path segment. A request walks down it by dict lookups on the
*undecoded* segments, so an escape never matches a literal; segments that fill a variable are percent-decoded, once
(kafka-rest-http.md §3.1, with the corrections of kafka-rest-http-observed.md).

A literal beats an integer variable, and that beats a text variable, segment by segment from the left; of several
templates that fit, the first in this order that has the method wins. v1 and v2 share paths: a match holds the routes of
all generations, and media types choose among them later (:func:`gateway.generations.classify`).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from kafka_gateway.errors import BadRequest, MethodNotAllowed, NoRoute
from kafka_gateway.media import Consumes, Produces
from kafka_gateway.rights import Need, Permission, read_permissions
from kafka_gateway.service import Service

if TYPE_CHECKING:
    from kafka_gateway.description import Channel, Description
    from kafka_gateway.messages import Response
    from kafka_gateway.session import Session


TakesOutcomes = Callable[[Sequence[tuple[int, Any]]], None]
"""Gets what has become of some of the bodies of one `AtOnce.begin`: the place of each among them, and its result."""


class AtOnce(Protocol):
    """A handler in two halves, for a route whose requests wait for nothing but one answer of Kafka's.

    ``Route.at_once``; what ``Route.handler`` does with the same body must be the same. ``Route.takes`` answers no
    `Preparing` for a body of a format without schemas and of at most `gateway.at_once.BODY_MAX`.
    """

    def is_ready(self, params: Mapping[str, Any]) -> bool:
        """Whether ``begin`` would not have to wait. Asks nobody."""

    def begin(self, params: Mapping[str, Any], session: Session, bodies: Sequence[Any], told: TakesOutcomes) -> None:
        """Begins the work of requests with the same parameters, one for each of the bodies, in their order.

        ``told`` is called on the event loop, in another turn of it, with what goes into ``end``; once for each body.
        ``session`` is that of the first. An error that is raised is the answer to all, of which none was begun then.
        """

    def end(self, result: Any) -> Response:
        """The response, which has nothing to settle, and brings neither a stream nor records: there is nothing in it
        that counts for its client's quota, or that the audit log tells. ServiceError as the handler's.

        ``result`` is what ``told`` got, or the error that ``begin`` has raised."""


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """One method on one path, and what is known of it before any request.

    ``template`` is a path whose segments are literals, ``{name}``, or ``{name:int}`` for a 32-bit integer. ``name`` is
    the resource name of allow and block lists (§14.1). ``owner`` is the plugin that registered the route.
    """

    method: str
    template: str
    handler: Callable[..., Any]
    name: str = ""
    generation: str = ""
    """"v1", "v2", "v3", or "" for resources of the gateway's own."""
    takes: Any = None
    """The type of the body; None for no body, or one that the handler reads as bytes."""
    body: Literal["required", "optional", "none"] = "none"
    permission: str = ""
    """What a principal must be allowed to: ``write topic:{topic}``, or ``open`` (`gateway.rights.read_permissions`)."""
    produces: Produces | None = None
    consumes: Consumes | None = None
    owner: str = "gateway"
    home: tuple[str, ...] = ()
    """What identifies the thing that only one of several workers has: ``{name}`` for a path parameter, or a word. That
    worker answers (`kafka_gateway.homes`). Empty: any does."""
    area: str = ""
    """Requests find the routes of their own area only: what one listener offers cannot be reached from another."""
    service: Service | None = dataclasses.field(default=None, compare=False)
    """The service that the handler belongs to, if that starts and stops with the gateway (gateway/service.py)."""
    extras: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False)
    at_once: AtOnce | None = dataclasses.field(default=None, compare=False)
    """How requests are served that need no task of their own (gateway/at_once.py); None: ``handler`` serves all."""
    description: Description | None = dataclasses.field(default=None, compare=False)
    """What clients are told of it in ``/openapi.json``; without one they are told what can be seen of the rest."""

    @property
    def permissions(self) -> tuple[Permission, ...]:
        """What ``permission`` says."""
        return read_permissions(self.permission)

    def needs(self, params: Mapping[str, Any]) -> tuple[Need, ...]:
        """What a request with these path parameters needs, as far as the path tells."""
        return tuple(need for each in self.permissions for need in each.needs(params))


def served(method: str, template: str, name: str, **more: Any) -> Route:
    """A resource that a transport serves by itself: see `gateway.transport.Transport.resources`."""
    return Route(method, template, _never_called, name, **more)


class Offering(Protocol):
    """What is told of a `gateway.transport.Transport` to clients and operators."""

    @property
    def name(self) -> str: ...
    @property
    def area(self) -> str: ...
    @property
    def named_only(self) -> bool: ...
    @property
    def channels(self) -> Sequence[Channel]: ...
    @property
    def resources(self) -> Sequence[Route]: ...


async def _never_called(call: Any) -> Any:
    raise NoRoute()


def described(
    routes: Iterable[Route], descriptions: Mapping[str, Description], path: Mapping[str, str] | None = None
) -> list[Route]:
    """The routes with their descriptions, found by name; ``path`` tells what the variables of their paths are."""
    found = []
    for route in routes:
        description = descriptions.get(route.name)
        if description is not None and path:
            description = dataclasses.replace(description, path={**path, **description.path})
        found.append(dataclasses.replace(route, description=description))
    return found


@dataclasses.dataclass(slots=True)
class Match:
    """The routes that fit a method and a path. Cached and shared, so nobody changes one."""

    routes: Mapping[str, Route]
    """Generation → route. Empty for an OPTIONS that no route serves itself: answer 200 with ``Allow``."""
    params: Mapping[str, str | int]
    allow: tuple[str, ...] = ()
    """For such an OPTIONS: the methods of the path, with HEAD for GET."""


class RouteClash(ValueError):
    """Two routes want the same requests, or a template cannot be understood; the text names the owners."""


class Router:
    """A fixed set of routes.

    Raises:
        RouteClash: two routes have the same method, generation and template shape (names of variables do not count).
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._root = _Node()
        self._areas = {"": self._root}
        self.raw: dict[str, int] = {}
        """The paths whose bodies are handed on as they were sent, and how long these may be (``extras["raw"]``)."""
        for route in self.routes:
            _check_permission(route)
            self._add(route)
            if (size := route.extras.get("raw")) is not None:
                self.raw[route.template] = self.raw[route.template + "/"] = size

    def adopt(self, other: Router) -> None:
        """From now on the routes are those of another router: everybody who has this one sees them."""
        self.routes, self._root, self._areas = other.routes, other._root, other._areas
        self.raw.clear()
        self.raw.update(other.raw)

    def match(self, method: str, raw_path: str, area: str = "") -> Match:
        """The routes for a request.

        Args:
            method: as sent; methods mind their case (RFC 9110 §9.1). HEAD falls back on GET.
            raw_path: the request target, undecoded and without its query: a path, an absolute URL, or ``*``.
            area: where to look, `Route.area`; an area without routes is like one in which nothing fits.

        Raises:
            BadRequest: the path is broken: an empty segment, a bad escape, a control character, above the root.
            NoRoute: no template fits, or an integer variable is none.
            MethodNotAllowed: a template fits, but none with this method; carries the allow list.
        """
        if raw_path == "*" and method == "OPTIONS":
            return Match({}, {}, _allow({route.method for route in self.routes if route.area == area}))
        segments, texts = _segments(raw_path)
        root = self._areas.get(area, _EMPTY) if area else self._root
        target = _find(root, segments, texts, 0, method)
        if target is None:
            return self._without_route(root, method, segments, texts)
        params: dict[str, str | int] = {}
        for name, place, is_integer in target.variables:
            text = texts[place]
            params[name] = _integer(text) if is_integer else text
        return Match(target.routes, params)

    def nearest(self, method: str, raw_path: str) -> Mapping[str, Route]:
        """The routes that would fit if integer variables took any text: their 404 has the route's media type (§3.3)."""
        target = _find(self._root, *_segments(raw_path), 0, method, any_integer=True)
        return target.routes if target is not None else {}

    def allowed(self, raw_path: str) -> tuple[str, ...]:
        """The methods of a path, HEAD and OPTIONS included; () if no template fits. Raises BadRequest as match."""
        return _allowed(self._root, *_segments(raw_path))

    def _without_route(self, root: _Node, method: str, segments: list[str], texts: list[str]) -> Match:
        allow = _allowed(root, segments, texts)
        if not allow:
            raise NoRoute()
        if method != "OPTIONS":
            raise MethodNotAllowed(None, allow)
        return Match({}, {}, allow)

    def _add(self, route: Route) -> None:
        node = self._areas.setdefault(route.area, _Node())
        variables: list[tuple[str, int, bool]] = []
        for place, segment in enumerate(_template_segments(route)):
            if segment[0] != "{":
                node = node.literals.setdefault(segment, _Node())
                continue
            name, _, kind = segment[1:-1].partition(":")
            if kind == "int":
                node.integer = node = node.integer or _Node()
            else:
                node.text = node = node.text or _Node()
            variables.append((name, place, kind == "int"))
        target = node.targets.setdefault(route.method, _Target())
        other = target.routes.get(route.generation)
        if other is not None:
            raise RouteClash(
                f"{route.method} {route.template} of {route.owner!r} clashes with "
                f"{other.method} {other.template} of {other.owner!r}"
            )
        # The generations of a path may name its variables differently; a request then has each value under all names.
        for name, place, is_integer in variables:
            if any(name == known and place != at for known, at, _ in target.variables):
                owners = " and ".join(repr(each.owner) for each in (*target.routes.values(), route))
                raise RouteClash(f"{route.method} {route.template}: {name!r} stands for two segments ({owners})")
            if (name, place, is_integer) not in target.variables:
                target.variables.append((name, place, is_integer))
        target.routes[route.generation] = route


def _check_permission(route: Route) -> None:
    try:
        permissions = route.permissions
    except ValueError as error:
        raise RouteClash(f"{route.method} {route.template} of {route.owner!r}: permission: {error}") from None
    for each in permissions:
        if each.parameter and not re.search(r"\{" + each.parameter + r"(:int)?\}", route.template):
            raise RouteClash(
                f"{route.method} {route.template} of {route.owner!r}: permission: no segment is {{{each.parameter}}}"
            )


# --- the tree --------------------------------------------------------------------------------------------------------


class _Target:
    """What a method leads to where a template ends."""

    __slots__ = ("routes", "variables")

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.variables: list[tuple[str, int, bool]] = []
        """(name, place in the path, whether it is an integer)"""


class _Node:
    """A place between two segments: where to go with the next one, and which methods end here."""

    __slots__ = ("integer", "literals", "targets", "text")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.integer: _Node | None = None
        self.text: _Node | None = None
        self.targets: dict[str, _Target] = {}


_EMPTY: Final = _Node()


def _allowed(root: _Node, segments: list[str], texts: list[str]) -> tuple[str, ...]:
    methods = {method for node in _fitting(root, segments, texts, 0) for method in node.targets}
    return _allow(methods) if methods else ()


def _find(
    node: _Node, segments: list[str], texts: list[str], place: int, method: str, any_integer: bool = False
) -> _Target | None:
    """The first target for the method below ``node``. Recursion is as deep as the longest template, at most."""
    if place == len(segments):
        targets = node.targets
        return targets.get(method) or (targets.get("GET") if method == "HEAD" else None)
    child = node.literals.get(segments[place])
    if child is not None:
        target = _find(child, segments, texts, place + 1, method, any_integer)
        if target is not None:
            return target
    if node.integer is not None and (any_integer or _is_int(texts[place])):
        target = _find(node.integer, segments, texts, place + 1, method, any_integer)
        if target is not None:
            return target
    if node.text is not None:
        return _find(node.text, segments, texts, place + 1, method, any_integer)
    return None


def _fitting(node: _Node, segments: list[str], texts: list[str], place: int) -> Iterator[_Node]:
    """Every place below ``node`` where a template ends that fits, whatever its methods."""
    if place == len(segments):
        yield node
        return
    child = node.literals.get(segments[place])
    if child is not None:
        yield from _fitting(child, segments, texts, place + 1)
    if node.integer is not None and _is_int(texts[place]):
        yield from _fitting(node.integer, segments, texts, place + 1)
    if node.text is not None:
        yield from _fitting(node.text, segments, texts, place + 1)


def _allow(methods: Iterable[str]) -> tuple[str, ...]:
    allow = {*methods, "OPTIONS"}
    if "GET" in allow:
        allow.add("HEAD")
    return tuple(sorted(allow))


def _template_segments(route: Route) -> list[str]:
    """The segments of a template: non-empty literals, ``{name}`` or ``{name:int}``, every name once."""
    template = route.template
    if template == "/":
        return []
    segments = template[1:].split("/")
    names = [segment[1:-1].partition(":") for segment in segments if segment[:1] == "{" and segment[-1:] == "}"]
    literals = [segment for segment in segments if not (segment[:1] == "{" and segment[-1:] == "}")]
    if (
        template[:1] != "/"
        or not all(segments)
        or any(set(segment) & set("{}%") for segment in literals)
        or any(not name.isidentifier() or (colon + kind) not in ("", ":int") for name, colon, kind in names)
        or len({name for name, _, _ in names}) != len(names)
    ):
        raise RouteClash(f"{route.method} {template} of {route.owner!r} is not a template")
    return segments


# --- paths -----------------------------------------------------------------------------------------------------------


def _segments(raw_path: str) -> tuple[list[str], list[str]]:
    """The segments of a request target, as sent and percent-decoded.

    All of them are decoded, also those that will meet a literal: a broken path is a 400 wherever it leads.
    """
    if raw_path[:1] != "/":
        raw_path = _path_of_url(raw_path)
    if "//" in raw_path:
        raise BadRequest("Bad Request: empty segment in path")
    segments = raw_path[1:].split("/")
    if not segments[-1]:
        segments.pop()  # the root, or one trailing slash, which is tolerated; a second one was an empty segment
    if not raw_path.isprintable():
        _check_characters(raw_path)
    if "/.." in raw_path:
        _check_depth(segments)
    if "%" not in raw_path:
        return segments, segments
    return segments, [decode_segment(segment) if "%" in segment else segment for segment in segments]


def _path_of_url(target: str) -> str:
    """The path of an absolute-form request target (RFC 9112 §3.2.2)."""
    scheme, separator, rest = target.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        raise BadRequest("Bad Request: the request target is not a path")
    authority, slash, path = rest.partition("/")
    if not authority:  # RFC 9110 §4.2.1
        raise BadRequest("Bad Request: the request target has no host")
    return slash + path


def _check_depth(segments: list[str]) -> None:
    """Refuses paths that climb above the root; below it ``.`` and ``..`` are ordinary segments (observed §3.1)."""
    depth = 0
    for segment in segments:
        if segment != ".":
            depth += -1 if segment == ".." else 1
        if depth < 0:
            raise BadRequest("Bad Request: path above the root")


def _check_characters(text: str) -> None:
    if any(char < " " or char == "\x7f" for char in text):
        raise BadRequest("Bad Request: control character in path")
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8 come out of aiohttp as lone surrogates
        raise BadRequest("Bad Request: path is not UTF-8") from None


def decode_segment(segment: str) -> str:
    """A path segment percent-decoded once, as strict UTF-8; ``+`` is an ordinary character, ``%2F`` becomes ``/``.

    Raises:
        BadRequest: a bad escape, bytes that are not UTF-8, a control character, or an escaped ``.`` or ``..``.
    """
    head, *escaped = segment.split("%")
    try:
        parts = [head.encode()]
        for part in escaped:
            parts.append(_BYTES[part[:2]])
            parts.append(part[2:].encode())
        text = b"".join(parts).decode()
    except (KeyError, UnicodeError):
        raise BadRequest(f"Bad Request: bad escape in path segment {segment[:80]!r}") from None
    if not text.isprintable():
        _check_characters(text)
    if text in (".", "..") and escaped:  # observed: /topics/%2E%2E is refused, /topics/.. is not
        raise BadRequest("Bad Request: escaped dot segment in path")
    return text


_HEX: Final = "0123456789abcdefABCDEF"
_BYTES: Final = {high + low: bytes([int(high + low, 16)]) for high in _HEX for low in _HEX}


def _is_int(text: str) -> bool:
    """Whether Java's ``Integer.valueOf`` would take the text: ``-1``, ``+0`` and ``00`` included (observed §3.1)."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdigit()):
        return False
    return len(digits) <= 9 or (len(digits.lstrip("0")) <= 10 and -(2**31) <= _integer(text) < 2**31)


def _integer(text: str) -> int:
    # int() refuses more than 4300 digits; leading zeros must not bring anybody there.
    return int(("-" if text[0] == "-" else "") + (text.lstrip("+-0") or "0"))
