"""Records of produce bodies whose format has schemas: the schemas are found first, then all data are encoded.

The schemas of one request are two at most, one of all keys and one of all values. When both are known already, which
they are but for the first request, nothing is awaited; otherwise the body is `Preparing` while the registry is asked.
Any failure refuses the whole request, before anything is sent (kafka-rest-http.md §4.5, §5.3, §6.3), and before a
schema is registered.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from kafka_gateway import jsonio
from kafka_gateway.errors import (
    BadRequest,
    ConversionError,
    KeySchemaMissing,
    RegistryFailure,
    SerializationError,
    ServiceError,
    ValueSchemaMissing,
)
from kafka_gateway.records import Headers, RecordToSend
from kafka_gateway.rights import Rights
from kafka_gateway.schemas import REASON_MAX, Part, Preparing, SchemaChoice, Schemas, Writer, told_at
from kafka_gateway.services.common.dry_run import DryRunProducer
from kafka_gateway.services.common.json_members import NULL, shown
from kafka_gateway.services.common.names import TopicRules
from kafka_gateway.services.common.subjects import check_subject, draft_writer, is_open, registered

_OFF_LOOP_BYTES = 64 * 1024
"""Of the body, and `_BYTES_A_RECORD` more for each record: about what is encoded in five milliseconds. More is encoded
on a thread."""
_BYTES_A_RECORD = 40


class RawRecord(jsonio.Struct, gc=False):
    """A record whose key and value are JSON text, NULL for what is absent, until it is encoded: then they are Kafka's.

    Records that were decoded in one piece with their body have this shape, too.
    """

    key: Any
    value: Any
    partition: int | None
    timestamp_ms: int
    headers: Headers | None


class GivenSchemas(NamedTuple):
    """What the body says of the schemas."""

    key_schema: str | None
    key_schema_id: int | None
    value_schema: str | None
    value_schema_id: int | None


class SchemaRecords(list[RecordToSend]):
    """Records that are ready to be sent, and the ids of the schemas that they were written with."""

    __slots__ = ("key_schema_id", "refused", "unjudged", "value_schema_id")

    def __init__(self, records: Sequence[RecordToSend], key: Writer | None, value: Writer | None) -> None:
        super().__init__(records)
        self.unjudged: Sequence[tuple[SchemaChoice, Writer]] = ()
        """Schemas for whose subjects nobody has been asked for rights."""
        self.refused: Sequence[ServiceError] | None = None
        """Why Kafka would take none of the records, which have no schema's id then and must not be sent."""
        self.key_schema_id = None if key is None else key.schema_id or None
        self.value_schema_id = None if value is None else value.schema_id or None

    def check(self, rights: Rights) -> None:
        """NotAuthorized if whoever produces them may not use a subject."""
        for choice, writer in self.unjudged:
            check_subject(rights, choice, writer.subject)


