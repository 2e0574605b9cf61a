"""What the schema registry has, for pages that produce with a schema: its subjects, and the newest schema of one."""

from __future__ import annotations

import time
from collections.abc import Sequence

from kafka_gateway import jsonio
from kafka_gateway.errors import BadRequest, KafkaAuthorization
from kafka_gateway.messages import Call, Response
from kafka_gateway.schemas import RegisteredSchema, Schemas
from kafka_gateway.session import Session

SUBJECTS_MAX = 2000
"""In one answer, in the order of their names."""
_FRESH_S = 1.0
_SUFFIXES = ("-key", "-value")


class SubjectSchema(jsonio.Struct):
    """The newest schema of a subject, as a reply shows it."""

    subject: str
    version: int
    id: int
    format: str
    """The embedded format: avro, jsonschema or protobuf."""
    name: str
    """Full name of the record; empty without one."""
    schema: str


class RegisteredSchemas:
    """The handlers. Belongs to the event loop."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self._known: tuple[float, Sequence[str]] = (0.0, ())

    async def subjects(self, call: Call) -> Response:
        """``GET /console/subjects``. Those of topics that the caller may not describe are left out."""
        until, names = self._known
        if time.monotonic() >= until:
            names = await self._schemas.subjects()
            self._known = time.monotonic() + _FRESH_S, names
        return Response([name for name in names if _may_see(call.session, name)][:SUBJECTS_MAX])

    async def schema(self, call: Call) -> Response:
        """``GET /console/schema?subject=S``. Raises what `Schemas.latest` does."""
        subject = call.query.get("subject", "")
        if not subject:
            raise BadRequest("Say of which subject: ?subject=orders-value")
        if not _may_see(call.session, subject):
            raise KafkaAuthorization(f"Not authorized to describe the topic of the subject {subject}.")
        return Response(_shown(await self._schemas.latest(subject)))


def _shown(found: RegisteredSchema) -> SubjectSchema:
    return SubjectSchema(found.subject, found.version, found.id, found.format, found.name, found.schema)


def _may_see(session: Session, subject: str) -> bool:
    """Whether the subject belongs to no topic by its name, or to one that the caller may describe."""
    topics = [subject.removesuffix(suffix) for suffix in _SUFFIXES if subject.endswith(suffix)]
    return not topics or bool(session.rights.filter("describe", "topic", topics))
