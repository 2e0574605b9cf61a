"""``kafka-gateway --may PRINCIPAL OPERATION RESOURCE``: yes or no, and the line that decides (security.md §3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from kafka_gateway.assembly.plugins import Plugins
from kafka_gateway.config import Config
from kafka_gateway.rights import PARTS, RESOURCES, Decision, kind_meant
from kafka_gateway.session import Principal

EXIT_YES, EXIT_NO, EXIT_WRONG = 0, 1, 2


def may(
    config: Config,
    plugins: Plugins,
    asked: Sequence[str],
    roles: Sequence[str],
    claims: Sequence[str],
    out: TextIO,
    errors: TextIO,
) -> int:
    """Answers for the principal that ``asked`` begins with, with these roles and ``NAME=VALUE`` claims; the exit code.

    Raises ConfigError for a configuration that cannot be used.
    """
    who, operation, what = asked
    kind, colon, name = who.partition(":")
    resource, _, on = what.partition(":")
    wrong = ""
    if not colon or not kind or not name:
        wrong = f"{who!r} is not KIND:NAME, such as User:alice"
    elif meant := kind_meant(kind):
        wrong = f"{kind!r} is not a kind of principal (did you mean {meant}?)"
    elif kind == "Role":
        wrong = f"nobody is {who}: ask for somebody who has the role, --may User:NAME {operation} {what} --role {name}"
    elif resource not in RESOURCES:
        wrong = f"{resource!r} is not a kind of resource: {', '.join(RESOURCES)}"
    elif operation not in RESOURCES[resource]:
        wrong = f"{operation!r} is not an operation on a {resource}: {', '.join(RESOURCES[resource])}"
    elif bool(on) is (resource == "cluster"):
        wrong = "the cluster has no name: cluster" if on else f"a name is missing: {resource}:NAME"
    elif unclear := [each for each in claims if "=" not in each]:
        wrong = f"{unclear[0]!r} is not NAME=VALUE"
    if wrong:
        print(f"kafka-gateway: {wrong}", file=errors)
        return EXIT_WRONG
    attributes: dict[str, list[str]] = {}
    for each in claims:
        claim, _, value = each.partition("=")
        attributes.setdefault(claim, []).append(value)
    principal = Principal(name, frozenset(roles), kind=kind, attributes=attributes)
    authorizers = plugins.authorizers(config)
    decision = Decision(True, "no authorization.file, and no plugin's authorizer")
    for authorizer in authorizers:
        decision = authorizer.judge(principal)(operation, resource, on)
        if not decision.allowed:
            break
    reason = decision.rule or "no line allows it"
    if resource == "gateway" and on not in PARTS and not decision.rule:
        reason += f". The gateway has no part called {on}, if no plugin has: its own are {', '.join(PARTS)}"
    print(f"{'yes' if decision.allowed else 'no'}: {reason}", file=out)
    return EXIT_YES if decision.allowed else EXIT_NO
