"""JSON to the bytes of Java's serialisers and back (websocket-proxy.md §1.7, checklist 34)."""

from __future__ import annotations

import struct

import pytest

from kafka_gateway.transports.websocket_proxy.formats import FORMATS, java_decimal, normal_json


@pytest.mark.parametrize(
    ("name", "text", "stored"),
    [
        ("string", '"bar"', b"bar"),
        ("string", '""', b""),
        ("string", '"zw\\u00f6lf"', "zwölf".encode()),
        ("json", ' {"a" : 1.10, "b":[1E5, -0], "c":"\\/\\u00e9"} ', '{"a":1.10,"b":[1E5,-0],"c":"/é"}'.encode()),
        ("json", '{"a":1,"a":2}', b'{"a":2}'),
        ("json", "123456789012345678901234567890", b"123456789012345678901234567890"),
        ("json", "null", b"null"),
        ("int", "1", b"\0\0\0\1"),
        ("int", "-2147483648", b"\x80\0\0\0"),
        ("int", '"8"', b"\0\0\0\x08"),
        ("int", "10.0", b"\0\0\0\x0a"),
        ("int", "1e2", b"\0\0\0\x64"),
        ("short", "-2", b"\xff\xfe"),
        ("long", "9223372036854775807", b"\x7f" + b"\xff" * 7),
        ("double", "0.1", struct.pack(">d", 0.1)),
        ("double", '"1.5"', struct.pack(">d", 1.5)),
        ("double", "1e999", struct.pack(">d", float("inf"))),
        ("double", "null", b"\x7f\xf8" + b"\0" * 6),
        ("float", "0.1", struct.pack(">f", 0.1)),
        ("float", "-1e39", struct.pack(">f", float("-inf"))),
        ("bytearray", '"AAEC"', b"\0\1\2"),
        ("byte_array", '"AAE"', b"\0\1"),
        ("avro", '""', b""),
    ],
)
def test_what_is_stored(name: str, text: str, stored: bytes) -> None:
    assert FORMATS[name].store(text.encode()) == stored


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("string", "5"),
        ("string", "null"),
        ("int", "10.01"),
        ("int", "2147483648"),
        ("int", "1e999999999"),
        ("int", "true"),
        ("int", "null"),
        ("int", '""'),
        ("int", '"abc"'),
        ("short", "32768"),
        ("long", "9223372036854775808"),
        ("double", '"NaN"'),
        ("double", "false"),
        ("float", "[]"),
        ("bytearray", '"AA-_"'),
        ("bytearray", '"AA EC"'),
        ("bytearray", '"AAE=C"'),
        ("bytearray", '"A"'),
        ("bytearray", "1"),
        ("json", "NaN"),
        ("json", "{"),
        ("json", "[" * 100_000),
    ],
)
def test_what_is_refused(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        FORMATS[name].store(text.encode())


@pytest.mark.parametrize(
    ("name", "stored", "text"),
    [
        ("string", b"a\xff\xc3(", '"a\ufffd\ufffd("'),
        ("string", b'"\n', '"\\"\\n"'),
        ("json", b' {"a": 1.10}\n', '{"a":1.10}'),
        ("int", b"\xff\xff\xff\xff", "-1"),
        ("short", b"\xff\xfe", "-2"),
        ("long", b"\x80" + b"\0" * 7, "-9223372036854775808"),
        ("double", struct.pack(">d", 1e300), "1.0E300"),
        ("double", struct.pack(">d", float("nan")), "null"),
        ("float", struct.pack(">f", 0.1), "0.1"),
        ("float", struct.pack(">f", 16777216), "1.6777216E7"),
        ("float", b"\x7f\x7f\xff\xff", "3.4028235E38"),
        ("float", struct.pack(">f", float("-inf")), "null"),
        ("bytearray", b"\0\1", '"AAE="'),
    ],
)
def test_what_is_shown(name: str, stored: bytes, text: str) -> None:
    assert FORMATS[name].load(stored).decode() == text


@pytest.mark.parametrize(
    ("name", "stored"),
    [("int", b"\0\0\1"), ("float", b"\0" * 8), ("double", b"abc"), ("json", b"{"), ("json", b'"\xff"')],
)
def test_what_cannot_be_shown(name: str, stored: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        FORMATS[name].load(stored)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (7.0, "7.0"),
        (1234.5, "1234.5"),
        (0.001, "0.001"),
        (0.00012, "1.2E-4"),
        (1e7, "1.0E7"),
        (9999999.0, "9999999.0"),
        (12345678.0, "1.2345678E7"),
        (5e-324, "5.0E-324"),
        (1.7976931348623157e308, "1.7976931348623157E308"),
        (100.0, "100.0"),
        (-1.5e-9, "-1.5E-9"),
    ],
)
def test_decimals_are_written_as_java_does(number: float, text: str) -> None:
    written = java_decimal(repr(number))
    assert written.decode() == text
    assert float(written) == number


def test_json_is_normalised_once() -> None:
    text = normal_json(b'{"k": [1.0, "\\u00e9", {"x": -1e-7}]}')
    assert normal_json(text) == text
