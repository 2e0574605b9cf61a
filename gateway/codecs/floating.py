"""Whole numbers of JSON where a schema wants a floating-point number."""

from __future__ import annotations

from kafka_gateway.schemas import Misfit


def as_float(value: float, word: str) -> float:
    """The nearest double; ``word`` is what the schema calls it. Misfit for a whole number beyond all doubles."""
    try:
        return float(value)
    except OverflowError:
        raise Misfit(f"expected {word}: a whole number of more than 308 digits is out of range") from None
