"""Which versions of Kafka's client library run."""

from __future__ import annotations

from collections.abc import Mapping

import confluent_kafka


def library_versions() -> Mapping[str, str]:
    """Name and version of librdkafka and of its binding."""
    return {"librdkafka": str(confluent_kafka.libversion()[0]), "confluent_kafka": str(confluent_kafka.__version__)}
