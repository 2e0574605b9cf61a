"""What a principal may do: the permissions that routes declare, and who judges them (security.md §3).

A route says what it needs (``Route.permission``), ``dispatch`` asks the session's :class:`Rights`. Names that stand in
bodies are judged by the handlers: ``call.require("read", "topic", *topics)``. What the rights of a principal are, an
:class:`Authorizer` knows: the one of ``authorization.file``, or a plugin's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence, Set
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from kafka_gateway.errors import NotAuthorized

if TYPE_CHECKING:
    from kafka_gateway.config import Fault
    from kafka_gateway.principal import Principal

OPERATIONS: Final = ("read", "write", "create", "delete", "describe", "alter", "describe-configs", "alter-configs")
"""Kafka's words."""
RESOURCES: Final[Mapping[str, tuple[str, ...]]] = {
    "topic": OPERATIONS,
    "group": ("read", "describe", "delete", "alter"),
    "transactional-id": ("write", "describe"),
    "subject": ("write", "describe"),
    "cluster": ("create", "describe", "alter", "describe-configs", "alter-configs"),
    "gateway": ("read", "write", "describe", "alter"),
}
"""Resource → the operations that there are on it. ``alter`` of a group is the gateway's own: the use of other
principals' consumer instances. So is ``subject``, of the schema registry: those that no topic gives its name. Parts of
the gateway have names (`PARTS`)."""

Need = tuple[str, str, str]
"""Operation, resource, name; of the cluster the name is ""."""

_FORM = re.compile(
    r"(?P<operation>[a-z-]+) (?P<resource>[a-z-]+)"
    r"(?::(?:\{(?P<parameter>[A-Za-z_][A-Za-z0-9_]*)(?P<many>\.\.\.)?\}|(?P<name>[^{}\s;]+)))?"
)


PARTS: Final = ("console", "metrics", "admin", "tunnel", "docs")
"""The parts of the gateway, as resources. Plugins may have others."""

_KINDS: Final = {"user": "User", "role": "Role"}

OPEN: Final = "open"
"""The declaration of a route that everybody may use: it shows nothing and changes nothing."""


def kind_meant(kind: str) -> str:
    """The kind of principal that is meant where one is written that differs from it in case alone, and that no
    principal has; else "". Plugins make principals of any other kind."""
    meant = _KINDS.get(kind.lower(), "")
    return "" if kind == meant else meant


@dataclasses.dataclass(frozen=True, slots=True)
class Permission:
    """One thing that a request needs: an operation on one or several resources of a kind."""

    operation: str
    resource: str
    parameter: str = ""
    """The path parameter that holds the resource's name."""
    many: bool = False
    """Whether that holds several names, separated by commas."""
    name: str = ""
    """The name where no parameter holds it: that of a bridge's topic, of a part of the gateway."""

    def needs(self, params: Mapping[str, Any]) -> list[Need]:
        """What a request with these path parameters needs; nothing if its names stand elsewhere: in its body, say."""
        if self.parameter:
            text = str(params[self.parameter])
            names = text.split(",") if self.many else [text]
        elif self.name or self.resource == "cluster":
            names = [self.name]
        else:
            return []
        return [(self.operation, self.resource, name) for name in names]


@functools.lru_cache(4096)
def read_permissions(text: str) -> tuple[Permission, ...]:
    """The permissions that a declaration names: ``read topic:{topics...}; read group:{group}``.

    ``{topic}`` is a path parameter, ``{topics...}`` one with several names in it, ``gateway:console`` a fixed
    name. What stands in bodies (``read topic``, without a name) is left to the handler. ValueError says what is wrong.
    """
    found: list[Permission] = []
    if text == OPEN:
        return ()
    for part in filter(None, (each.strip() for each in text.split(";"))):
        match = _FORM.fullmatch(part)
        if match is None or match["operation"] not in RESOURCES.get(match["resource"], ()):
            raise ValueError(f"{part!r} is not OPERATION RESOURCE[:NAME], such as 'write topic:{{topic}}'")
        found.append(
            Permission(
                match["operation"],
                match["resource"],
                match["parameter"] or "",
                match["many"] is not None,
                match["name"] or "",
            )
        )
    return tuple(found)


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """Whether a principal may, and what decides that: a line of a file, say; "" if nothing allows it."""

    allowed: bool
    rule: str = ""


