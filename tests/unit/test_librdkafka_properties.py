"""What an operator may set of librdkafka: each property is classified (reliability.md A1)."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient
from hypothesis import given
from hypothesis import strategies as st

from kafka_gateway.config import Config, ConfigError, Fault, load
from kafka_gateway.kafka.clients.properties import (
    client_notes,
    client_properties,
    faults,
    librdkafka_properties,
)
from kafka_gateway.kafka.clients.property_table import (
    ALIASES,
    ALLOWED,
    DROPPED,
    FORBIDDEN,
    JAVA_REFUSED,
    JAVA_RENAMED,
    OWNED,
    ROLES,
    Role,
)
from kafka_gateway.settings.client_names import CLIENT_PROPERTIES
from tests.keys import BUILTIN_KEYS
from tests.librdkafka_properties import Known, known_properties


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> list[Known]:
    return known_properties(tmp_path_factory.mktemp("librdkafka"))


def refused(role: Role, **properties: str) -> list[Fault]:
    with pytest.raises(ConfigError) as caught:
        librdkafka_properties(role, dotted(properties))
    return list(caught.value.faults)


def result(role: Role, **properties: str) -> dict[str, str]:
    return librdkafka_properties(role, dotted(properties))[0]


def dotted(properties: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "."): text for name, text in properties.items()}


# --- every property of the library ------------------------------------------------------------------------------------


def test_every_property_is_classified_once(known: list[Known]) -> None:
    tables = (ALLOWED, DROPPED, OWNED, FORBIDDEN)
    counts = {name: sum(name in table for table in tables) for name, _, _ in known}
    assert {name for name, count in counts.items() if count != 1} == set()


def test_no_property_is_invented(known: list[Known]) -> None:
    names = {name for name, _, _ in known}
    assert set(ALLOWED) - names == set()
    assert set(OWNED) - names == set()
    # Hidden in the library's list, or added by the Python binding.
    extra = {"test.mock.num.brokers", "test.mock.broker.rtt", "on_commit", "on_delivery"}
    assert set(FORBIDDEN) - names == extra
    assert (set(JAVA_RENAMED) | set(JAVA_REFUSED)) & names == {"request.timeout.ms"}


def test_bounds_are_those_of_the_library(known: list[Known]) -> None:
    # 0 of the first would be no limit; of the second the library refuses what its documentation allows.
    narrower = {"queue.buffering.max.messages", "fetch.min.bytes"}
    for name, _, text in known:
        numbers = re.fullmatch(r"(-?\d+) \.\. (-?\d+)", text)
        if name in ALLOWED and numbers and name not in narrower:
            assert (ALLOWED[name].low, ALLOWED[name].high) == (int(numbers[1]), int(numbers[2])), name
        if name in ALLOWED and ALLOWED[name].words and not numbers and text:
            assert set(ALLOWED[name].words) <= set(text.split(", ")), name


def test_every_property_that_is_not_allowed_stays_out(known: list[Known]) -> None:
    for name, _, _ in known:
        if name in ALLOWED:
            continue
        for role in ROLES:
            try:
                properties, notes = librdkafka_properties(role, {name: "1"})
            except ConfigError as error:
                (fault,) = error.faults
                assert fault.key == name
                assert len(fault.message) > len("cannot be set: ")
            else:
                assert name in DROPPED
                assert properties == {}
                assert notes[0].key == name


VALUES = {
    "acks": "all",
    "request.required.acks": "all",
    "auto.offset.reset": "none",
    "partition.assignment.strategy": "range,roundrobin",
    "sasl.kerberos.principal": "gateway/host@REALM",
    "ssl.ca.certificate.stores": "Root",
    "ssl.cipher.suites": "DEFAULT",
    "ssl.curves.list": "P-256",
    "ssl.sigalgs.list": "RSA+SHA256",
    "client.rack": "r",
    "fetch.max.bytes": "1000",
    "receive.message.max.bytes": "1512",
    "max.in.flight": "5",
    "max.in.flight.requests.per.connection": "5",
}
PARTNERS = {
    # Where the library wants an order among two numbers.
    "fetch.max.bytes": {"message.max.bytes": "1000"},
    "message.max.bytes": {"fetch.max.bytes": "1000000000"},
    "session.timeout.ms": {"max.poll.interval.ms": "86400000"},
    "max.poll.interval.ms": {"session.timeout.ms": "1", "heartbeat.interval.ms": "1"},
    "reconnect.backoff.ms": {"reconnect.backoff.max.ms": "3600000"},
    "reconnect.backoff.max.ms": {"reconnect.backoff.ms": "0"},
    "receive.message.max.bytes": {"fetch.max.bytes": "1000", "message.max.bytes": "1000"},
}
NEED_FILES = re.compile(r"ssl\.|https\.|sasl\.|security\.|enable\.ssl")
CLIENTS = {"producer": confluent_kafka.Producer, "consumer": confluent_kafka.Consumer, "admin": AdminClient}


@pytest.mark.parametrize("name", sorted(name for name in ALLOWED if not NEED_FILES.match(name)))
def test_what_is_allowed_builds_a_client(name: str) -> None:
    """With the least and the greatest value; librdkafka itself is the judge."""
    allowed = ALLOWED[name]
    if name in VALUES:
        values = [VALUES[name]]
    elif allowed.low is not None:
        values = [str(allowed.low), str(allowed.high)]
    else:
        values = list(allowed.words) or ["true"]
    for role in allowed.roles:
        for value in values:
            properties, _ = librdkafka_properties(role, {**PARTNERS.get(name, {}), name: value})
            given = {"message.timeout.ms": "2147483647", **properties} if role == "producer" else dict(properties)
            if role == "consumer":
                given |= {"group.id": "g"}
            CLIENTS[role](given)


def test_aliases_are_allowed_names() -> None:
    for alias, name in ALIASES.items():
        assert alias in ALLOWED
        assert name in ALLOWED
        assert ALLOWED[alias].roles == ALLOWED[name].roles


def test_version_1_names_are_known_with_their_prefix() -> None:
    tables = (ALLOWED, DROPPED, OWNED, FORBIDDEN, JAVA_RENAMED, JAVA_REFUSED)
    special = {"sasl.jaas.config"}
    assert {name for name in CLIENT_PROPERTIES if not any(name in table for table in tables)} == special


# --- translations from Java -------------------------------------------------------------------------------------------


def test_translations() -> None:
    given = dotted({"max_request_size": "2000", "buffer_memory": "33554433", "acks": "ALL", "compression_type": "GZIP"})
    assert librdkafka_properties("producer", given)[0] == {
        "message.max.bytes": "2000",
        "queue.buffering.max.kbytes": "32769",
        "acks": "all",
        "compression.type": "gzip",
    }
    assert result("consumer", request_timeout_ms="30000", fetch_max_wait_ms="1", receive_buffer_bytes="-1") == {
        "socket.timeout.ms": "30000",
        "fetch.wait.max.ms": "1",
        "socket.receive.buffer.bytes": "0",
    }
    assert result("producer", request_timeout_ms="30000") == {"request.timeout.ms": "30000"}
    assert result("producer", queue_buffering_max_ms="2.5") == {"linger.ms": "2.5"}
    java = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"
    assert result("consumer", partition_assignment_strategy=java)["partition.assignment.strategy"] == (
        "cooperative-sticky"
    )


@pytest.mark.parametrize(
    ("java", "librdkafka"),
    [("none", "error"), ("Earliest", "earliest"), ("latest", "latest"), ("smallest", "earliest"), ("end", "latest")],
)
def test_offset_reset(java: str, librdkafka: str) -> None:
    assert result("consumer", auto_offset_reset=java) == {"auto.offset.reset": librdkafka}


def test_dropped_with_a_note() -> None:
    properties, notes = librdkafka_properties(
        "producer",
        {"key.serializer": "org.x.Y", "max.block.ms": "1", "delivery.timeout.ms": "1", "session.timeout.ms": "1"},
    )
    assert properties == {}
    assert [str(note).split(":")[0] for note in notes] == [
        "key.serializer",
        "max.block.ms",
        "delivery.timeout.ms",
        "session.timeout.ms",
    ]


def test_two_names_of_one_property() -> None:
    (fault,) = refused("producer", linger_ms="1", queue_buffering_max_ms="2")
    assert "keep one" in fault.message


def test_did_you_mean() -> None:
    (fault,) = refused("producer", compresion_type="gzip")
    assert fault.suggestion == "compression.type"


def test_all_faults_at_once() -> None:
    given = {"linger.ms": "x", "acks": "2x", "group.id": "g", "no.such": "1", "socket.timeout.ms": "1", "debug": "all"}
    with pytest.raises(ConfigError) as caught:
        librdkafka_properties("producer", given)
    assert {fault.key for fault in caught.value.faults} == set(given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            'org.apache.kafka.common.security.plain.PlainLoginModule required username="a b" password="p\\"=;\\\\";',
            {"sasl.username": "a b", "sasl.password": 'p"=;\\', "sasl.mechanism": "PLAIN"},
        ),
        (
            "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required"
            " clientId='i' clientSecret=\"s\" scope=x ;",
            {
                "sasl.mechanism": "OAUTHBEARER",
                "sasl.oauthbearer.method": "oidc",
                "sasl.oauthbearer.client.id": "i",
                "sasl.oauthbearer.client.secret": "s",
                "sasl.oauthbearer.scope": "x",
            },
        ),
    ],
)
def test_jaas(given: str, expected: dict[str, str]) -> None:
    properties = result("admin", sasl_jaas_config=given, security_protocol="SASL_SSL")
    assert properties == {**expected, "security.protocol": "sasl_ssl"}


def test_jaas_scram() -> None:
    jaas = "org.apache.kafka.common.security.scram.ScramLoginModule required\n  username=u\n  password=p;"
    properties = result("admin", sasl_jaas_config=jaas, sasl_mechanism="scram-sha-512", security_protocol="SASL_SSL")
    assert properties["sasl.mechanism"] == "SCRAM-SHA-512"
    assert properties["sasl.password"] == "p"


@pytest.mark.parametrize(
    "jaas",
    [
        'com.sun.security.auth.module.JndiLoginModule required user.provider.url="ldap://CANARY/x";',
        "com.sun.security.auth.module.LdapLoginModule required CANARY=CANARY;",
        "evil.PlainLoginModule required password=CANARY;",
        "org.apache.kafka.common.security.plain.PlainLoginModule required username=u password=CANARY",
        'org.apache.kafka.common.security.plain.PlainLoginModule required password="CANARY;',
        'org.apache.kafka.common.security.plain.PlainLoginModule required password="CANARY"; x.Y required a=b;',
        "CANARY",
    ],
)
def test_jaas_refused(jaas: str) -> None:
    found = refused("admin", sasl_jaas_config=jaas, security_protocol="SASL_SSL", sasl_mechanism="PLAIN")
    assert "sasl.jaas.config" in {fault.key for fault in found}
    assert "CANARY" not in str(found)


@given(st.text())
def test_any_jaas_text(text: str) -> None:
    for jaas in (text, f"org.apache.kafka.common.security.plain.PlainLoginModule required {text};"):
        with contextlib.suppress(ConfigError):
            librdkafka_properties("admin", {"sasl.jaas.config": jaas, "security.protocol": "SASL_SSL"})


def test_stores(tmp_path: Path) -> None:
    pem, jks, p12 = tmp_path / "a.pem", tmp_path / "b.jks", tmp_path / "c.p12"
    pem.write_text("# made by hand\n-----BEGIN CERTIFICATE-----\n")
    jks.write_bytes(b"\xfe\xed\xfe\xed\0\0\0\2")
    p12.write_bytes(b"\x30\x82\x01\x01")
    assert result("admin", ssl_truststore_location=str(pem), ssl_truststore_type="PEM") == {"ssl.ca.location": str(pem)}
    assert result("admin", ssl_keystore_location=str(pem), ssl_key_password="x") == {
        "ssl.certificate.location": str(pem),
        "ssl.key.location": str(pem),
        "ssl.key.password": "x",
    }
    assert result("admin", ssl_keystore_location=str(p12), ssl_keystore_password="x") == {
        "ssl.keystore.location": str(p12),
        "ssl.keystore.password": "x",
    }
    for key, path in (
        ("ssl.truststore.location", jks),
        ("ssl.truststore.location", p12),
        ("ssl.keystore.location", jks),
        ("ssl.keystore.location", tmp_path / "absent"),
        ("ssl.ca.location", tmp_path / "absent"),
    ):
        with pytest.raises(ConfigError, match=r"keytool|cannot be read"):
            librdkafka_properties("admin", {key: str(path)})
    assert librdkafka_properties("admin", {"ssl.truststore.password": "CANARY"})[0] == {}


@pytest.mark.parametrize("key", ["ssl.key.location", "ssl.keystore.location", "ssl.truststore.location"])
def test_a_key_in_place_of_its_file_is_not_repeated(key: str) -> None:
    for text in ("-----BEGIN PRIVATE KEY-----\nCANARY", "CANARY\nCANARY", "-----CANARY\0"):
        with pytest.raises(ConfigError) as caught:
            librdkafka_properties("admin", {key: text})
        assert "cannot be read" in str(caught.value)
        assert "CANARY" not in str(caught.value)


def test_host_names_are_checked_unless_switched_off() -> None:
    """librdkafka's default is https; Java's way to switch it off is an empty text."""
    assert "ssl.endpoint.identification.algorithm" not in result("admin", security_protocol="SSL")
    properties, notes = librdkafka_properties("admin", {"ssl.endpoint.identification.algorithm": ""})
    assert properties == {"ssl.endpoint.identification.algorithm": "none"}
    assert "DANGER" in notes[0].message


def test_contradictions() -> None:
    assert "sasl.mechanism is missing" in refused("admin", security_protocol="SASL_SSL")[0].message
    assert "security.protocol" in refused("admin", sasl_mechanism="PLAIN")[0].message
    assert "sasl.password" in refused("admin", sasl_mechanism="PLAIN", security_protocol="SASL_SSL")[0].message
    assert "enable.idempotence" in refused("producer", acks="1")[0].message
    assert "enable.idempotence" in refused("producer", max_in_flight="6")[0].message
    assert result("producer", acks="1", enable_idempotence="false")["acks"] == "1"


@pytest.mark.parametrize(
    ("larger", "smaller"),
    [
        ({"fetch.max.bytes": "5000"}, {"message.max.bytes": "5001"}),
        ({"fetch.max.bytes": "999999"}, {}),
        ({"receive.message.max.bytes": "2000000"}, {"fetch.max.bytes": "1999489"}),
        ({"max.poll.interval.ms": "7999"}, {"session.timeout.ms": "8000"}),
        ({}, {"session.timeout.ms": "300001"}),
        ({"reconnect.backoff.max.ms": "99"}, {}),
    ],
)
def test_orders_are_those_of_the_library(larger: dict[str, str], smaller: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="must be at least"):
        librdkafka_properties("consumer", {**larger, **smaller})
    with pytest.raises(confluent_kafka.KafkaException):
        confluent_kafka.Consumer({"group.id": "g", **larger, **smaller})


def test_the_shortest_time_between_polls_is_our_session() -> None:
    """librdkafka's own is longer, so it is not asked."""
    assert result("consumer", max_poll_interval_ms="8000")
    assert "session.timeout.ms (8000)" in refused("consumer", max_poll_interval_ms="7999")[0].message


