"""All schemas of one gateway: found in the registry once, compiled once, kept (kafka-rest-http.md §4.5).

What an id means never changes, so it is kept for as long as there is room. What is "latest" is kept for a second, and
so is the registry's word that something is not there. Equal questions that are asked at the same time are one.

Records are decoded on Kafka's reading threads. They look into the same tables, which only the event loop changes, and
wait there for a schema that is not in them; on the event loop nobody waits (`SchemaPending`).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from kafka_gateway.codec import Codec
from kafka_gateway.config import Config
from kafka_gateway.errors import (
    BadRequest,
    InvalidSchema,
    SchemasUnavailable,
    SerializationError,
    ServiceError,
)
from kafka_gateway.metrics.families import counter, gauge, histogram
from kafka_gateway.metrics.registry import Families
from kafka_gateway.records import ConsumedRecord
from kafka_gateway.registry.answers import body_of, integer_in, refused, told, unreachable
from kafka_gateway.registry.bounded import BoundedMap
from kafka_gateway.registry.client import RegistryAway, RegistryClient, RegistryRefusal, part
from kafka_gateway.registry.framing import SchemaKey, read_frame
from kafka_gateway.registry.references import imports_of, references_of
from kafka_gateway.registry.settings import registry_settings
from kafka_gateway.registry.stored import Failed, Stored, compile_schema
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
    UnusableSchema,
    Writer,
)

log = logging.getLogger("gateway.registry")
T = TypeVar("T")

FRESH_S = 1.0
"""How long "latest" and "not there" are believed."""
_TEXT_SHOWN_MAX = 1000
_ASKED_AGAIN_MAX = 16
"""Schemas at a time that are asked for again without anybody who waits."""
UNKNOWN_SCHEMA, UNKNOWN_SUBJECT, UNKNOWN_VERSION = 40403, 40401, 40402


class Catalogue:
    """Implements `gateway.schemas.Schemas`. Belongs to one event loop."""

    def __init__(self, config: Config, codecs: Mapping[str, Codec]) -> None:
        """ConfigError for settings that cannot be used."""
        settings = registry_settings(config)
        self.client = RegistryClient(settings) if settings is not None else None
        self._wait_s = settings.total_timeout_s + 1 if settings is not None else 0.0
        self._strategy = config.text("schema.subject.strategy")
        self._codecs = {codec.schema_type: codec for codec in codecs.values() if codec.schema_type}
        self._types = {codec.name: type_ for type_, codec in self._codecs.items()}
        room = config.integer("schema.cache.max")
        self._stored: BoundedMap[SchemaKey, Stored | Failed] = BoundedMap(room)
        self._writers: BoundedMap[SchemaChoice, Writer] = BoundedMap(room)
        self._latest: BoundedMap[SchemaChoice, tuple[Writer, float]] = BoundedMap(room)
        self._refused: BoundedMap[SchemaChoice, Failed] = BoundedMap(1000)
        self._flights: dict[object, asyncio.Task[Any]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._away: Failed | None = None
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
        yield histogram("schema_registry_seconds", "Until it answered", (), [((), self.client.seconds)])
        yield gauge("schema_cache_entries", "Schemas that are kept", (), [((), len(self))])

    def __len__(self) -> int:
        """How many schemas are kept."""
        return len(self._stored)

    @contextlib.asynccontextmanager
    async def lifespan(self) -> Any:
        """Runs while the gateway serves: reading threads find the event loop through it."""
        self._loop = asyncio.get_running_loop()
        try:
            yield
        finally:
            self._closing = True
            flights = [*self._asking_again, *self._flights.values()]
            for flight in flights:
                flight.cancel()
            await asyncio.gather(*flights, return_exceptions=True)
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

    async def resolve(self, choice: SchemaChoice) -> Writer:
        writer = self.known(choice)
        if writer is not None:
            return writer
        failed = self._refused.get(choice)
        if failed is not None and time.monotonic() < failed.until:
            raise failed.error
        return await self._once(("resolve", choice), lambda: self._resolve(choice))

    async def _resolve(self, choice: SchemaChoice) -> Writer:
        if self.client is None:
            raise SchemasUnavailable()
        error: ServiceError
        try:
            if choice.id is not None:
                writer = await self._by_id(choice, choice.id)
            elif choice.text is not None:
                writer = await self._by_text(choice, choice.text)
            else:
                writer = await self._by_version(choice, LATEST if choice.version is None else choice.version)
        except RegistryRefusal as refusal:
            error = refused(refusal, "Error when asking the schema registry.")
        except RegistryAway as away:
            error = unreachable(away)
        except ServiceError as found:
            error = found
        else:
            if choice.id is None and choice.text is None and choice.version in (None, LATEST):
                self._latest.put(choice, (writer, time.monotonic() + FRESH_S))
            elif writer.schema_id:
                self._writers.put(choice, writer)
            return writer
        self._refused.put(choice, Failed(error, time.monotonic() + FRESH_S))
        raise error

    async def _by_id(self, choice: SchemaChoice, id: int) -> Writer:
        try:
            stored = await self._fetch(id)
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
        stored.places[subject] = version
        return version

    async def _by_text(self, choice: SchemaChoice, text: str) -> Writer:
        assert self.client is not None
        codec = self._codec(choice)
        schema = Schema(codec.schema_type, text)
        try:
            compiled = await compile_schema(codec, schema)
            canonical = dataclasses.replace(schema, text=codec.canonical(text))
        except UnusableSchema as reason:
            raise SerializationError(f"Error serializing message. The schema cannot be used: {reason}") from None
        except ValueError as reason:
            shown = text if len(text) <= _TEXT_SHOWN_MAX else f"{text[:_TEXT_SHOWN_MAX]}…"
            format = codec.name.upper()
            raise InvalidSchema(
                f"Invalid schema: Error when parsing raw schema. format = {format}, schema = {shown}\n{reason}"
            ) from None
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
        stored = await self._fetch(id)
        self._check_format(choice, stored)
        stored.places[subject] = number
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
            answer = await self._once("subjects", self._ask_for_subjects)
        except RegistryRefusal as refusal:
            raise refused(refusal, "Error when asking for the subjects.") from None
        except RegistryAway as away:
            raise unreachable(away) from None
        return answer

    async def _ask_for_subjects(self) -> list[str]:
        assert self.client is not None
        answer = await self.client.ask("GET", "/subjects")
        return sorted(each for each in answer if isinstance(each, str)) if isinstance(answer, list) else []

    async def latest(self, subject: str) -> RegisteredSchema:
        writer = await self.resolve(SchemaChoice("", "value", subject=subject))
        text = (await self._fetch(writer.schema_id)).schema.text
        return RegisteredSchema(
            writer.subject, writer.version or 0, writer.schema_id, writer.format, writer.compiled.name, text
        )

    # --- reading ------------------------------------------------------------------------------------------------------

    def load(self, format: str, part: Part, record: ConsumedRecord) -> Any:
        key, payload, rest = read_frame(part, record)
        stored = self._stored.get(key)
        if stored is None or (isinstance(stored, Failed) and time.monotonic() >= stored.until):
            stored = self._wait_for(key, stored)
        if isinstance(stored, Failed):
            raise ValueError(told(stored.error))
        if format and stored.format != format:
            raise ValueError(f"its schema {stored.id} is of the format {stored.format or stored.type}")
        if stored.compiled is None:
            raise ValueError(f"its schema {stored.id} cannot be used: {stored.fault}")
        return stored.compiled.decode(payload, rest)

    def name(self, part: Part, record: ConsumedRecord) -> SchemaName | None:
        try:
            key, payload, rest = read_frame(part, record)
            stored = self._stored.get(key)
            if not isinstance(stored, Stored):
                return None
            name = stored.compiled.name_of(payload, rest) if stored.compiled is not None else ""
        except ValueError:
            return None
        return SchemaName(stored.id, stored.format, name, tuple(sorted(stored.places.items())))

    def _wait_for(self, key: SchemaKey, last: Failed | None) -> Stored | Failed:
        """The schema, after waiting for it.

        On the event loop SchemaPending; if it was asked for in vain before, that counts once more, so that nobody waits
        for ever, and it is asked for again in the background.
        """
        if self.client is None:
            return Failed(ValueError(SchemasUnavailable.text), 0.0)
        away = self._away
        if away is not None and time.monotonic() < away.until:
            return away
        loop = self._loop
        if loop is None or self._draining or self._closing:
            return Failed(ValueError("the gateway is stopping"), 0.0)
        if asyncio._get_running_loop() is not None:
            if last is not None:
                self._ask_again(key)
                return last
            raise SchemaPending(lambda: self._look(key))
        waiting = asyncio.run_coroutine_threadsafe(self._look(key), loop)
        self._waiting.add(waiting)
        try:
            waiting.result(self._wait_s)
        except (concurrent.futures.CancelledError, TimeoutError):
            waiting.cancel()
        finally:
            self._waiting.discard(waiting)
        found = self._stored.get(key)
        return found if found is not None else Failed(ValueError("the schema registry did not answer in time"), 0.0)

    def _ask_again(self, key: SchemaKey) -> None:
        if len(self._asking_again) < _ASKED_AGAIN_MAX:
            task = asyncio.ensure_future(self._look(key))
            self._asking_again.add(task)
            task.add_done_callback(self._asking_again.discard)

    async def _look(self, key: SchemaKey) -> None:
        """Puts the schema, or why there is none, into the table."""
        with contextlib.suppress(RegistryRefusal, RegistryAway):
            await self._fetch(key)

    async def _fetch(self, key: SchemaKey) -> Stored:
        """The schema with this id or GUID. RegistryRefusal, RegistryAway."""
        found = self._stored.get(key)
        if isinstance(found, Stored):
            return found
        if found is not None and time.monotonic() < found.until:
            raise found.error
        return await self._once(("fetch", key), lambda: self._ask_for(key))

    async def _ask_for(self, key: SchemaKey) -> Stored:
        assert self.client is not None
        began = time.monotonic()
        try:
            stored = await self._read(self.client, key)
        except (RegistryRefusal, RegistryAway) as error:
            # A registry that is away keeps its readers as long again as they had to wait, so that topics with other
            # records get through half of the time at least.
            now = time.monotonic()
            failed = Failed(error, now + max(FRESH_S, now - began))
            self._stored.put(key, failed)
            if isinstance(error, RegistryAway):
                self._away = failed
            raise
        self._away = None
        self._stored.put(key, stored)
        return stored

    async def _read(self, client: RegistryClient, key: SchemaKey) -> Stored:
        if isinstance(key, bytes):
            path = f"/schemas/guids/{uuid.UUID(bytes=key)}"
            answer, id = await client.ask("GET", path), 0
            places: dict[str, int] = {}
        else:
            id = key - 2**32 if key >= 2**31 else key
            answer, places = await asyncio.gather(client.ask("GET", f"/schemas/ids/{id}"), self._places(client, id))
        text = answer.get("schema") if isinstance(answer, dict) else None
        if not isinstance(text, str):
            raise RegistryRefusal(502, 0, "the schema registry answers without a schema")
        type_ = str(answer.get("schemaType") or "AVRO")
        references = references_of(answer)
        codec = self._codecs.get(type_)
        stored = Stored(id, type_, codec.name if codec else "", Schema(type_, text, references), None, "", places)
        if codec is None:
            stored.fault = f"there is no format for schemas of the type {type_}"
            return stored
        try:
            if references:
                imports = await imports_of(client, references)
                stored.schema = dataclasses.replace(stored.schema, imports=imports)
            stored.compiled = await compile_schema(codec, stored.schema)
        except ValueError as reason:
            stored.fault = str(reason)
            stored.compiled = codec.reader(stored.schema)
            log.warning("the schema %s of the registry cannot be used: %s", id or key, reason)
        return stored

    async def _places(self, client: RegistryClient, id: int) -> dict[str, int]:
        """Subject → version, as far as this registry tells it."""
        try:
            answer = await client.ask("GET", f"/schemas/ids/{id}/versions")
        except (RegistryRefusal, RegistryAway):
            return {}
        places: dict[str, int] = {}
        for each in answer if isinstance(answer, list) else ():
            if isinstance(each, dict) and isinstance(each.get("subject"), str) and isinstance(each.get("version"), int):
                places[each["subject"]] = each["version"]
        return places

    # --- one flight for equal questions -------------------------------------------------------------------------------

    async def _once(self, key: object, work: Callable[[], Awaitable[T]]) -> T:
        """The result of ``work``, which runs once for all who ask while it runs. Who is cancelled leaves it running."""
        flight = self._flights.get(key)
        if flight is None:
            if self._closing:
                raise RegistryAway("the gateway is stopping")
            flight = self._flights[key] = asyncio.ensure_future(_run(work))
            flight.add_done_callback(lambda done: self._landed(key, done))
        result: T = await asyncio.shield(flight)
        return result

    def _landed(self, key: object, flight: asyncio.Task[Any]) -> None:
        self._flights.pop(key, None)
        if not flight.cancelled():
            flight.exception()  # everybody who asked may have gone


async def _run(work: Callable[[], Awaitable[T]]) -> T:
    return await work()
