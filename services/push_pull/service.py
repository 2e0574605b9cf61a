"""Push and pull: a list of texts to a topic, and a group's next ones from it (bridges.md Part B, after flasfka 1.1.6).

Nothing here needs an instance or a session: a POST answers when Kafka has all messages, a GET takes what its group has
not had. Bodies are JSON in both directions; errors have a form of their own, on every transport.
"""

from __future__ import annotations

import random
import re
import time
from collections import OrderedDict
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from kafka_gateway import jsonio
from kafka_gateway.config import Config, ConfigError, Fault
from kafka_gateway.errors import (
    BadRequest,
    Forbidden,
    MethodNotAllowed,
    NotAuthorized,
    NotFound,
    PayloadTooLarge,
    ServiceError,
    TooManyRequests,
    Unavailable,
    UnknownTopicOrPartition,
)
from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.kafka_errors import (
    KafkaAuthentication,
    KafkaAuthorization,
    KafkaRetriable,
    KafkaThrottled,
    OutcomeUnknown,
    PartitionTrouble,
)
from kafka_gateway.messages import NO_CONTENT, Call, Response
from kafka_gateway.metrics.registry import Families
from kafka_gateway.records import OutgoingRecord
from kafka_gateway.rights import OPEN
from kafka_gateway.router import Route
from kafka_gateway.services.common.dry_run import DryRunProducer, is_dry
from kafka_gateway.services.common.names import TopicRules, is_topic
from kafka_gateway.services.push_pull.descriptions import DESCRIPTIONS
from kafka_gateway.services.push_pull.group_pull import Pulls, Wanted, as_base64, as_text, show
from kafka_gateway.services.push_pull.metrics import PushPullCounts

EXPECTED = b'expected format: {"messages": ["message1", ...]}'
"""The body of a 400 for whatever else was pushed; clients compare it (§B2.1)."""

_METHODS = ("GET", "HEAD", "OPTIONS", "POST")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")
_KNOWN_FOR_S = 4.0
_KNOWN_MAX = 10_000
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


