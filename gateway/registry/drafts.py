"""Schemas that clients give as texts: read and compiled once for all who give the same, before a registry is asked."""

from __future__ import annotations

import dataclasses
import time
from typing import NamedTuple

from kafka_gateway.codec import Codec
from kafka_gateway.errors import InvalidSchema, SerializationError, ServiceError
from kafka_gateway.registry.answers import unreachable
from kafka_gateway.registry.bounded import BoundedMap
from kafka_gateway.registry.client import RegistryAway
from kafka_gateway.registry.flights import Flights
from kafka_gateway.registry.stored import Failed, compile_draft
from kafka_gateway.schemas import CompiledSchema, Schema, UnusableSchema

_KEPT = 16
_REFUSED_S = 1.0
_TEXT_SHOWN_MAX = 1000


class Draft(NamedTuple):
    given: Schema
    """As the client has it."""
    canonical: Schema
    """As the registry is asked to keep it."""
    compiled: CompiledSchema


class Drafts:
    """Keeps the last few drafts from the judging of the data until the registration. Belongs to one event loop."""

    def __init__(self, flights: Flights) -> None:
        self._flights = flights
        self._known: BoundedMap[tuple[str, str], Draft | Failed] = BoundedMap(_KEPT)

    async def of(self, codec: Codec, text: str) -> Draft:
        """The text, compiled. SerializationError or InvalidSchema if it cannot be used; that is kept for a second."""
        key = (codec.name, text)
        known = self._known.get(key)
        if isinstance(known, Draft):
            return known
        if known is not None and time.monotonic() < known.until:
            raise known.error
        try:
            return await self._flights.once(("draft", *key), lambda: self._make(codec, text))
        except RegistryAway as away:
            raise unreachable(str(away)) from None

    async def _make(self, codec: Codec, text: str) -> Draft:
        key = (codec.name, text)
        try:
            draft = await _compiled(codec, text)
        except ServiceError as error:
            self._known.put(key, Failed(error, time.monotonic() + _REFUSED_S))
            raise
        self._known.put(key, draft)
        return draft


async def _compiled(codec: Codec, text: str) -> Draft:
    schema = Schema(codec.schema_type, text)
    try:
        compiled, canonical = await compile_draft(codec, schema)
        return Draft(schema, dataclasses.replace(schema, text=canonical), compiled)
    except UnusableSchema as reason:
        raise SerializationError(f"Error serializing message. The schema cannot be used: {reason}") from None
    except ValueError as reason:
        shown = text if len(text) <= _TEXT_SHOWN_MAX else f"{text[:_TEXT_SHOWN_MAX]}…"
        raise InvalidSchema(
            f"Invalid schema: Error when parsing raw schema. format = {codec.name.upper()}, schema = {shown}\n{reason}"
        ) from None
