"""A real Kafka that asks everybody who they are: SASL_SSL with PLAIN, SCRAM and OAUTHBEARER, and ACLs.

Beside the secured port each broker keeps the plain one of `KafkaCluster`; whoever comes in there is a super user, so
the tests make topics, users and ACLs through it. The gateway is given the secured port only.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import jwt
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # the package re-exports without saying so
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.kafka_cluster import HOST, KafkaCluster, Node, free_ports
from tests.waiting import wait_until

GATEWAY = ("gateway", "gateway-secret")
"""The gateway's own user: it may look at everything, and write to its own topics."""
PLAIN_USERS = {
    name: f"{name}-secret"
    for name in ("gateway", "alice", "bob", "carol", *(f"user-{number}" for number in range(210)))
}
"""Fixed: brokers read PLAIN users when they start. `add_user` makes SCRAM users at any time."""
_AUDIENCE = "kafka"
_ISSUER = "https://issuer.example.org"

_LOGIN = "org.apache.kafka.common.security"
_OPERATIONS = {
    "read": AclOperation.READ,
    "write": AclOperation.WRITE,
    "create": AclOperation.CREATE,
    "delete": AclOperation.DELETE,
    "describe": AclOperation.DESCRIBE,
    "describe-configs": AclOperation.DESCRIBE_CONFIGS,
    "alter": AclOperation.ALTER,
    "all": AclOperation.ALL,
}
_RESOURCES = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "cluster": ResourceType.BROKER,
    "transactional-id": ResourceType.TRANSACTIONAL_ID,
}


