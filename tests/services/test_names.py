"""Names, query parameters and instants."""

from __future__ import annotations

import pytest

from kafka_gateway.errors import NotFound, Unprocessable
from kafka_gateway.kafka_errors import KafkaAuthorization, KafkaRefused
from kafka_gateway.services.common.names import TopicRules, check_group, check_instance, is_topic
from kafka_gateway.services.common.query import read_long
from kafka_gateway.services.common.timestamps import parse_instant
from tests.services.conftest import configuration


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "a" * 249, "...", "__consumer_offsets"])
def test_topics(name: str) -> None:
    assert is_topic(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a" * 250, "a b", "a\0b", "^.*", "a/b", "\u0430", "a\n", "a\u200b"])
def test_no_topics(name: str) -> None:
    assert not is_topic(name)
    assert isinstance(TopicRules(configuration()).refusal(name), KafkaRefused)


def test_internal_topics() -> None:
    closed, opened = TopicRules(configuration()), TopicRules(configuration(topics_internal_allow="true"))
    assert isinstance(closed.refusal("__x"), KafkaAuthorization)
    assert closed.refusal("_x") is None
    assert opened.refusal("__x") is None


@pytest.mark.parametrize("check", [check_group, check_instance])
def test_groups_and_instances(check: type) -> None:
    for name in ("g", "g x", "\u00e9", "n" * 255, "a/b", "^.*"):
        check(name)
    for name in ("", " ", "g\0x", "g\nx", "\x7f", "n" * 256, "\ud800", "\u202e"):
        with pytest.raises(Unprocessable):
            check(name)


@pytest.mark.parametrize(
    ("text", "value"), [("5", 5), ("-5", -5), ("+5", 5), ("007", 7), ("", 1), (str(2**63 - 1), 2**63 - 1)]
)
def test_longs(text: str, value: int) -> None:
    assert read_long({"n": text}, "n", 1) == value
    assert read_long({}, "n", 1) == 1


@pytest.mark.parametrize("text", ["x", "1.5", " 1", "1_0", str(2**63), "9" * 5000, "\u0661", "-", "1e3"])
def test_no_longs(text: str) -> None:
    with pytest.raises(NotFound):
        read_long({"n": text}, "n", 1)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2020-01-01T00:00:00.123Z", 1577836800123),
        ("2020-01-01T00:00:00.1239999Z", 1577836800123),
        ("2020-01-01T02:00+02:00", 1577836800000),
        ("1969-12-31T23:59:59.999Z", -1),
        ("1969-12-31T23:59:59.9999Z", -1),
    ],
)
def test_instants(text: str, ms: int) -> None:
    assert parse_instant(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "2020-01-01",
        "2020-01-01T00:00:00",
        "20200101T000000Z",
        "2020-13-01T00:00:00Z",
        "",
        "x",
        "0000-01-01T00:00Z",
    ],
)
def test_no_instants(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (several texts)
        parse_instant(text)
