"""Who is asking: the interface of authenticators, and the one for gateways that ask nobody."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

from kafka_gateway.config import Fault
from kafka_gateway.session import ANONYMOUS, Principal

CERTIFICATE: Final = ":certificate"
"""Where a proof holds the client's certificate that TLS has verified: its DER in base64. No header field is called so,
and what a client writes under that name is never looked at."""


class Authenticator:
    """Tells who sends a request. ``authentication.method`` names those in use (each by its ``name``, any case).

    A proof is what a request shows of what the authenticators look at: header fields by their lower-case names.
    ``proof`` names those of this one. A connection may carry the requests of many clients (a proxy in front shares
    them), so a request whose proof differs from the last one's is asked again.
    """

    name: str = ""
    proof: Sequence[str] = ("authorization",)
    scheme: str = ""
    """The scheme of ``Authorization`` that it reads, in lower case (RFC 9110 §11.4): ``basic``, ``bearer``. "": any."""
    query_parameter: str = ""
    """A query parameter that may stand in for a bearer's Authorization: browsers cannot set that header on a socket."""

    unsure_max: int = -1
    """How often in a row nobody could tell whether the proof of somebody who stays still counts, before it counts no
    more; -1: never."""
    unsure_again_s: float = 0.0
    """How long until that is asked again."""

    @property
    def challenge(self) -> str:
        """What ``WWW-Authenticate`` says of it to those who show nothing that any authenticator reads; "": nothing."""
        return ""

    def faults(self) -> Sequence[Fault]:
        """What is wrong with its settings. Asked at start, and only of those in use."""
        return ()

    def told(self) -> str:
        """What it has read, for ``--check``, after ``faults``: "authentication.basic.file has 2 users"; "": nothing."""
        return ""

    def reads(self, shown: Mapping[str, str]) -> bool:
        """Whether there is a proof of its kind, right or wrong: of several authenticators the first that says so
        decides."""
        if self.scheme:
            return shown.get("authorization", "").strip().partition(" ")[0].lower() == self.scheme
        return any(name in shown for name in self.proof)

    def recall(self, headers: Mapping[str, str]) -> Principal | None:
        """The principal of a proof that was found right before and still counts; None if it has to be judged.

        Costs next to nothing. An address that has guessed too often is served what is recalled, and nothing else.
        """
        return None

    async def authenticate(self, headers: Mapping[str, str], peer: str) -> Principal:
        """The principal that this proof proves.

        ``headers`` are the fields that ``proof`` names, by lower-case name, as far as they are there. ``peer`` is the
        client's address. Raises gateway.errors.Unauthorized, best with a challenge, Forbidden, TooManyRequests, or
        Unavailable while nobody can tell. Whatever else it raises is a bug of its own: the client is refused with 500,
        the log has the error, and what was opened with the proof ends. Asked when a session is opened, when the proof
        changes, and when ``Principal.until`` is over.
        """
        raise NotImplementedError

    def reload(self) -> None:
        """The operator asks for it (SIGHUP): whatever it has read, it reads again now. What is faulty stays as it was,
        and is logged."""

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Runs around the gateway's serving, from before the listeners open."""
        yield


class NoAuthentication(Authenticator):
    """Everybody is the same anonymous principal."""

    name = "NONE"
    proof = ()

    def reads(self, shown: Mapping[str, str]) -> bool:
        return True

    async def authenticate(self, headers: Mapping[str, str], peer: str) -> Principal:
        return ANONYMOUS
