"""The form of the authorisation file: what lines mean, and where a faulty one says that it is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_gateway.authorizers.rules_file import (
    QUOTAS,
    NamePattern,
    PrincipalPattern,
    QuotaLine,
    Rule,
    read_principal,
    read_rules,
)
from kafka_gateway.rights import OPERATIONS, RESOURCES
from tests.examples import examples


def one(line: str) -> Rule | QuotaLine:
    file, faults = read_rules(line)
    assert not faults, faults
    return (*file.rules, *file.quotas)[0]


def fault(line: str) -> str:
    file, faults = read_rules(line)
    assert (file.rules, file.quotas) == ((), ())
    assert len(faults) == 1, faults
    return str(faults[0])


def test_a_rule() -> None:
    assert one("  allow\tUser:alice  read,describe topic:orders  # the team's\r") == Rule(
        True,
        PrincipalPattern("User", "alice", False),
        frozenset({"read", "describe"}),
        "topic",
        NamePattern((("text", "orders"),), False),
        1,
        "allow\tUser:alice  read,describe topic:orders",
    )


def test_stars() -> None:
    rule = one("deny Role:* all group:analytics.*")
    assert isinstance(rule, Rule)
    assert rule.principal == PrincipalPattern("Role", "", True)
    assert rule.name == NamePattern((("text", "analytics."),), True)
    assert rule.operations == frozenset(RESOURCES["group"])
    everything = one("allow * all *")
    assert isinstance(everything, Rule)
    assert everything.principal == PrincipalPattern("", "", True)
    assert (everything.resource, everything.operations) == ("", frozenset(OPERATIONS))
    assert one("allow User:* describe cluster") == one("allow User:* describe cluster")


def test_placeholders() -> None:
    rule = one("allow User:* all topic:home.${name}.${claim:org.tenant}*")
    assert isinstance(rule, Rule)
    assert rule.name == NamePattern((("text", "home."), ("name", ""), ("text", "."), ("claim", "org.tenant")), True)


def test_words_with_blanks() -> None:
    rule = one(r'allow "User:CN=a b, O=\"x\" \\" read "group:my group"')
    assert isinstance(rule, Rule)
    assert rule.principal.name == r'CN=a b, O="x" ' + "\\"
    assert rule.name.parts == (("text", "my group"),)


@pytest.mark.parametrize(
    "line", ["deny Userlike:a all *", "allow User:a read gateway:ticks", "allow User:a read gateway:con*"]
)
def test_kinds_and_parts_of_plugins(line: str) -> None:
    assert isinstance(one(line), Rule)


def test_quotas() -> None:
    line = one("quota User:alice produce.bytes.per.sec=1000000 streams=0")
    assert isinstance(line, QuotaLine)
    assert line.limits == {"produce.bytes.per.sec": 1_000_000, "streams": 0}


def test_lines_that_say_nothing() -> None:
    file, faults = read_rules("\ufeff# heading\n\n   \t\n  # more\r\n")
    assert (file.rules, file.quotas, faults) == ((), (), [])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("alow User:a read topic:t", "column 1: 'alow' is not allow, deny or quota (did you mean allow?)"),
        ("allow", "column 6: a principal is expected here, such as User:alice"),
        ("allow   # nothing", "column 9: a principal is expected"),
        ("allow alice read topic:t", "column 7: 'alice' is not KIND:NAME"),
        ("allow User: read topic:t", "column 7: 'User:' is not KIND:NAME"),
        ("deny user:a all *", "column 6: 'user' is not a kind of principal (did you mean User?)"),
        ("deny USER:a all *", "column 6: 'USER' is not a kind of principal (did you mean User?)"),
        ("quota role:a streams=1", "column 7: 'role' is not a kind of principal (did you mean Role?)"),
        ("allow User:a*b read topic:t", "column 13: a * can stand at the end only"),
        ("allow User:${name} read topic:t", "column 12: a placeholder can stand in the name of a resource only"),
        ("allow User:a", "column 13: operations are expected here"),
        ("allow User:a read", "column 18: a resource is expected here"),
        ("allow User:a read,wriet topic:t", "column 19: 'wriet' is not an operation (did you mean write?)"),
        ("allow User:a read,, topic:t", "column 19: '' is not an operation"),
        ("allow User:a read cluster", "column 14: nobody can read a cluster"),
        ("allow User:a describe,read transactional-id:t", "column 23: nobody can read a transactional-id"),
        ("allow User:a read topics:t", "column 19: 'topics' is not a kind of resource (did you mean topic?)"),
        ("allow User:a read topic", "column 24: a colon and a name are expected here, such as topic:*"),
        ("allow User:a read topic:", "column 25: the name of a topic is expected here"),
        ("allow User:a read topic:a/b", "column 26: no topic has '/' in its name"),
        ("allow User:a read topic:*.b", "column 25: a * can stand at the end only"),
        ("allow User:a read topic:a*${name}", "column 26: a * can stand at the end only"),
        ("allow User:a read topic:a.${nam}", "column 27: '${nam}' is not ${name} or ${claim:NAME}"),
        ("allow User:a read topic:a.${name", "column 27: the placeholder has no end"),
        ("allow User:a describe cluster:x", "column 31: the cluster has no name"),
        ("allow User:a read gateway:consol", "column 27: 'consol' is not a part of the gateway"),
        ("allow User:a read gateway:Admin", "column 27: 'Admin' is not a part of the gateway (did you mean admin?)"),
        ("allow User:a read gateway:metrik*", "column 27: 'metrik' is not a part of the gateway"),
        ("allow User:a read topic:\udcff", "column 25: the byte 0xff is not UTF-8"),
        ("allow User:a read topic:a group:b", "column 27: nothing is expected here"),
        ('allow "User:a read topic:a', "column 7: the quotation mark has no end"),
        ('allow "User:a"read topic:a', "column 15: a blank is expected behind the quotation mark"),
        ("allow User:a\u200b read topic:a", "column 13: '\\u200b' cannot be printed"),
        ("quota User:a", "column 13: a limit is expected here"),
        ("quota User:a streems=1", "column 14: 'streems' is not a quota (did you mean streams?)"),
        ("quota User:a streams=x", "column 22: a whole number is expected here"),
        ("quota User:a streams", "column 21: a whole number is expected here"),
        ("quota User:a streams=1 streams=2", "column 24: streams stands twice"),
        ("#" * 20_000, "column 10000: a line has 10000 characters at most"),
    ],
)  # fmt: skip
def test_a_faulty_line_says_where_and_what_is_expected(line: str, said: str) -> None:
    assert f"line 1, {said}" in fault(line)


def test_all_faulty_lines_are_told() -> None:
    _, faults = read_rules("allow User:a read topic:t\nalow\nallow User:b all topic:*\n\ndeny nobody")
    assert [(each.line, each.column) for each in faults] == [(2, 1), (5, 6)]


def test_a_principal_of_the_configuration() -> None:
    assert read_principal("User:admin") == PrincipalPattern("User", "admin", False)
    with pytest.raises(ValueError, match="is not KIND:NAME"):
        read_principal("admin")


@given(st.text(st.sampled_from('allowdenyquotuserUR:*, \t\n"\\#${}claimnametopic.gp=0é\x00\u2028'), max_size=200))
@examples(300)
def test_no_text_breaks_the_reader(text: str) -> None:
    """Whatever stands there, it is a rule, nothing, or a fault that lies within the text."""
    _, faults = read_rules(text)
    lines = text.split("\n")
    for each in faults:
        assert 1 <= each.line <= len(lines)
        assert 1 <= each.column <= len(lines[each.line - 1]) + 1, each


@given(
    st.sampled_from(("allow", "deny")),
    st.sampled_from(("User", "Role", "Service")),
    st.text(
        st.characters(codec="utf-8", categories=("L", "N", "P"), include_characters=" ", exclude_characters="*$"),
        min_size=1,
    ),
    st.sampled_from(tuple(RESOURCES)),
    st.data(),
)
def test_what_is_written_is_read(effect: str, kind: str, name: str, resource: str, data: st.DataObject) -> None:
    operations = data.draw(st.sets(st.sampled_from(RESOURCES[resource]), min_size=1))
    quoted = f"{kind}:{name}".replace("\\", "\\\\").replace('"', '\\"')
    target = resource if resource == "cluster" else f"{resource}:x"
    rule = one(f'{effect} "{quoted}" {",".join(operations)} {target}')
    assert isinstance(rule, Rule)
    assert (rule.allows, rule.operations, rule.resource) == (effect == "allow", operations, resource)
    assert rule.principal == PrincipalPattern(kind, name, False)


@given(st.dictionaries(st.sampled_from(QUOTAS), st.integers(0, 10**15 - 1), min_size=1))
def test_quotas_that_are_written_are_read(limits: dict[str, int]) -> None:
    line = one("quota User:a " + " ".join(f"{key}={number}" for key, number in limits.items()))
    assert isinstance(line, QuotaLine)
    assert line.limits == limits
