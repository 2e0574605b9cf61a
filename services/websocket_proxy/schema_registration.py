"""Registers the Avro schemas of the protocol's own messages in the schema registry, as kafka-websocket-proxy does.

``schema-registry.auto-register-schemas`` (websocket-proxy.md §5.3); each under the full name of its record.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import Any

from kafka_gateway.errors import ServiceError
from kafka_gateway.schemas import SchemaChoice, Schemas
from kafka_gateway.services.websocket_proxy.avro_schemas import (
    COMMIT,
    CONSUMER_RECORD,
    PRODUCER_RECORD,
    PRODUCER_RESULT,
)

log = logging.getLogger("gateway.websocket_proxy")

_FIRST_PAUSE_S = 2.0
_LONGEST_PAUSE_S = 60.0


class SchemaRegistration:
    """Registers them in the background, and tries until the registry answers: no socket waits for it."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="register-proxy-schemas")

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        for schema in (PRODUCER_RECORD, PRODUCER_RESULT, CONSUMER_RECORD, COMMIT):
            await self._register(f"{schema['namespace']}.{schema['name']}", schema)

    async def _register(self, subject: str, schema: Any) -> None:
        choice = SchemaChoice("", "value", "avro", text=json.dumps(schema), subject=subject)
        pause, told = _FIRST_PAUSE_S, ""
        while True:
            try:
                writer = await self._schemas.resolve(choice)
            except ServiceError as error:
                if error.message != told:
                    log.warning("the schema %s cannot be registered yet: %s", subject, error.message)
                told = error.message
            else:
                log.info("the schema %s is registered with the id %d", subject, writer.schema_id)
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)
