"""Acknowledgements of a stream's client, and the commits of what it has (streams.md §5)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping

from kafka_gateway import jsonio
from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.ports.consuming import Consumer
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from kafka_gateway.services.streams.parameters import BadParameter
from kafka_gateway.services.streams.token import read_token

log = logging.getLogger("gateway.consumers")

_AGAIN_S = 1.0


def read_ack(message: bytes) -> Mapping[TopicPartition, int] | None:
    """The positions in ``{"ack":<token>}``, whose token may be JSON or the text of it; None for any other message.

    Raises:
        BadParameter: what is acknowledged is no token.
    """
    try:
        body = jsonio.decode_value(message)
    except ValueError:
        return None
    if not isinstance(body, dict) or "ack" not in body:
        return None
    ack = body["ack"]
    try:
        positions = read_token(ack if isinstance(ack, str) else jsonio.encode(ack))
    except ValueError as error:
        raise BadParameter(f"ack is not a token of this stream: {error}.") from None
    return {
        TopicPartition(topic, partition): offset
        for topic, named in positions.items()
        for partition, offset in named.items()
    }


class Committer:
    """Commits positions, one commit at a time; what comes meanwhile goes with the next one."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._pending: dict[TopicPartition, int] = {}
        self._work: asyncio.Task[None] | None = None
        self._closing = False

    def commit(self, partition: TopicPartition, position: int) -> None:
        self._pending[partition] = position
        if self._work is None:
            self._work = asyncio.get_running_loop().create_task(self._run(), name="commit-stream")

    def keep(self, partitions: Iterable[TopicPartition]) -> None:
        """Drops what is pending of other partitions: to commit them would set back the member that has them now."""
        kept = set(partitions)
        self._pending = {each: position for each, position in self._pending.items() if each in kept}

    async def close(self) -> None:
        """Returns when all is committed, or one last time could not be."""
        self._closing = True
        if self._work is not None:
            await self._work

    async def _run(self) -> None:
        while self._pending:
            positions, self._pending = self._pending, {}
            try:
                await self._consumer.commit([PartitionOffset(*each, at) for each, at in positions.items()])
            except ServiceError as error:
                log.info("what a stream's client has acknowledged could not be committed: %s", error.message)
                if self._closing or not error.retriable:
                    continue
                self._pending = positions | self._pending
                await asyncio.sleep(_AGAIN_S)
        self._work = None
