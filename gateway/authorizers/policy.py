"""What the rules of an authorisation file decide (security.md §3): pure functions of rules and names, without I/O.

Deny beats allow, no match means no. A rule is filed under the principals that it names, so a principal's decision looks
at its own few groups of rules, whose names are found by a dict and a binary search. That costs about a microsecond
whatever the length of the file; `PrincipalRights` remembers it.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from kafka_gateway.authorizers.rules_file import NamePattern, PrincipalPattern, QuotaLine, Rule, RulesFile
from kafka_gateway.rights import Decision
from kafka_gateway.session import Principal

IMPLIED: Final[Mapping[str, tuple[str, ...]]] = {
    "read": ("describe",),
    "write": ("describe",),
    "delete": ("describe",),
    "alter": ("describe",),
    "alter-configs": ("describe-configs",),
}
"""What an allowed operation allows with it, as Kafka's StandardAuthorizer has it. A denied one denies itself only."""


class _Names:
    """Rules by the names that they are for."""

    __slots__ = ("_exact", "_prefixed", "_prefixes")

    def __init__(self) -> None:
        self._exact: dict[str, Rule] = {}
        self._prefixed: dict[str, Rule] = {}
        self._prefixes: list[str] | None = None
        """Sorted, and none begins with another: so at most one begins a name, the last one that is not behind it."""

    def add(self, name: str, is_prefix: bool, rule: Rule) -> None:
        (self._prefixed if is_prefix else self._exact).setdefault(name, rule)
        self._prefixes = None

    def find(self, name: str) -> Rule | None:
        found = self._exact.get(name)
        if found is not None or not self._prefixed:
            return found
        prefixes = self._prefixes
        if prefixes is None:
            prefixes = self._prefixes = _outermost(self._prefixed)
        place = bisect.bisect_right(prefixes, name) - 1
        if place >= 0 and name.startswith(prefixes[place]):
            return self._prefixed[prefixes[place]]
        return None


def _outermost(prefixes: Iterable[str]) -> list[str]:
    """Without those that begin with another one."""
    kept: list[str] = []
    for each in sorted(prefixes):
        if not kept or not each.startswith(kept[-1]):
            kept.append(each)
    return kept


class _Rules:
    """The rules for one set of principals, by effect, operation and resource."""

    __slots__ = ("_allowed", "_denied", "personal")

    def __init__(self) -> None:
        self._allowed: dict[tuple[str, str], _Names] = {}
        self._denied: dict[tuple[str, str], _Names] = {}
        self.personal: list[Rule] = []
        """Rules whose names depend on who asks."""

    def add(self, rule: Rule, names: Iterable[str], is_prefix: bool) -> None:
        table = self._allowed if rule.allows else self._denied
        operations = set(rule.operations)
        if rule.allows:
            operations.update(implied for each in rule.operations for implied in IMPLIED.get(each, ()))
        for operation in operations:
            # A resource of "" is all of them.
            found = table.setdefault((operation, rule.resource), _Names())
            for name in names:
                found.add(name, is_prefix, rule)

    def denies(self, operation: str, resource: str, name: str) -> Rule | None:
        return _look_up(self._denied, operation, resource, name) if self._denied else None

    def allows(self, operation: str, resource: str, name: str) -> Rule | None:
        return _look_up(self._allowed, operation, resource, name) if self._allowed else None


def _look_up(table: Mapping[tuple[str, str], _Names], operation: str, resource: str, name: str) -> Rule | None:
    for key in ((operation, resource), (operation, "")):
        names = table.get(key)
        if names is not None and (rule := names.find(name)) is not None:
            return rule
    return None


