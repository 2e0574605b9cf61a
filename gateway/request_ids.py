"""The id of a request, which stands in its reply, its lines of the log, and its trace (observability.md §3)."""

from __future__ import annotations

import itertools
import os
from contextvars import ContextVar
from typing import Final

HEADER: Final = "x-request-id"
"""The field in which clients and proxies send an id, and in which it comes back."""
ID_MAX: Final = 128
"""Characters of an id that is taken from a client."""

CURRENT: ContextVar[tuple[str, str]] = ContextVar("current request", default=("", ""))
"""The transport and the id of the request that the running task serves; empty outside of requests."""

_START: Final = os.urandom(6).hex()
"""Tells this process from all others."""
_numbers = itertools.count(1)


def new_id() -> str:
    """An id that no other request has."""
    return f"{_START}-{next(_numbers):x}"


def request_id(shown: str | None) -> str:
    """The id that the client shows, or a new one for anything that could not stand in a header and in a line of a log:
    control characters, other characters than ASCII, more than `ID_MAX`."""
    if shown and len(shown) <= ID_MAX and shown.isascii() and shown.isprintable():
        return shown
    return new_id()
