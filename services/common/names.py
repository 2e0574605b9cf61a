"""The one check of the names that clients give: topics, consumer groups, consumer instances.

librdkafka takes ``^…`` for a pattern and cuts every name at NUL, so that ``mfull\\0x`` reads the topic ``mfull``
(reliability.md §2.2, S3). Hence no name reaches Kafka that has not passed here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from kafka_gateway.config import Config
from kafka_gateway.errors import ServiceError, UnknownTopicOrPartition, Unprocessable
from kafka_gateway.kafka_errors import KafkaAuthorization, KafkaRefused
from kafka_gateway.own_names import own_refusal

_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_NAME_MAX = 255
_SHOWN_MAX = 300

INTERNAL_PREFIX = "__"
_FINE_MAX = 10_000


def is_topic(name: str) -> bool:
    """Whether Kafka can have a topic of this name (Kafka's ``Topic.validate``)."""
    return _TOPIC.fullmatch(name) is not None and name not in (".", "..")


def is_internal(name: str) -> bool:
    """Whether the topic is one of Kafka's own, such as ``__consumer_offsets``."""
    return name.startswith(INTERNAL_PREFIX)


def invalid_topics(names: Iterable[str]) -> KafkaRefused:
    """What the contract answers for illegal topic names, except in metadata calls."""
    listed = ", ".join(names)
    return KafkaRefused(f"Invalid topics: [{listed[:_SHOWN_MAX]}]")


def check_topic(name: str) -> None:
    """KafkaRefused (40002/400) unless ``name`` is a topic name; for metadata, where internal topics are no secret.

    UnknownTopicOrPartition (40403/404) for ``t;a=b``: clients that write so mean a path parameter, not a name
    (conformance/deviations.json, v2.path.semicolon).
    """
    if ";" in name:
        raise UnknownTopicOrPartition()
    if not is_topic(name):
        raise KafkaRefused("The request attempted to perform an operation on an invalid topic.")


def check_group(name: str) -> None:
    """Unprocessable unless ``name`` may name a consumer group: 1 to 255 printable characters."""
    _check_printable(name, "The consumer group")


def check_instance(name: str) -> None:
    """Unprocessable unless ``name`` may name a consumer instance: 1 to 255 printable characters."""
    _check_printable(name, "The name of a consumer instance")


def _check_printable(name: str, what: str) -> None:
    if not name or name.isspace():
        raise Unprocessable(f"{what} must not be blank (was {name})")
    if len(name) > _NAME_MAX:
        raise Unprocessable(f"{what} has {len(name)} characters; at most {_NAME_MAX} are possible.")
    if not name.isprintable():
        raise Unprocessable(f"{what} holds a character that cannot be printed: {name[:_SHOWN_MAX]!r}")


class TopicRules:
    """Which topics' records clients may write and read (``topics.internal.allow``)."""

    def __init__(self, config: Config) -> None:
        self._internal = config.flag("topics.internal.allow")
        self._fine: set[str] = set()
        """Names that have passed recently: a produce costs a look-up."""

    def refusal(self, name: str) -> ServiceError | None:
        """Why records of this topic can be neither written nor read; None if they can."""
        if name in self._fine:
            return None
        if not is_topic(name):
            return invalid_topics([name])
        refused = self.internal_refusal([name])
        if refused is None:
            if len(self._fine) >= _FINE_MAX:
                self._fine.clear()
            self._fine.add(name)
        return refused

    def internal_refusal(self, names: Iterable[str]) -> KafkaAuthorization | None:
        """Why records of these topics must not be read or written: some are Kafka's own; None if none is."""
        names = list(names)
        if (own := own_refusal("topic", names)) is not None:
            return own
        refused = [] if self._internal else [name for name in names if is_internal(name)]
        if not refused:
            return None
        return KafkaAuthorization(
            f"Not authorized to access topics: [{', '.join(refused)[:_SHOWN_MAX]}]: they are internal "
            "(topics.internal.allow=true opens them)."
        )
