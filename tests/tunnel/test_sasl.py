"""Logging in through the tunnel at a real broker, and the gateway logging in itself (bridges.md C6; C8 no. 23)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import bcrypt
import confluent_kafka
import pytest
from confluent_kafka.admin import (
    AdminClient,
    NewTopic,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.cache import unavailable
from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import KafkaCluster, KafkaUnavailableError, Node
from tests.tunnel.local_process import LocalProcess
from tests.tunnel.test_clients import consumed

JAAS = "org.apache.kafka.common.security"
ADMIN = {
    "security.protocol": "sasl_plaintext",
    "sasl.mechanism": "PLAIN",
    "sasl.username": "admin",
    "sasl.password": "admin-secret",
}


class SaslKafka(KafkaCluster):
    """One broker that lets nobody in who does not log in: admin and alice with PLAIN, bob with SCRAM."""

    def __init__(self) -> None:
        users = 'user_admin="admin-secret" user_alice="alice-secret"'
        super().__init__(
            1,
            settings={
                "listener.security.protocol.map": "PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
                "inter.broker.listener.name": "PLAINTEXT",
                "sasl.mechanism.inter.broker.protocol": "PLAIN",
                "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
                "listener.name.plaintext.plain.sasl.jaas.config": f"{JAAS}.plain.PlainLoginModule required"
                f' username="admin" password="admin-secret" {users};',
                "listener.name.plaintext.scram-sha-256.sasl.jaas.config": f"{JAAS}.scram.ScramLoginModule required;",
                "listener.name.plaintext.scram-sha-512.sasl.jaas.config": f"{JAAS}.scram.ScramLoginModule required;",
                # Clients must log in again on a living connection (KIP-368), while a test runs.
                "connections.max.reauth.ms": "3000",
            },
        )

    def _await_ready(self, nodes: Sequence[Node]) -> None:
        admin = AdminClient({"bootstrap.servers": self.bootstrap, **ADMIN})
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if admin.list_topics(timeout=2).brokers:
                    break
            except confluent_kafka.KafkaException:
                if not nodes[0].running():
                    raise KafkaUnavailableError(nodes[0].log_tail()) from None
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            upsert = UserScramCredentialUpsertion("bob", ScramCredentialInfo(mechanism, 4096), b"bob-secret")
            admin.alter_user_scram_credentials([upsert])["bob"].result(20)


@pytest.fixture(scope="module")
def sasl_kafka() -> Iterator[SaslKafka]:
    try:
        cluster = SaslKafka()
        cluster.start()
    except KafkaUnavailableError as error:
        unavailable(str(error))
    try:
        yield cluster
    finally:
        cluster.stop()


def login(bootstrap: str, mechanism: str, user: str, password: str) -> dict[str, Any]:
    return {
        "bootstrap.servers": bootstrap,
        "security.protocol": "sasl_plaintext",
        "sasl.mechanism": mechanism,
        "sasl.username": user,
        "sasl.password": password,
    }


def works(settings: dict[str, Any], topic: str, records: int = 20, pause_s: float = 0.0) -> None:
    """Produces and consumes, with time for another login in between."""
    producer = confluent_kafka.Producer(settings)
    for number in range(records):
        producer.produce(topic, b"%d" % number)
        producer.flush(20)
        time.sleep(pause_s)  # time itself: another login comes in between
    assert len(producer) == 0
    consumer = confluent_kafka.Consumer({**settings, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    assert len(consumed(consumer, records)) == records
    consumer.close()


def groups_of(admin: AdminClient) -> set[str]:
    found = admin.list_consumer_groups(request_timeout=20).result(20)
    assert not found.errors
    return {each.group_id for each in found.valid}


pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(120)]


def test_clients_log_in_themselves(sasl_kafka: SaslKafka, unique: Callable[..., str]) -> None:
    """The gateway has no credentials; it knows the broker from ``tunnel.static.brokers``."""
    properties = ("tunnel.enable=true", f"tunnel.static.brokers=1={sasl_kafka.bootstrap}")
    with (
        GatewayProcess(*properties, bootstrap=sasl_kafka.bootstrap) as gateway,
        LocalProcess(gateway.url, nodes=1) as local,
    ):
        works(login(local.bootstrap, "PLAIN", "alice", "alice-secret"), unique("plain"), 8, 0.5)
        works(login(local.bootstrap, "SCRAM-SHA-256", "bob", "bob-secret"), unique("scram256"))
        works(login(local.bootstrap, "SCRAM-SHA-512", "bob", "bob-secret"), unique("scram512"))
        errors: list[confluent_kafka.KafkaError] = []
        wrong = login(local.bootstrap, "PLAIN", "alice", "guess") | {"error_cb": errors.append}
        with pytest.raises(confluent_kafka.KafkaException):
            AdminClient(wrong).list_topics(timeout=3)
        deadline = time.monotonic() + 10
        client = confluent_kafka.Producer(wrong)
        while not errors and time.monotonic() < deadline:
            client.poll(0.1)
        assert confluent_kafka.KafkaError._AUTHENTICATION in {each.code() for each in errors}
        log = "\n".join([*gateway.output, *local.output])
    assert "secret" not in log
    assert "guess" not in log


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_the_gateway_logs_in_for_its_own_users(
    sasl_kafka: SaslKafka, unique: Callable[..., str], tmp_path: Path, mechanism: str
) -> None:
    users = tmp_path / "users"
    users.write_text(f"carol:{bcrypt.hashpw(b'carol-secret', bcrypt.gensalt(4)).decode()}:reader\n")
    name = "alice" if mechanism == "PLAIN" else "bob"
    properties = (
        "tunnel.enable=true",
        "tunnel.upstream.auth=inject",
        "listeners=http://127.0.0.1:0",
        "authentication.method=BASIC",
        f"authentication.basic.file={users}",
        "client.security.protocol=SASL_PLAINTEXT",
        f"client.sasl.mechanism={mechanism}",
        f"client.sasl.username={name}",
        f"client.sasl.password={name}-secret",
    )
    own = f"_gateway.{unique('own')}.instances"
    direct = AdminClient({"bootstrap.servers": sasl_kafka.bootstrap, **ADMIN})
    direct.create_topics([NewTopic(own, 1, 1)])[own].result(20)
    group = own.removesuffix(".instances")
    member = confluent_kafka.Consumer({"bootstrap.servers": sasl_kafka.bootstrap, "group.id": group, **ADMIN})
    member.commit(offsets=[confluent_kafka.TopicPartition(own, 0, 0)], asynchronous=False)
    member.close()
    assert group in groups_of(direct)
    with GatewayProcess(*properties, bootstrap=sasl_kafka.bootstrap) as gateway:
        credentials = "-header=Authorization: Basic Y2Fyb2w6Y2Fyb2wtc2VjcmV0"
        with LocalProcess(gateway.url, credentials, nodes=1) as local:
            works({"bootstrap.servers": local.bootstrap}, unique("inject"))
            gateway.wait_for("tunnel of carol at 127.0.0.1 to broker 1")
            # It is the gateway to Kafka, which would let it do this.
            through = AdminClient({"bootstrap.servers": local.bootstrap})
            assert own not in through.list_topics(timeout=20).topics
            shown = groups_of(through)
            assert shown
            assert group not in shown
            gone = through.delete_topics([own], operation_timeout=2, request_timeout=3)[own]
            with pytest.raises(confluent_kafka.KafkaException):
                gone.result(20)
            gateway.wait_for("it may be about the gateway's own")
            assert own in direct.list_topics(timeout=20).topics
            # Nobody else gets to log in through it.
            with pytest.raises(confluent_kafka.KafkaException):
                AdminClient(login(local.bootstrap, "PLAIN", "admin", "admin-secret")).list_topics(timeout=2)
        with LocalProcess(gateway.url, nodes=0) as stranger:
            with pytest.raises(confluent_kafka.KafkaException):
                AdminClient({"bootstrap.servers": stranger.bootstrap}).list_topics(timeout=2)
            stranger.wait_for("status 401")
        assert f"{name}-secret" not in "\n".join(gateway.output)
