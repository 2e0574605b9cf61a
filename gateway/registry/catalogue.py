"""All schemas of one gateway: found in the registry once, compiled once, kept (kafka-rest-http.md §4.5).

`finder` finds schemas by their id. This module finds them for requests, which name an id, a text, or a subject and a
version, and for records. What is "latest" is kept for a second. Equal questions at the same time are asked once.

Records are decoded on Kafka's reading threads. Those look into the same tables, which only the event loop changes, and
wait for a schema that is not in them. On the event loop nobody waits: `SchemaPending` is raised.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import time
from collections.abc import Coroutine, Mapping
from typing import Any

from kafka_gateway.codec import Codec
from kafka_gateway.config import Config
from kafka_gateway.errors import (
    BadRequest,
    SchemasUnavailable,
    SerializationError,
    ServiceError,
)
from kafka_gateway.metrics.families import counter, gauge, histogram
from kafka_gateway.metrics.registry import Families
from kafka_gateway.records import ConsumedRecord
from kafka_gateway.registry.answers import ID_MAX, body_of, integer_in, passes, refused, told, unreachable
from kafka_gateway.registry.bounded import BoundedMap
from kafka_gateway.registry.client import RegistryAway, RegistryClient, RegistryRefusal, is_a_part, part
from kafka_gateway.registry.drafts import Drafts
from kafka_gateway.registry.finder import FRESH_S, SchemaFinder
from kafka_gateway.registry.flights import Flights
from kafka_gateway.registry.framing import SchemaKey, read_frame
from kafka_gateway.registry.settings import registry_settings
from kafka_gateway.registry.stored import Failed, Stored
from kafka_gateway.schemas import (
    LATEST,
    RECORD_NAME,
    TOPIC_NAME,
    CompiledSchema,
    Part,
    RegisteredSchema,
    Schema,
    SchemaChoice,
    SchemaName,
    SchemaPending,
    SchemaUnreachable,
    Writer,
)

_ASKED_AGAIN_MAX = 16
"""How many schemas are asked for at a time while nobody waits for them."""
UNKNOWN_SCHEMA = 40403
"""The registry's error code for an id that no schema has."""


