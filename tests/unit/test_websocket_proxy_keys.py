"""Settings of kafka-websocket-proxy, taken over as they are (websocket-proxy.md §5)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kafka_gateway.assembly.plugins import Plugins
from kafka_gateway.config import Config, ConfigError, load
from kafka_gateway.kafka.clients import properties as kafka_properties
from tests.keys import BUILTIN_KEYS

KEY = "kafka.ws.proxy."
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
PROFILES = json.loads((Path(__file__).parents[1] / "conformance/websocket_proxy/profiles.json").read_text())


def read(*overrides: str, **env: str) -> Config:
    checks = (kafka_properties.faults, Plugins(installed=False).faults)
    return load(BUILTIN_KEYS, overrides=overrides, env=env, checks=checks)


def listeners(config: Config) -> dict[str, tuple[str, ...]]:
    return {str(each): each.transports for each in config.listeners()}


def flat(value: Any, name: str) -> list[str]:
    if isinstance(value, list):
        return [line for number, each in enumerate(value) for line in flat(each, f"{name}.{number}")]
    if isinstance(value, dict):
        return [line for member, each in value.items() for line in flat(each, f"{name}.{member}")]
    return [f"{name}={value}"]


@pytest.mark.parametrize("profile", PROFILES)
def test_the_profiles_of_the_kit_can_be_started(profile: str) -> None:
    settings = PROFILES[profile]
    env = {name: text.replace("{admin}", "19078") for name, text in settings["env"].items()}
    lines = [line for name, value in settings.get("config", {}).items() for line in flat(value, name)]
    config = read(*lines, "bootstrap.servers=localhost:9092", WSPROXY_PORT="18092", **env)
    assert config.text(KEY + "server.server-id") == "{run}"
    kafka_properties.client_notes(config)


SOCKETS = ("websocket-proxy", "websocket-proxy-http")


def test_the_old_listeners() -> None:
    config = read(WSPROXY_KAFKA_BOOTSTRAP_HOSTS="k1:9092,k2:9092", WSPROXY_ADMIN_ENDPOINT_ENABLED="yes")
    assert config.items("bootstrap.servers") == ("k1:9092", "k2:9092")
    assert config.flag(KEY + "session-handler.at-start")
    assert listeners(config) == {
        "wsproxy://0.0.0.0:8078": SOCKETS,
        "wsproxy-admin://0.0.0.0:9078": ("websocket-proxy-admin",),
    }
    assert any("DANGER" in each for each in config.warnings)


def test_the_old_listeners_beside_others() -> None:
    config = read(
        "port=1234", KEY + "server.port=2345", KEY + "server.bind-interface=::1", KEY + "prometheus.enabled=on"
    )
    assert listeners(config) == {
        "http://127.0.0.1:1234": (),
        "wsproxy://[::1]:2345": SOCKETS,
        "wsproxy-metrics://[::1]:7778": ("websocket-proxy-metrics",),
    }
    assert config.warnings == ()


def test_an_admin_listener_for_sockets_on_the_common_one() -> None:
    config = read(KEY + "server.admin.enabled=true", KEY + "server.admin.bind-interface=127.0.0.1")
    assert listeners(config) == {
        "http://127.0.0.1:8082": (),
        "wsproxy-admin://127.0.0.1:9078": ("websocket-proxy-admin",),
    }
    assert not config.flag(KEY + "session-handler.at-start")


def test_tls_only(tmp_path: Path) -> None:
    store = tmp_path / "store.pem"
    store.write_text("")
    config = read(
        WSPROXY_PORT="1",
        WSPROXY_SSL_ONLY="true",
        WSPROXY_SSL_PORT="2",
        WSPROXY_SSL_KEYSTORE_LOCATION=str(store),
        WSPROXY_SSL_KEYSTORE_PASS="CANARY",
        WSPROXY_ADMIN_ENDPOINT_ENABLED="true",
    )
    assert listeners(config) == {
        "wsproxy-tls://0.0.0.0:2": SOCKETS,
        "wsproxy-admin://0.0.0.0:9078": ("websocket-proxy-admin",),
    }
    assert all(each.tls for each in config.listeners())
    assert config.for_listener("wsproxy-tls").text("ssl.keystore.location") == str(store)
    assert config.for_listener("wsproxy-tls").secret("ssl.keystore.password") == "CANARY"
    assert "CANARY" not in repr(config)


def test_what_the_gateway_has_under_another_name() -> None:
    config = read(
        WSPROXY_KAFKA_SECURITY_PROTOCOL="SASL_PLAINTEXT",
        WSPROXY_KAFKA_SASL_MECHANISM="PLAIN",
        WSPROXY_KAFKA_SASL_JAAS_CFG=f'{PLAIN} required username="u" password="CANARY";',
        WSPROXY_KAFKA_PRODUCER_COMPRESSION_TYPE="lz4",
        WSPROXY_KAFKA_PRODUCER_DELIVER_TIMEOUT_MS="60000",
        WSPROXY_KAFKA_CLIENT_RETRY_BACKOFF_MS="200",
        WSPROXY_KAFKA_CONSUMER_RETRY_BACKOFF_MS="300",
        WS_PROXY_APP_LOG_LEVEL="WARN",
        WS_PROXY_USE_JSON_LOG_FORMAT="true",
    )
    producer = kafka_properties.client_properties(config, "producer")
    assert (producer["sasl.username"], producer["sasl.password"]) == ("u", "CANARY")
    assert (producer["compression.type"], producer["message.timeout.ms"]) == ("lz4", "60000")
    assert producer["retry.backoff.ms"] == "200"
    assert kafka_properties.client_properties(config, "consumer")["retry.backoff.ms"] == "300"
    assert (config.text("log.level"), config.text("log.format")) == ("WARNING", "json")
    assert "CANARY" not in repr(config) + "".join(config.warnings)


def test_our_names_are_stronger() -> None:
    config = read("bootstrap.servers=ours:1", WSPROXY_KAFKA_BOOTSTRAP_HOSTS="theirs:1")
    assert config.items("bootstrap.servers") == ("ours:1",)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30 seconds", 30), ("1500", 1.5), ("2 hours", 7200), ("1 day", 86400), ("10ms", 0.01), ("5m", 300)],
)
def test_durations(text: str, seconds: float) -> None:
    config = read(f"{KEY}session-handler.topic-retention={text}")
    assert config.seconds(KEY + "session-handler.topic-retention") == seconds
    assert config.with_values(port=1).seconds(KEY + "session-handler.topic-retention") == seconds


def test_older_names_give_way() -> None:
    config = read(f"{KEY}session-handler.session-state-topic-name=old")
    assert config.text(KEY + "session-handler.topic-name") == "old"
    config = read(f"{KEY}session-handler.session-state-topic-name=old", f"{KEY}session-handler.topic-name=new")
    assert config.text(KEY + "session-handler.topic-name") == "new"


@pytest.mark.parametrize(
    ("overrides", "env", "text"),
    [
        (
            [],
            {"WSPROXY_PROT": "1"},
            "environment WSPROXY_PROT: no property has this environment variable (did you mean WSPROXY_PORT?)",
        ),
        ([], {"WSPROXY_PORT": "many"}, "http://HOST:PORT"),
        ([KEY + "session-handler.topic-retention=soon"], {}, "not a duration"),
        ([KEY + "producer.sessions-enabled=maybe"], {}, "not true or false"),
        ([KEY + "sever.port=1"], {}, "did you mean kafka.ws.proxy.server.port"),
        ([], {"WSPROXY_BASIC_AUTH_ENABLED": "true", "WSPROXY_BASIC_AUTH_USERNAME": "u"}, "basic-auth.realm"),
        ([], {"WSPROXY_OPENID_ENABLED": "true"}, "names no issuer"),
        ([], {"WSPROXY_PORT": "1", "WSPROXY_SSL_PORT": "2"}, "needs a certificate"),
        (["listeners.insecure=false"], {"WSPROXY_PORT": "1"}, "nobody need authenticate"),
    ],
)
def test_faults(overrides: list[str], env: dict[str, str], text: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(*overrides, **env)
    assert text in str(error.value)


def test_what_has_no_meaning_here_is_told() -> None:
    config = read(
        WSPROXY_BROKER_RESOLUTION_RETRIES="3",
        WSPROXY_KAFKA_MONITORING_SSL_PROVIDER="x",
        WSPROXY_CONFLUENT_MONITORING_ENABLED="true",
    )
    told = "\n".join(config.warnings)
    for name in ("BROKER_RESOLUTION_RETRIES", "MONITORING_SSL_PROVIDER", "MONITORING_ENABLED"):
        assert name in told


def test_the_old_registry_is_the_gateways() -> None:
    config = read(
        f"{KEY}kafka-client.schema-registry.properties.schema.registry.http.read.timeout.ms=700",
        f"{KEY}kafka-client.schema-registry.properties.port=1",
        WSPROXY_SCHEMA_REGISTRY_URL="http://registry:8081",
        WSPROXY_SCHEMA_BASIC_AUTH_USER_INFO="user:CANARY",
    )
    assert config.items("schema.registry.url") == ("http://registry:8081",)
    assert config.under("schema.registry.") == {
        "http.read.timeout.ms": "700",
        "basic.auth.user.info": "user:CANARY",
        "basic.auth.credentials.source": "USER_INFO",
    }
    assert config.integer("port") == 8082
    assert config.flag(KEY + "kafka-client.schema-registry.auto-register-schemas")
    ours = read("schema.registry.url=http://ours", WSPROXY_SCHEMA_REGISTRY_URL="http://registry:8081")
    assert ours.items("schema.registry.url") == ("http://ours",)
