"""The properties format: the examples of java.util.Properties, and that any text is survived."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_gateway.settings.properties import decode_properties, escape_key, escape_value, parse_properties

WRITABLE = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # The examples of the Java documentation.
        ("Truth = Beauty", [(1, "Truth", "Beauty")]),
        ("   Truth:Beauty", [(1, "Truth", "Beauty")]),
        ("Truth                   :Beauty", [(1, "Truth", "Beauty")]),
        (
            "fruits                 apple, banana, pear, \\\n"
            "                       cantaloupe, watermelon, \\\n"
            "                       kiwi, mango\n",
            [(1, "fruits", "apple, banana, pear, cantaloupe, watermelon, kiwi, mango")],
        ),
        ("cheeses", [(1, "cheeses", "")]),
        # Comments and blank lines, every line end, place of the key.
        ("# a\n! b\n\n  # c\nk=v", [(5, "k", "v")]),
        ("a=1\r\nb=2\rc=3\nd=4", [(1, "a", "1"), (2, "b", "2"), (3, "c", "3"), (4, "d", "4")]),
        ("# no continuation \\\nk=v", [(2, "k", "v")]),
        ("a=1\\\n\nb=2", [(1, "a", "1"), (3, "b", "2")]),
        ("a=1,\\\n# no comment\n", [(1, "a", "1,# no comment")]),
        ("a=1\\", [(1, "a", "1")]),
        ("a=1\\\\\nb=2", [(1, "a", "1\\"), (2, "b", "2")]),
        # Separators.
        ("a b=c", [(1, "a", "b=c")]),
        ("a\tb", [(1, "a", "b")]),
        ("a==b", [(1, "a", "=b")]),
        ("a = = b", [(1, "a", "= b")]),
        ("=v", [(1, "", "v")]),
        (r"a\=b\:c\ d=v", [(1, "a=b:c d", "v")]),
        # Blanks at the end belong to the value.
        ("a=1 \t", [(1, "a", "1 \t")]),
        # Escapes.
        (r"a=\t\n\r\f\\\q\"", [(1, "a", '\t\n\r\f\\q"')]),
        (r"\u0061=\u00e4\u20AC", [(1, "a", "ä€")]),
        (r"a=\ud83d\ude00", [(1, "a", "😀")]),
        (r"a=\u12", [(1, "a", "u12")]),
        (r"path=C:\\dir", [(1, "path", r"C:\dir")]),
        # Duplicates are all there.
        ("a=1\na=2", [(1, "a", "1"), (2, "a", "2")]),
    ],
)
def test_rules_of_java(text: str, expected: list[tuple[int, str, str]]) -> None:
    assert [tuple(entry) for entry in parse_properties(text)] == expected


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    for entry in parse_properties(text):
        assert 1 <= entry.line <= len(text) + 1


@given(st.text(alphabet="\\u0aA =:#!\n\r\t\f"))
def test_any_text_of_the_special_characters_is_read(text: str) -> None:
    parse_properties(text)


@given(st.binary())
def test_any_bytes_are_read(content: bytes) -> None:
    parse_properties(decode_properties(content))


@given(st.lists(st.tuples(WRITABLE, WRITABLE)))
def test_what_is_written_is_read_again(entries: list[tuple[str, str]]) -> None:
    text = "".join(f"{escape_key(key)}={escape_value(value)}\n" for key, value in entries)
    assert [(entry.key, entry.value) for entry in parse_properties(text)] == entries


def test_utf_8_with_mark_and_latin_1() -> None:
    assert decode_properties(b"\xef\xbb\xbfa=\xc3\xa4") == "a=ä"
    assert decode_properties(b"a=\xe4") == "a=ä"
