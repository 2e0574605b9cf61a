"""The embedded format ``text``: keys and values are strings, in Kafka their UTF-8."""

from __future__ import annotations

from kafka_gateway.codec import Codec


class TextCodec(Codec):
    """Its media type is ``application/vnd.kafka.text.v2+json``."""

    name = "text"
    datum = str

    def store(self, datum: str) -> bytes:
        return datum.encode()

    def load(self, stored: bytes) -> str:
        return stored.decode()  # UnicodeDecodeError is a ValueError: the record cannot be shown as text
