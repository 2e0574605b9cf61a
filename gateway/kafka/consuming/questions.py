"""What the event loop asks of a consumer's thread, in the order in which it was asked."""

from __future__ import annotations

import asyncio
import collections
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from confluent_kafka import KafkaException

from kafka_gateway.kafka.errors import to_consumer_error

_log = logging.getLogger("gateway.kafka.consumer")

Result = TypeVar("Result")


class Questions:
    """`ask` and `post` belong to the event loop, `answer_all` and `answer` to the thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None] = lambda: None) -> None:
        """``wake`` is called on the loop behind every question that should not wait."""
        self.loop = loop
        self._wake = wake
        self._waiting: collections.deque[tuple[Callable[[], Any], asyncio.Future[Any] | None]] = collections.deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def ask(self, question: Callable[[], Any]) -> asyncio.Future[Any]:
        """Has the thread call this; the future has its result, or its error as a ServiceError."""
        future: asyncio.Future[Any] = self.loop.create_future()
        self._waiting.append((question, future))
        self._wake()
        return future

    def post(self, order: Callable[[], Any], wake: bool = True) -> None:
        """Has the thread call this; what it raises ends the thread's round. Unless ``wake``, it may wait for the next
        question."""
        self._waiting.append((order, None))
        if wake:
            self._wake()

    # --- on the thread ------------------------------------------------------------------------------------------------

    def answer_all(self, over: Callable[[], bool] = lambda: False) -> None:
        """Carries out what was asked, until ``over`` says that the rest is to wait."""
        while self._waiting:
            question, future = self._waiting.popleft()
            try:
                result = question()
            except Exception as error:
                if future is None:
                    raise
                self.answer(future, None, error)
            else:
                if future is not None:
                    self.answer(future, result, None)
            if over():
                return

    def refuse_all(self, error: Exception) -> None:
        """Answers what still waits with this error."""
        while self._waiting:
            _, future = self._waiting.popleft()
            if future is not None:
                self.answer(future, None, error)

    def answer(self, future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
        """Settles a future of the loop's; an error of Kafka's becomes a ServiceError."""
        if isinstance(error, KafkaException):
            error = to_consumer_error(error)
        self.call(_settle, future, result, error)

    def call(self, function: Callable[..., Any], *arguments: object) -> None:
        """Has the event loop call this; nothing happens if that has ended."""
        try:
            self.loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            _log.debug("The event loop has ended before a consumer answered")


def _settle(future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
