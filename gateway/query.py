"""Query strings of request targets, read the same way on every transport."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from kafka_gateway.errors import BadRequest


def parse_query(text: str) -> Mapping[str, str]:
    """Query parameters, decoded; of several with one name the first counts (kafka-rest-http-observed.md §3.1)."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=100, errors="strict")
    except ValueError as error:
        raise BadRequest(f"The query of the URL cannot be read: {error}.") from None
    query: dict[str, str] = {}
    for name, value in pairs:
        query.setdefault(name, value)
    return query
