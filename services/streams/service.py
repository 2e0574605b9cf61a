"""The record streams of topics: ``GET /topics/{topics}/stream`` (streams.md)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from kafka_gateway import media
from kafka_gateway.codec import Codec
from kafka_gateway.config import Config
from kafka_gateway.errors import (
    ServiceError,
    ShuttingDown,
    TooManyRequests,
    TopicNotFound,
    UnknownTopicOrPartition,
    Unprocessable,
)
from kafka_gateway.kafka.ports.consuming import Consumer, ConsumerSettings
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.kafka.ports.tails import TailStart
from kafka_gateway.kafka.ports.topics import TopicInfo, TopicPartition
from kafka_gateway.media_ranges import parse_accept
from kafka_gateway.messages import Call, Response
from kafka_gateway.records import RecordsEncoder
from kafka_gateway.schemas import Schemas
from kafka_gateway.services.common.names import TopicRules, check_group
from kafka_gateway.services.streams.group_stream import GroupStream
from kafka_gateway.services.streams.parameters import BadParameter, StreamParameters, read_parameters
from kafka_gateway.services.streams.rows import StreamEncoders
from kafka_gateway.services.streams.topic_stream import StreamedTopic, TopicStream

log = logging.getLogger("gateway.consumers")

_CLIENT_ID = "rest-consumer-stream"


class Streams:
    """The handler of streams, and the streams that are open."""

    def __init__(
        self, config: Config, kafka: Kafka, codecs: Mapping[str, Codec], schemas: Schemas, rules: TopicRules
    ) -> None:
        self._kafka = kafka
        self._rules = rules
        self.encoders = StreamEncoders(codecs, schemas)
        self._topics_max = config.integer("stream.max.topics")
        self._per_session_max = config.integer("stream.max.per.session")
        self._buffer_bytes = config.integer("stream.buffer.bytes")
        self._unacked_max = config.integer("stream.max.unacked.records")
        self._open: set[TopicStream | GroupStream] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        self._stopping = False

    def __len__(self) -> int:
        """How many streams are open."""
        return len(self._open)

    async def stream(self, call: Call) -> Response:
        """``GET /topics/{topics}/stream``: the topics are separated by commas."""
        request = call.request
        media_type, format = negotiate(request.headers.get("accept"), self.encoders.formats)
        topics = self._topics(str(call.params["topics"]))
        parameters = read_parameters(request.query, request.headers, format, self.encoders.formats)
        if parameters.group is not None:
            call.require("read", "group", parameters.group)
        if self._stopping:
            raise ShuttingDown()
        if len(request.session.streams) >= self._per_session_max:
            raise TooManyRequests("This client has stream.max.per.session open streams; end one, or open a connection.")
        if parameters.client_acks and request.one_reply:
            raise BadParameter("ack=client needs a WebSocket or an envelope, which can carry acknowledgements.")
        encoder = self.encoders.get(parameters.key_format, parameters.value_format)
        if parameters.group is not None and request.method != "HEAD":  # which must not make a group rebalance
            opened: TopicStream | GroupStream = await self._group(topics, parameters, encoder)
        else:
            opened = await self._tails(topics, parameters, encoder)
        if self.stopping:  # meanwhile
            await opened.aclose()
            raise ShuttingDown()
        return Response(opened, media_type=media_type)

    def drain(self) -> None:
        """The gateway stops: every stream tells its client, and ends."""
        self._stopping = True
        for stream in list(self._open):
            stream.fail(ShuttingDown())

    @property
    def stopping(self) -> bool:
        """Whether the gateway stops."""
        return self._stopping

    async def close_all(self) -> None:
        """Returns when all groups have been left."""
        for stream in list(self._open):
            await stream.aclose()
        while self._leaving:
            await asyncio.wait(self._leaving)

    def _topics(self, text: str) -> list[str]:
        topics = list(dict.fromkeys(text.split(",")))
        if len(topics) > self._topics_max:
            raise BadParameter(f"The path names {len(topics)} topics; one stream takes stream.max.topics at most.")
        for topic in topics:
            refusal = self._rules.refusal(topic)
            if refusal is not None:
                raise refusal
        return topics

    async def _tails(self, topics: list[str], parameters: StreamParameters, encoder: RecordsEncoder) -> TopicStream:
        if parameters.partitions is not None and len(topics) > 1:
            raise BadParameter("partitions can be chosen of one topic only.")
        named = parameters.token or {}
        if foreign := sorted(named.keys() - topics):
            raise BadParameter(
                f"last_event_id is the token of another stream: it names the topic {foreign[0][:100]!r}."
            )
        stream = TopicStream(
            encoder, parameters.heartbeat_s, parameters.until_end, parameters.limit, self._open.discard
        )
        opening = [self._streamed(stream, topic, parameters, named.get(topic, {})) for topic in topics]
        if len(opening) == 1:
            streamed_topics = [await opening[0]]
        else:
            streamed_topics = await _all(opening)
        stream.set_topics(streamed_topics)
        self._open.add(stream)
        return stream

    async def _streamed(
        self, stream: TopicStream, topic: str, parameters: StreamParameters, positions: Mapping[int, int]
    ) -> StreamedTopic:
        chosen = parameters.partitions
        if chosen is not None:
            positions = {partition: offset for partition, offset in positions.items() if partition in chosen}
        start = TailStart(parameters.start.at, parameters.start.value, positions) if positions else parameters.start
        streamed = StreamedTopic(stream)
        streamed.opened(
            await self._kafka.tails.open(topic, start, streamed, stream.encoder, chosen, until_end=parameters.until_end)
        )
        return streamed

    # --- with a group -----------------------------------------------------------------------------------------------

    async def _group(self, topics: list[str], parameters: StreamParameters, encoder: RecordsEncoder) -> GroupStream:
        group = parameters.group or ""
        try:
            check_group(group)
        except Unprocessable as error:
            raise BadParameter(f"group: {error.message}") from None
        if parameters.start.at not in ("latest", "earliest"):
            raise BadParameter(
                "With group, offset is latest or earliest, for partitions of which the group has committed nothing; "
                "since is not possible."
            )
        infos = await asyncio.gather(*(self._info(topic) for topic in topics))
        stream = GroupStream(
            encoder,
            parameters.heartbeat_s,
            self._buffer_bytes,
            await self._ends(infos),
            parameters.until_end,
            parameters.limit,
            self._unacked_max if parameters.client_acks else 0,
            self._leave,
        )
        settings = ConsumerSettings(
            group,
            _CLIENT_ID,
            parameters.start.at,
            auto_commit=not stream.commits_itself,
            kind="group_stream",
        )
        consumer = await self._consumer(settings, stream)
        try:
            await stream.start(consumer, topics)
        except BaseException:
            self._close(consumer)
            raise
        self._open.add(stream)
        return stream

    async def _info(self, topic: str) -> TopicInfo:
        try:
            return await self._kafka.admin.topic(topic)
        except UnknownTopicOrPartition:
            raise TopicNotFound() from None

    async def _ends(self, infos: Sequence[TopicInfo]) -> dict[TopicPartition, int]:
        places = [TopicPartition(info.name, each.partition) for info in infos for each in info.partitions]
        found = await asyncio.gather(*(self._kafka.admin.offsets(*place) for place in places))
        return {place: end for place, (_, end) in zip(places, found, strict=True)}

    async def _consumer(self, settings: ConsumerSettings, stream: GroupStream) -> Consumer:
        making = asyncio.ensure_future(self._kafka.consumer(settings, stream.rebalanced))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            making.add_done_callback(self._abandon)  # its creation cannot be cancelled
            raise

    def _abandon(self, making: asyncio.Future[Consumer]) -> None:
        if not making.cancelled() and making.exception() is None:
            self._close(making.result())

    def _leave(self, stream: GroupStream) -> None:
        self._open.discard(stream)
        self._end(stream.leave())

    def _close(self, consumer: Consumer) -> None:
        self._end(consumer.close())

    def _end(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(_quietly(work), name="leave-group")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except ServiceError as error:
        # Kafka finds out when the session of the member runs out.
        log.warning("a stream did not leave its group cleanly: %s", error.message)


async def _all(opening: list[Coroutine[Any, Any, StreamedTopic]]) -> list[StreamedTopic]:
    """The results of all, or of none: if one raises, the others are closed."""
    tasks = [asyncio.ensure_future(each) for each in opening]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        for done in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(done, StreamedTopic):
                done.tail.close()
        raise


def negotiate(accept: str | None, formats: tuple[str, ...]) -> tuple[str, str]:
    """The media type of a stream, and the embedded format that ``Accept`` names, else binary (streams.md §2).

    Events are for those who ask for them by name; anything else gets lines.
    """
    if not accept or accept == "*/*":
        return media.NDJSON, media.DEFAULT_FORMAT
    if accept == media.EVENTS:
        return media.EVENTS, media.DEFAULT_FORMAT
    ranges = {str(media_type): q for media_type, q in reversed(parse_accept(accept))}
    media_type = (
        media.EVENTS
        if ranges.get(media.EVENTS, 0.0) > 0 and ranges[media.EVENTS] >= ranges.get(media.NDJSON, 0.0)
        else media.NDJSON
    )
    named = [(q, each) for each, q in ranges.items() if media.embedded_format(each) in formats and q > 0]
    format = media.embedded_format(max(named)[1]) if named else None
    return media_type, format or media.DEFAULT_FORMAT
