"""The client in whose name Kafka is asked: the one place where a client's session meets the gateway's Kafka clients.

`Gateway.dispatch` and `Gateway.admit` say who is calling; the Kafka that services were given
(gateway/kafka/credentials/callers_kafka.py) looks here with every call. So no service and no transport chooses Kafka
clients, and none can choose wrong ones. Tasks that a handler starts go on in the name of its client.
"""

from __future__ import annotations

import contextvars
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from kafka_gateway.session import Principal, Session

NOBODY: Final = object()
"""What `CALLER` says outside of any request: the work is the gateway's own."""

CALLER: Final[contextvars.ContextVar[Any]] = contextvars.ContextVar("caller", default=NOBODY)
"""The `KafkaLease` of the client whose request runs; None where it brings none; NOBODY outside of requests."""


class KafkaLease(Protocol):
    """A client's right to use the Kafka clients of its credentials. Belongs to the event loop."""

    @property
    def user(self) -> str:
        """The name by which Kafka knows the client: for logs, and to tell clients apart. No secret."""

    def begin(self) -> None:
        """A request begins that may use them: they stay until ``end``."""

    def end(self) -> None: ...


class CredentialsOf(Protocol):
    """Finds the Kafka credentials of clients, and has Kafka judge them (security.md §4)."""

    @property
    def fields(self) -> Sequence[str]:
        """Header fields that it looks at, in lower case."""

    def recall(self, principal: Principal, proof: Mapping[str, str]) -> tuple[KafkaLease | None, float] | None:
        """What ``lease`` would answer, if Kafka need not be asked for it; else None. Raises as ``lease`` does."""

    async def lease(self, principal: Principal, proof: Mapping[str, str]) -> tuple[KafkaLease | None, float]:
        """What a client uses, None for the gateway's own clients, and until when that counts (time.monotonic()).

        ``proof`` are the fields of the request, by lower-case name. Raises Unauthorized: Kafka does not take them, or
        there are none and there must be; Unavailable while Kafka cannot say.
        """

    async def lease_again(
        self, session: Session, principal: Principal, proof: Mapping[str, str]
    ) -> tuple[KafkaLease | None, float]:
        """As ``lease``, for a session that has one, and whose proof is looked at again."""

    def use(self, session: Session, lease: KafkaLease | None) -> None:
        """The session has that lease from now on."""