Judge = Callable[[str, str, str], Decision]
"""Operation, resource and name → the decision about them, for one principal."""


class Authorizer:
    """Says what principals may do. Where there are several, all of them must allow.

    Nothing here does I/O: a decision is asked for on the event loop, and remembered until the authorizer calls
    ``changed``. A principal's limits (`gateway.door.quotas`) may depend on it as well.
    """

    stale = False
    """Whether it judges by what it read before, because what is there now is faulty or gone: for the metrics."""

    def faults(self) -> Sequence[Fault]:
        """What is wrong with its settings. Asked at start and by ``--check``."""
        return ()

    def told(self) -> str:
        """What it has read, for ``--check``, after ``faults``: "authorization.file has 3 rules"; "": nothing."""
        return ""

    def judge(self, principal: Principal) -> Judge:
        """What decides about this principal, with its roles and attributes of this moment."""
        raise NotImplementedError

    def quotas(self, principal: Principal) -> Mapping[str, int]:
        """Limits of this principal that differ from the configuration's ``quota.*``, by their names without the
        prefix: ``{"streams": 5}``. 0 is no limit."""
        return {}

    @contextlib.asynccontextmanager
    async def watch(self, changed: Callable[[], None]) -> AsyncIterator[None]:
        """Runs around the gateway's serving. Call ``changed``, on the event loop, when decisions have changed: all are
        made anew then, those too about streams and sockets that are open."""
        yield

    def reload(self) -> None:
        """The operator asks for it (SIGHUP): whatever it has read, it reads again now."""


class Rights:
    """What one principal may do, now: they follow the authorizer. This class allows everything."""

    __slots__ = ()

    generation: int = 0
    """Another number whenever decisions may have changed."""

    remembered: Mapping[Need, Decision] = MappingProxyType({})
    """What was decided before and still counts."""

    passed: Set[object] = frozenset()
    """Demands of requests that were let in before, and are until the rules change."""

    def pass_on(self, demand: object) -> None:
        """Notes that the principal has all that it needs."""

    def decide(self, operation: str, resource: str, name: str) -> Decision:
        """Whether the principal may, and why. Costs no I/O: it is asked on the event loop, for every request."""
        return _YES

    def allows(self, operation: str, resource: str, name: str) -> bool:
        return self.decide(operation, resource, name).allowed

    def require(self, operation: str, resource: str, *names: str) -> None:
        """Raises gateway.errors.NotAuthorized, naming the first of the names that is not allowed."""

    def making(self, topic: str) -> Decision:
        """Whether the principal may have this topic made, by asking for it or by producing to it: ``create`` of the
        topic or of the cluster, either is enough, as in Kafka."""
        decision = self.decide("create", "cluster", "")
        return decision if decision.allowed else self.decide("create", "topic", topic)

    def filter(self, operation: str, resource: str, names: Iterable[str]) -> list[str]:
        """Those of the names that are allowed, in their order: for lists and patterns."""
        return list(names)


_YES: Final = Decision(True)
EVERYTHING: Final = Rights()


def not_authorized(principal: object, operation: str, resource: str, name: str) -> NotAuthorized:
    """The refusal, as clients are told it (security.md §3)."""
    what = f"the {resource}" if resource == "cluster" else f"{resource} {name[:300]}"
    text = f"{principal} may not {_VERBS.get(operation, operation)} {what}."
    return NotAuthorized(text, (operation, resource, name))


_VERBS: Final = {
    "write": "write to",
    "describe-configs": "describe the configuration of",
    "alter-configs": "alter the configuration of",
}
