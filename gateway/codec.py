"""The interface of embedded formats: keys and values in requests, in Kafka, in replies (kafka-rest-http.md §4)."""

from __future__ import annotations

from typing import Any

from kafka_gateway.schemas import CompiledSchema, Schema


class Codec:
    """One embedded format. A codec is stateless, so it may be used from any thread.

    ``name`` is the word in the media type (``application/vnd.kafka.<name>.v2+json``) and the instance's ``format``.
    ``datum`` is the type that msgspec reads a key or value of a request body into; most formats need no more than that
    and :meth:`store`. JSON null never reaches a codec: it is a null key or value in every format (§4).

    A format whose data need a schema names ``schema_type`` and has :meth:`compile` instead: the gateway asks the schema
    registry, keeps what was compiled, and puts the schema's id before each payload.
    """

    name: str = ""
    datum: Any = Any
    generations: frozenset[str] = frozenset({"v2"})
    """Which REST generations offer the format; v1 clients know binary, json and avro only."""
    family: str = ""
    """Formats of one family can be read through an instance of any of them (§6.8); "" for none."""
    schema_type: str = ""
    """The registry's word for its schemas: AVRO, JSON, PROTOBUF; "" for a format without schemas."""
    is_loaded: bool = True
    """False while the first schema takes longer than others, because something is loaded for it: it is compiled on a
    thread."""

    def store(self, datum: Any) -> bytes:
        """The bytes that Kafka keeps; ValueError with a message for the client if there are none."""
        raise NotImplementedError

    def read(self, text: bytes) -> bytes:
        """As ``store``, from the JSON text of a datum that could not be read as ``datum``; ValueError says why not."""
        raise ValueError(f"data={text.decode()} is not valid for the format {self.name}.")

    def load(self, stored: bytes) -> Any:
        """What a reply shows: anything JSON-encodable; ValueError if the bytes cannot be expressed."""
        raise NotImplementedError

    def canonical(self, text: str) -> str:
        """The text of a schema as a registry should keep it: the same for texts that say the same.

        Called where ``compile`` was, for texts of clients that it has taken. ValueError for what can be read and used,
        since some registry may have it, but should not be registered by anybody.
        """
        return text

    def compile(self, schema: Schema) -> CompiledSchema:
        """A schema of ``schema_type``, ready to write and read; ValueError says what is wrong with it, and
        UnusableSchema if the text as such can be read.

        Called once a schema, on the event loop for short ones and on a thread for long ones.
        """
        raise NotImplementedError

    def reader(self, schema: Schema) -> CompiledSchema | None:
        """What reads data of a schema that is in the registry though ``compile`` does not take it; None if nothing can.

        It is never asked to write.
        """
        return None
