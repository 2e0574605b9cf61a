"""Limits of clients: as JSON, as records of others, from the configuration (websocket-proxy.md §1.8.1, §4.7, §5.4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_gateway import jsonio
from kafka_gateway.config import Config, ConfigError, load
from kafka_gateway.errors import ServiceError
from kafka_gateway.services.websocket_proxy.limits import ClientLimits, Limits, read_limits, read_record, record_key
from tests.keys import BUILTIN_KEYS

KEY = "kafka.ws.proxy."
ONE = "producer.limits.client-specific-limits.0."


def read(*properties: str) -> Config:
    return load(BUILTIN_KEYS, overrides=[KEY + each for each in properties])


@pytest.mark.parametrize(
    "text",
    [
        "group-id=g1,max-connections=2,messages-per-second=10",
        "group-id=g1, max-connections = 2 ,messages-per-second: 10",
        '{group-id="g1",max-connections=2,"messages-per-second":10}',
        '{"group-id":"g1","max-connections":2,"messages-per-second":10}',
        '{ "group-id" = g1, max-connections=2,messages-per-second=10 }',
    ],
)
def test_records_of_others(text: str) -> None:
    assert read_record("consumer-g1", text.encode()) == ClientLimits("consumer", "g1", 2, 10)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "nonsense", "group-id", "group-id=g2", "producer-id=g1", "\0", "group-id=g1,max-connections=many"],
)
def test_records_that_say_nothing(text: str) -> None:
    with pytest.raises((ValueError, ServiceError)):
        read_record("consumer-g1", text.encode())


@given(st.text(min_size=1), st.none() | st.integers(0, 2**31 - 1), st.none() | st.integers(0, 2**31 - 1))
def test_what_is_written_is_read(client: str, most: int | None, rate: int | None) -> None:
    if not client.isprintable() and any("\ud800" <= each <= "\udfff" for each in client):
        return
    limits = ClientLimits("producer", client, most, rate)
    value = jsonio.encode(limits.document())
    assert read_record(record_key("producer", client), value) == limits
    assert read_limits("producer", value) == limits


def test_which_limits_hold() -> None:
    config = read(
        "consumer.limits.default-messages-per-second=7",
        "consumer.limits.default-batch-size=9",
        "consumer.limits.client-specific-limits.0.group-id=g",
        "consumer.limits.client-specific-limits.0.max-connections=3",
        "consumer.limits.client-specific-limits.0.messages-per-second=0",
    )
    limits = Limits(config)
    assert limits.of("consumer", "other") == ClientLimits("consumer", "other", 0, 7, 9)
    assert limits.of("consumer", "g") == ClientLimits("consumer", "g", 3, 0, 9)
    limits.dynamic["consumer"]["g"] = ClientLimits("consumer", "g", 5)
    assert limits.of("consumer", "g") == ClientLimits("consumer", "g", 5, 0, 9)
    assert limits.find("consumer", "g") == ClientLimits("consumer", "g", 5)
    assert limits.find("producer", "g") is None


@pytest.mark.parametrize(
    "properties",
    [
        ["consumer.limits.client-specific-limits.x.group-id=g"],
        ["consumer.limits.client-specific-limits.0.producer-id=g"],
        ["consumer.limits.client-specific-limits.0.max-connections=2"],
        [
            "producer.limits.client-specific-limits.0.producer-id=p",
            "producer.limits.client-specific-limits.0.max-connections=-1",
        ],
        [
            "producer.limits.client-specific-limits.0.producer-id=p",
            "producer.limits.client-specific-limits.0.max-connections=9999999999",
        ],
    ],
)
def test_faulty_limits_are_told(properties: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        Limits(read(*properties))
    assert "client-specific-limits" in str(error.value)


def test_the_older_names() -> None:
    config = read(
        "producer.rate-limit.client-limits.0.client-id=p",
        "producer.rate-limit.client-limits.0.messages-per-second=4",
        "producer.rate-limit.default-messages-per-second=3",
        "consumer.default-batch-size=5",
    )
    limits = Limits(config)
    assert limits.of("producer", "p") == ClientLimits("producer", "p", 0, 4, 0)
    assert limits.of("producer", "q") == ClientLimits("producer", "q", 0, 3, 0)
    assert limits.of("consumer", "g").batch_size == 5
