"""What a principal may do: the permissions that routes declare, and who judges them (security.md §3).

A route says what it needs (``Route.permission``), ``dispatch`` asks the session's :class:`Rights`. Names that stand in
bodies are judged by the handlers: ``call.session.rights.require("read", "topic", *topics)``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

OPERATIONS: Final = ("read", "write", "create", "delete", "describe", "alter", "describe-configs", "alter-configs")
"""Kafka's words."""
RESOURCES: Final = ("topic", "group", "transactional-id", "cluster", "gateway")

_FORM = re.compile(
    r"(?P<operation>[a-z-]+) (?P<resource>[a-z-]+)"
    r"(?::(?:\{(?P<parameter>[A-Za-z_][A-Za-z0-9_]*)(?P<many>\.\.\.)?\}|(?P<name>[^{}\s;]+)))?"
)


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

    def names(self, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The names that a request with these path parameters is about; one empty name for the cluster."""
        if not self.parameter:
            return (self.name,)
        text = str(params[self.parameter])
        return tuple(text.split(",")) if self.many else (text,)


def read_permissions(text: str) -> tuple[Permission, ...]:
    """The permissions that a declaration names: ``read topic:{topics...}; read group:{group}``.

    ``{topic}`` is a path parameter, ``{topics...}`` one with several names in it, ``gateway:console`` a fixed
    name. What stands in bodies (``read topic``, without a name) is left to the handler. ValueError says what is wrong.
    """
    found = []
    for part in filter(None, (each.strip() for each in text.split(";"))):
        match = _FORM.fullmatch(part)
        if match is None or match["operation"] not in OPERATIONS or match["resource"] not in RESOURCES:
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


class Rights:
    """What one principal may do. This class allows everything: a gateway without an authorisation file."""

    def allows(self, operation: str, resource: str, name: str) -> bool:
        """Whether the principal may. Costs no I/O: it is asked on the event loop, for every request."""
        return True

    def require(self, operation: str, resource: str, *names: str) -> None:
        """Raises gateway.errors.Forbidden, naming the first of the names that is not allowed."""

    def filter(self, operation: str, resource: str, names: Iterable[str]) -> list[str]:
        """Those of the names that are allowed, in their order: for lists and patterns."""
        return [name for name in names if self.allows(operation, resource, name)]


EVERYTHING: Final = Rights()
