"""The embedded format ``json``: JSON values, stored as compact UTF-8 text (kafka-rest-http.md §4.2)."""

from __future__ import annotations

from kafka_gateway import jsonio
from kafka_gateway.codec import Codec
from kafka_gateway.codecs.json_escapes import minimal

_BACKSLASH = 0x5C
"""As a number: see jsonio.compact."""


class JsonCodec(Codec):
    name = "json"
    datum = jsonio.Raw
    generations = frozenset({"v1", "v2"})

    def store(self, datum: jsonio.Raw) -> bytes:
        text = jsonio.compact(bytes(datum))
        return minimal(text) if _BACKSLASH in text else text

    load = staticmethod(jsonio.raw)
