"""Where things live that only one of several worker processes has, as the kernel and the services see it.

A route says with ``Route.home`` that what it is about has a home: a consumer instance, the place of a group that pulls.
`Gateway.dispatch` has such a request answered by the worker at home. With one worker there is no `Homes` at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from kafka_gateway.messages import Reply, Request


class Elsewhere(Exception):
    """What the request is about has its home in another worker. Raised by handlers that learn it from the body, before
    they have done anything; `Gateway.dispatch` sends the request there."""

    def __init__(self, worker: int) -> None:
        super().__init__(worker)
        self.worker = worker


OF_ALL: Final = "of all"
"""In ``Route.extras``: the `Join` by which the replies of all workers become one."""

Join = Callable[["Reply", Mapping[int, "Reply | None"], int], "Reply"]
"""Is called with the reply of this worker, those of the others by number (None: it did not answer in time), and the
number of this one."""

Question = Callable[[Mapping[str, Any]], Sequence[Any]]
"""What a worker can be asked by another one beside requests: JSON in, a list of JSON out."""


class Homes(Protocol):
    """Belongs to the event loop."""

    def is_here(self, *key: str) -> bool:
        """Whether this worker is the home of what has this key, such as group and name."""

    def check_here(self, *key: str) -> None:
        """Elsewhere if it is not."""

    def elsewhere(self, method: str, path: str, area: str) -> int | None:
        """The other worker that answers requests for this path; None: this one."""

    async def forward(self, request: Request, worker: int) -> Reply:
        """The reply of that worker. Cancelling it cancels the request there.

        Raises InstanceUnavailable if the worker does not serve within ``cluster.hold.ms``.
        """

    async def join(self, request: Request, reply: Reply, join: Join) -> Reply:
        """``reply``, joined with those of all other workers to the same request."""

    async def ask_all(self, name: str, parameters: Mapping[str, Any]) -> list[Any]:
        """What the other workers answer to a question, those that do not answer in time left out."""
