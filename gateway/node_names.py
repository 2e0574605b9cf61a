"""What may be the name of a node (``cluster.node.id``, cluster.md §3)."""

from __future__ import annotations

import re
from typing import Final

_NAME: Final = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,80}")


def read_node_name(text: str) -> str:
    """The text, if it can stand in ids of processes, names of sockets and Kafka's member ids; or none at all, which
    means the host name. ValueError says what is allowed."""
    if text and _NAME.fullmatch(text) is None:
        raise ValueError("1 to 80 of A-Z, a-z, 0-9, '.', '_' and -, the first one no '.'")
    return text
