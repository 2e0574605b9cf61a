"""Patterns of JSON Schemas are those of ECMA-262 (kafka-rest-http.md §4.8), held against a browser's engine: Node's."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import playwright
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kafka_gateway.codecs.json_schema import JsonSchema, JsonSchemaCodec
from kafka_gateway.schemas import Misfit, Schema, UnusableSchema

NODE = Path(playwright.__file__).parent / "driver" / "node"
TEXTS = [
    "", "a", "b", "A", "é", "ab", "aa", "aab", "a-b", "-", ".", "/", "\\", "&", "1", "2020", "٣", "_", " ", "\n", "a\n",
    "\u00a0", "\u180e", "\ufeff", "\u2028", "\x01", "\x00", "\b", "😀", "😀a", "\u03b1", "{", "}", "]", "a{,3}", "aéb",
    "éa b", "cA", "k", "x41", "p{L}", "AB", "aB", "Ab", "É", "K", "ſ", "S", "ß", "ẞ", "a\nb", "ς", "Σ", "1\r2", "kk",
]  # fmt: skip
WITH_U = [
    r"\p{L}+", r"^\p{Lu}$", r"^\P{L}$", r"^[^\p{L}\d]$", r"\p{Script=Greek}", r"^(?<y>\d{4})$", r"(?<y>a)\k<y>",
    "^[^]$", "[]", "^[]?a$", r"^\cA$", r"^\u{1F600}$", r"^\ud83d\ude00$", r"^[\ud83d\ude00-\ud83d\ude4f]$", "^.$",
    r"^\0$", r"^[\b]$", r"\bé", r"é\b", r"^\w\b", r"a\Bb", r"(?<=a)b", r"(?<!a)b", r"^(?!.*b).*$", r"^(a|b)\1$",
    r"^(a)(b)?$", r"^\s$", r"^\S$", r"^[\s]$", r"^\d$", r"^\D$", r"^\W$", r"^[^\W_]$", "^[a&&b]$", "^[&-~]$",
    r"^[\-\.\/\\]$", r"^a{2,3}?b?$", "(?:)", "^$", r"(?=a)b|c", r"^(?:a|b)*?$", r"\x41", "^\\u0061$",
    "(?:(?=a))*b", r"^[\w\-]$", r"^[-a]$", r"^[a-]$", r"\p{sc=Grek}", r"\p{Emoji_Presentation}",
    r"^(?=.{1,254}$)(?=.{1,64}b)\S+$", "^(?i:a)b$", "^(?i:é)$", "^(?i:[^a-j])$", r"^(?i:\w)$", r"^(?i:\W)$", "(?i:[k])",
    r"(?i:\bſ)", r"(?i:[^\W])", r"(?i:\B)", "^(?i:a(?-i:b))$", "^(?-i:a)$", "(?m:^b$)", "(?m:^)b", "^(?s:a.b)$",
    "a(?s-m:.)b", "^(?ims:a.B)$", "^(?i:[s-z])$", "^(?i:ß|σ)$", "(?m-i:1$)", "^(?i:[😀-😂])$", "(?:a|(?i:b))$",
    "^(?<x>(?i:k))(?:k)$",
]  # fmt: skip
"""Taken by a browser with its flag u, or with and without."""
WITHOUT_U = [
    r"^[\w-.]+$", r"^[\d-x]$", r"\_", "^a{,3}$", "^{$", "^]$", "^}$", r"^\-?$|a", r"^\k$", r"^\c$", r"^[\cA]$", r"\1",
    r"\8", r"^\x4$", "(?=a)*b", "x{1", r"^\p$", "a{2,1", r"[\_]", r"^[\w-]$",
]  # fmt: skip


def compiled(schema: Any, **more: Any) -> JsonSchema:
    return JsonSchemaCodec().compile(Schema("JSON", json.dumps(schema), **more))


def takes(schema: JsonSchema, value: Any) -> bool:
    try:
        schema.encode(json.dumps(value).encode())
    except Misfit:
        return False
    return True


def of_node(patterns: list[tuple[str, str]], texts: list[str]) -> list[list[bool] | None]:
    """Which texts match each pattern with its flag; None for what is no pattern."""
    program = """
      const [patterns, texts] = JSON.parse(require('fs').readFileSync(0, 'utf8'));
      console.log(JSON.stringify(patterns.map(([pattern, flag]) => {
        try {
          const found = new RegExp(pattern, flag);
          return texts.map(text => found.test(text))
        } catch { return null }
      })))
    """
    ran = subprocess.run([NODE, "-e", program], input=json.dumps([patterns, texts]), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    found: list[list[bool] | None] = json.loads(ran.stdout)
    return found


def test_the_verdicts_are_those_of_a_browser() -> None:
    patterns = [(each, "u") for each in WITH_U] + [(each, "") for each in WITHOUT_U]
    for (pattern, _), theirs in zip(patterns, of_node(patterns, TEXTS), strict=True):
        assert theirs is not None, pattern
        schema, names = compiled({"pattern": pattern}), compiled({"patternProperties": {pattern: False}})
        assert [takes(schema, text) for text in TEXTS] == theirs, pattern
        assert [not takes(names, {text: 1}) for text in TEXTS] == theirs, pattern


ATOMS = st.sampled_from(
    ["a", "b", ".", r"\d", r"\w", r"\S", "[ab]", "[^a]", r"[^\w]", r"\b", "^", "$", "-", r"\p{L}", "(?=a)", "(?<!b)"]
)
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=3).map("".join)
        | st.builds("(?:{}){}".format, inner, st.sampled_from(["", "?", "*", "+", "{2}", "{0,2}?"]))
        | st.builds("{}|{}".format, inner, inner)
        | st.builds("({})".format, inner)
        | st.builds("(?!{})".format, inner)
    ),
    max_leaves=8,
)


@settings(max_examples=10, deadline=None)
@given(
    st.lists(PATTERNS, min_size=20, max_size=60), st.lists(st.text("ab.- é\n1", max_size=6), min_size=10, max_size=20)
)
def test_random_patterns_have_the_verdicts_of_a_browser(patterns: list[str], texts: list[str]) -> None:
    for pattern, theirs in zip(patterns, of_node([(each, "u") for each in patterns], texts), strict=True):
        if theirs is None:
            with pytest.raises(UnusableSchema):
                compiled({"pattern": pattern})
        else:
            schema = compiled({"pattern": pattern})
            assert [takes(schema, text) for text in texts] == theirs, pattern


def test_what_java_and_python_write() -> None:
    assert [takes(compiled({"pattern": "(?i)^a[b-d]$"}), text) for text in ("AC", "ac", "aC\n", "ae")] == [
        True, True, False, False
    ]  # fmt: skip
    for pattern, said in (
        (r"\Aa", r"'\\\\Aa' cannot be judged: \\A means nothing in ECMA-262: write \^"),
        (r"[\h]", r"\\h means"),
    ):
        with pytest.raises(UnusableSchema, match=said):
            compiled({"pattern": pattern})


def test_a_letter_that_means_nothing_is_refused_as_by_the_flag_u() -> None:
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    half = set("cxuk")  # with nothing behind them they stand for themselves, as without the flag
    patterns = [f"\\{letter}{{L}}" if letter in "pP" else f"\\{letter}" for letter in letters]
    for pattern, theirs in zip(patterns, of_node([(each, "u") for each in patterns], []), strict=True):
        if theirs is None and pattern[1] not in half:
            with pytest.raises(UnusableSchema, match="means nothing in ECMA-262"):
                compiled({"pattern": pattern})
        else:
            compiled({"pattern": pattern})


def test_case_is_folded_as_by_a_browser() -> None:
    cased = [chr(code) for code in range(0x110000) if chr(code).lower() != chr(code) or chr(code).upper() != chr(code)]
    odd = [char for char in cased if char.casefold() != char.lower()]
    # Each with its neighbour in one class, to see that there are no more than there should be.
    patterns = [f"^(?i:[{first}-{chr(ord(first) + 1)}])$" for first in odd[::4] + cased[::80]]
    texts = odd + cased[::20]
    for pattern, theirs in zip(patterns, of_node([(each, "u") for each in patterns], texts), strict=True):
        schema = compiled({"pattern": pattern})
        assert [takes(schema, text) for text in texts] == theirs, pattern


def test_the_message_has_the_pattern_of_the_schema() -> None:
    for pattern in (r"^[\w-.]+$", r"^(?=a)\p{L}+$"):
        with pytest.raises(Misfit) as caught:
            compiled({"properties": {"a": {"pattern": pattern}}}).encode(b'{"a": "?"}')
        assert str(caught.value).startswith("a: ")
        assert f'does not match "{pattern}"' in str(caught.value)


def test_patterns_in_references() -> None:
    imported = json.dumps({"type": "string", "pattern": r"^(?=.*[A-Z])[\w-.]+$"})
    schema = compiled({"properties": {"a": {"$ref": "x.json"}}}, imports=(("x.json", imported),))
    assert [takes(schema, {"a": text}) for text in ("a-.B", "ab", "A?")] == [True, False, False]


@pytest.mark.parametrize(
    "pattern",
    [
        *("(?i:\\p{L})", r"(?i:(a)\1)", "(?ii:a)", "(?i-i:a)", "(?-:a)", "(?g:a)", "(?i:a", r"\Z", r"\z", r"\A"),
        *("(", "a**", "[b-a]", "(?<y>a)(?<y>b)", r"(?:(a)|b)\1", "(?>a)", "x{2,1}", "[", "\\", r"\p{Nothing}"),
        r"\p{L}{9000}",
        "(" * 2000,
    ],
)
def test_what_cannot_be_judged_is_named_when_it_is_written(pattern: str) -> None:
    for schema in ({"pattern": pattern}, {"patternProperties": {pattern: {}}}):
        with pytest.raises(UnusableSchema, match=r"pattern|regex"):
            compiled(schema)


def test_the_format_regex_is_that_of_ecma() -> None:
    schema = compiled({"format": "regex"})
    assert all(takes(schema, text) for text in ("[^]", r"[\w-.]", r"\p{L}"))
    assert not any(takes(schema, text) for text in ("(", "[b-a]", r"^\S(|(.|\n)*\S)\Z", r"\a"))


@pytest.mark.timing
@pytest.mark.parametrize(
    "pattern",
    [
        r"(?=.*x).*x",
        r"(?:(?=.*y)a)*x",
        r"^(a*)+\1$b",
        r"^(?:a|a(?=a))*$b",
        r"(?:a|aa)*a[ab]{3000}c",
        r"(?:(?!b)a){90}(?:a|aa)*x\b",
    ],
)
@pytest.mark.parametrize("length", [300, 60_000])
def test_no_pattern_takes_long(pattern: str, length: int) -> None:
    text = "a" * length
    for schema, value in (
        ({"not": {"pattern": pattern}}, text),
        ({"items": {"pattern": pattern}}, [text] * (200_000 // length)),
        ({"patternProperties": {pattern: {}}}, {f"{i}{text}": 1 for i in range(200_000 // length)}),
    ):
        found = compiled(schema)
        began = time.thread_time()
        takes(found, value)
        assert time.thread_time() - began < 3, schema
