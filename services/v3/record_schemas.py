"""Keys and values of v3 records that need a schema (kafka-rest-http.md §7.10 "Which schema is used")."""

from __future__ import annotations

import asyncio
from typing import cast

from kafka_gateway import jsonio
from kafka_gateway.errors import BadRequest
from kafka_gateway.rights import Rights
from kafka_gateway.schemas import REASON_MAX, Part, SchemaChoice, Schemas, Writer, told_at
from kafka_gateway.services.common.dry_run import DryRunProducer
from kafka_gateway.services.common.json_members import shown
from kafka_gateway.services.common.subjects import draft_writer, is_open, known_writer, registered
from kafka_gateway.services.v3.records import WITH_SCHEMA, NeededSchema, Record, shown_part

_TYPES = {format_: kind for kind, format_ in WITH_SCHEMA.items()}


class RecordSchemas:
    """Finds the schemas of records, and makes their data bytes."""

    def __init__(self, schemas: Schemas, judge: DryRunProducer, registers: bool = True) -> None:
        """
        Args:
            judge: says which records Kafka would not take.
            registers: whether schemas that are new are registered; otherwise they are only judged.
        """
        self._schemas = schemas
        self._judge = judge
        self._registers = registers

    def complete_now(self, record: Record, topic: str, rights: Rights) -> bool:
        """As ``complete``, if that needs no waiting; whether it did not. Raises as it does."""
        writers = [
            known_writer(self._schemas, self._wanted(choice, topic, part), rights)
            for part, _, choice in record.unready or ()
        ]
        if any(writer is None or writer.compiled.slow for writer in writers):
            return False
        for (part, text, _), writer in zip(record.unready or (), writers, strict=True):
            if writer is not None:
                _fill(record, part, _encoded(part, text, writer), writer)
        record.unready = None
        return True

    async def complete(self, record: Record, topic: str, rights: Rights) -> None:
        """Fills in what is ``unready`` in a record. Raises the ServiceError that its report is to show.

        ``rights``: those of whoever produces it. NotAuthorized for a subject that is not theirs. Nothing is registered
        for a record that is refused.
        """
        unready = record.unready or ()
        choices = [self._wanted(choice, topic, part) for part, _, choice in unready]
        drafts = [(choice, await draft_writer(self._schemas, choice, rights)) for choice in choices]
        for (part, text, _), (_, writer) in zip(unready, drafts, strict=True):
            slow = writer.compiled.slow
            stored = await asyncio.to_thread(_encoded, part, text, writer) if slow else _encoded(part, text, writer)
            _fill(record, part, stored, writer)
        if any(is_open(choice, writer) for choice, writer in drafts):
            if (refused := await self._judge.refusals(topic, (record,), rights)) is not None:
                raise refused[0]
            for (part, _, _), writer in zip(unready, await registered(self._schemas, drafts), strict=True):
                _fill(record, part, writer.renumbered(record.key if part == "key" else record.value), writer)
        record.unready = None

    def _wanted(self, choice: NeededSchema, topic: str, part: str) -> SchemaChoice:
        return SchemaChoice(
            topic,
            cast(Part, part),
            WITH_SCHEMA[choice.type] if choice.type is not None else "",
            choice.id,
            choice.version,
            choice.schema,
            choice.subject,
            choice.strategy or "",
            versioned=True,
            registers=self._registers,
        )


def _encoded(part: str, text: bytes, writer: Writer) -> bytes | None:
    try:
        return writer.store(text)
    except ValueError as reason:
        raise BadRequest(f"Bad Request: {shown(told_at(part, reason), REASON_MAX)}") from None


def _fill(record: Record, part: str, stored: bytes | None, writer: Writer) -> None:
    subject = f',"subject":{jsonio.encode(writer.subject).decode()},"schema_id":{writer.schema_id or "null"}'
    if writer.version is not None:
        subject += f',"schema_version":{writer.version}'
    size = -1 if stored is None else len(stored)
    about = shown_part(part, _TYPES.get(writer.format, writer.format.upper()), size, subject)
    if part == "key":
        record.key, record.key_shown = stored, about
    else:
        record.value, record.value_shown = stored, about