class PushPull:
    """The handlers of ``/{topic}`` and ``/{topic}/{name}``: ``name`` is the key of a push, the group of a pull."""

    def __init__(self, config: Config, kafka: Kafka) -> None:
        self._prefix = config.text("push.pull.prefix")
        if not _PREFIX.fullmatch(self._prefix):
            place = config.place("push.pull.prefix")
            raise ConfigError(
                [Fault(place, "push.pull.prefix", "is not a path of plain segments, such as /flasfka/v1")]
            )
        self._producer = kafka.producer
        self._dry_run = DryRunProducer(kafka, config.flag("auto.create.topics.enable"))
        self._rules = TopicRules(config)
        self._topics, self._groups = config.items("push.pull.topics"), config.items("push.pull.groups")
        self._default_group = config.text("push.pull.group.default")
        self._limit_max = config.integer("push.pull.limit.max")
        self._limit = min(config.integer("push.pull.limit"), self._limit_max)
        self._messages_max = config.integer("produce.records.max")
        self._leaders = _Leaders(kafka.admin)
        self.counts = PushPullCounts()
        self.pulls = Pulls(config, kafka, self.counts)

    def routes(self) -> list[Route]:
        def route(method: str, path: str, handler: Any, permission: str) -> Route:
            template = self._prefix.rstrip("/") + path
            name = "push-pull.push" if method == "POST" else "push-pull.pull"
            extras = {"waits": True} if method == "GET" else {}
            # One worker pulls for a group: two would deliver the same messages.
            group = "{name}" if path.endswith("{name}") else self._default_group
            return Route(
                method, template, handler, name, extras=extras, permission=permission, service=self.pulls,
                description=DESCRIPTIONS.get(method), home=(group, "{topic}") if method == "GET" else (),
            )  # fmt: skip

        return [
            route(*each)
            for path, group in (("/{topic}", self._default_group), ("/{topic}/{name}", "{name}"))
            for each in (
                ("POST", path, partial(self._answer, self._push, {"produced": 0}), "write topic:{topic}"),
                ("GET", path, partial(self._answer, self._pull, {}), f"read topic:{{topic}}; read group:{group}"),
                ("HEAD", path, partial(self._answer, self._refuse, {}), OPEN),
            )
        ]

    def families(self) -> Families:
        """A source of the gateway's metrics."""
        return self.counts.families(self.pulls.consumer_count, self.pulls.at_work)

    async def _answer(self, handler: Any, more: dict[str, int], call: Call) -> Response:
        """The handler's answer, or its error in the form of these endpoints."""
        try:
            answer: Response = await handler(call)
            return answer
        except ServiceError as error:
            call.tell_refusal(error)
            return _failed(_of_client(call, error), **more)

    async def _refuse(self, call: Call) -> Response:
        raise MethodNotAllowed(allow=_METHODS)

    # --- push -------------------------------------------------------------------------------------------------------

    async def _push(self, call: Call) -> Response:
        """``POST``: 204 when Kafka has every message, or would have. All are checked before the first is sent."""
        topic, key = self._topic(call), _name(call)
        producer = self._dry_run if is_dry(call.query) else self._producer
        messages = self._messages(call.request.body)
        if messages is None:
            return Response(EXPECTED, 400, media_type="text/plain; charset=utf-8")
        if not messages:
            return NO_CONTENT
        # Without a key all go to one partition, where they keep their order.
        chosen = self._leaders.of(topic) or await self._leaders.look_up(topic)
        partition = random.choice(chosen) if key is None else None
        waiting = producer.ready(topic, call.session.rights)
        if waiting is not None:
            await waiting
        stored_key = None if key is None else key.encode()
        records = [OutgoingRecord(stored_key, message.encode()) for message in messages]
        deliveries = await producer.send(topic, records, partition)
        errors = [each for each in deliveries if isinstance(each, ServiceError)]
        if errors:
            self._leaders.forget(topic)
            self.counts.failed_pushes += 1
            self.counts.pushed += len(deliveries) - len(errors)
            return _failed(_of_client(call, errors[0]), produced=len(deliveries) - len(errors))
        self.counts.pushed += len(deliveries)
        return NO_CONTENT

    def _messages(self, body: Any) -> list[str] | None:
        """The messages of a body; None if it is not as expected. PayloadTooLarge if there are too many."""
        if not isinstance(body, bytes):
            return None
        # Texts begin with a quotation mark that is not escaped. A body of 16 MiB can hold five million, and decoding
        # these would hold up everybody else for a third of a second.
        if len(body) > self._messages_max:
            marks = body.count(b'"') - body.count(b'\\"')
            if marks > 2 * self._messages_max + 1000:
                raise self._too_many()
        try:
            messages = jsonio.decode(body, _push_decoder).messages
        except (jsonio.ValidationError, BadRequest):
            return None
        if len(messages) > self._messages_max:
            raise self._too_many()
        return messages

    def _too_many(self) -> PayloadTooLarge:
        return PayloadTooLarge(
            f"More than {self._messages_max} messages; send them in several requests (produce.records.max)."
        )

    # --- pull -------------------------------------------------------------------------------------------------------

    async def _pull(self, call: Call) -> Response:
        """``GET``: the group's next messages. Its offsets are committed when the reply has been written."""
        topic, group = self._topic(call), _name(call) or self._default_group
        if not is_topic(group):  # names of groups keep Kafka's rule for topics (§B-18)
            raise BadRequest(
                f"The name of a group is 1 to 249 of the characters a-z A-Z 0-9 . _ -, not {group[:80]!r}."
            )
        if self._groups and not _is_listed(group, self._groups):
            raise Forbidden(f"Group {group} cannot be pulled with (push.pull.groups).")
        pulled = await self.pulls.pull(group, topic, self._wanted(call), call.session.owner.kafka)
        body = b'{"group":%b,"messages":%b}' % (jsonio.encode(group), pulled.messages)
        return Response(body, settle=pulled.settle)

    def _wanted(self, call: Call) -> Wanted:
        query = call.query
        limit = query.get("limit")
        number = self._limit if limit is None else int(limit) if re.fullmatch("[0-9]{1,9}", limit) else 0
        if not 1 <= number <= self._limit_max:
            raise BadRequest(f"limit is a whole number from 1 to {self._limit_max}, not {limit!r}.")
        encoding = query.get("encoding", "")
        if encoding not in ("", "base64"):
            raise BadRequest(f"encoding can be base64, or left out; not {encoding[:80]!r}.")
        text = as_base64 if encoding else as_text
        return Wanted(
            number, show(text, _flag(query.get("meta", "0"), "meta")), _flag(query.get("commit", "1"), "commit")
        )

    def _topic(self, call: Call) -> str:
        topic = str(call.params["topic"])
        if not is_topic(topic):
            raise BadRequest(
                f"The name of a topic is 1 to 249 of the characters a-z A-Z 0-9 . _ -, not {topic[:80]!r}."
            )
        if self._topics and not _is_listed(topic, self._topics):
            raise Forbidden(f"Topic {topic} can be neither pushed to nor pulled from (push.pull.topics).")
        if self._rules.refusal(topic) is not None:
            raise Forbidden(f"Topic {topic} is one of Kafka's own (topics.internal.allow=true opens them).")
        return topic


