"""The whole HTTP API, driven by schemathesis from ``/openapi.json`` against a real Kafka.

No server error, no status and no media type that is not described, no body that does not fit its schema, 405 for
methods that are not there. schemathesis/schemathesis.toml says which checks are off, and why. Bounded: the seed is
fixed, and so is the number of requests.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cache import UnavailableError, unavailable
from tests.docs import schemathesis_tool as tool
from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import KafkaCluster

SETTINGS = (
    "push.pull.enable=true",
    "console.enabled=true",
    "consumer.request.timeout.ms=100",
    "access.log.enable=false",
    "bridge.producer.hooks.path=/hooks",
    "bridge.producer.hooks.topic=orders",
)
STREAMS = "streams_topics"
"""A reply that never ends; tests/transports/test_streams.py looks after it."""
OPTIONS = (
    "--exclude-method=OPTIONS",  # of a bridge without a body: 405, and Allow names POST alone (bridges.md A2.1)
    f"--exclude-operation-id={STREAMS}", "--request-timeout=15", "--seed=1", "--no-shrink", "--continue-on-failure",
    "--generation-database=none", "--no-color", "--warnings=off", "--max-redirects=0",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(420)
@pytest.mark.fetches(what=tool.install)
def test_nothing_is_found(own_kafka: KafkaCluster, tmp_path: Path) -> None:
    try:
        folder = tool.install()
    except UnavailableError as error:
        unavailable(str(error))
    own_kafka.create_topic("orders", partitions=2)
    with GatewayProcess(*SETTINGS, bootstrap=own_kafka.bootstrap) as gateway:
        document = f"{gateway.url}/openapi.json"
        # One thread: the caches of its coverage lose entries among several, and CPython 3.11 counts the depth of what
        # it parses for all threads together, and fails now and then (SystemError: AST constructor recursion depth).
        chosen = ("--phases=examples,coverage,fuzzing", "--workers=1", "--max-examples=3")
        done = tool.run(folder, tmp_path, document, *chosen, *OPTIONS, timeout_s=360)
        assert done.returncode == 0, done.stdout[-20_000:]
        assert gateway.process.poll() is None
        assert not [line for line in gateway.output if "Traceback" in line or " ERROR " in line], gateway.output[-50:]