class Catalogue:
    """Implements `gateway.schemas.Schemas`. Belongs to one event loop."""

    def __init__(self, config: Config, codecs: Mapping[str, Codec]) -> None:
        """ConfigError for settings that cannot be used."""
        settings = registry_settings(config)
        self.client = RegistryClient(settings) if settings is not None else None
        self._budget_s = settings.total_timeout_s if settings is not None else 0.0
        self._strategy = config.text("schema.subject.strategy")
        self._codecs = {codec.schema_type: codec for codec in codecs.values() if codec.schema_type}
        self._types = {codec.name: type_ for type_, codec in self._codecs.items()}
        room = config.integer("schema.cache.max")
        self._flights = Flights()
        self._finder = (
            SchemaFinder(self.client, self._codecs, room, self._budget_s, self._flights) if self.client else None
        )
        # Larger than the number of schemas: `_keep` puts a writer under several choices.
        self._writers: BoundedMap[SchemaChoice, Writer] = BoundedMap(8 * room)
        self._latest: BoundedMap[SchemaChoice, tuple[Writer, float]] = BoundedMap(4 * room)
        self._refused: BoundedMap[SchemaChoice, Failed] = BoundedMap(1000)
        self._drafts = Drafts(self._flights)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = False
        self._draining = False
        self._asking_again: set[asyncio.Future[None]] = set()
        self._waiting: set[concurrent.futures.Future[None]] = set()

    def families(self) -> Families:
        """What is counted of the registry, as a source of the gateway's metrics."""
        if self.client is None:
            return
        answers = [((code,), count) for code, count in self.client.answers.items()]
        yield counter("schema_registry_requests", "Requests to the schema registry, by its answer", ("code",), answers)
        yield histogram("schema_registry_seconds", "Time until the registry answered", (), [((), self.client.seconds)])
        yield gauge("schema_cache_entries", "Schemas that are kept, compiled", (), [((), len(self))])

    def __len__(self) -> int:
        """How many schemas are kept."""
        return len(self._finder) if self._finder is not None else 0

    @property
    def finder(self) -> SchemaFinder:
        """Raises SchemasUnavailable without a registry."""
        if self._finder is None:
            raise SchemasUnavailable()
        return self._finder

    @contextlib.asynccontextmanager
    async def lifespan(self) -> Any:
        """Runs while the gateway serves: reading threads find the event loop through it."""
        self._loop = asyncio.get_running_loop()
        try:
            yield
        finally:
            self._closing = True
            asking = list(self._asking_again)
            for each in asking:
                each.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
            await self._flights.aclose()
            if self.client is not None:
                await self.client.aclose()

    def drain(self) -> None:
        """The gateway is about to stop: threads that wait for a schema wait no longer."""
        self._draining = True
        for waiting in list(self._waiting):
            waiting.cancel()

    # --- writing ------------------------------------------------------------------------------------------------------

    def known(self, choice: SchemaChoice) -> Writer | None:
        writer = self._writers.get(choice)
        if writer is not None:
            return writer
        latest = self._latest.get(choice)
        return latest[0] if latest is not None and time.monotonic() < latest[1] else None

    async def subject(self, choice: SchemaChoice) -> str:
        if choice.subject is not None or (choice.strategy or self._strategy) == TOPIC_NAME:
            return self._subject(choice, None)
        if choice.text is None:
            return (await self.resolve(choice)).subject
        if self.client is None:
            raise SchemasUnavailable()
        return self._subject(choice, (await self._drafts.of(self._codec(choice), choice.text)).compiled)

    async def draft(self, choice: SchemaChoice) -> Writer:
        writer = self.known(choice)
        if writer is not None:
            return writer
        if choice.text is None or not choice.registers:
            return await self.resolve(choice)
        if self.client is None:
            raise SchemasUnavailable()
        compiled = (await self._drafts.of(self._codec(choice), choice.text)).compiled
        return Writer(choice.format, 0, self._subject(choice, compiled), None, compiled)

    async def resolve(self, choice: SchemaChoice) -> Writer:
        writer = self.known(choice)
        if writer is not None:
            return writer
        failed = self._refused.get(choice)
        if failed is not None and time.monotonic() < failed.until:
            raise failed.error
        return await self._flights.once(("resolve", choice), lambda: self._resolve(choice))

    async def _resolve(self, choice: SchemaChoice) -> Writer:
        if self.client is None:
            raise SchemasUnavailable()
        error: ServiceError
        try:
            async with asyncio.timeout(self._budget_s):
                writer = await self._ask_for(choice)
        except (RegistryRefusal, RegistryAway, TimeoutError) as fault:
            # A writer that was found without its version will do: the version is told only where it is known.
            known = self.known(dataclasses.replace(choice, versioned=False)) if choice.versioned else None
            if known is not None and (isinstance(fault, TimeoutError) or passes(fault)):
                return known
            if isinstance(fault, RegistryRefusal):
                error = refused(fault, "Error when asking the schema registry.")
            else:
                error = unreachable(str(fault) or f"no answer within {self._budget_s:g} s")
        except ServiceError as found:
            error = found
        else:
            self._keep(choice, writer)
            return writer
        self._refused.put(choice, Failed(error, time.monotonic() + FRESH_S))
        raise error

    def _keep(self, choice: SchemaChoice, writer: Writer) -> None:
        """Keeps the writer under every choice that means the same: v3 asks for versions and v2 does not, a request that
        only judges may use what is registered, and a client that was told the id will name it."""
        if not writer.schema_id:
            return
        latest = choice.id is None and choice.text is None and choice.version in (None, LATEST)
        same = [choice]
        if choice.text is not None:
            same.append(dataclasses.replace(choice, text=None, id=writer.schema_id))
        for wanted in same:
            for versioned in (False, True) if writer.version is not None else (False,):
                for registers in (False, True):
                    each = dataclasses.replace(wanted, versioned=versioned, registers=registers)
                    if latest:
                        self._latest.put(each, (writer, time.monotonic() + FRESH_S))
                    else:
                        self._writers.put(each, writer)

    async def _ask_for(self, choice: SchemaChoice) -> Writer:
        if choice.id is not None:
            return await self._by_id(choice, choice.id)
        if choice.text is not None:
            return await self._by_text(choice, choice.text)
        return await self._by_version(choice, LATEST if choice.version is None else choice.version)

    async def _by_id(self, choice: SchemaChoice, id: int) -> Writer:
        try:
            if not 0 <= id <= ID_MAX:
                raise RegistryRefusal(404, UNKNOWN_SCHEMA, f"ids are 0 to {ID_MAX}")
            stored = await self.finder.fetch(id)
        except RegistryRefusal as refusal:
            raise refused(refusal, f"Error when fetching schema by id. schemaId = {id}") from None
        self._check_format(choice, stored)
        subject = self._subject(choice, stored.compiled)
        version = stored.places.get(subject)
        if version is None:
            version = await self._version_of(subject, stored)
        return self._writer(stored, subject, version)

    async def _version_of(self, subject: str, stored: Stored) -> int:
        """The version that a schema has under a subject; SerializationError if it has none."""
        assert self.client is not None
        try:
            found = await self.client.ask("POST", f"/subjects/{part(subject)}", body_of(stored.schema))
        except RegistryRefusal as refusal:
            raise refused(
                refusal,
                f"Error when fetching schema version. subject = {subject}, schemaId = {stored.id}: "
                "the schema is not registered under this subject.",
            ) from None
        version = integer_in(found, "version")
        stored.place(subject, version)
        return version

    async def _by_text(self, choice: SchemaChoice, text: str) -> Writer:
        assert self.client is not None
        codec = self._codec(choice)
        schema, canonical, compiled = await self._drafts.of(codec, text)
        subject = self._subject(choice, compiled)
        place = f"/subjects/{part(subject)}"
        found = await self._look_up(place, schema)
        if found is None and canonical != schema:
            found = await self._look_up(place, canonical)
        version: int | None
        if found is not None:
            id, version = found
        elif not choice.registers:
            await self._check_compatible(subject, canonical)
            id, version = 0, None
        else:
            try:
                id = integer_in(await self.client.ask("POST", f"{place}/versions", body_of(canonical)), "id")
            except RegistryRefusal as refusal:
                raise refused(
                    refusal,
                    f"Error when registering schema. format = {codec.name.upper()}, subject = {subject}",
                ) from None
            # Some registries answer with nothing but the id.
            found = await self._look_up(place, canonical) if choice.versioned else None
            version = None if found is None else found[1]
        if id:
            places = {} if version is None else {subject: version}
            self.finder.keep(Stored(id, codec.schema_type, codec.name, canonical, compiled, "", places), subject)
        return Writer(codec.name, id, subject, version, compiled)

    async def _check_compatible(self, subject: str, schema: Schema) -> None:
        """SerializationError if the registry would refuse the schema under this subject."""
        assert self.client is not None
        try:
            path = f"/compatibility/subjects/{part(subject)}/versions/latest"
            found = await self.client.ask("POST", path, body_of(schema))
        except RegistryRefusal as refusal:
            if refusal.status == 404:  # the first schema of this subject
                return
            raise
        if isinstance(found, dict) and found.get("is_compatible") is False:
            raise SerializationError(
                "Error serializing message. Error when registering schema. "
                f"subject = {subject}: the schema is incompatible with an earlier one."
            )

    async def _look_up(self, place: str, schema: Schema) -> tuple[int, int] | None:
        """Id and version of a schema under a subject; None if it is not there."""
        assert self.client is not None
        try:
            found = await self.client.ask("POST", place, body_of(schema))
        except RegistryRefusal as refusal:
            if refusal.status == 404:
                return None
            raise
        return integer_in(found, "id"), integer_in(found, "version")

    async def _by_version(self, choice: SchemaChoice, version: int) -> Writer:
        assert self.client is not None
        subject = self._subject(choice, None)
        word = "latest" if version == LATEST else str(version)
        try:
            found = await self.client.ask("GET", f"/subjects/{part(subject)}/versions/{word}")
        except RegistryRefusal as refusal:
            if version == LATEST or refusal.status not in (404, 422):
                raise refused(
                    refusal, f"Error when fetching schema version. subject = {subject}, version = {word}"
                ) from None
            raise BadRequest(f"Bad Request: Schema does not exist for subject: {subject}, version: {word}") from None
        id, number = integer_in(found, "id"), integer_in(found, "version")
        stored = await self.finder.fetch(id)
        self._check_format(choice, stored)
        stored.place(subject, number)
        return self._writer(stored, subject, number)

    def _writer(self, stored: Stored, subject: str, version: int) -> Writer:
        if stored.compiled is None or stored.fault:
            raise SerializationError(
                f"Error serializing message. The schema {stored.id} cannot be used: {stored.fault}"
            )
        return Writer(stored.format, stored.id, subject, version, stored.compiled)

    def _codec(self, choice: SchemaChoice) -> Codec:
        type_ = self._types.get(choice.format)
        if type_ is None:
            raise BadRequest(f"Bad Request: {choice.format!r} is no format with schemas.")
        return self._codecs[type_]

    def _check_format(self, choice: SchemaChoice, stored: Stored) -> None:
        if choice.format and choice.format != stored.format:
            raise SerializationError(
                f"Error serializing message. The schema {stored.id} is of the format {stored.format or stored.type}, "
                f"the request of {choice.format}."
            )

    def _subject(self, choice: SchemaChoice, compiled: CompiledSchema | None) -> str:
        subject = self._named(choice, compiled)
        if not is_a_part(subject):
            raise SerializationError(  # observed for an empty one: the registry does not take it
                f"{SerializationError.text} The subject {subject!r} cannot be used: a subject is not empty, and no "
                "part of it between slashes is '.' or '..'."
            )
        return subject

    def _named(self, choice: SchemaChoice, compiled: CompiledSchema | None) -> str:
        if choice.subject is not None:
            return choice.subject
        strategy = choice.strategy or self._strategy
        if strategy == TOPIC_NAME:
            return f"{choice.topic}-{choice.part}"
        if compiled is None:
            raise BadRequest(f"Bad Request: Cannot use schema_subject_strategy={strategy} without schema_id or schema.")
        if not compiled.name:
            raise SerializationError(
                f"Error serializing message. The strategy {strategy} needs a schema with a name, and this one has none."
            )
        return compiled.name if strategy == RECORD_NAME else f"{choice.topic}-{compiled.name}"

    # --- what there is ------------------------------------------------------------------------------------------------

    async def subjects(self) -> list[str]:
        if self.client is None:
            raise SchemasUnavailable()
        try:
            answer = await self._flights.once("subjects", self._ask_for_subjects)
        except RegistryRefusal as refusal:
            raise refused(refusal, "Error when asking for the subjects.") from None
        except RegistryAway as away:
            raise unreachable(str(away)) from None
        return answer

    async def _ask_for_subjects(self) -> list[str]:
        assert self.client is not None
        answer = await self.client.ask("GET", "/subjects")
        return sorted(each for each in answer if isinstance(each, str)) if isinstance(answer, list) else []

    async def latest(self, subject: str) -> RegisteredSchema:
        writer = await self.resolve(SchemaChoice("", "value", subject=subject))
        text = (await self.finder.fetch(writer.schema_id)).schema.text
        return RegisteredSchema(
            writer.subject, writer.version or 0, writer.schema_id, writer.format, writer.compiled.name, text
        )

    # --- reading ------------------------------------------------------------------------------------------------------

    def load(self, format: str, part: Part, record: ConsumedRecord) -> Any:
        key, payload, rest = read_frame(part, record)
        finder = self._finder
        if finder is None:
            raise ValueError(SchemasUnavailable.text.rstrip("."))
        stored = finder.known(key)
        if stored is None or (isinstance(stored, Failed) and time.monotonic() >= stored.until):
            stored = self._wait_for(finder, key, stored)
        if isinstance(stored, Failed) and passes(stored.error):
            stored = finder.spare(key) or stored
        if isinstance(stored, Failed):
            raise SchemaUnreachable(told(stored.error)) if passes(stored.error) else ValueError(told(stored.error))
        if format and stored.format != format:
            raise ValueError(f"its schema {stored.id} is of the format {stored.format or stored.type}")
        if stored.compiled is None:
            raise ValueError(f"its schema {stored.id} cannot be used: {stored.fault.rstrip('.')}")
        return stored.compiled.decode(payload, rest)

    def name(self, part: Part, record: ConsumedRecord) -> SchemaName | None:
        try:
            key, payload, rest = read_frame(part, record)
            finder = self._finder
            stored = finder.known(key) if finder is not None else None
            if isinstance(stored, Failed) and finder is not None:
                stored = finder.spare(key)
            if not isinstance(stored, Stored):
                return None
            name = stored.compiled.name_of(payload, rest) if stored.compiled is not None else ""
        except ValueError:
            return None
        return SchemaName(stored.id, stored.format, name, tuple(sorted(stored.places.items())))

    def look_for_subjects(self, id: int, topic: str) -> bool:
        finder, loop = self._finder, self._loop
        stored = finder.known(id) if finder is not None and id else None
        if finder is None or loop is None or not isinstance(stored, Stored) or self._draining or self._closing:
            return False
        until = finder.placed_until(stored, topic)
        if until is not None and time.monotonic() < until:
            return False
        on_loop = asyncio._get_running_loop() is not None
        if until is None and finder.away() is None:
            if on_loop:
                raise SchemaPending(lambda: finder.look_for_places(stored, topic))
            self._wait_on_thread(finder.look_for_places(stored, topic), loop)
            return True
        # Nobody waits for this a second time, nor for a registry that is away.
        if on_loop:
            self._look_for_subjects_later(finder, stored, topic)
        else:
            loop.call_soon_threadsafe(self._look_for_subjects_later, finder, stored, topic)
        return False

    def _look_for_subjects_later(self, finder: SchemaFinder, stored: Stored, topic: str) -> None:
        until = finder.placed_until(stored, topic)
        if until is None or time.monotonic() >= until:
            finder.believe_places(stored, topic)
            self._ask_in_background(finder.look_for_places(stored, topic))

    def _wait_on_thread(self, asking: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> None:
        waiting = asyncio.run_coroutine_threadsafe(asking, loop)
        self._waiting.add(waiting)
        try:
            waiting.result(self._budget_s + 1)
        except (concurrent.futures.CancelledError, TimeoutError):
            waiting.cancel()
        finally:
            self._waiting.discard(waiting)

    def _wait_for(self, finder: SchemaFinder, key: SchemaKey, last: Failed | None) -> Stored | Failed:
        """The schema, after waiting for it.

        On the event loop it raises SchemaPending. If the last question there has failed, it gives the same error once
        more, so that nobody waits for ever, and asks again in the background. While the registry is away it does so on
        all threads.
        """
        loop = self._loop
        if loop is None or self._draining or self._closing:
            return Failed(RegistryAway("the gateway is stopping"), 0.0)
        on_loop = asyncio._get_running_loop() is not None
        away = finder.away()
        if away is not None:
            if not self._asking_again:
                loop.call_soon_threadsafe(self._ask_again, finder, key)
            return away
        if on_loop:
            if last is not None:
                self._ask_again(finder, key)
                return last
            raise SchemaPending(lambda: finder.look(key))
        self._wait_on_thread(finder.look(key), loop)
        found = finder.known(key)
        return found if found is not None else Failed(RegistryAway("it did not answer in time"), 0.0)

    def _ask_again(self, finder: SchemaFinder, key: SchemaKey) -> None:
        self._ask_in_background(finder.look(key))

    def _ask_in_background(self, asking: Coroutine[Any, Any, None]) -> None:
        if len(self._asking_again) >= _ASKED_AGAIN_MAX or self._closing:
            asking.close()
            return
        task = asyncio.ensure_future(asking)
        self._asking_again.add(task)
        task.add_done_callback(self._asking_again.discard)
