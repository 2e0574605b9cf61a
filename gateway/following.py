"""What of a running gateway follows its configuration when that is read again (observability.md §6).

A part that can take new values gives `Gateway.following` a function that judges a new configuration and answers what
to do. All are asked before anything is done, so a faulty configuration changes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Sequence

from kafka_gateway.config import Config
from kafka_gateway.router import Route

Apply = Callable[[], Awaitable[None] | None]
"""Takes the new values. It must not fail: what can be wrong was judged before."""


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """What follows from a new configuration."""

    apply: Apply
    routes: Sequence[Route] | None = None
    """All routes of ``owner`` from now on; None: they stay."""
    owner: str = ""
    """The plugin that the routes belong to."""


Judge = Callable[[Config], Change]
"""Judges a new configuration. Raises ConfigError for what is wrong with it, and changes nothing."""
