"""Names from certificates: Kafka's ``ssl.principal.mapping.rules``, by the cases of its own tests (KIP-371)."""

from __future__ import annotations

from pathlib import Path

import pytest

from kafka_gateway.authenticators.mapping_rules import read_mapping_rules, subject_of
from tests.transports.authority import Authority


def name_of(rules: str, subject: str) -> str | None:
    return next((name for rule in read_mapping_rules(rules) if (name := rule.name_of(subject)) is not None), None)


RULES = (
    "RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/L, RULE:^CN=(.*?),OU=(.*?),O=(.*?),L=(.*?),ST=(.*?),C=(.*?)$/$1@$2/L, "
    "RULE:^cn=(.*?),ou=(.*?),dc=(.*?),dc=(.*?)$/$1@$2/U, RULE:^.*[Cc][Nn]=([a-zA-Z0-9.]*).*$/$1/U, DEFAULT"
)


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ("CN=Duke,OU=ServiceUsers,O=Org,C=US", "duke"),
        ("CN=Duke,OU=SME,O=mycp,L=Fulton,ST=MD,C=US", "duke@sme"),
        ("cn=duke,ou=sme,dc=mycp,dc=com", "DUKE@SME"),
        ("cN=duke,OU=JavaSoft,O=Sun Microsystems", "DUKE"),
        ("OU=JavaSoft,O=Sun Microsystems,C=US", "OU=JavaSoft,O=Sun Microsystems,C=US"),
    ],
)
def test_rules_of_kafkas_tests(subject: str, name: str) -> None:
    assert name_of(RULES, subject) == name


@pytest.mark.parametrize(
    ("rules", "subject", "name"),
    [
        ("DEFAULT", "CN=ann", "CN=ann"),
        ("", "CN=ann", "CN=ann"),
        ("RULE:^CN=bob$/x/", "CN=ann", None),
        ("RULE:^CN=(.*)$/$1/", "CN=ann,OU=x", "ann,OU=x"),
        ("RULE:^CN=([^,]*)/$1/", "CN=ann,OU=x", None),  # a pattern fits the whole subject, or not at all
        (r"RULE:^CN=([^,]*),.*$/svc-$1\/x/", "CN=ann,OU=x", "svc-ann/x"),
        (r"RULE:^CN=(.*)\/b$/$1/", "CN=a/b", "a"),
        ("RULE:^CN=(.*)$/$1\\$2/", "CN=ann", "ann$2"),
        ("RULE:^CN=(.*)$/$0/", "CN=ann", "CN=ann"),
        ("RULE:^CN=(.*)$/$12/", "CN=ann", "ann2"),
        ("RULE:^CN=(.*)$/\\$1/", "CN=ann", "$1"),
        ("RULE:^CN=(.*),O=(a|b)$/$1,$2/U,DEFAULT", "CN=ann,O=a", "ANN,A"),
    ],
)
def test_rules(rules: str, subject: str, name: str | None) -> None:
    assert name_of(rules, subject) == name


@pytest.mark.parametrize(
    "rules",
    [
        "foo",
        "RULE:",
        "RULE:^CN=(.*)$",
        "RULE:(/$1/",
        "RULE:a/b/X",
        "DEFAULT,foo",
        r"RULE:(?=a)b/c/",
        "RULE:a/b/L DEFAULT",
        "RULE:^CN=(.*)$/$2/",
        "RULE:^CN=(.*)$/$1$20/",
        "RULE:^CN=.*$/$1/",
        "RULE:^CN=(.*)$/$1$/",
        "RULE:^CN=(?P<name>.*)$/${name}/",
        "RULE:^CN=(.*)$/$1/,RULE:^O=(.*)$/$3/",
    ],
)
def test_rules_that_are_refused(rules: str) -> None:
    with pytest.raises(ValueError, match=r"RULE|RE2"):
        read_mapping_rules(rules)


@pytest.mark.parametrize(
    ("written", "subject"),
    [
        ("C=US / O=Example / OU=Shop / CN=ann", "CN=ann,OU=Shop,O=Example,C=US"),
        ("CN=Lee, Ann", "CN=Lee\\, Ann"),
        ("CN= ann ", "CN=\\ ann\\ "),
        ("CN=a+b<c>d;e=f#g", "CN=a\\+b\\<c\\>d\\;e\\=f\\#g"),
        ("DC=org / DC=example / CN=é", "CN=é,DC=example,DC=org"),
        ("E=a@b / CN=ann", "CN=ann,1.2.840.113549.1.9.1=#1603614062"),
        ("", ""),
    ],
)
def test_subjects_are_written_as_java_writes_them(tmp_path: Path, written: str, subject: str) -> None:
    signed = Authority(tmp_path).sign(written, uris=["spiffe://x/y"])
    assert subject_of(signed.certificate) == subject
