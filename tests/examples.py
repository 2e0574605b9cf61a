"""How many examples hypothesis tries a property with."""

from __future__ import annotations

from hypothesis import settings


def examples(count: int) -> settings:
    """So many, and under ``--hypothesis-profile quick`` as many as any property gets there."""
    usual = settings().max_examples
    return settings(max_examples=count if usual >= 100 else usual)
