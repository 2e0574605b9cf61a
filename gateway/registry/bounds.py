"""How large a schema may be, judged by its texts before anything reads them.

A library that compiles a schema holds the interpreter for the whole call, on whichever thread: a schema beyond these
bounds would stop the event loop. They are the same for all formats, and far above what people write.
"""

from __future__ import annotations

from kafka_gateway.schemas import Schema

TEXT_MAX = 2_097_152
"""Characters."""
GROUPS_MAX = 20_000
"""Opening braces and brackets: those of messages and enums, or of JSON's objects and lists (a field of an Avro record
is an object)."""
ITEMS_MAX = 60_000
"""Commas and semicolons: fields, values of enums, ranges, symbols."""
DESCRIPTOR_MAX = 200_000
"""Characters of Protobuf's descriptors in base64, in which no braces can be counted: a message takes eight bytes."""


def check_size(schema: Schema) -> None:
    """ValueError for a schema that is too large, together with all that it refers to. Counts characters only."""
    texts = (schema.text, *(text for _, text in schema.imports))
    bounds = [
        (sum(map(len, texts)), TEXT_MAX, "characters"),
        (sum(text.count("{") + text.count("[") for text in texts), GROUPS_MAX, "braces and brackets that open"),
        (sum(text.count(",") + text.count(";") for text in texts), ITEMS_MAX, "commas and semicolons"),
    ]
    if schema.type == "PROTOBUF":
        encoded = sum(len(text) for text in texts if "{" not in text and ";" not in text)
        bounds.append((encoded, DESCRIPTOR_MAX, "characters in base64"))
    for count, most, what in bounds:
        if count > most:
            raise ValueError(
                f"it is too large: it has {count} {what}, with all that it refers to, and may have {most}. "
                "Split it into several schemas"
            )
