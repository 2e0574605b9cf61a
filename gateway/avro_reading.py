"""Avro schemas for reading with fastavro, by which broken data are refused and not shown as if they were right.

fastavro looks branches and symbols up by the number in the payload, and a list of Python takes -1 for its last element.
"""

from __future__ import annotations

from typing import Any

import fastavro


def schema_to_read(schema: Any) -> Any:
    """The schema as ``fastavro.schemaless_reader`` wants it, with dictionaries in the place of lists of branches and
    symbols. Raises what fastavro raises for a schema that is none."""
    done: set[int] = set()

    def change(part: Any) -> Any:
        if isinstance(part, list):
            return {"type": "union"} | {i: change(branch) for i, branch in enumerate(part)}
        if not isinstance(part, dict) or id(part) in done:
            return part
        done.add(id(part))
        for name in ("type", "items", "values"):
            if isinstance(part.get(name), (dict, list)):
                part[name] = change(part[name])
        for field in part.get("fields", ()):
            change(field)
        if "symbols" in part:
            part["symbols"] = dict(enumerate(part["symbols"]))
        for named in part.get("__named_schemas", {}).values():
            change(named)
        return part

    return change(fastavro.parse_schema(schema))
