"""The record streams of topics: ``GET /topics/{topics}/stream`` (streams.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

from gateway import media
from gateway.codec import Codec
from gateway.config import Config
from gateway.errors import ShuttingDown
from gateway.kafka.ports import Kafka, TailStart
from gateway.messages import Call, Response
from gateway.records import RecordsEncoder
from services.names import TopicRules
from services.stream_parameters import BadParameter, StreamParameters, read_parameters
from services.stream_rows import StreamEncoders
from services.topic_stream import Leg, TopicStream

SSE = "text/event-stream"
NDJSON = "application/x-ndjson"


class Streams:
    """The handler of streams, and the streams that are open."""

    def __init__(self, config: Config, kafka: Kafka, codecs: Mapping[str, Codec], rules: TopicRules) -> None:
        self._kafka = kafka
        self._rules = rules
        self._encoders = StreamEncoders(codecs)
        self._topics_max = config.integer("stream.max.topics")
        self._open: set[TopicStream] = set()
        self._stopping = False

    def __len__(self) -> int:
        """How many streams are open."""
        return len(self._open)

    async def stream(self, call: Call) -> Response:
        """``GET /topics/{topics}/stream``: the topics are separated by commas."""
        request = call.request
        media_type, format = negotiate(request.headers.get("accept"), self._encoders.formats)
        topics = self._topics(str(call.params["topics"]))
        parameters = read_parameters(request.query, request.headers, format, self._encoders.formats)
        if self._stopping:
            raise ShuttingDown()
        encoder = self._encoders.get(parameters.key_format, parameters.value_format)
        return Response(await self._tails(topics, parameters, encoder), media_type=media_type)

    def drain(self) -> None:
        """The gateway stops: every stream says so and ends."""
        self._stopping = True
        for stream in list(self._open):
            stream.fail(ShuttingDown())

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
        opening = [self._leg(stream, topic, parameters, named.get(topic, {})) for topic in topics]
        if len(opening) == 1:
            legs = [await opening[0]]
        else:
            legs = await _all(opening)
        stream.set_legs(legs)
        self._open.add(stream)
        return stream

    async def _leg(
        self, stream: TopicStream, topic: str, parameters: StreamParameters, positions: Mapping[int, int]
    ) -> Leg:
        chosen = parameters.partitions
        if chosen is not None:
            positions = {partition: offset for partition, offset in positions.items() if partition in chosen}
        start = TailStart(parameters.start.at, parameters.start.value, positions) if positions else parameters.start
        leg = Leg(stream)
        leg.opened(
            await self._kafka.tails.open(topic, start, leg, stream.encoder, chosen, until_end=parameters.until_end)
        )
        return leg


async def _all(opening: list[Coroutine[Any, Any, Leg]]) -> list[Leg]:
    """All of them, or none: what one raises closes the others."""
    tasks = [asyncio.ensure_future(each) for each in opening]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        for done in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(done, Leg):
                done.tail.close()
        raise


def negotiate(accept: str | None, formats: tuple[str, ...]) -> tuple[str, str]:
    """The media type of a stream, and the embedded format that ``Accept`` names, else binary (streams.md §2).

    Events are for those who ask for them by name; anything else gets lines.
    """
    if not accept or accept == "*/*":
        return NDJSON, media.DEFAULT_FORMAT
    if accept == SSE:
        return SSE, media.DEFAULT_FORMAT
    ranges = {str(media_type): q for media_type, q in reversed(media.parse_accept(accept))}
    media_type = SSE if ranges.get(SSE, 0.0) > 0 and ranges[SSE] >= ranges.get(NDJSON, 0.0) else NDJSON
    named = [(q, each) for each, q in ranges.items() if media.embedded_format(each) in formats and q > 0]
    format = media.embedded_format(max(named)[1]) if named else None
    return media_type, format or media.DEFAULT_FORMAT
