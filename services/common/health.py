"""Liveness and readiness, for orchestrators and balancers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from kafka_gateway import jsonio
from kafka_gateway.config import Config
from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.messages import Call, Reply, Response

_FRESH_S = 1.0
"""How long an answer of Kafka's counts. Probes come from several sides at once and must cost nothing."""

_MOST_S = 1.5
"""How long a probe waits for Kafka: whoever sends it gives up soon, and then nobody learns the reason (F5)."""


class HealthReply(jsonio.Struct, omit_defaults=True):
    status: str
    reason: str = ""


class HealthService:
    """The handlers of ``/health/live`` and ``/health/ready``."""

    def __init__(self, config: Config, admin: Admin, trouble: Callable[[], str] = lambda: "") -> None:
        """``trouble`` says what else keeps the gateway from being ready; "" if nothing does."""
        self._admin = admin
        self._trouble = trouble
        self._bound_s = min(config.seconds("kafka.connect.timeout.ms"), _MOST_S)
        self._checked_at = float("-inf")
        self._reason = ""
        self._checking: asyncio.Task[None] | None = None
        self._stopping = False

    def watch(self, trouble: Callable[[], str]) -> None:
        """As the parameter of the same name, from now on."""
        self._trouble = trouble

    async def live(self, call: Call) -> Response:
        """200 for as long as the process answers at all. Kafka being away is no reason to restart it."""
        return Response(HealthReply("live"))

    async def ready(self, call: Call) -> Response:
        """200 if Kafka answered within the last second; 503 with a reason if it does not, or if the gateway stops."""
        if self._stopping:
            return _not_ready("The gateway is shutting down.")
        if time.monotonic() - self._checked_at > _FRESH_S:
            if self._checking is None:
                self._checking = asyncio.get_running_loop().create_task(self._check())
            await asyncio.shield(self._checking)
        reason = self._reason or self._trouble()
        return _not_ready(reason) if reason else Response(HealthReply("ready"))

    def stop(self) -> None:
        """From now on the gateway is not ready."""
        self._stopping = True

    async def _check(self) -> None:
        try:
            async with asyncio.timeout(self._bound_s):
                await self._admin.check(self._bound_s)
            self._reason = ""
        except ServiceError as error:
            self._reason = error.message
        except TimeoutError:
            self._reason = f"Kafka did not answer within {self._bound_s:g} s."
        finally:
            self._checked_at = time.monotonic()
            self._checking = None


def join_readiness(own: Reply, others: Mapping[int, Reply | None], number: int) -> Reply:
    """Readiness of a gateway of several workers: each serves its share of the connections, so all have to be ready."""
    if own.status != 200:
        return own
    for worker, reply in others.items():
        if reply is None:
            reason = f"Worker {worker} does not answer."
            return Reply(503, own.media_type, jsonio.encode(HealthReply("not ready", reason)), (("Retry-After", "1"),))
        if reply.status != 200:
            return reply
    return own


def _not_ready(reason: str) -> Response:
    return Response(HealthReply("not ready", reason), 503, (("Retry-After", "1"),))
