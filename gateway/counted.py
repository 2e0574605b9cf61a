"""Numbers of things, as operators are told them."""

from __future__ import annotations


def counted(number: int, thing: str) -> str:
    """``1 broker``, ``3 brokers``."""
    return f"{number} {thing}{'' if number == 1 else 's'}"
