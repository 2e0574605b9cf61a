"""Configuration keys of Kafka WebSocket Proxy's protocol (docs/websocket-proxy.md).

They have the names and environment variables of kafka-websocket-proxy (websocket-proxy.md §5), so that its settings can
be used as they are. Where the gateway has a key for the same thing, the old name sets that: see ``implied_settings``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from kafka_gateway.config import ConfigKey, KeyType, Value, section
from kafka_gateway.services.websocket_proxy.implied_settings import (
    CLIENTS,
    PREFIX,
    REGISTRY,
    RENAMED,
    implied,
    milliseconds,
    truth,
)


def _key(
    name: str, doc: str, *variables: str, type: KeyType = "str", default: Value = "", unit: str = "", **more: Any
) -> ConfigKey:
    reads = truth if type == "bool" else milliseconds if type == "duration" else None
    return ConfigKey(
        name=PREFIX + name,
        type=type,
        default=default,
        unit="ms" if type == "duration" else unit,
        doc=doc,
        variables=variables,
        optional=True,
        reads=reads,
        implies=implied,
        **more,
    )


def _old(name: str, new: str, *variables: str, type: KeyType = "str", unit: str = "") -> ConfigKey:
    doc = f"Sets {new}." if not new.startswith(PREFIX) else f"Older name of {new}."
    return _key(name, doc, *variables, type=type, unit=unit)


def _without_effect(
    reason: str, *names: str, variables: Mapping[str, tuple[str, ...]] | None = None
) -> list[ConfigKey]:
    """Keys without effect: the names, and those that have environment variables with them."""
    found: dict[str, tuple[str, ...]] = dict.fromkeys(names, ()) | dict(variables or {})
    return [_key(name, "Accepted, no effect.", *each, ignored=reason) for name, each in found.items()]


_NO_MONITORING = "Confluent's interceptors are for Java; the metrics are Prometheus's"
_STARTS_WITHOUT = "the gateway starts without Kafka and goes on trying"
_INIT = "how long and how often Kafka is asked for the topic at start; the gateway goes on trying"
_KAFKA = "WSPROXY_KAFKA_"


def _client_keys() -> list[ConfigKey]:
    """The properties of the Kafka clients that have environment variables."""
    both = (
        ("security.protocol", ("SECURITY_PROTOCOL",)),
        ("sasl.mechanism", ("SASL_MECHANISM",)),
        ("sasl.jaas.config", ("SASL_JAAS_CFG",)),
        ("sasl.kerberos.service.name", ("SASL_KERBEROS_SERVICE_NAME",)),
        ("ssl.key.password", ("SSL_KEY_PASS",)),
        (
            "ssl.endpoint.identification.algorithm",
            ("SASL_ENDPOINT_ID_ALGO", "SASL_ENDPOINT_ID_ALOGO"),
        ),
        ("ssl.truststore.location", ("SSL_TRUSTSTORE_LOCATION",)),
        ("ssl.truststore.password", ("SSL_TRUSTSTORE_PASS",)),
        ("ssl.truststore.type", ("SSL_TRUSTSTORE_TYPE",)),
        ("ssl.keystore.location", ("SSL_KEYSTORE_LOCATION",)),
        ("ssl.keystore.password", ("SSL_KEYSTORE_PASS",)),
        ("ssl.provider", ("SSL_PROVIDER",)),
        ("ssl.cipher.suites", ("SSL_CIPHER_SUITES",)),
        ("ssl.enabled.protocols", ("SSL_ENABLED_PROTOCOLS",)),
    )
    secrets = {"sasl.jaas.config", "ssl.key.password", "ssl.truststore.password", "ssl.keystore.password"}
    keys = [
        _old(
            f"kafka-client.properties.{name}",
            f"client.{name}",
            *(_KAFKA + each for each in variables),
            type="secret" if name in secrets else "str",
        )
        for name, variables in both
    ]
    for prefix, ours, word in (
        ("kafka-client.properties.", "client.", "CLIENT_"),
        ("consumer.kafka-client-properties.", "consumer.", "CONSUMER_"),
        ("producer.kafka-client-properties.", "producer.", "PRODUCER_"),
    ):
        for name, variable in (
            ("request.timeout.ms", "REQUEST_TIMEOUT_MS"),
            ("retries", "NUM_RETRIES"),
            ("retry.backoff.ms", "RETRY_BACKOFF_MS"),
        ):
            unit = "ms" if name.endswith(".ms") else ""
            keys.append(_old(prefix + name, ours + name, _KAFKA + word + variable, unit=unit))
    in_flight = "max.in.flight.requests.per.connection"
    keys.append(
        _old(
            f"producer.kafka-client-properties.{in_flight}",
            f"producer.{in_flight}",
            "WSPROXY_KAFKA_PRODUCER_MAX_IN_FLIGHT_REQ",
        )
    )
    for old, new in CLIENTS.items():
        keys.append(
            ConfigKey(
                name=PREFIX + old,
                prefix=True,
                doc=f"Set what {new} sets.",
                example="socket.keepalive.enable=true",
                implies=implied,
            )
        )
    return keys


def _judge_limit(id_name: str, rest: str, text: str) -> str:
    number, _, member = rest.partition(".")
    numbers = ("max-connections", "messages-per-second", "batch-size")
    if not (number.isascii() and number.isdigit()) or member not in (id_name, *numbers):
        return f"is not NUMBER.{id_name}, NUMBER.max-connections or the like"
    if member in numbers and not (re.fullmatch(r"[0-9]{1,10}", text) and int(text) < 2**31):
        return "is not a whole number from 0 to 2147483647"
    return ""


def _limit_keys(kind: str, subject: str, rate: str, connections: str) -> list[ConfigKey]:
    id_name = "group-id" if kind == "consumer" else "producer-id"
    return [
        _key(
            f"{kind}.limits.default-messages-per-second",
            f"Messages per second and socket of a {subject} without a limit of its own; 0: no limit.",
            rate,
            type="int",
            default=0,
            minimum=0,
        ),
        _key(
            f"{kind}.limits.default-max-connections-per-client",
            f"Sockets of a {subject} without a limit of its own, on all gateways; 0: no limit.",
            connections,
            type="int",
            default=0,
            minimum=0,
        ),
        ConfigKey(
            name=f"{PREFIX}{kind}.limits.client-specific-limits.",
            prefix=True,
            example=f"0.{id_name}=example",
            doc=f"Limits of single {subject}s, numbered from 0: N.{id_name},"
            f" N.max-connections, N.messages-per-second{', N.batch-size' if kind == 'consumer' else ''}.",
            implies=implied,
            judges=partial(_judge_limit, id_name),
        ),
    ]


def _topic_keys(kind: str, what: str, name: str, retention: int, words: tuple[str, ...]) -> list[ConfigKey]:
    topic, replicas, kept, timeout, retries, interval = words
    return [
        _key(f"{kind}.topic-name", f"Compacted topic with {what}.", topic, default=name),
        _key(
            f"{kind}.topic-replication-factor",
            "Replicas when the gateway creates the topic; at most 3, and at most one a broker.",
            replicas,
            type="int",
            default=3,
            minimum=1,
        ),
        _key(
            f"{kind}.topic-retention",
            "retention.ms when the gateway creates the topic.",
            kept,
            type="duration",
            default=retention,
        ),
        *_without_effect(
            _INIT,
            f"{kind}.topic-init-timeout",
            f"{kind}.topic-init-retries",
            f"{kind}.topic-init-retry-interval",
            variables={
                f"{kind}.topic-init-timeout": (timeout,),
                f"{kind}.topic-init-retries": (retries,),
                f"{kind}.topic-init-retry-interval": (interval,),
            },
        ),
    ]


WEBSOCKET_PROXY: tuple[ConfigKey, ...] = section(
    "Kafka WebSocket Proxy",
    _key(
        "session-handler.at-start",
        "Open the session topic at start, not with the first socket; true where server.port or bootstrap-hosts is set.",
        type="bool",
        default=False,
    ),
    _key(
        "server.server-id",
        "Name of this gateway among those that share the session topic: each needs one of its own.",
        "WSPROXY_SERVER_ID",
        default="node-1",
    ),
    _key("server.bind-interface", "Address of the proxy's own listener.", "WSPROXY_BIND_INTERFACE", default="0.0.0.0"),
    _key(
        "server.port",
        "Port of a listener for this protocol only; empty: none, with kafka-client.bootstrap-hosts 8078.",
        "WSPROXY_PORT",
    ),
    _key(
        "server.secure-health-check-endpoint",
        "Whether /healthcheck needs authentication.",
        "WSPROXY_SECURE_HEALTHCHECK_ENDPOINT",
        type="bool",
        default=True,
    ),
    _key(
        "server.admin.enabled",
        "Open the listener of /admin and /metrics.",
        "WSPROXY_ADMIN_ENDPOINT_ENABLED",
        type="bool",
        default=False,
    ),
    _key(
        "server.admin.bind-interface",
        "Address of the admin listener; empty: server.bind-interface.",
        "WSPROXY_ADMIN_BIND_INTERFACE",
    ),
    _key(
        "server.admin.port",
        "Port of the admin listener.",
        "WSPROXY_ADMIN_PORT",
        default="9078",
    ),
    _key(
        "prometheus.enabled",
        "Open a listener that serves /metrics and nothing else.",
        "ENABLE_PROMETHEUS_EXPORTER",
        type="bool",
        default=False,
    ),
    _key(
        "prometheus.port",
        "Its port.",
        "PROMETHEUS_EXPORTER_PORT",
        default="7778",
    ),
    _key(
        "metrics.clients.max",
        "Most sockets that have series of their own in /metrics; further ones count in the sums only.",
        type="int",
        default=1000,
        minimum=0,
    ),
    _key("server.ssl.enabled", "Open a listener with TLS; it needs server.ssl.port.", "WSPROXY_SSL_ENABLED",
         type="bool", default=False),
    _key("server.ssl.ssl-only", "Open no listener without TLS.", "WSPROXY_SSL_ONLY", type="bool", default=False),
    _key("server.ssl.bind-interface", "Address of the listener with TLS; empty: server.bind-interface.",
         "WSPROXY_SSL_BIND_INTERFACE"),
    _key("server.ssl.port", "Port of the listener with TLS; empty: none.", "WSPROXY_SSL_PORT"),
    _key("server.ssl.keystore-location", "PEM file with chain and key of the listener with TLS.",
         "WSPROXY_SSL_KEYSTORE_LOCATION"),
    _key("server.ssl.keystore-password", "Password of its key.", "WSPROXY_SSL_KEYSTORE_PASS", type="secret"),
    _key("server.basic-auth.enabled", "Ask for the one user of basic-auth (authentication.method=SINGLE-USER).",
         "WSPROXY_BASIC_AUTH_ENABLED", type="bool", default=False),
    _key("server.basic-auth.realm", "Realm that a refused client is told.", "WSPROXY_BASIC_AUTH_REALM"),
    _key("server.basic-auth.username", "The user.", "WSPROXY_BASIC_AUTH_USERNAME"),
    _key("server.basic-auth.password", "The user's password.", "WSPROXY_BASIC_AUTH_PASSWORD", type="secret"),
    _key("server.openid-connect.enabled", "Ask for a token of an OpenID provider (authentication.method=OPENID).",
         "WSPROXY_OPENID_ENABLED", type="bool", default=False),
    _key("server.openid-connect.well-known-url", "The provider's discovery document.", "WSPROXY_OPENID_WELLKNOWN"),
    _key("server.openid-connect.audience", "Audience that a token must be for.", "WSPROXY_OPENID_AUDIENCE"),
    _key("server.openid-connect.realm", "Realm that a refused client is told.", "WSPROXY_OPENID_REALM"),
    _key("server.openid-connect.require-https", "Whether the provider's keys must be fetched over https.",
         type="bool", default=True),
    _key("server.openid-connect.revalidation-interval", "How often the token of an open socket is looked at again.",
         "WSPROXY_OPENID_REVALIDATION_INTERVAL", type="duration", default=600_000, minimum=1),
    _key("server.openid-connect.revalidation-errors-limit",
         "How often in a row the provider may be unreachable when an open socket's token is looked at again, before the"
         " socket ends; -1: for ever. Keys that were fetched go on for an hour without it.",
         "WSPROXY_OPENID_REVALIDATION_ERRORS_LIMIT", type="int", default=-1, minimum=-1),
    *_without_effect(
        "tokens are never logged",
        "server.openid-connect.allow-detailed-logging",
        variables={"server.openid-connect.allow-detailed-logging": ("WSPROXY_OPENID_ALLOW_DETAILED_LOGGING",)},
    ),
    _old("server.openid-connect.custom-jwt.jwt-kafka-username-key", "authentication.openid.kafka.username.claim",
         "WSPROXY_JWT_KAFKA_USERNAME_KEY"),
    _old("server.openid-connect.custom-jwt.jwt-kafka-password-key", "authentication.openid.kafka.password.claim",
         "WSPROXY_JWT_KAFKA_PASSWORD_KEY"),
    _key("server.openid-connect.custom-jwt.kafka-token-auth-only",
         "Take the Kafka credentials of a client from its token only, and not from X-Kafka-Auth.",
         "WSPROXY_JWT_KAFKA_TOKEN_AUTH_ONLY", type="bool", default=False),
    _old("kafka-client.bootstrap-hosts", "bootstrap.servers", "WSPROXY_KAFKA_BOOTSTRAP_HOSTS"),
    *_client_keys(),
    _old("producer.delivery-timeout-ms", "produce.timeout.ms", "WSPROXY_KAFKA_PRODUCER_DELIVER_TIMEOUT_MS"),
    _old("producer.compression-type", "producer.compression.type", "WSPROXY_KAFKA_PRODUCER_COMPRESSION_TYPE"),
    *_limit_keys(
        "consumer",
        "consumer group",
        "WSPROXY_CONSUMER_RATELIMIT_DEFAULT_MESSAGES_PER_SEC",
        "WSPROXY_CONSUMER_DEFAULT_MAX_CLIENT_CONNECTIONS",
    ),
    _key(
        "consumer.limits.default-batch-size",
        "Records of a consumer socket per turn; 0: the gateway's choice.",
        "WSPROXY_CONSUMER_DEFAULT_BATCH_SIZE",
        "WSPROXY_DEFAULT_BATCH_SIZE",
        type="int",
        default=0,
        minimum=0,
    ),
    *_limit_keys(
        "producer",
        "producer",
        "WSPROXY_PRODUCER_RATELIMIT_DEFAULT_MESSAGES_PER_SEC",
        "WSPROXY_PRODUCER_DEFAULT_MAX_CLIENT_CONNECTIONS",
    ),
    _key(
        "producer.sessions-enabled",
        "Whether producers have sessions: each socket needs an instanceId, and limits hold.",
        "WSPROXY_PRODUCER_SESSIONS_ENABLED",
        "WSPROXY_KAFKA_PRODUCER_SESSIONS_ENABLED",
        type="bool",
        default=False,
    ),
    _key(
        "producer.exactly-once-enabled",
        "Whether sockets may ask for a transaction per record.",
        "WSPROXY_PRODUCER_EXACTLY_ONCE_ENABLED",
        type="bool",
        default=False,
    ),
    *_topic_keys(
        "session-handler", "the open sockets of all gateways", "_wsproxy.session.state", 30 * 86_400_000,
        tuple(f"WSPROXY_SESSION_STATE_{each}" for each in (
            "TOPIC", "REPLICATION_FACTOR", "RETENTION", "TOPIC_INIT_TIMEOUT", "TOPIC_INIT_RETRIES",
            "TOPIC_INIT_RETRY_INTERVAL")),
    ),
    _key(
        "session-handler.dead-server-timeout",
        "A gateway that Kafka has not heard of for this long loses its sockets' places to the others; 0: never.",
        type="duration",
        default=10_000,
    ),
    _key(
        "dynamic-config-handler.enabled",
        "Whether limits can be changed at /admin/client/config.",
        "WSPROXY_DYNAMIC_CONFIG_HANDLER_ENABLED",
        type="bool",
        default=False,
    ),
    *_topic_keys(
        "dynamic-config-handler", "the changed limits", "_wsproxy.dynamic.configs", 0,
        tuple(f"WSPROXY_DYNAMIC_CONFIG_{each}" for each in (
            "TOPIC_NAME", "REPLICATION_FACTOR", "RETENTION", "TOPIC_INIT_TIMEOUT", "TOPIC_INIT_RETRIES",
            "TOPIC_RETRY_INTERVAL")),
    ),
    _key(
        "commit-handler.max-stack-size",
        "Delivered records of a partition that a socket can still commit.",
        "WSPROXY_CH_MAX_STACK_SIZE",
        type="int",
        default=100,
        minimum=1,
    ),
    _key(
        "commit-handler.auto-commit-enabled",
        "Whether what a client does not commit is committed for it after a while.",
        "WSPROXY_CH_AUTOCOMMIT_ENABLED",
        type="bool",
        default=False,
    ),
    _key(
        "commit-handler.auto-commit-interval",
        "How often that is looked at.",
        "WSPROXY_CH_AUTOCOMMIT_INTERVAL",
        type="duration",
        default=1000,
        minimum=1,
    ),
    _key(
        "commit-handler.auto-commit-max-age",
        "Age from which a delivered record is committed so.",
        "WSPROXY_CH_AUTOCOMMIT_MAX_AGE",
        type="duration",
        default=20_000,
    ),
    _key("log.level", "Sets log.level, in logback's words.", "WS_PROXY_APP_LOG_LEVEL"),
    _key("log.json", "true: sets log.format to json.", "WS_PROXY_USE_JSON_LOG_FORMAT"),
    *(
        _old(old, new)
        for old, new in RENAMED.items()
        if new.startswith(PREFIX)
    ),
    ConfigKey(
        name=f"{PREFIX}producer.rate-limit.client-limits.",
        prefix=True,
        doc="Older name of kafka.ws.proxy.producer.limits.client-specific-limits.",
        example="0.client-id=example",
        implies=implied,
    ),
    *_without_effect(
        _STARTS_WITHOUT,
        "server.broker-resolution-timeout",
        "server.broker-resolution-retries",
        "server.broker-resolution-retry-interval",
        "kafka-client.broker-resolution-timeout",
        variables={
            "server.broker-resolution-timeout": ("WSPROXY_BROKER_RESOLUTION_TIMEOUT",),
            "server.broker-resolution-retries": ("WSPROXY_BROKER_RESOLUTION_RETRIES",),
            "server.broker-resolution-retry-interval": ("WSPROXY_BROKER_RESOLUTION_RETRY_INTERVAL",),
        },
    ),
    *_without_effect(
        "the list of brokers is asked for with each GET of /metrics",
        "server.jmx.manager.proxy.status.interval",
        "server.jmx.proxy.status.interval",
        variables={"server.jmx.proxy.status.interval": ("WSPROXY_JMX_PROXY_STATUS_INTERVAL",)},
    ),
    _old("kafka-client.schema-registry.url", "schema.registry.url", "WSPROXY_SCHEMA_REGISTRY_URL"),
    _key(
        "kafka-client.schema-registry.auto-register-schemas",
        "Register the Avro schemas of the protocol's own messages under their full names; only with "
        f"{PREFIX}kafka-client.schema-registry.url.",
        "WSPROXY_SCHEMA_AUTO_REGISTER",
        type="bool",
        default=True,
    ),
    _old(
        f"{REGISTRY}schema.registry.basic.auth.credentials.source",
        "schema.registry.basic.auth.credentials.source",
        "WSPROXY_SCHEMA_BASIC_AUTH_CREDS_SRC",
    ),
    _old(
        f"{REGISTRY}schema.registry.basic.auth.user.info",
        "schema.registry.basic.auth.user.info",
        "WSPROXY_SCHEMA_BASIC_AUTH_USER_INFO",
        type="secret",
    ),
    ConfigKey(
        name=PREFIX + REGISTRY,
        prefix=True,
        doc="Set what schema.registry. sets.",
        example="schema.registry.ssl.truststore.location=/etc/registry-ca.pem",
        implies=implied,
    ),
    *_without_effect(
        _NO_MONITORING,
        variables={"kafka-client.monitoring-enabled": ("WSPROXY_CONFLUENT_MONITORING_ENABLED",)},
    ),
    ConfigKey(
        name=f"{PREFIX}kafka-client.confluent-monitoring.",
        prefix=True,
        doc="Accepted, no effect.",
        ignored=_NO_MONITORING,
        example="bootstrap-hosts=example",
    ),
)  # fmt: skip
