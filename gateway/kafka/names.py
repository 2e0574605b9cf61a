"""Which names Kafka takes for topics."""

from __future__ import annotations

import re

from kafka_gateway.kafka_errors import KafkaRefused

_LEGAL = re.compile(r"[a-zA-Z0-9._-]{1,249}")


def check_topic_name(name: str) -> None:
    """Raises KafkaRefused unless ``name`` is a legal topic name (Kafka's `Topic.validate`).

    Here once more and before librdkafka sees it: it cuts a name at NUL, so ``secret\\0x`` read the topic ``secret``,
    and takes ``^.*`` for a pattern (reliability.md §2.2).
    """
    if name in (".", "..") or not _LEGAL.fullmatch(name):
        raise KafkaRefused("The request attempted to perform an operation on an invalid topic.")