class _Push(jsonio.Struct, gc=False):
    messages: list[str]


_push_decoder = jsonio.Decoder(_Push)


class _Leaders:
    """The partitions of topics that can be written to, as they were a moment ago."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._known: OrderedDict[str, tuple[list[int], float]] = OrderedDict()

    def of(self, topic: str) -> list[int] | None:
        """None if nobody has looked in the last seconds."""
        found, until = self._known.get(topic, (None, 0.0))
        return found if time.monotonic() < until else None

    async def look_up(self, topic: str) -> list[int]:
        """Partition 0 for a missing topic: the push may make it, and it will have that one."""
        try:
            partitions = (await self._admin.topic(topic)).partitions
        except UnknownTopicOrPartition:
            return [0]
        found = [each.partition for each in partitions if each.leader >= 0] or [each.partition for each in partitions]
        self._known[topic] = (found, time.monotonic() + _KNOWN_FOR_S)
        self._known.move_to_end(topic)
        if len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)
        return found

    def forget(self, topic: str) -> None:
        self._known.pop(topic, None)


def _name(call: Call) -> str | None:
    """The second segment: a key, or a group."""
    name = call.params.get("name")
    if name is not None and "/" in name:
        raise BadRequest("A segment of the path holds an escaped slash.")
    return name


def _flag(text: str, name: str) -> bool:
    flag = _FLAGS.get(text)
    if flag is None:
        raise BadRequest(f"{name} is true or false (1, 0), not {text[:80]!r}.")
    return flag


def _is_listed(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


_LATER = (
    KafkaAuthentication,
    KafkaAuthorization,
    KafkaRetriable,
    NotFound,  # of a topic or partition, after the path has been found
    TooManyRequests,
    Unavailable,
)


def _of_client(call: Call, error: ServiceError) -> ServiceError:
    """Where Kafka was asked with the client's own credentials, its refusal is meant for the client, and stays."""
    refused = isinstance(error, KafkaAuthorization) and call.session.kafka is not None
    return NotAuthorized(error.message) if refused else error


def _failed(error: ServiceError, **more: int) -> Response:
    """An error of the table in §A2.4: 4xx only if the same request can never succeed."""
    status = error.status
    if isinstance(error, OutcomeUnknown) and not isinstance(error, PartitionTrouble):
        status = 504
    elif isinstance(error, _LATER) and not isinstance(error, KafkaThrottled):
        status = 503
    headers = error.headers
    if status == 503 and not any(name == "Retry-After" for name, _ in headers):
        headers += (("Retry-After", "1"),)
    return Response({"error": error.message, **more}, status, headers)
