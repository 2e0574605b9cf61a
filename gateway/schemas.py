"""Schemas of keys and values, as services, codecs and the registry's client see them (kafka-rest-http.md §4.4-4.8).

A client says which schema it wants (`SchemaChoice`); `Schemas` finds it, asks the registry at most once, and answers
with a `Writer`. What a schema means is the business of its codec (`gateway.codec.Codec.compile`).
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol

from kafka_gateway.records import ConsumedRecord
from kafka_gateway.rights import Rights
from kafka_gateway.session import Session

Part = Literal["key", "value"]

LATEST = -1
"""The version of a subject that was registered last."""

TOPIC_NAME = "TOPIC_NAME"
RECORD_NAME = "RECORD_NAME"
TOPIC_RECORD_NAME = "TOPIC_RECORD_NAME"
STRATEGIES = (TOPIC_NAME, RECORD_NAME, TOPIC_RECORD_NAME)
"""How a subject is named: ``<topic>-value``, the record's full name, or ``<topic>-<full name>`` (§4.5)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reference:
    """A schema that another one names: ``name`` is how it is called there."""

    name: str
    subject: str
    version: int


@dataclasses.dataclass(frozen=True, slots=True)
class Schema:
    """One schema with everything that it refers to.

    ``type`` is the registry's word: AVRO, JSON or PROTOBUF. ``imports`` are (name, text) of all schemas that it needs,
    directly or not, each one behind those that it needs itself.
    """

    type: str
    text: str
    references: tuple[Reference, ...] = ()
    imports: tuple[tuple[str, str], ...] = ()


_SHOWN_MAX = 60
REASON_MAX = 500
"""Characters of why a datum does not fit, in messages to clients."""


class Misfit(ValueError):
    """A datum that its schema does not allow. The message begins with the place: ``items[0].price: expected double``.

    Whoever converts a member catches it, says ``within`` and raises it again, so the place costs nothing where all is
    well.
    """

    def __init__(self, reason: str, place: str = "") -> None:
        super().__init__(reason)
        self._reason = reason
        self._place = place

    @classmethod
    def expected(cls, what: str, value: Any) -> Misfit:
        """For a value that is not what it should be."""
        return cls(f"expected {what}, not {_shown(value)}")

    def within(self, step: str | int) -> None:
        """The datum is this member, or this element, of something."""
        rest = self._place if self._place[:1] in ("[", "") else f".{self._place}"
        self._place = f"[{step}]{rest}" if isinstance(step, int) else f"{step}{rest}"

    def under(self, place: str) -> str:
        """The message, with the place of the datum before the place inside of it."""
        inner = self._place if self._place[:1] in ("[", "") else f".{self._place}"
        return f"{place}{inner}: {self._reason}"

    def __str__(self) -> str:
        return f"{self._place}: {self._reason}" if self._place else self._reason


def told_at(place: str, reason: ValueError) -> str:
    """Why a datum cannot be written, as clients are told, with the place of the datum and the place inside of it."""
    return reason.under(place) if isinstance(reason, Misfit) else f"{place}: {reason}"


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    text = repr(value)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"


REGISTRY_AWAY = (
    "Send the same request again when the schema registry answers: see whether it runs, and whether the gateway's "
    "schema.registry.url names it."
)
"""The way out (`ServiceError.help`) of what failed because the registry did not answer."""


class UnusableSchema(ValueError):
    """A text that can be read as a schema of its format and is none all the same, or an empty one.

    Clients are told another code than for a text that cannot be read (observed §6.3).
    """


class CompiledSchema:
    """What a codec makes of a schema, once. Used from several threads, so it keeps nothing between calls."""

    name: str = ""
    """The full name of the record: the subject of RECORD_NAME. "" if the schema has none."""
    slow: bool = False
    """Whether ``encode`` may take more than some milliseconds for a datum of any length: it is called on a thread."""

    def encode(self, text: bytes) -> bytes | None:
        """The payload behind the schema's id, of a datum that is given as JSON text.

        None for a null that means a null key or value (§4.5). ValueError if the datum does not fit; the message begins
        with the place inside of it (see Misfit), if that is not the datum itself: ``items[0].price: expected double``.
        """
        raise NotImplementedError

    def decode(self, payload: bytes, rest: bytes | None = None) -> Any:
        """What a reply shows of a payload: anything JSON-encodable. ValueError if it is broken.

        ``rest`` is what stands behind the id in a record's header; None if the id stands before the payload (§4.4).
        """
        raise NotImplementedError

    def name_of(self, payload: bytes, rest: bytes | None = None) -> str:
        """The full name of the record that ``decode`` shows; "" without one. ValueError if the payload is broken."""
        return self.name


@dataclasses.dataclass(frozen=True, slots=True)
class SchemaChoice:
    """Which schema a client wants for keys or values. What it did not give is None."""

    topic: str
    part: Part
    format: str = ""
    """The embedded format of the request; "" for that of the stored schema."""
    id: int | None = None
    version: int | None = None
    """LATEST, or a number. Without id, version and text it is LATEST."""
    text: str | None = None
    subject: str | None = None
    """None: named by the strategy."""
    strategy: str = ""
    """One of STRATEGIES; "" for the configured one."""
    versioned: bool = False
    """Whether ``Writer.version`` is wanted; it may take the registry another answer."""
    registers: bool = True
    """Whether a text that is new is registered. If not, it is judged, and the writer's ``schema_id`` is 0."""


