"""Points in time as clients write them (kafka-rest-http.md §6.6)."""

from __future__ import annotations

import datetime
import re

NOT_STORABLE = (
    "must be later than the first millisecond of 1970: Kafka's client library takes 0 for the time of receipt"
)
"""Of a produced record's time (librdkafka, rd_kafka_producev: a timestamp of 0 is the current time)."""

_INSTANT = re.compile(
    r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2})?)(?:\.(\d{1,9}))?(Z|[+-]\d{2}(?::?\d{2})?)", re.ASCII | re.IGNORECASE
)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MILLISECOND = datetime.timedelta(milliseconds=1)


def parse_instant(text: str) -> int:
    """Milliseconds since 1970 of an ISO-8601 date and time with a zone, such as ``2024-01-31T12:00:00Z``.

    Raises:
        ValueError: for anything else; a date without a time, or a time without a zone, among it (observed §6.6).
    """
    match = _INSTANT.fullmatch(text.strip())
    if match is None:
        raise ValueError("not a date and time with a zone, such as 2024-01-31T12:00:00Z")
    seconds, fraction, zone = match.groups()
    moment = datetime.datetime.fromisoformat(seconds + zone.upper())
    # Kafka counts milliseconds; what is finer is cut off, also before 1970.
    return (moment - _EPOCH) // _MILLISECOND + int((fraction or "0").ljust(3, "0")[:3])
