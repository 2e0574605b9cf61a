"""Equal schemas have one id, whatever topics they belong to: a row names the subject of its own topic, or none."""

from __future__ import annotations

import pytest

from kafka_gateway.schemas import SchemaName
from kafka_gateway.services.streams.schema_rows import subject_of

ORDER = "shop.Order"


@pytest.mark.parametrize(
    ("subjects", "told"),
    [
        ((("secret-value", 1), ("orders-value", 7)), ("orders-value", 7)),
        ((("secret-value", 1),), None),  # of another topic, whose name is nobody's business here
        ((("orders-eu-value", 1),), None),  # of the topic orders-eu
        ((("orders-other", 3),), ("orders-other", 3)),
        (((f"orders-{ORDER}", 2),), (f"orders-{ORDER}", 2)),
        (((ORDER, 4), ("secret-value", 1)), (ORDER, 4)),
        ((), None),
    ],
)
def test_the_subject_is_the_topics_own(subjects: tuple[tuple[str, int], ...], told: tuple[str, int] | None) -> None:
    assert subject_of("orders", "value", SchemaName(5, "avro", ORDER, subjects)) == told