@dataclasses.dataclass(frozen=True, slots=True)
class Writer:
    """A schema that is ready to write with."""

    format: str
    schema_id: int
    subject: str
    version: int | None
    compiled: CompiledSchema
    _prefix: bytes = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_prefix", b"\0" + self.schema_id.to_bytes(4, "big"))

    def store(self, text: bytes) -> bytes | None:
        """The bytes that Kafka keeps of a datum given as JSON text; see CompiledSchema.encode."""
        payload = self.compiled.encode(text)
        return None if payload is None else self._prefix + payload

    def renumbered(self, stored: bytes | None) -> bytes | None:
        """What another writer has stored with the same schema, with this writer's id in the place of that one's."""
        return None if stored is None else self._prefix + stored[len(self._prefix) :]


@dataclasses.dataclass(frozen=True, slots=True)
class SchemaName:
    """What a reader can be told of the schema of a record."""

    id: int
    format: str
    name: str
    """Full name of the record; "" without one."""
    subjects: tuple[tuple[str, int], ...]
    """Where it is registered: subject and version."""


@dataclasses.dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """A schema as the registry has it under a subject."""

    subject: str
    version: int
    id: int
    format: str
    name: str
    """Full name of the record; "" without one."""
    schema: str


class SchemaUnreachable(ValueError):
    """A record cannot be decoded now, though perhaps later: the registry does not say what its schema is."""


class SchemaPending(Exception):
    """A record cannot be decoded yet on the event loop: its schema has to be fetched. ``wait()``, then try again."""

    def __init__(self, wait: Callable[[], Awaitable[None]]) -> None:
        super().__init__("a schema has to be fetched")
        self.wait = wait


class Schemas(Protocol):
    """The schemas of one gateway. Belongs to its event loop, but for ``load``, ``name`` and
    ``look_for_subjects``."""

    def known(self, choice: SchemaChoice) -> Writer | None:
        """The writer if it can be told without asking; None otherwise. Never raises."""

    async def subject(self, choice: SchemaChoice) -> str:
        """The subject that the choice means. Nothing is registered. Raises as ``resolve``."""

    async def draft(self, choice: SchemaChoice) -> Writer:
        """A writer to judge data with, before `resolve`; nothing is registered. Raises as ``resolve``.

        Its ``schema_id`` is 0 where the choice has a text: the registry has not been asked for it yet.
        """

    async def resolve(self, choice: SchemaChoice) -> Writer:
        """The writer, after asking the registry if need be.

        Raises:
            SchemasUnavailable: no registry is configured.
            InvalidSchema: the text is no schema of this format.
            SerializationError: the registry does not know it, refuses it, or cannot be reached.
            BadRequest: there is no such version of the subject, or nothing to name the subject by.
            KafkaAuthorization: the registry refuses this gateway (§6.3).
        """

    async def subjects(self) -> list[str]:
        """The names of all subjects, sorted. Raises SchemasUnavailable, SerializationError, KafkaAuthorization."""

    async def latest(self, subject: str) -> RegisteredSchema:
        """The newest schema of a subject. Raises as ``resolve`` does."""

    def load(self, format: str, part: Part, record: ConsumedRecord) -> Any:
        """The decoded key or value of a record, of any thread. ``format`` "" takes any schema.

        On a thread of its own it waits for the registry. ValueError if it cannot be decoded, SchemaUnreachable if that
        is only so for now; SchemaPending on the event loop, if the schema must be fetched first.
        """

    def name(self, part: Part, record: ConsumedRecord) -> SchemaName | None:
        """What is known of the schema of a key or value that was loaded before; None if it carries no schema's id."""

    def look_for_subjects(self, id: int, topic: str) -> bool:
        """For a schema that ``name`` knows under no subject of a topic: has the registry asked again where it stands,
        the first time at once, later every half minute in the background. Whether ``name`` is worth another look.

        Waits a second at most, of any thread; SchemaPending on the event loop, the first time.
        """


class Preparing:
    """A request body that is not ready yet: `Route.takes` answers it when something has to be waited for first."""

    __slots__ = ("_work",)

    def __init__(self, work: Callable[[Rights], Awaitable[Any]]) -> None:
        """``work`` gets the rights of whoever asks: they have a say in which schemas may be registered."""
        self._work = work

    async def ready(self, rights: Rights) -> Any:
        """The body. Raises what reading a body raises, and NotAuthorized."""
        return await self._work(rights)


async def in_order(session: Session, body: Any) -> Any:
    """The body, when it is ready and all that the session asked to be prepared before is on its way.

    So requests of one connection reach Kafka in their order, though one of them had to wait for a schema.
    """
    before = session.preparing
    mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    session.preparing = mine

    def over(_: object = None) -> None:
        # Whoever waits runs in a later turn of the loop, behind the handler of this one.
        mine.set_result(None)
        if session.preparing is mine:
            session.preparing = None

    try:
        if before is not None:
            await asyncio.wait([before])
        return await body.ready(session.rights) if isinstance(body, Preparing) else body
    finally:
        if before is None or before.done():
            over()
        else:  # cancelled: those behind still wait for those before
            before.add_done_callback(over)
