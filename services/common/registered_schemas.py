"""What the schema registry has, for pages that produce with a schema: its subjects, and the newest schema of one."""

from __future__ import annotations

import time
from collections.abc import Sequence

from kafka_gateway import jsonio
from kafka_gateway.errors import BadRequest
from kafka_gateway.messages import Call, Response
from kafka_gateway.rights import not_authorized
from kafka_gateway.schemas import RegisteredSchema, Schemas
from kafka_gateway.services.common.subjects import may_see

SUBJECTS_MAX = 2000
"""In one answer, in the order of their names."""
_FRESH_S = 1.0


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
        """``GET /console/subjects``. Those that the caller may not describe are left out."""
        until, names = self._known
        if time.monotonic() >= until:
            names = await self._schemas.subjects()
            self._known = time.monotonic() + _FRESH_S, names
        return Response([name for name in names if may_see(call.session.rights, name)][:SUBJECTS_MAX])

    async def schema(self, call: Call) -> Response:
        """``GET /console/schema?subject=S``. Raises what `Schemas.latest` does."""
        subject = call.query.get("subject", "")
        if not subject:
            raise BadRequest("Say of which subject: ?subject=orders-value")
        if not may_see(call.session.rights, subject):
            raise not_authorized(call.session.principal, "describe", "subject", subject)
        return Response(_shown(await self._schemas.latest(subject)))


def _shown(found: RegisteredSchema) -> SubjectSchema:
    return SubjectSchema(found.subject, found.version, found.id, found.format, found.name, found.schema)
