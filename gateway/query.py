"""Query strings of request targets, read the same way on every transport."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from kafka_gateway.errors import BadRequest

_OF_ONE_VALUE = frozenset({"dry_run"})
"""Parameters that must not be answered by the value that happens to be the first: records would be stored though the
client asked for the opposite."""


def parse_query(text: str) -> Mapping[str, str]:
    """Query parameters, decoded; of several with one name the first counts (kafka-rest-http-observed.md §3.1).

    BadRequest for a query that cannot be read, and for two values of ``dry_run``.
    """
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=100, errors="strict")
    except ValueError as error:
        raise BadRequest(f"The query of the URL cannot be read: {error}.") from None
    query: dict[str, str] = {}
    for name, value in pairs:
        if query.setdefault(name, value) != value and name in _OF_ONE_VALUE:
            raise BadRequest(f"{name} is given twice, with different values: which one counts?")
    return query
