"""Who is asking: the interface of authenticators, and the one for gateways that ask nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kafka_gateway.config import Fault
from kafka_gateway.session import ANONYMOUS, Principal


class Authenticator:
    """Tells who sends a request. ``authentication.method`` names the one in use (its ``name``, any case).

    ``proof`` names the headers that ``authenticate`` looks at, in lower case. A connection may carry the requests of
    many clients (a proxy in front shares them), so a request whose proof differs from the last one's is asked again.
    """

    name: str = ""
    proof: Sequence[str] = ("authorization",)
    query_parameter: str = ""
    """A query parameter that may stand in for a bearer's Authorization: browsers cannot set that header on a socket."""

    def faults(self) -> Sequence[Fault]:
        """What is wrong with its settings. Asked at start, and only of the one in use."""
        return ()

    def recall(self, headers: Mapping[str, str]) -> Principal | None:
        """The principal of a proof that was found right before and still counts; None if it has to be judged.

        Costs next to nothing. An address that has guessed too often is served what is recalled, and nothing else.
        """
        return None

    async def authenticate(self, headers: Mapping[str, str], peer: str) -> Principal:
        """The principal that these headers (looked up by lower-case name) prove.

        ``peer`` is the client's address. Raises gateway.errors.Unauthorized, best with a challenge, Forbidden, or
        TooManyRequests. Asked when a session is opened, when the proof changes, and when ``Principal.until`` is over.
        """
        raise NotImplementedError


class NoAuthentication(Authenticator):
    """Everybody is the same anonymous principal."""

    name = "NONE"
    proof = ()

    async def authenticate(self, headers: Mapping[str, str], peer: str) -> Principal:
        return ANONYMOUS
