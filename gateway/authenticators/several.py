"""Several authenticators at once: the first whose kind of proof a request carries decides (security.md §2)."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence

from kafka_gateway.auth import Authenticator, NoAuthentication
from kafka_gateway.config import Fault
from kafka_gateway.errors import Unauthorized
from kafka_gateway.session import Principal


class SeveralMethods(Authenticator):
    """``authentication.method`` with more than one name. A wrong proof is refused, it never falls to the next method.

    Proof that none of them reads is as good as none.
    """

    name = "several"

    def __init__(self, methods: Sequence[Authenticator]) -> None:
        self.methods = tuple(methods)
        self.proof = tuple(dict.fromkeys(name for each in methods for name in each.proof))
        limited = [each for each in methods if each.unsure_max >= 0]
        self.unsure_max = min((each.unsure_max for each in limited), default=-1)
        self.unsure_again_s = max((each.unsure_again_s for each in limited), default=0.0)
        self.query_parameter = next((each.query_parameter for each in methods if each.query_parameter), "")

    @property
    def challenge(self) -> str:
        return ", ".join(filter(None, (each.challenge for each in self.methods)))

    def faults(self) -> Sequence[Fault]:
        return [fault for each in self.methods for fault in each.faults()]

    def told(self) -> str:
        return "; ".join(filter(None, (each.told() for each in self.methods)))

    def reads(self, shown: Mapping[str, str]) -> bool:
        return self._reading(shown) is not None

    def recall(self, headers: Mapping[str, str]) -> Principal | None:
        method = self._reading(headers)
        return method.recall(headers) if method is not None else None

    async def authenticate(self, headers: Mapping[str, str], peer: str) -> Principal:
        method = self._reading(headers)
        if method is None:
            raise Unauthorized(challenge=self.challenge)
        return await method.authenticate(headers, peer)

    def reload(self) -> None:
        for each in self.methods:
            each.reload()

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for each in self.methods:
                await stack.enter_async_context(each.lifespan())
            yield

    def _reading(self, shown: Mapping[str, str]) -> Authenticator | None:
        for each in self.methods:
            if each.reads(shown):
                return each
        return None


def shadowed(methods: Sequence[Authenticator]) -> list[str]:
    """A message for each of the methods that would never be asked, since one before it reads the same."""
    found = []
    for number, each in enumerate(methods):
        for before in methods[:number]:
            if isinstance(before, NoAuthentication):
                found.append(f"{each.name} would never be asked behind NONE; NONE comes last")
                break
            if (before.scheme, tuple(before.proof)) == (each.scheme, tuple(each.proof)):
                found.append(f"{each.name} would never be asked behind {before.name}: both read the same kind of proof")
                break
    return found
