"""The root and the list of brokers, v1 and v2 (kafka-rest-http.md §5.2, §6.2)."""

from __future__ import annotations

from typing import Any

from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.messages import Call, Response
from kafka_gateway.services.rest.bodies import Brokers
from kafka_gateway.services.rest.v1_errors import v1_errors


class BrokersService:
    """The handlers of ``/`` and ``/brokers``."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin

    async def root(self, call: Call) -> Response:
        """``GET /`` and ``POST /``: an empty object."""
        empty: dict[str, Any] = {}
        return Response(empty)

    async def list(self, call: Call) -> Response:
        """``GET /brokers`` of v2"""
        return Response(Brokers(sorted(await self._admin.brokers())))

    async def list_v1(self, call: Call) -> Response:
        """``GET /brokers`` of v1"""
        with v1_errors():
            return await self.list(call)
