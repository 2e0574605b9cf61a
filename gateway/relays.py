"""Requests that one of several workers has to serve although no route says so: those of a client that it keeps, of an
Atmosphere client for one.

The transport that keeps clients names what it serves for other workers in ``handlers``, and gives its clients a mark,
which comes back with their requests and tells whose they are. With one process there is no ``way``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from kafka_gateway.core import Gateway
    from kafka_gateway.messages import Reply, Request

UNKNOWN: Final = 421
"""Status of the reply of a handler that keeps no such client: whoever has asked serves the request itself."""

Handler = Callable[["Request"], Awaitable["Reply"]]
"""Serves a request that came to another process, in a session with the proof of its client. It may raise ServiceError;
so may the stream that it answers."""


class OtherWorkers(Protocol):
    """To the other workers. Belongs to the event loop."""

    mark: str
    """Eight hexadecimal digits for what this process makes."""

    def elsewhere_marked(self, mark: str) -> int | None:
        """The other worker that serves what has this mark; None: this one does. Each mark is some worker's: what one
        made that does not run any more, or nobody, is served by one and the same."""

    async def relay(self, name: str, request: Request, worker: int) -> Reply | None:
        """What the handler of that name answers there; None: this process serves it by now. Cancelling it cancels the
        request there.

        Raises InstanceUnavailable if that worker does not serve within ``cluster.hold.ms``, and what the handler does.
        """


class Relays:
    """Of one gateway (``Gateway.state``)."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}
        self.way: OtherWorkers | None = None

    @classmethod
    def of(cls, gateway: Gateway) -> Relays:
        """The relays of this gateway."""
        found = gateway.state.get(cls)
        if found is None:
            found = gateway.state[cls] = cls()
        assert isinstance(found, cls)
        return found
