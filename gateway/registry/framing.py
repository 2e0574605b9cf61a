"""Where the id of a record's schema is: before its payload, or in its headers (kafka-rest-http.md §4.4)."""

from __future__ import annotations

from typing import NamedTuple

from kafka_gateway.records import ConsumedRecord
from kafka_gateway.schemas import Part

HEADERS: dict[Part, str] = {"key": "__key_schema_id", "value": "__value_schema_id"}
_PREFIX = 5
_GUID = 17

SchemaKey = int | bytes
"""An id, or the 16 bytes of a GUID."""


class Framed(NamedTuple):
    schema: SchemaKey
    payload: bytes
    rest: bytes | None
    """What stands behind the id in the header; None if the id stands before the payload."""


def read_frame(part: Part, record: ConsumedRecord) -> Framed:
    """The schema's id and the payload of a key or value, which must not be null. A header's id beats a prefix.

    ValueError if there is no id.
    """
    headers = record.headers()
    stored = record.value() if part == "value" else record.key()
    assert stored is not None
    if headers:
        wanted = HEADERS[part]
        for name, value in reversed(headers):  # of several the last, as Kafka's own lastHeader
            if name == wanted and value is not None:
                return _from_header(value, stored)
    if len(stored) < _PREFIX or stored[0]:
        raise ValueError("it does not begin with a schema id (a byte 0 and four bytes)")
    return Framed(int.from_bytes(stored[1:_PREFIX], "big"), stored[_PREFIX:], None)


def _from_header(header: bytes, payload: bytes) -> Framed:
    if header[:1] == b"\0" and len(header) >= _PREFIX:
        return Framed(int.from_bytes(header[1:_PREFIX], "big"), payload, header[_PREFIX:])
    if header[:1] == b"\1" and len(header) >= _GUID:
        return Framed(header[1:_GUID], payload, header[_GUID:])
    raise ValueError("the header with the schema id cannot be read")
