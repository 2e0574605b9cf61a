"""Keys and values of v3 records that need a schema (kafka-rest-http.md §7.10 "Which schema is used")."""

from __future__ import annotations

import asyncio
from typing import cast

from kafka_gateway import jsonio
from kafka_gateway.errors import BadRequest
from kafka_gateway.rights import Rights
from kafka_gateway.schemas import Part, SchemaChoice, Schemas, Writer
from kafka_gateway.services.common.json_members import shown
from kafka_gateway.services.common.subjects import find_writer, known_writer
from kafka_gateway.services.v3.records import WITH_SCHEMA, Choice, Record, shown_part

_TYPES = {format_: kind for kind, format_ in WITH_SCHEMA.items()}
_MESSAGE_MAX = 300


class RecordSchemas:
    """Finds the schemas of records, and makes their data bytes."""

    def __init__(self, schemas: Schemas, registers: bool = True) -> None:
        """``registers``: whether schemas that are new are registered; otherwise they are only judged."""
        self._schemas = schemas
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
                _fill(record, part, text, writer)
        record.unready = None
        return True

    async def complete(self, record: Record, topic: str, rights: Rights) -> None:
        """Fills in what is ``unready`` in a record. Raises the ServiceError that its report is to show.

        ``rights``: those of whoever produces it. NotAuthorized for a subject that is not theirs.
        """
        for part, text, choice in record.unready or ():
            writer = await find_writer(self._schemas, self._wanted(choice, topic, part), rights)
            if writer.compiled.slow:
                await asyncio.to_thread(_fill, record, part, text, writer)
            else:
                _fill(record, part, text, writer)
        record.unready = None

    def _wanted(self, choice: Choice, topic: str, part: str) -> SchemaChoice:
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


def _fill(record: Record, part: str, text: bytes, writer: Writer) -> None:
    try:
        stored = writer.store(text)
    except ValueError as reason:
        raise BadRequest(f"Bad Request: {shown(str(reason), _MESSAGE_MAX)} (in {part})") from None
    subject = f',"subject":{jsonio.encode(writer.subject).decode()},"schema_id":{writer.schema_id or "null"}'
    if writer.version is not None:
        subject += f',"schema_version":{writer.version}'
    size = -1 if stored is None else len(stored)
    about = shown_part(part, _TYPES.get(writer.format, writer.format.upper()), size, subject)
    if part == "key":
        record.key, record.key_shown = stored, about
    else:
        record.value, record.value_shown = stored, about