def test_kinit_sees_no_shell_characters() -> None:
    assert refused("admin", sasl_kerberos_principal="a; touch /tmp/x", security_protocol="SASL_SSL")


# --- the configuration as a whole -------------------------------------------------------------------------------------


def read(*overrides: str) -> Config:
    return load(BUILTIN_KEYS, overrides=overrides, checks=(faults,))


def test_own_keys_and_what_beats_them() -> None:
    assert client_properties(read("bootstrap.servers=a:1,b:2"), "producer") == {
        "bootstrap.servers": "a:1,b:2",
        "linger.ms": "2",
        "message.timeout.ms": "30000",
        "queue.buffering.max.kbytes": "65536",
        "queue.buffering.max.messages": "500000",
    }
    config = read(
        "client.compression.codec=gzip",
        "producer.compression.type=lz4",
        "producer.queue.buffering.max.messages=5",
        "producer.batch.size=1",
        "consumer.max.poll.records=7",
        "client.client.id=me",
    )
    properties = client_properties(config, "producer")
    assert properties["compression.type"] == "lz4"
    assert properties["queue.buffering.max.messages"] == "5"
    assert client_properties(config, "consumer") == {"bootstrap.servers": "", "client.id": "me"}
    assert client_notes(config) == [
        "consumer.max.poll.records: has no effect: consumer.records.max bounds a read",
    ]


def test_linger_never_exceeds_the_timeout() -> None:
    confluent_kafka.Producer(client_properties(read("produce.timeout.ms=1", "producer.linger.ms=5"), "producer"))


def test_faults_have_whole_names_and_places() -> None:
    with pytest.raises(ConfigError) as caught:
        read("client.id=x", "producer.compresion.type=gzip", "consumer.group.id=g", "client.plugin.library.paths=x")
    assert {(fault.place, fault.key, fault.suggestion) for fault in caught.value.faults} == {
        ("argument", "client.id", "client.client.id"),
        ("argument", "producer.compresion.type", "producer.compression.type"),
        ("argument", "consumer.group.id", ""),
        ("argument", "client.plugin.library.paths", ""),
    }
