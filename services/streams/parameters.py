"""The query parameters of streams (streams.md §1). An error names the parameter, with the code 40002."""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Collection, Mapping

from kafka_gateway.errors import BadRequest
from kafka_gateway.kafka.ports.tails import TailStart
from kafka_gateway.services.streams.token import read_token

HEARTBEAT_S = 15
_OFFSET = re.compile(r"-?[0-9]{1,19}")
_DIGITS = re.compile(r"[0-9]{1,19}")
_LONG_MAX = 2**63 - 1
_PARTITION_MAX = 2**31 - 1
_TIME_MAX = 253_402_300_799_999
"""The last millisecond of the year 9999: Kafka takes more, dates do not."""
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_SHOWN_MAX = 100

HEADER = "last-event-id"

ANY = frozenset({"last_event_id", "heartbeat"})
"""What every stream may be asked."""
OF_TOPICS = ANY | {
    "limit", "format", "key_format", "value_format", "offset", "since", "partitions", "until", "group", "ack",
}  # fmt: skip
OF_INSTANCES = ANY | {"max_bytes"}


class BadParameter(BadRequest):
    """A query parameter that cannot be used; the message names it."""

    error_code, text = 40002, "A query parameter is wrong."
    help = "Correct the parameter that the message names; GET /openapi.json has those of this path."


@dataclasses.dataclass(frozen=True, slots=True)
class StreamParameters:
    """What a client asks of a stream. ``token`` is topic → partition → offset, None without one."""

    key_format: str
    value_format: str
    start: TailStart
    token: Mapping[str, Mapping[int, int]] | None
    partitions: frozenset[int] | None
    until_end: bool
    limit: int
    """0 for none."""
    heartbeat_s: int
    group: str | None
    client_acks: bool


def read_parameters(
    query: Mapping[str, str],
    headers: Mapping[str, str],
    default_format: str,
    formats: Collection[str],
    known: Collection[str] = OF_TOPICS,
) -> StreamParameters:
    """The parameters of a request, checked for what can be seen of them alone. BadParameter."""
    for name in query:
        if name not in known:
            raise BadParameter(f"There is no parameter {_shown(name)}; there are: {', '.join(sorted(known))}.")
    format = _choice(query, "format", default_format, formats)
    group = query.get("group")
    if group is None and "ack" in query:
        raise BadParameter("ack is for streams with group.")
    if group is not None and "partitions" in query:
        raise BadParameter("partitions cannot be chosen with group: the group assigns them.")
    if "offset" in query and "since" in query:
        raise BadParameter("since and offset exclude each other.")
    return StreamParameters(
        key_format=_choice(query, "key_format", format, formats),
        value_format=_choice(query, "value_format", format, formats),
        start=_since(query["since"]) if "since" in query else _offset(query.get("offset", "latest")),
        token=_token(query, headers),
        partitions=_partitions(query["partitions"]) if "partitions" in query else None,
        until_end="until" in query and _choice(query, "until", "", ("end",)) == "end",
        limit=_integer(query, "limit", 1, _LONG_MAX) if "limit" in query else 0,
        heartbeat_s=_integer(query, "heartbeat", 1, 120) if "heartbeat" in query else HEARTBEAT_S,
        group=group,
        client_acks="ack" in query and _choice(query, "ack", "sent", ("sent", "client")) == "client",
    )


def _choice(query: Mapping[str, str], name: str, default: str, choices: Collection[str]) -> str:
    value = query.get(name, default)
    if value not in choices:
        raise BadParameter(f"{name}={_shown(value)} is not one of {', '.join(choices)}.")
    return value


def _integer(query: Mapping[str, str], name: str, least: int, most: int) -> int:
    text = query[name]
    if not _DIGITS.fullmatch(text) or not least <= int(text) <= most:
        raise BadParameter(f"{name}={_shown(text)} is not a whole number from {least} to {most}.")
    return int(text)


def _offset(text: str) -> TailStart:
    if text in ("latest", "earliest"):
        return TailStart(text)
    if not _OFFSET.fullmatch(text) or abs(int(text)) > _LONG_MAX:
        raise BadParameter(f"offset={_shown(text)} is not latest, earliest, an offset, or -N for the last N records.")
    if text[0] == "-":
        return TailStart("last", -int(text))
    return TailStart("offset", int(text))


def _since(text: str) -> TailStart:
    if _OFFSET.fullmatch(text) and abs(int(text)) <= _TIME_MAX:
        return TailStart("time", max(int(text), 0))
    try:
        at = datetime.datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise ValueError("no time zone")
        value = (at - _EPOCH) // datetime.timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        raise BadParameter(
            f"since={_shown(text)} is neither epoch milliseconds nor an ISO 8601 time with its zone, such as "
            "2026-01-31T12:00:00Z (in a URL the + of a zone is written %2B)."
        ) from None
    return TailStart("time", max(value, 0))  # no record is older than 1970: this is the beginning


def _partitions(text: str) -> frozenset[int]:
    numbers = text.split(",")
    if not all(_DIGITS.fullmatch(each) and int(each) <= _PARTITION_MAX for each in numbers):
        raise BadParameter(f"partitions={_shown(text)} is not a list of partitions, such as 0,3,5.")
    return frozenset(int(each) for each in numbers)


def _token(query: Mapping[str, str], headers: Mapping[str, str]) -> Mapping[str, Mapping[int, int]] | None:
    # The header is the newer one: an EventSource reconnects with the URL that it had at first.
    name, text = "Last-Event-ID", headers.get(HEADER, "")
    if not text:
        name, text = "last_event_id", query.get("last_event_id", "")
    if not text:
        return None
    try:
        return read_token(text)
    except ValueError as error:
        raise BadParameter(f"{name} is not a token of this gateway: {error}.") from None


def _shown(text: str) -> str:
    return repr(text[:_SHOWN_MAX])
