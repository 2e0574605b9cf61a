"""How requests reach the process that has what they are about, as the kernel sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from kafka_gateway.homes import Homes
from kafka_gateway.messages import Reply, Request, Response

Join = Callable[[Reply, Mapping[int, Reply | None], int], Reply]
"""Is called with the reply of this worker, those of the others by number (None: it did not answer in time), and the
number of this one."""


class Forwarder(Homes, Protocol):
    """Belongs to the event loop."""

    @property
    def is_fixed(self) -> bool:
        """Whether homes never change: then a request that comes from another process is served here."""

    def elsewhere(self, method: str, path: str, area: str) -> int | None:
        """The other worker that answers requests for this path; None: this one."""

    async def forward(self, request: Request, worker: int) -> Reply | None:
        """The reply of the process at that home; None: it is this one by now. Cancelling it cancels the request there.

        Raises InstanceUnavailable if nobody serves it within ``cluster.hold.ms``.
        """

    def follow(self, request: Request, response: Response) -> None:
        """Where homes change, a stream in the response goes on when what it is about has moved."""

    async def join(self, request: Request, reply: Reply, join: Join) -> Reply:
        """``reply``, joined with those of all other workers to the same request."""

    async def ask_all(self, name: str, parameters: Mapping[str, Any]) -> list[Any]:
        """What the other workers answer to a question, those that do not answer in time left out."""
