"""The principal: who a request or a session is from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking (security.md §1). ``name`` is "anonymous" where nobody has to prove anything."""

    name: str
    roles: frozenset[str] = frozenset()
    until: float = math.inf
    """When the proof must be looked at again, so that a revoked one ends: seconds of time.monotonic()."""
    kind: str = "User"
    """What sort of name it is: a word without a colon. Of equal kind and name is always the same principal."""
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)
    """What else the proof says, as it says it: the claims of a token. Nobody changes it."""

    def __str__(self) -> str:
        """``kind:name``, as the authorisation file, errors and the audit log write it."""
        return f"{self.kind}:{self.name}"

    def attribute(self, path: str) -> Any:
        """The attribute of that name, or at the end of that path (names with dots between); None if there is none."""
        found: Any = self.attributes
        if path in found:
            return found[path]
        for name in path.split("."):
            found = found.get(name) if isinstance(found, Mapping) else None
        return found


ANONYMOUS = Principal("anonymous")