class SchemaReader:
    """Encodes the records of one generation's produce bodies."""

    def __init__(
        self,
        generation: str,
        schemas: Schemas,
        rules: TopicRules | None = None,
        judge: DryRunProducer | None = None,
    ) -> None:
        """``rules``: which topics may have records. ``judge`` says which records Kafka would not take."""
        self._v1 = generation == "v1"
        self._rules = rules
        self._judge = judge
        self._schemas = schemas

    def read(
        self,
        format: str,
        topic: str,
        records: Sequence[RawRecord],
        given: GivenSchemas,
        size: int,
        dry: bool = False,
        partition: int | None = None,
    ) -> SchemaRecords | Preparing:
        """The records, or what has to be waited for first: a schema, or a thread for a body of many bytes (``size``).

        ``dry``: no schema is registered. ``partition``: of records that name none.

        Raises:
            KeySchemaMissing, ValueSchemaMissing: data without a schema.
            BadRequest (v2), ConversionError (v1): a datum that does not fit; the message names its place.
            InvalidSchema, SchemasUnavailable, SerializationError (v2), RegistryFailure (v1): no such schema.
        """
        # The records of a topic that cannot be are refused one by one, later: that must leave no schema behind.
        dry = dry or (self._rules is not None and self._rules.refusal(topic) is not None)
        key_choice = self._choice(format, topic, "key", given.key_schema, given.key_schema_id, dry)
        value_choice = self._choice(format, topic, "value", given.value_schema, given.value_schema_id, dry)
        if self._v1:
            _check_missing(records, key_choice, value_choice)
        key = None if key_choice is None else self._schemas.known(key_choice)
        value = None if value_choice is None else self._schemas.known(value_choice)
        long = size + len(records) * _BYTES_A_RECORD > _OFF_LOOP_BYTES
        unknown = (key_choice is not None and key is None) or (value_choice is not None and value is None)
        if long or unknown or _is_slow(key) or _is_slow(value):
            return Preparing(lambda rights: self._prepare(records, key_choice, value_choice, long, rights, partition))
        if not self._v1:
            _check_missing(records, key_choice, value_choice)
        encoded = self._encode(records, key, value)
        pairs = ((key_choice, key), (value_choice, value))
        encoded.unjudged = [(choice, writer) for choice, writer in pairs if choice is not None and writer is not None]
        return encoded

    async def _prepare(
        self,
        records: Sequence[RawRecord],
        key_choice: SchemaChoice | None,
        value_choice: SchemaChoice | None,
        long: bool,
        rights: Rights,
        partition: int | None,
    ) -> SchemaRecords:
        choices = [choice for choice in (key_choice, value_choice) if choice is not None]
        try:
            drafts = [(choice, await draft_writer(self._schemas, choice, rights)) for choice in choices]
            if not self._v1:
                await self._check_missing(records, drafts)
            key, value = _pair(drafts)
            if long or _is_slow(key) or _is_slow(value):
                encoded = await asyncio.to_thread(self._encode, records, key, value)
            else:
                encoded = self._encode(records, key, value)
            if not any(is_open(choice, writer) for choice, writer in drafts):
                return encoded
            if self._judge is not None:
                encoded.refused = await self._judge.refusals(choices[0].topic, encoded, rights, partition)
                if encoded.refused is not None:
                    return encoded
            writers = await registered(self._schemas, drafts)
        except SerializationError as error:
            raise RegistryFailure(f"{RegistryFailure.text}: {error.message}") if self._v1 else error from None
        key, value = _pair(list(zip(choices, writers, strict=True)))
        if long:
            return await asyncio.to_thread(_renumber, records, key, value)
        return _renumber(records, key, value)

    async def _check_missing(self, records: Sequence[RawRecord], drafts: Sequence[tuple[SchemaChoice, Writer]]) -> None:
        choices = {choice.part: choice for choice, _ in drafts}
        try:
            _check_missing(records, choices.get("key"), choices.get("value"))
        except ServiceError:
            # Schemas that are given are resolved before those are missed that are not (observed: avro-no-key-schema),
            # so a registry that is away is told first. Nothing is registered for a request that is refused anyway.
            for choice, writer in drafts:
                if is_open(choice, writer):
                    await self._schemas.resolve(dataclasses.replace(choice, registers=False))
            raise

    def _choice(
        self, format: str, topic: str, part: Part, text: str | None, id: int | None, dry: bool
    ) -> SchemaChoice | None:
        if text is not None and id is not None:
            if not self._v1:
                raise BadRequest(f"Only one of {part}_schema and {part}_schema_id can be given.")
            text = None  # the id wins (§4.5)
        if text is None and id is None:
            return None
        return SchemaChoice(topic, part, format, id=id, text=text, registers=not dry)

    def _encode(self, records: Sequence[RawRecord], key: Writer | None, value: Writer | None) -> SchemaRecords:
        # A schema that is given is applied to a null, too (observed §4.5).
        store_key = _nothing if key is None else key.store
        store_value = _nothing if value is None else value.store
        done, part, writer = 0, "key", key
        try:
            for record in records:
                part, writer = "key", key
                record.key = store_key(bytes(record.key))
                part, writer = "value", value
                record.value = store_value(bytes(record.value))
                done += 1
        except ValueError as reason:
            assert writer is not None
            raise self._misfit(f"records[{done}].{part}", writer, reason) from None
        return SchemaRecords(records, key, value)

    def _misfit(self, place: str, writer: Writer, reason: ValueError) -> ServiceError:
        told = shown(told_at(place, reason), REASON_MAX)
        if self._v1:
            return ConversionError(f"Conversion of JSON to {writer.format.capitalize()} failed: {told}")
        return BadRequest(f"Bad Request: {told}")


def _pair(writers: Sequence[tuple[SchemaChoice, Writer]]) -> tuple[Writer | None, Writer | None]:
    """The writer of the keys, and that of the values."""
    found = {choice.part: writer for choice, writer in writers}
    return found.get("key"), found.get("value")


def _renumber(records: Sequence[RawRecord], key: Writer | None, value: Writer | None) -> SchemaRecords:
    """Records that were written with drafts, with the ids of these writers."""
    for record in records:
        if key is not None:
            record.key = key.renumbered(record.key)
        if value is not None:
            record.value = value.renumbered(record.value)
    return SchemaRecords(records, key, value)


def _is_slow(writer: Writer | None) -> bool:
    return writer is not None and writer.compiled.slow


def _nothing(text: bytes) -> None:
    """The key or value without a schema, which must be null."""


def _check_missing(
    records: Sequence[RawRecord], key_choice: SchemaChoice | None, value_choice: SchemaChoice | None
) -> None:
    if key_choice is None and any(record.key != NULL for record in records):
        raise KeySchemaMissing()
    if value_choice is None and any(record.value != NULL for record in records):
        raise ValueSchemaMissing()
