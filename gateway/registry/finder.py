"""Finds the schemas that the registry has by their id: asked for once, compiled once, kept.

What an id means never changes, so it is kept as long as there is room; so is each version of a subject. "Not there" is
believed for a second. After a question that got no answer at all, the registry is believed to be away for as long as
that question took: nobody waits for it meanwhile, and one question at a time is asked in the background. Any answer
ends this.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
import uuid
from collections.abc import Mapping
from typing import Any

from kafka_gateway.codec import Codec
from kafka_gateway.registry.answers import passes
from kafka_gateway.registry.bounded import BoundedMap
from kafka_gateway.registry.client import RegistryAway, RegistryClient, RegistryRefusal, part
from kafka_gateway.registry.flights import Flights
from kafka_gateway.registry.framing import SchemaKey
from kafka_gateway.registry.references import imports_of, references_of
from kafka_gateway.registry.stored import Failed, Stored, compile_schema
from kafka_gateway.schemas import Schema

log = logging.getLogger("gateway.registry")

FRESH_S = 1.0
"""How long "latest" and "not there" are believed."""
PLACES_FRESH_S = 30.0
"""How long the known subjects of a schema are believed to be all that a topic has."""
_PLACES_WAIT_S = 1.0
"""How long records are held up for the subjects of a schema that is known."""


class SchemaFinder:
    """Belongs to one event loop, which alone changes what is known; any thread may ask ``known`` and ``away``."""

    def __init__(
        self, client: RegistryClient, codecs: Mapping[str, Codec], room: int, budget_s: float, flights: Flights
    ) -> None:
        """``codecs`` by the registry's word for their schemas; ``budget_s`` for one schema, with all that it needs."""
        self._client = client
        self._codecs = codecs
        self._budget_s = budget_s
        self._flights = flights
        self._stored: BoundedMap[SchemaKey, Stored | Failed] = BoundedMap(room)
        self._written: BoundedMap[SchemaKey, Stored] = BoundedMap(room)
        self._references: BoundedMap[tuple[str, int], Any] = BoundedMap(room)
        self._placed: BoundedMap[tuple[int, str], float] = BoundedMap(8 * room)
        self._away: tuple[Failed, float] | None = None
        """The error for those who ask meanwhile, and when the registry was found to be away."""

    def __len__(self) -> int:
        return len(self._stored)

    def known(self, key: SchemaKey) -> Stored | Failed | None:
        """What is known of it, even if that is out of date."""
        return self._stored.get(key)

    def away(self) -> Failed | None:
        """Why nobody should wait for the registry; None if it may answer."""
        found = self._away
        if found is None:
            return None
        failed, since = found
        return failed if time.monotonic() < failed.until and self._client.answered_at < since else None

    def keep(self, stored: Stored, subject: str) -> None:
        """Keeps a schema that was registered or looked up by its text, for times when the registry does not answer.

        While it answers, schemas are asked for by id, since only that tells where they are registered. If this one is
        known by its id already, ``subject`` is added there.
        """
        self._written.put(stored.id, stored)
        known = self._stored.get(stored.id)
        if isinstance(known, Stored) and subject not in known.places:
            version = stored.places.get(subject)
            if version is None:
                known.outdated = True
            else:
                known.place(subject, version)

    def spare(self, key: SchemaKey) -> Stored | None:
        """The schema as `keep` got it; None if it did not."""
        return self._written.get(key)

    async def fetch(self, key: SchemaKey) -> Stored:
        """The schema with this id or GUID. RegistryRefusal, RegistryAway."""
        found = self._stored.get(key)
        if isinstance(found, Stored):
            return found
        if found is not None and time.monotonic() < found.until:
            spare = self.spare(key) if passes(found.error) else None
            if spare is None:
                raise found.error
            return spare
        return await self._flights.once(("fetch", key), lambda: self._ask_for(key))

    async def look(self, key: SchemaKey) -> None:
        """Asks for the schema; then ``known`` has it, or the reason that there is none."""
        with contextlib.suppress(RegistryRefusal, RegistryAway):
            await self.fetch(key)

    # --- where a schema is registered: that changes, unlike what its id means -----------------------------------------

    def placed_until(self, stored: Stored, topic: str) -> float | None:
        """Until when ``places`` are believed to have all subjects of the topic. None: this was never asked."""
        return None if stored.outdated else self._placed.get((stored.id, topic))

    def believe_places(self, stored: Stored, topic: str) -> None:
        """Takes what is known for all subjects of the topic, for `PLACES_FRESH_S`, even if no answer comes."""
        self._placed.put((stored.id, topic), time.monotonic() + PLACES_FRESH_S)
        stored.outdated = False

    async def look_for_places(self, stored: Stored, topic: str) -> None:
        """Asks again where a schema is registered. Without an answer in time what was known stays."""
        self.believe_places(stored, topic)
        with contextlib.suppress(TimeoutError, RegistryAway):
            async with asyncio.timeout(_PLACES_WAIT_S):
                await self._flights.once(("places", stored.id), lambda: self._renew_places(stored))

    async def _renew_places(self, stored: Stored) -> None:
        found = await self._places(stored.id)
        if found is not None:
            stored.places = found

    async def _ask_for(self, key: SchemaKey) -> Stored:
        began = time.monotonic()
        try:
            try:
                async with asyncio.timeout(self._budget_s):
                    stored = await self._read(key)
            except TimeoutError:
                raise RegistryAway(f"no answer within {self._budget_s:g} s", silent=True) from None
        except (RegistryRefusal, RegistryAway) as error:
            # For as long as they have waited, readers do not wait for it again: so topics with other records are read
            # half of the time at least.
            now = time.monotonic()
            failed = Failed(error, now + max(FRESH_S, now - began))
            self._stored.put(key, failed)
            if isinstance(error, RegistryAway) and error.silent and self._client.answered_at < began:
                self._away = failed, now
            spare = self.spare(key) if passes(error) else None
            if spare is None:
                raise
            return spare
        self._stored.put(key, stored)
        return stored

    async def _read(self, key: SchemaKey) -> Stored:
        client = self._client
        if isinstance(key, bytes):
            guid, id = uuid.UUID(bytes=key), 0
            try:
                answer = await client.ask("GET", f"/schemas/guids/{guid}")
            except RegistryRefusal as refusal:
                if refusal.status != 404:
                    raise
                # Registries that do not know GUIDs at all answer in the same way, without a message.
                said = f"the schema registry knows no schema with the GUID {guid}"
                raise RegistryRefusal(404, refusal.error_code, said) from None
            places: dict[str, int] | None = None
        else:
            id = key
            answer, places = await asyncio.gather(client.ask("GET", f"/schemas/ids/{id}"), self._places(id))
        text = answer.get("schema") if isinstance(answer, dict) else None
        if not isinstance(text, str):
            raise RegistryRefusal(502, 0, "the schema registry answers without a schema")
        type_ = str(answer.get("schemaType") or "AVRO")
        references = references_of(answer)
        codec = self._codecs.get(type_)
        stored = Stored(id, type_, codec.name if codec else "", Schema(type_, text, references), None, "", places or {})
        if codec is None:
            stored.fault = f"there is no format for schemas of the type {type_}"
            return stored
        try:
            if references:
                imports = await imports_of(self._version, references)
                stored.schema = dataclasses.replace(stored.schema, imports=imports)
            stored.compiled = await compile_schema(codec, stored.schema)
        except ValueError as reason:
            stored.fault = str(reason)
            stored.compiled = codec.reader(stored.schema)
            log.warning("the schema %s of the registry cannot be used: %s", id or key, reason)
        return stored

    async def _version(self, subject: str, version: int) -> Any:
        """What the registry answers for a version of a subject. Kept: if a long chain of references takes longer than
        one schema may, the next attempt goes on from there."""
        known = self._references.get((subject, version))
        if known is None:
            known = await self._client.ask("GET", f"/subjects/{part(subject)}/versions/{version}")
            if version > 0:
                self._references.put((subject, version), known)
        return known

    async def _places(self, id: int) -> dict[str, int] | None:
        """Subject → version, as far as this registry tells it; None if it does not answer."""
        try:
            answer = await self._client.ask("GET", f"/schemas/ids/{id}/versions")
        except (RegistryRefusal, RegistryAway):
            return None
        places: dict[str, int] = {}
        for each in answer if isinstance(answer, list) else ():
            if isinstance(each, dict) and isinstance(each.get("subject"), str) and isinstance(each.get("version"), int):
                places[each["subject"]] = each["version"]
        return places
