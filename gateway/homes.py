"""Where things live that only one of several processes has, as services see it; the kernel sees more of it
(gateway/forwarding.py).

A route says with ``Route.home`` that what it is about has a home: a consumer instance, the place of a group that pulls.
`Gateway.dispatch` has such a request answered by the process at home. With one process there is no `Homes` at all.

A home is a number: of several workers of one machine the worker's, which never changes; of several nodes the hash of
the key, whose slot is one node's now and another's later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from kafka_gateway.errors import ServiceError


class Misrouted(ServiceError):
    """The answer to another process of the cluster that wrongly takes this one for a home (cluster.md §5.1).
    No client sees it."""

    status, error_code, retriable, text = 421, 421, True, "HTTP 421 Misdirected Request"
    help = "Send it to the node that GET /cluster names as the owner."


class MisroutedLate(Misrouted):
    """As Misrouted, and the request may have been carried out: its home has moved meanwhile."""

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        return (_MAY_BE_DONE,)


_MAY_BE_DONE: Final = ("x-gateway-may-be-done", "true")


def may_be_done(headers: Sequence[tuple[str, str]]) -> bool:
    """Whether the headers of a reply are those of a `MisroutedLate`."""
    return _MAY_BE_DONE in headers


class Elsewhere(Exception):
    """What the request is about has its home in another process. Raised by handlers that learn it from the body, before
    they have done anything, or find that it has moved; `Gateway.dispatch` sends the request there.

    ``sent``: what it asks for may have been done: a deletion that finds nothing there is well then.
    """

    def __init__(self, worker: int, *, sent: bool = False) -> None:
        super().__init__(worker)
        self.worker = worker
        self.sent = sent


REPLACED: Final = 70
"""Exit code of a node that another process has taken the name of (cluster.md §5)."""


class NodeReplaced(Exception):
    """Another process uses this node's name: this one holds nothing any more, and has to end."""


OF_ALL: Final = "of all"
"""In ``Route.extras``: the `gateway.forwarding.Join` by which the replies of all workers become one."""

Question = Callable[[Mapping[str, Any]], Sequence[Any]]
"""What a worker can be asked by another one beside requests: JSON in, a list of JSON out."""


class Homes(Protocol):
    """Belongs to the event loop."""

    def is_here(self, *key: str) -> bool:
        """Whether this worker is the home of what has this key, such as group and name."""

    def check_here(self, *key: str) -> None:
        """Elsewhere if it is not."""

    def told(self, *key: str) -> Mapping[str, Any]:
        """What operators are shown of all homes, and of the one with this key."""
