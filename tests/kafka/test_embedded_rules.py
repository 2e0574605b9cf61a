"""The embedded Kafka confirms what it loses, so it must not serve where something says production."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from kafka_gateway.commands.check import EXIT_CONFIGURATION, EXIT_OK, check
from kafka_gateway.config import ConfigError, load
from kafka_gateway.kafka.clients.embedded_rules import embedded_faults
from kafka_gateway.kafka.cluster import open_kafka
from tests.keys import BUILTIN_KEYS

PRODUCTION = {
    "an empty variable": ([], {"KAFKA_GATEWAY_BOOTSTRAP_SERVERS": ""}, "it is given, but empty"),
    "a blank property": (["bootstrap.servers= "], {}, "it is given, but empty"),
    "an empty property of the old WebSocket proxy": (
        ["kafka.ws.proxy.kafka-client.bootstrap-hosts= "],
        {},
        "it is given, but empty",
    ),
    "its empty variable": ([], {"WSPROXY_KAFKA_BOOTSTRAP_HOSTS": ""}, "it is given, but empty"),
    "a ZooKeeper": (["zookeeper.connect=zk:2181"], {}, "zookeeper.connect is set"),
    "authentication": (["authentication.method=BASIC"], {}, "authentication.method is BASIC"),
    "an open listener": (
        ["listeners=http://0.0.0.0:80", "listeners.insecure=true"],
        {},
        "http://0.0.0.0:80 is open beyond this machine",
    ),
    "TLS": (["listeners=https://127.0.0.1:443", "ssl.keystore.location=STORE"], {}, "https://127.0.0.1:443 has TLS"),
    "a keystore": (["ssl.keystore.password=CANARY"], {}, "ssl.keystore.password is set"),
    "SASL": (["client.sasl.mechanism=PLAIN"], {}, "client.sasl.mechanism is set"),
    "TLS to Kafka": (["producer.security.protocol=SSL"], {}, "producer.security.protocol is set"),
    "told so": (["embedded.enable=false"], {}, "embedded.enable is false"),
}
TRIAL: dict[str, list[str]] = {
    "nothing given": [],
    "loopback": ["listeners=http://127.0.0.1:80,http://localhost:81,http://[::1]:82,unix:/tmp/x"],
    "a broker": ["bootstrap.servers=h:1", "authentication.method=BASIC", "embedded.enable=false"],
    "told so": ["bootstrap.servers=", "authentication.method=BASIC", "embedded.enable=true"],
}


@pytest.mark.parametrize("case", PRODUCTION)
async def test_it_is_refused_in_one_line_that_names_the_way_out(case: str, tmp_path: Path) -> None:
    overrides, environment, reason = PRODUCTION[case]
    store = tmp_path / "store.pem"
    store.touch()
    overrides = [each.replace("STORE", str(store)) for each in overrides]
    config = load(BUILTIN_KEYS, overrides=overrides, env=environment)
    (fault,) = embedded_faults(config)
    assert reason in str(fault)
    assert "embedded.enable=true" in str(fault)
    assert "\n" not in str(fault)
    assert "CANARY" not in str(fault)
    with pytest.raises(ConfigError, match=r"embedded\.enable=true"):  # whoever starts it, not only the command
        async with open_kafka(config):
            pass
    out = io.StringIO()
    assert check(None, overrides, out, False, BUILTIN_KEYS, environment) == EXIT_CONFIGURATION
    assert reason in out.getvalue()


@pytest.mark.parametrize("case", TRIAL)
def test_it_serves_where_nothing_says_production(case: str) -> None:
    assert embedded_faults(load(BUILTIN_KEYS, overrides=TRIAL[case])) == []


def test_the_place_is_named(tmp_path: Path) -> None:
    file = tmp_path / "gateway.properties"
    file.write_text("port=0\nbootstrap.servers=\n")
    (fault,) = embedded_faults(load(BUILTIN_KEYS, file))
    assert fault.place == f"{file}:2"


def test_check_tells_what_would_serve() -> None:
    out = io.StringIO()
    assert check(None, [], out, False, BUILTIN_KEYS, {}) == EXIT_OK
    assert "the Kafka embedded in the gateway would be used, which loses all records" in out.getvalue()
