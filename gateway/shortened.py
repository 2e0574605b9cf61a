"""A wait for records that somebody else may end, because the process of the client that waits is about to stop."""

from __future__ import annotations

import asyncio
from typing import Any


class Shortened:
    """Of one request: it waits as usual until ``end`` is called, and answers with what it has then."""

    __slots__ = ("ended", "wait")

    def __init__(self) -> None:
        self.ended = False
        """Whether nothing is waited for any more."""
        self.wait: asyncio.Future[Any] | None = None
        """What is cancelled then; whoever waits sets it."""

    def end(self) -> None:
        """Ends the wait that there is, and those that would begin later."""
        self.ended = True
        if self.wait is not None:
            self.wait.cancel()
