"""Principals of several sources told apart: what stands before the names of an issuer's tokens.

A name of one issuer is otherwise the same principal as that name of another, or of a file of users: who gives out the
one may be anybody of the other.
"""

from __future__ import annotations

import itertools
from typing import Final

from kafka_gateway.config import Config, Fault

KEY: Final = "authentication.openid.principal.prefix"
_ISSUERS: Final = "authentication.openid.issuers"
_NONE: Final = "-"
_LENGTH_MAX: Final = 100


def principal_prefixes(config: Config) -> list[str]:
    """That of each issuer, in their order."""
    given = config.items(KEY)
    return ["" if each == _NONE else each for each in given] or [""] * len(config.items(_ISSUERS))


def prefix_faults(config: Config) -> list[Fault]:
    """What is wrong with them."""
    given, issuers = config.items(KEY), config.items(_ISSUERS)

    def fault(message: str) -> list[Fault]:
        return [Fault(config.place(KEY), KEY, message)]

    if given and len(given) != len(issuers):
        return fault(f"names {len(given)} prefixes for {len(issuers)} issuers; write {_NONE} for one without")
    if wrong := [each for each in given if len(each) > _LENGTH_MAX or not each.isprintable()]:
        return fault(f"{wrong[0][:50]!r} is not visible text of {_LENGTH_MAX} characters at most")
    return []


def prefix_notes(config: Config) -> list[str]:
    """Warns of sources of principals that can have the same names; for whoever starts the gateway, and ``--check``."""
    if "OPENID" not in config.methods or not config.items(_ISSUERS):
        return []
    issuers = list(zip(config.items(_ISSUERS), principal_prefixes(config), strict=False))
    others = [(each, "") for each in config.methods if each not in ("OPENID", "NONE")]
    pairs = (*itertools.combinations(issuers, 2), *itertools.product(issuers, others))
    return [
        f"{one} and {other} can have principals of the same name, and each is the other then, in rules and everywhere: "
        f"set {KEY}, so that none begins as another does (docs/security.md)"
        for (one, of_one), (other, of_other) in pairs
        if of_one.startswith(of_other) or of_other.startswith(of_one)
    ]
