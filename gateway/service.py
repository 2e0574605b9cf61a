"""Objects behind routes that live as long as the gateway runs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kafka_gateway.definitions import Definitions, Holder
    from kafka_gateway.metrics.registry import Metrics


class Service:
    """Base of objects whose methods are route handlers and which have something to start, to end or to keep.

    Name it as ``Route.service``; the gateway enters ``lifespan`` once, however many routes name it.
    """

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Runs around the gateway's serving: start tasks before the yield, end them after it."""
        yield

    def drain(self) -> None:
        """The gateway takes no new requests: those that wait should answer now, with what they have."""

    def share(self, definitions: Definitions, metrics: Metrics) -> Holder | None:
        """The gateway is one of several nodes: a service with consumers for instances keeps these in ``definitions``,
        and is told which of them are its own. Called once, before ``lifespan``."""
        return None

    def generation_of(self, group: str, instance: str) -> str | None:
        """The one REST generation in which a consumer instance of that name exists; None if there is none, or one in
        each: then the headers of the request decide (kafka-rest-http.md §3.1)."""
        return None
