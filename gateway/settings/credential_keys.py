"""The keys of what the gateway logs in to Kafka with for its clients (security.md §4)."""

from __future__ import annotations

from kafka_gateway.settings.declaration import ConfigKey, section

CREDENTIALS = section(
    "Kafka credentials of clients",
    ConfigKey(
        name="kafka.credentials",
        type="enum",
        default="gateway",
        choices=("gateway", "client", "client-or-gateway"),
        doc="As whom Kafka is asked: gateway: as the gateway; client: as each client, with credentials of its own"
        " (docs/security.md); client-or-gateway: as the client if it brings some.",
    ),
    ConfigKey(
        name="kafka.credentials.mechanism",
        type="enum",
        default="",
        choices=("", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
        doc="SASL mechanism for users and passwords of clients; empty: client.sasl.mechanism.",
        example="SCRAM-SHA-512",
    ),
    ConfigKey(
        name="kafka.credentials.bearer",
        type="enum",
        default="",
        choices=("", "passthrough"),
        doc="passthrough: a client's bearer token is shown to Kafka with SASL/OAUTHBEARER, and Kafka judges it.",
        example="passthrough",
    ),
    ConfigKey(
        name="kafka.credentials.mtls.map",
        doc="File of Kafka users for principals that cannot pass on a password: PRINCIPAL USER PASSWORD a line, mode"
        " 0600.",
        example="/etc/kafka-gateway/kafka-users",
    ),
    ConfigKey(
        name="kafka.credentials.max",
        type="int",
        default=200,
        minimum=1,
        doc="Sets of Kafka clients for credentials of clients at a time; the one idle for longest makes room.",
    ),
    ConfigKey(
        name="kafka.credentials.idle.ms",
        type="duration",
        unit="ms",
        default=60_000,
        minimum=100,
        doc="How long a set of Kafka clients is kept without being used.",
    ),
    ConfigKey(
        name="kafka.credentials.refused.ms",
        type="duration",
        unit="ms",
        default=5000,
        doc="How long credentials that Kafka has refused are refused without asking it again.",
    ),
    ConfigKey(
        name="kafka.credentials.recheck.ms",
        type="duration",
        unit="ms",
        default=600_000,
        minimum=100,
        doc="How long a password that Kafka has taken counts before Kafka is asked again.",
    ),
    ConfigKey(
        name="authentication.openid.kafka.username.claim",
        doc="Claim of a token that names the client's Kafka user; with the password's claim.",
        example="kafka_user",
    ),
    ConfigKey(
        name="authentication.openid.kafka.password.claim",
        doc="Claim of a token that holds the password of the client's Kafka user.",
        example="kafka_password",
    ),
)
