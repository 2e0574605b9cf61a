"""What the rules decide: the words of security.md §3, and any set of rules against the simplest way to judge it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_gateway.authorizers.policy import IMPLIED, Policy, texts_of
from kafka_gateway.authorizers.rules_file import PrincipalPattern, Rule, read_rules
from kafka_gateway.rights import OPERATIONS, RESOURCES
from kafka_gateway.session import Principal
from tests.examples import examples

EXAMPLE = """
allow     User:alice       read,describe     topic:orders
allow     Role:analytics   read              topic:public.*
allow     Role:analytics   read              group:analytics.*
allow     User:*           describe          cluster
allow     User:bob         all               topic:*
deny      User:*           write             topic:audit.*
allow     User:*           all               topic:home.${name}.*
allow     User:*           read              topic:t.${claim:tenant}.events
"""


def policy(text: str, *super_users: PrincipalPattern) -> Policy:
    file, faults = read_rules(text)
    assert not faults, faults
    return Policy(file, super_users)


def may(text: str, principal: Principal, operation: str, resource: str, name: str = "") -> bool:
    return policy(text).rules_of(principal).decide(operation, resource, name).allowed


ALICE, BOB = Principal("alice"), Principal("bob")
ANALYST = Principal("ann", frozenset({"analytics"}))


@pytest.mark.parametrize(
    ("principal", "operation", "resource", "name", "allowed"),
    [
        (ALICE, "read", "topic", "orders", True),
        (ALICE, "write", "topic", "orders", False),
        (ALICE, "read", "topic", "orders2", False),
        (ALICE, "read", "topic", "Orders", False),
        (ALICE, "read", "group", "orders", False),
        (ANALYST, "read", "topic", "public.a", True),
        (ANALYST, "describe", "topic", "public.a", True),  # implied
        (ANALYST, "write", "topic", "public.a", False),
        (ANALYST, "read", "topic", "public", False),
        (ANALYST, "read", "group", "analytics.1", True),
        (ALICE, "describe", "cluster", "", True),
        (ALICE, "alter", "cluster", "", False),
        (BOB, "write", "topic", "orders", True),
        (BOB, "write", "topic", "audit.log", False),  # deny beats allow
        (BOB, "read", "topic", "audit.log", True),
        (BOB, "describe", "topic", "audit.log", True),  # a denied write denies no more than that
        (ALICE, "write", "topic", "home.alice.x", True),
        (ALICE, "write", "topic", "home.bob.x", False),
        (Principal("*"), "write", "topic", "home.bob.x", False),  # what is filled in stands for itself
        (Principal("c", attributes={"tenant": "acme"}), "read", "topic", "t.acme.events", True),
        (Principal("c", attributes={"tenant": ["a", "b"]}), "read", "topic", "t.b.events", True),
        (Principal("c", attributes={"tenant": ""}), "read", "topic", "t..events", False),
        (Principal("c", attributes={}), "read", "topic", "t..events", False),
        (Principal("c", attributes={"tenant": {"x": 1}}), "read", "topic", "t.x.events", False),
        (Principal("alice", kind="Service"), "read", "topic", "orders", False),
        (Principal("analytics", kind="Role"), "read", "topic", "public.a", False),  # a kind called Role is no role
    ],
)
def test_the_example(principal: Principal, operation: str, resource: str, name: str, allowed: bool) -> None:
    assert may(EXAMPLE, principal, operation, resource, name) is allowed


def test_the_line_that_decides() -> None:
    rules = policy(EXAMPLE).rules_of(BOB)
    denied = rules.decide("write", "topic", "audit.x")
    assert not denied.allowed
    assert denied.rule == "line 7: deny      User:*           write             topic:audit.*"
    assert rules.decide("read", "group", "g").rule == ""


def test_super_users_may_everything_that_is_denied_to_all() -> None:
    strict = policy("deny * all *", PrincipalPattern("User", "admin", False), PrincipalPattern("Role", "ops", False))
    for principal in (Principal("admin"), Principal("x", frozenset({"ops"}))):
        decision = strict.rules_of(principal).decide("write", "topic", "a")
        assert (decision.allowed, decision.rule) == (True, "authorization.super.users")
    assert not strict.rules_of(Principal("x")).decide("write", "topic", "a").allowed


def test_a_claim_on_a_path() -> None:
    inside = Principal("c", attributes={"org": {"tenant": ["a", 7, True, None]}, "org.x": "literal"})
    assert texts_of(inside, "org.tenant") == ["a", "7"]
    assert texts_of(inside, "org.x") == ["literal"]
    assert texts_of(inside, "org.tenant.x") == []


def test_a_claim_with_too_many_values_denies_all_and_allows_none() -> None:
    many = Principal("c", attributes={"t": [str(number) for number in range(200)]})
    double = "topic:${claim:t}.${claim:t}"
    assert not may(f"allow User:* read {double}", many, "read", "topic", "1.1")
    assert not may(f"allow User:* read topic:*\ndeny User:* read {double}", many, "read", "topic", "x")
    few = Principal("c", attributes={"t": ["1", "2"]})
    assert may(f"allow User:* read {double}", few, "read", "topic", "1.2")


def test_quotas_of_the_line_that_is_nearest() -> None:
    quotas = policy(
        "quota User:alice streams=1\nquota User:* streams=2 connections=5\nquota User:al* streams=3 connections=6\n"
        "quota Role:a connections=7\nquota Role:b connections=9\nquota * requests.per.sec=4\n"
    )
    assert quotas.quotas_of(ALICE) == {"streams": 1, "connections": 6, "requests.per.sec": 4}
    both = Principal("zoe", frozenset({"a", "b"}))
    assert quotas.quotas_of(both) == {"streams": 2, "connections": 9, "requests.per.sec": 4}
    assert quotas.quotas_of(Principal("x", kind="Service")) == {"requests.per.sec": 4}


def test_quotas_of_roles_are_the_most_generous() -> None:
    quotas = policy("quota Role:a streams=0\nquota Role:b streams=9")
    assert quotas.quotas_of(Principal("x", frozenset({"a", "b"}))) == {"streams": 0}


# --- any rules -------------------------------------------------------------------------------------------------------

_names = st.text(st.sampled_from("ab."), min_size=1, max_size=4)


@st.composite
def lines(draw: st.DrawFn) -> str:
    resource = draw(st.sampled_from((*RESOURCES, "*")))
    known = RESOURCES.get(resource, OPERATIONS)
    operations = draw(
        st.one_of(st.just("all"), st.lists(st.sampled_from(known), min_size=1, unique=True).map(",".join))
    )
    name = draw(_names) + draw(st.sampled_from(("", "*"))) if draw(st.booleans()) else "*"
    name = draw(st.sampled_from((name, "${name}.*", "a${claim:c}")))
    target = resource if resource in ("cluster", "*") else f"{resource}:{name}"
    who = draw(st.sampled_from(("*", "User:a", "User:*", "User:a*", "Role:r", "Role:*", "Service:a")))
    return f"{draw(st.sampled_from(('allow', 'deny')))} {who} {operations} {target}"


def simplest(rules: tuple[Rule, ...], who: Principal, operation: str, resource: str, name: str) -> bool:
    """Every rule looked at, one after the other."""

    def fits(rule: Rule) -> bool:
        operations = set(rule.operations)
        if rule.allows:
            operations |= {implied for each in rule.operations for implied in IMPLIED.get(each, ())}
        if rule.resource not in ("", resource) or operation not in operations:
            return False
        if not rule.principal.matches(who.kind, who.name, who.roles):
            return False
        text = ""
        for kind, part in rule.name.parts:
            text += part if kind == "text" else who.name if kind == "name" else str(who.attributes.get(part, "\x00"))
        return name.startswith(text) if rule.name.is_prefix else name == text

    fitting = [rule for rule in rules if fits(rule)]
    return bool(fitting) and all(rule.allows for rule in fitting)


@given(
    st.lists(lines(), max_size=12),
    st.sampled_from(("a", "ab", "b")),
    st.sampled_from(("User", "Service")),
    st.sets(st.sampled_from(("r", "s"))),
    st.sampled_from(({}, {"c": "b"})),
    st.sampled_from(OPERATIONS),
    st.sampled_from(tuple(RESOURCES)),
    _names,
)
@examples(500)
def test_any_rules_decide_as_the_simplest_way_does(
    text: list[str], name: str, kind: str, roles: set[str], claims: dict[str, str], operation: str, resource: str,
    on: str,
) -> None:  # fmt: skip
    file, faults = read_rules("\n".join(text))
    assert not faults
    who = Principal(name, frozenset(roles), kind=kind, attributes=claims)
    asked = "" if resource == "cluster" else on
    decision = Policy(file).rules_of(who).decide(operation, resource, asked)
    assert decision.allowed is simplest(file.rules, who, operation, resource, asked)
    assert decision.rule == "" or (" allow " in decision.rule) is decision.allowed