class Policy:
    """The rules and quotas of one file, and the super users."""

    def __init__(self, file: RulesFile, super_users: Sequence[PrincipalPattern] = ()) -> None:
        self.file = file
        self._super_users = tuple(super_users)
        self._quotas = file.quotas
        self._exact: dict[tuple[str, str], _Rules] = {}
        """(kind, name), a role being of the kind Role."""
        self._prefixes: dict[PrincipalPattern, _Rules] = {}
        self.claims: frozenset[str] = frozenset(
            what for rule in file.rules for kind, what in rule.name.parts if kind == "claim"
        )
        """The attributes of principals that rules look at."""
        for rule in file.rules:
            group = self._group(rule.principal)
            if _is_personal(rule.name):
                group.personal.append(rule)
            else:
                group.add(rule, ["".join(text for _, text in rule.name.parts)], rule.name.is_prefix)

    def _group(self, principal: PrincipalPattern) -> _Rules:
        if principal.is_prefix:
            return self._prefixes.setdefault(principal, _Rules())
        return self._exact.setdefault((principal.kind, principal.name), _Rules())

    def rules_of(self, principal: Principal) -> PrincipalRules:
        """The rules for this principal, its names filled in."""
        groups = [group for pattern, group in self._prefixes.items() if _matches(pattern, principal)]
        found = self._exact.get((principal.kind, principal.name)) if principal.kind != "Role" else None
        if found is not None:
            groups.append(found)
        for role in principal.roles:
            if (found := self._exact.get(("Role", role))) is not None:
                groups.append(found)
        own = _Rules()
        personal = [rule for group in groups for rule in group.personal]
        for rule in personal:
            names = _filled(rule.name, principal)
            if names is not None:
                own.add(rule, names, rule.name.is_prefix)
            elif not rule.allows:  # too many to check: denying all is safer than allowing some
                own.add(rule, [""], True)
        if personal:
            groups.append(own)
        return PrincipalRules(tuple(groups), any(_matches(each, principal) for each in self._super_users))

    def quotas_of(self, principal: Principal) -> dict[str, int]:
        """The limits that quota lines give this principal, by name; 0 is none.

        A line that names the principal beats one that names a role of it, that beats the beginning of a name (a longer
        one first), and that beats a lone ``*``. Of several roles the most generous counts, of equal lines the last.
        """
        ranks: dict[str, tuple[int, int]] = {}
        limits: dict[str, int] = {}
        for line in self._quotas:
            if not _matches(line.principal, principal):
                continue
            rank = _rank(line)
            for key, limit in line.limits.items():
                before = ranks.get(key, (-1, -1))
                if rank == before and rank[0] == _ROLE:
                    limits[key] = 0 if 0 in (limit, limits[key]) else max(limit, limits[key])
                elif rank >= before:
                    ranks[key], limits[key] = rank, limit
        return limits


@dataclasses.dataclass(frozen=True, slots=True)
class PrincipalRules:
    """The rules for one principal."""

    groups: tuple[_Rules, ...]
    super_user: bool

    def decide(self, operation: str, resource: str, name: str) -> Decision:
        """Whether the principal may, and the rule that says so. ``name`` is "" for the cluster."""
        if self.super_user:
            return _SUPER
        for group in self.groups:
            if (rule := group.denies(operation, resource, name)) is not None:
                return Decision(False, rule.said)
        for group in self.groups:
            if (rule := group.allows(operation, resource, name)) is not None:
                return Decision(True, rule.said)
        return _NO


_NO: Final = Decision(False)
_SUPER: Final = Decision(True, "authorization.super.users")
_ROLE: Final = 2


def _rank(line: QuotaLine) -> tuple[int, int]:
    pattern = line.principal
    if pattern.kind == "Role":
        return (_ROLE, 0)
    if not pattern.is_prefix:
        return (3, 0)
    return (1, len(pattern.name)) if pattern.kind else (0, 0)


def _matches(pattern: PrincipalPattern, principal: Principal) -> bool:
    return pattern.matches(principal.kind, principal.name, principal.roles)


def _is_personal(name: NamePattern) -> bool:
    return any(kind != "text" for kind, _ in name.parts)


_NAMES_MAX: Final = 10_000


def _filled(name: NamePattern, principal: Principal) -> list[str] | None:
    """The names that a rule means for this principal: several for a claim with several values, none for one that the
    principal does not have; None if there are too many. What is filled in stands for itself: a star in it is a
    character like any other.
    """
    found = [""]
    for kind, text in name.parts:
        values = [text] if kind == "text" else [principal.name] if kind == "name" else texts_of(principal, text)
        if len(found) * len(values) > _NAMES_MAX:
            return None
        found = [before + value for before in found for value in values if value]
    return found


def texts_of(principal: Principal, claim: str) -> list[str]:
    """The values of an attribute as texts; those that are neither text nor number are none."""
    value: Any = principal.attribute(claim)
    values = value if isinstance(value, (list, tuple)) else [value]
    return [str(each) for each in values if isinstance(each, (str, int)) and not isinstance(each, bool)]
