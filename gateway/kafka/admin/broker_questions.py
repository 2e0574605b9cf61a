"""Requests of the gateway's own to brokers, in time, with failures that the services know."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import confluent_kafka

from kafka_gateway.config import ConfigError
from kafka_gateway.errors import NotSupported, ServiceError
from kafka_gateway.kafka.errors import CLASSES, to_service_error
from kafka_gateway.kafka_errors import BrokerNotAvailable, KafkaAuthentication, KafkaError, KafkaRefused
from kafka_gateway.upstream import Upstream
from kafka_gateway.wire.apis import Api
from kafka_gateway.wire.brokers import Brokers
from kafka_gateway.wire.connection import ConnectionLost, UnsupportedApi
from kafka_gateway.wire.frames import WireError
from kafka_gateway.wire.sasl import MECHANISMS, SaslRefused, can_log_in
from kafka_gateway.wire.schema import TextTooLong

DEADLINE_S = 5.0
_PAUSE_S = 0.1

Code = confluent_kafka.KafkaError

Controller = Callable[[], Awaitable[int | None]]
"""Tells which broker is the controller, as the cluster says."""

MOVED = frozenset(
    {
        Code.NOT_CONTROLLER,
        Code.NOT_COORDINATOR,
        Code.COORDINATOR_NOT_AVAILABLE,
        Code.COORDINATOR_LOAD_IN_PROGRESS,
        Code.NETWORK_EXCEPTION,
        Code.REQUEST_TIMED_OUT,
    }
)
"""Codes of a broker that is not, or not yet, the one to ask."""


class BrokerQuestions:
    """Asks brokers by Kafka's protocol. Belongs to the event loop."""

    def __init__(self, upstream: Callable[[], Upstream]) -> None:
        """``upstream`` is called with the first question; it may raise ConfigError."""
        self._upstream = upstream
        self._brokers: Brokers | None = None

    @property
    def brokers(self) -> Brokers:
        """Where to ask. KafkaError if the configuration does not say."""
        if self._brokers is None:
            try:
                upstream = self._upstream()
            except ConfigError as error:
                raise KafkaError(f"The gateway cannot ask the brokers by itself: {error}") from None
            if upstream.sasl is not None and not can_log_in(upstream.sasl):
                raise NotSupported(
                    f"The gateway asks the brokers for this itself, and can log in with {', '.join(MECHANISMS)} only "
                    f"(client.sasl.mechanism={upstream.sasl.mechanism})."
                )
            self._brokers = Brokers(upstream)
        return self._brokers

    async def ask(self, api: Api, body: dict[str, Any], node: int | None = None) -> dict[str, Any]:
        """The answer of that broker, or of any, within `DEADLINE_S`.

        A broker that cannot be reached is tried again, as it may be restarting, or another in its place.

        Raises:
            BrokerNotAvailable: nobody answered in time.
            KafkaRefused: a text in ``body`` is longer than the protocol allows.
            NotSupported: the brokers are too old, or want a login that the gateway cannot do by itself.
            KafkaAuthentication: they do not take the gateway's credentials.
        """
        failure: ConnectionLost | None = None
        try:
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    try:
                        return await self.brokers.ask(api, body, node)
                    except ConnectionLost as error:
                        if error.sent and api.changes:
                            raise BrokerNotAvailable(
                                f"The broker left while it worked on the request; it may have been carried out: {error}"
                            ) from None
                        failure = error
                        self.brokers.forget_nodes()
                    await asyncio.sleep(_PAUSE_S)
        except TimeoutError:
            reason = str(failure) if failure is not None else "no answer in time"
            raise BrokerNotAvailable(f"No Kafka broker can be reached: {reason}") from None
        except UnsupportedApi as error:
            raise NotSupported(str(error)) from None
        except SaslRefused as error:
            raise KafkaAuthentication(str(error)) from None
        except TextTooLong as error:
            raise KafkaRefused(f"Nothing was asked of Kafka: {error}.") from None
        except WireError as error:
            raise KafkaError(f"The broker's answer makes no sense: {error}") from None

    async def ask_controller(
        self,
        api: Api,
        body: dict[str, Any],
        codes: Callable[[dict[str, Any]], Iterable[int]],
        controller: Controller,
    ) -> dict[str, Any]:
        """The answer of the controller. Raises as ``ask``.

        Any broker of a cluster without ZooKeeper passes such a request on, and names a broker at random, which may be
        dead, as its controller. Older ones refuse it, all but the controller; then that one is asked, once.

        Args:
            codes: the error codes of an answer.
            controller: which broker the cluster says is its controller.
        """
        answer = await self.ask(api, body)
        if Code.NOT_CONTROLLER not in codes(answer):
            return answer
        self.brokers.forget_nodes()
        return await self.ask(api, body, await controller())

    async def close(self) -> None:
        if self._brokers is not None:
            await self._brokers.close()


def broker_error(code: int, message: str | None) -> ServiceError | None:
    """The failure that an error code of a broker stands for, with the broker's own text; None for 0."""
    if not code:
        return None
    error = to_service_error(confluent_kafka.KafkaError(code))
    found = CLASSES.get(code)
    return type(error)(message) if message and found is not None else error


def check(code: int, message: str | None) -> None:
    """Raises what `broker_error` makes of it."""
    if (error := broker_error(code, message)) is not None:
        raise error
