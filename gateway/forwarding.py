"""How requests reach the process that has what they are about, as the kernel sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from kafka_gateway.errors import ServiceError
from kafka_gateway.homes import Homes
from kafka_gateway.messages import Reply, Request, Response, Unanswered

Join = Callable[[Reply, Mapping[int, Reply | None], int], Reply]
"""Is called with the reply of this worker, those of the others by number (None: it did not answer in time), and the
number of this one."""


Told = Callable[[Reply | ServiceError | Unanswered], None]
"""Is called once, in another turn of the event loop, with what has become of a request."""


class Carrier(Protocol):
    """The connection on which a request was sent."""

    def drop(self, number: int) -> None:
        """Nobody wants the answer to that request any more, nor what follows it. Safe to call at any time."""


class Sent:
    """A request that another process has, and no task waits for: one object for all who keep it, because each request
    makes one."""

    __slots__ = ("__weakref__", "_told", "carrier", "number", "request")

    _told: Told | None
    """None when it has been told, or nobody wants to know."""
    request: Request
    carrier: Carrier
    number: int
    """Under which it was sent there; whoever has sent it sets these three."""

    def answered(self, outcome: Reply | ServiceError | None) -> None:
        """Is called once, in another turn of the event loop: with the reply, or an error of this process, or None: the
        connection is lost, and the request may have been carried out."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Nobody wants the reply: it is cancelled there, and nothing is told any more. Safe to call at any time."""
        self._told = None
        self.carrier.drop(self.number)

    def fail(self, error: ServiceError) -> None:
        """As ``cancel``, and the error is told, if nothing has been told yet."""
        told = self._told
        self.cancel()
        if told is not None:
            told(error)


class Forwarder(Homes, Protocol):
    """Belongs to the event loop."""

    @property
    def is_fixed(self) -> bool:
        """Whether homes never change: then a request that comes from another process is served here."""

    def elsewhere(self, method: str, path: str, area: str) -> int | None:
        """The other worker that answers requests for this path; None: this one."""

    def begin(self, request: Request, worker: int, told: Told) -> Sent | None:
        """Sends the request to the process at that home, if that can be done at once; else None: nothing has happened,
        and it is for ``forward``, as it is once more with what is `Unanswered`."""

    async def forward(self, request: Request, worker: int, after: Unanswered | None = None) -> Reply | None:
        """The reply of the process at that home; None: it is this one by now. Cancelling it cancels the request there.

        Raises InstanceUnavailable if nobody serves it within ``cluster.hold.ms``. ``after``: what became of the request
        that ``begin`` has sent.
        """

    def follow(self, request: Request, response: Response) -> None:
        """Where homes change, a stream in the response goes on when what it is about has moved."""

    async def join(self, request: Request, reply: Reply, join: Join) -> Reply:
        """``reply``, joined with those of all other workers to the same request."""

    async def ask_all(self, name: str, parameters: Mapping[str, Any]) -> list[Any]:
        """What the other workers answer to a question, those that do not answer in time left out."""
