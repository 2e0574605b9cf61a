"""Kafka's messages by description: what is written can be read, and what is broken is refused."""

from __future__ import annotations

from typing import Any

import pytest

from kafka_gateway.wire import apis
from kafka_gateway.wire.frames import WireError
from kafka_gateway.wire.schema import TEXT_MAX, Layout, TextTooLong

APIS = [each for each in vars(apis).values() if isinstance(each, apis.Api)]
EVERYTHING = (
    ("small", "int8"),
    ("number", "int64"),
    ("flag", "bool"),
    ("text", "string"),
    ("numbers", ["int32"]),
    ("texts", ["string"]),
    ("rows", [("name", "string"), ("inner", [("id", "int16")])]),
    ("part", (("name", "string"),)),
)
VALUE: dict[str, Any] = {
    "small": -1,
    "number": 2**40,
    "flag": True,
    "text": "é" * 200,
    "numbers": [1, -2],
    "texts": ["a", ""],
    "rows": [{"name": "x", "inner": [{"id": 1}, {"id": 2}]}, {"name": "y", "inner": []}],
    "part": {"name": "z"},
}
NULLS = VALUE | {"text": None, "numbers": None, "rows": []}


@pytest.mark.parametrize("flexible", [False, True])
def test_a_text_that_brokers_do_not_read_is_not_sent(flexible: bool) -> None:
    """They close the connection instead of an answer, and the gateway asked again for five seconds."""
    layout = Layout([("text", "string")], flexible)
    assert layout.decode(layout.encode({"text": "x" * TEXT_MAX}))["text"] == "x" * TEXT_MAX
    with pytest.raises(TextTooLong, match="32768 bytes"):
        layout.encode({"text": "é" * (TEXT_MAX // 2 + 1)})


@pytest.mark.parametrize("fields", [EVERYTHING, list(EVERYTHING)])
@pytest.mark.parametrize("flexible", [False, True])
def test_what_is_written_can_be_read(fields: Any, flexible: bool) -> None:
    layout = Layout(fields, flexible)
    for value in (VALUE, NULLS):
        data = layout.encode(value)
        assert layout.decode(data) == value
        assert layout.decode(b"head" + data + b"more", 4) == value
        for end in range(len(data)):
            with pytest.raises(WireError):
                layout.decode(data[:end])


def test_tags_are_skipped() -> None:
    layout = Layout((("a", "int8"), ("rows", [("b", "int8")])), True)
    tags = b"\x01\x05\x02xx"  # one, number 5, two bytes
    assert layout.decode(b"\x01\x02\x07" + tags + tags) == {"a": 1, "rows": [{"b": 7}]}


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_requests_of_every_version_are_objects(api: apis.Api) -> None:
    """An empty object lacks a field, or there is none: a description never stands for something else."""
    numbers = [version.number for version in api.versions]
    assert numbers == sorted(numbers, reverse=True)
    for version in api.versions:
        if api is apis.API_VERSIONS or (api is apis.LIST_GROUPS and version.number < 4):
            assert version.request.encode({}) in (b"", b"\0")
        else:
            with pytest.raises(KeyError):
                version.request.encode({})
