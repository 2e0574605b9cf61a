"""The embedded format ``binary``: any bytes, as base64 (kafka-rest-http.md §4.1, observed §4.1)."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from kafka_gateway import jsonio
from kafka_gateway.codec import Codec

_BASE64 = re.compile(rb"[A-Za-z0-9+/]*=*")


class BinaryCodec(Codec):
    name = "binary"
    datum = bytes
    generations = frozenset({"v1", "v2"})

    def store(self, datum: bytes) -> bytes:
        return datum

    def read(self, text: bytes) -> bytes:
        """Base64 whose padding is missing or too long; upstream takes it, so clients send it."""
        value = jsonio.decode_value(text)
        if not isinstance(value, str):
            raise ValueError(f"data={text.decode()} is not a base64 string.")
        try:
            return _decode_lenient(value.encode())
        except ValueError:
            raise ValueError(f"data={text.decode()} is not a valid base64 string.") from None

    def load(self, stored: bytes) -> Any:
        return stored


def _decode_lenient(encoded: bytes) -> bytes:
    if not _BASE64.fullmatch(encoded):
        raise ValueError("a character outside the alphabet")
    digits = encoded.rstrip(b"=")
    if len(digits) % 4 == 1:
        raise ValueError("an impossible length")
    try:
        return base64.b64decode(digits + b"=" * (-len(digits) % 4))
    except binascii.Error as error:
        raise ValueError(str(error)) from None
