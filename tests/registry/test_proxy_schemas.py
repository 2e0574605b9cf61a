"""The schemas of Kafka WebSocket Proxy's messages in the registry (websocket-proxy.md §5.3)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from kafka_gateway.services.websocket_proxy import schema_registration
from kafka_gateway.services.websocket_proxy.avro_schemas import NAMESPACE
from kafka_gateway.services.websocket_proxy.schema_registration import SchemaRegistration
from tests.gateway_process import GatewayProcess
from tests.registry.fake_registry import FakeRegistry, server_error
from tests.registry_server import SchemaRegistry
from tests.waiting import until

URL = "kafka.ws.proxy.kafka-client.schema-registry.url"
AUTO = "kafka.ws.proxy.kafka-client.schema-registry.auto-register-schemas"
SUBJECTS = {
    f"{NAMESPACE}.{name}" for name in ("AvroProducerRecord", "AvroProducerResult", "AvroConsumerRecord", "AvroCommit")
}


async def test_they_are_registered_when_the_registry_answers(
    fake: FakeRegistry, catalogue: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(schema_registration, "_FIRST_PAUSE_S", 0.01)
    fake.misbehave = server_error
    registration = SchemaRegistration(await catalogue(schema_registry_request_timeout_ms=100))
    registration.start()
    await until(lambda: "cannot be registered yet" in caplog.text)
    fake.misbehave = None
    await until(lambda: len(fake.subjects) >= 4)
    await registration.aclose()
    assert set(fake.subjects) == SUBJECTS
    assert {json.loads(each["schema"])["name"] for each in fake.schemas.values()} == {
        subject.rpartition(".")[2] for subject in SUBJECTS
    }


async def test_a_gateway_stops_while_it_tries(fake: FakeRegistry, catalogue: Any) -> None:
    fake.misbehave = server_error
    registration = SchemaRegistration(await catalogue())
    registration.start()
    await asyncio.sleep(0)
    await registration.aclose()
    await registration.aclose()
    assert fake.subjects == {}
    await SchemaRegistration(await catalogue()).aclose()  # never started


@pytest.mark.timeout(120)
def test_a_gateway_registers_them_unless_it_is_told_not_to(registry: SchemaRegistry) -> None:
    def subjects() -> set[str]:
        return SUBJECTS & set(registry.ask("GET", "/subjects"))

    with GatewayProcess(f"{URL}={registry.url}", f"{AUTO}=no"):
        assert subjects() == set()
    with GatewayProcess(f"{URL}={registry.url}") as gateway:
        gateway.wait_for("AvroCommit is registered")
    assert subjects() == SUBJECTS