class SecuredKafka(KafkaCluster):
    """As `KafkaCluster`, with a second listener for clients that log in.

    Args:
        mechanisms: what that listener offers.
    """

    def __init__(
        self, nodes: int = 1, mechanisms: Sequence[str] = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
    ) -> None:
        super().__init__(nodes)
        self._ports = dict(zip(self.nodes, free_ports(nodes), strict=True))
        self._write_certificates(self.directory)
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        keys = self.directory / "jwks.json"
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key()))
        keys.write_text(json.dumps({"keys": [{**public, "kid": "k1", "use": "sig", "alg": "RS256"}]}))
        self.jvm_options = (f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={keys.as_uri()}",)
        users = " ".join(f'user_{name}="{password}"' for name, password in PLAIN_USERS.items())
        at = "listener.name.sasl_ssl."
        self.settings |= {
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "auto.create.topics.enable": "false",
            "sasl.enabled.mechanisms": ",".join(mechanisms),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.directory / "broker.pem"),
            f"{at}plain.sasl.jaas.config": f"{_LOGIN}.plain.PlainLoginModule required {users};",
            f"{at}scram-sha-256.sasl.jaas.config": f"{_LOGIN}.scram.ScramLoginModule required;",
            f"{at}scram-sha-512.sasl.jaas.config": f"{_LOGIN}.scram.ScramLoginModule required;",
            f"{at}oauthbearer.sasl.jaas.config": f"{_LOGIN}.oauthbearer.OAuthBearerLoginModule required;",
            f"{at}oauthbearer.sasl.server.callback.handler.class": (
                f"{_LOGIN}.oauthbearer.OAuthBearerValidatorCallbackHandler"
            ),
            "sasl.oauthbearer.jwks.endpoint.url": keys.as_uri(),
            "sasl.oauthbearer.jwt.validator.class": f"{_LOGIN}.oauthbearer.BrokerJwtValidator",
            "sasl.oauthbearer.expected.audience": _AUDIENCE,
            "sasl.oauthbearer.expected.issuer": _ISSUER,
            # Logins end with their tokens, as in production (KIP-368).
            "connections.max.reauth.ms": "3600000",
        }

    def listeners(self, node: Node) -> dict[str, str]:
        return {**super().listeners(node), "SASL_SSL": f"{HOST}:{self._ports[node.id]}"}

    def start(self) -> Self:
        super().start()
        for operation in ("describe", "describe-configs"):
            self.allow(GATEWAY[0], operation, "topic:*", "cluster", *(["group:*"] if operation == "describe" else []))
        # What the sockets of the proxy's protocol need of its own topics (websocket-proxy.md §5.6).
        self.allow(GATEWAY[0], "create,read,write", "topic:_wsproxy*")
        self.allow(GATEWAY[0], "read", "group:*")
        return self

    # --- for the gateway ----------------------------------------------------------------------------------------------

    @property
    def secured(self) -> str:
        """``bootstrap.servers`` of the secured listener."""
        return ",".join(f"{HOST}:{port}" for port in self._ports.values())

    @property
    def authority(self) -> Path:
        """The certificate of the authority that signed the brokers'."""
        return self.directory / "ca.pem"

    def properties(self, mechanism: str = "PLAIN") -> list[str]:
        """What a gateway needs to come in as its own user."""
        return [
            f"bootstrap.servers={self.secured}",
            "client.security.protocol=SASL_SSL",
            f"client.ssl.ca.location={self.authority}",
            f"client.sasl.mechanism={mechanism}",
            f"client.sasl.username={GATEWAY[0]}",
            f"client.sasl.password={GATEWAY[1]}",
        ]

    # --- users and rights ---------------------------------------------------------------------------------------------

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap})

    def add_user(self, name: str, password: str) -> None:
        """A SCRAM user for both hashes, or another password of one that is there; brokers know it on return."""
        mechanisms = (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)
        admin = self.admin()
        for mechanism in mechanisms:
            change = UserScramCredentialUpsertion(name, ScramCredentialInfo(mechanism, 4096), password.encode())
            admin.alter_user_scram_credentials([change])[name].result(10)
        self._until_login(name, password, True)

    def remove_user(self, name: str, password: str) -> None:
        admin = self.admin()
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            admin.alter_user_scram_credentials([UserScramCredentialDeletion(name, mechanism)])[name].result(10)
        self._until_login(name, password, False)

    def _until_login(self, name: str, password: str, lets_in: bool) -> None:
        wait_until(lambda: self.lets_in(name, password) == lets_in, what=lambda: f"the change of {name}")

    def lets_in(self, name: str, password: str, mechanism: str = "SCRAM-SHA-256") -> bool:
        """Whether the brokers take these credentials now."""
        refused: list[Any] = []
        client = AdminClient(
            {
                "bootstrap.servers": self.secured,
                "security.protocol": "SASL_SSL",
                "ssl.ca.location": str(self.authority),
                "sasl.mechanism": mechanism,
                "sasl.username": name,
                "sasl.password": password,
                "error_cb": refused.append,
                "log_level": 0,
            }
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                client.list_topics("none", timeout=0.3)
                return True
            except KafkaException:
                client.poll(0)
                if any(each.name() == "_AUTHENTICATION" for each in refused):
                    return False
        raise AssertionError("the brokers answer nothing")

    def allow(self, user: str, operations: str, *resources: str) -> None:
        """`allow("alice", "read,describe", "topic:orders", "group:g*")`; the brokers know it on return."""
        self._change(user, operations, resources, AclPermissionType.ALLOW, create=True)

    def disallow(self, user: str, operations: str, *resources: str) -> None:
        """Takes back what `allow` gave."""
        self._change(user, operations, resources, AclPermissionType.ALLOW, create=False)

    def _change(
        self, user: str, operations: str, resources: Iterable[str], permission: AclPermissionType, *, create: bool
    ) -> None:
        admin = self.admin()
        for resource in resources:
            kind, _, name = resource.partition(":")
            name = "kafka-cluster" if kind == "cluster" else name
            pattern = ResourcePatternType.LITERAL
            if name.endswith("*") and name != "*":
                name, pattern = name[:-1], ResourcePatternType.PREFIXED
            for operation in operations.split(","):
                binding = (_RESOURCES[kind], name, pattern, f"User:{user}", "*", _OPERATIONS[operation], permission)
                wanted = AclBindingFilter(*binding)
                if create:
                    (changed,) = admin.create_acls([AclBinding(*binding)]).values()
                else:
                    (changed,) = admin.delete_acls([wanted]).values()
                changed.result(10)
                self._until_known(wanted, create)

    def _until_known(self, acls: AclBindingFilter, there: bool) -> None:
        """Brokers learn of a change a moment later."""
        admin = self.admin()
        wait_until(lambda: bool(admin.describe_acls(acls).result(10)) == there, what=lambda: acls)

    def token(self, subject: str, lasts_s: float = 600, **claims: Any) -> str:
        """A signed token that the brokers take for ``User:<subject>``."""
        now = time.time()
        content = {"sub": subject, "iat": int(now), "exp": int(now + lasts_s), "aud": _AUDIENCE, "iss": _ISSUER}
        return jwt.encode({**content, **claims}, self._key, algorithm="RS256", headers={"kid": "k1"})

    def put(self, topic: str, *values: bytes) -> None:
        """Writes records, as a super user."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 0})
        for value in values:
            producer.produce(topic, value)
        assert producer.flush(10) == 0

    # --- files --------------------------------------------------------------------------------------------------------

    @staticmethod
    def _write_certificates(directory: Path) -> None:
        """An authority of our own, and a certificate for 127.0.0.1 by it."""
        directory.mkdir(parents=True, exist_ok=True)
        now = datetime.datetime.now(datetime.UTC)

        def certificate(subject: str, key: Any, issuer: str, signed_by: Any, *, authority: bool) -> x509.Certificate:
            def name(text: str) -> x509.Name:
                return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

            builder = (
                x509.CertificateBuilder()
                .subject_name(name(subject))
                .issuer_name(name(issuer))
                .public_key(key.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - datetime.timedelta(days=1))
                .not_valid_after(now + datetime.timedelta(days=10))
                .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            )
            if not authority:
                names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(HOST))]
                builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
            return builder.sign(signed_by, hashes.SHA256())

        ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        ca = certificate("tests", ca_key, "tests", ca_key, authority=True)
        own = certificate("broker", key, "tests", ca_key, authority=False)
        pem = serialization.Encoding.PEM
        (directory / "ca.pem").write_bytes(ca.public_bytes(pem))
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (directory / "broker.pem").write_bytes(private + own.public_bytes(pem) + ca.public_bytes(pem))
