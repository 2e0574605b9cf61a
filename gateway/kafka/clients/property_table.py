"""The properties of Kafka clients, classified: what an operator may set, and why not the others.

Every property of librdkafka is in exactly one of four tables: `ALLOWED` with the values it takes, `DROPPED` with the
reason why it has no effect, `OWNED` and `FORBIDDEN` with the reason of their refusal; a test compares them with what
the library itself lists. Names that only Java's clients know are in `JAVA_RENAMED`, `DROPPED` and `JAVA_REFUSED`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from kafka_gateway.config import check_readable

Role = Literal["producer", "consumer", "admin"]
ROLES: tuple[Role, ...] = ("producer", "consumer", "admin")


@dataclass(frozen=True, slots=True)
class Allowed:
    """The values that a property takes, and the clients that know it."""

    read: Callable[[str], str]
    roles: tuple[Role, ...] = ROLES
    secret: bool = False
    low: int | None = None
    high: int | None = None
    words: tuple[str, ...] = ()


def _plain(text: str) -> str:
    return text


def _text(*roles: Role) -> Allowed:
    return Allowed(_plain, roles or ROLES)


def _secret(*roles: Role) -> Allowed:
    return Allowed(_plain, roles or ROLES, secret=True)


def _number(low: int, high: int, *roles: Role) -> Allowed:
    def read(text: str) -> str:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            raise ValueError(f"{text[:40]!r} is not a whole number")
        if not low <= int(text) <= high:
            raise ValueError(f"{text} is outside {low} to {high}")
        return str(int(text))

    return Allowed(read, roles or ROLES, low=low, high=high)


def _decimal(low: int, high: int, *roles: Role) -> Allowed:
    def read(text: str) -> str:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
            raise ValueError(f"{text[:40]!r} is not a number")
        if not low <= float(text) <= high:
            raise ValueError(f"{text} is outside {low} to {high}")
        return text

    return Allowed(read, roles or ROLES, low=low, high=high)


def _flag(*roles: Role) -> Allowed:
    def read(text: str) -> str:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{text[:40]!r} is not true or false")
        return text.lower()

    return Allowed(read, roles or ROLES)


def _words(*words: str, roles: tuple[Role, ...] = ROLES, several: bool = False) -> Allowed:
    by_lower = {word.lower(): word for word in words}

    def read(text: str) -> str:
        parts = [part.strip() for part in text.split(",")] if several else [text]
        for part in parts:
            if part.lower() not in by_lower:
                raise ValueError(f"{part[:40]!r} is not one of {', '.join(words)}")
        return ",".join(by_lower[part.lower()] for part in parts)

    return Allowed(read, roles, words=words)


def _file(*words: str) -> Allowed:
    """A readable file; with ``words`` also one of them, or a directory (of certificates)."""

    def read(text: str) -> str:
        if text in words or (words and os.path.isdir(text)):
            return text
        check_readable(text)
        return text

    return Allowed(read)


_INT = 2**31 - 1
_ACKS = re.compile(r"all|-?1|0|[0-9]{1,3}", re.IGNORECASE)


def _acks(text: str) -> str:
    if not _ACKS.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not all, 1 or 0")
    return text.lower()


def _offset_reset(text: str) -> str:
    """librdkafka knows Java's ``none`` as ``error``, and the words of Kafka 0.8 besides."""
    words = {"none": "error", "error": "error", "smallest": "earliest", "largest": "latest"}
    words |= {"earliest": "earliest", "latest": "latest", "beginning": "earliest", "end": "latest"}
    if text.lower() not in words:
        raise ValueError(f"{text[:40]!r} is not one of earliest, latest, none")
    return words[text.lower()]


def _assignors(text: str) -> str:
    java = "org.apache.kafka.clients.consumer."
    names = {
        "RangeAssignor": "range",
        "RoundRobinAssignor": "roundrobin",
        "CooperativeStickyAssignor": "cooperative-sticky",
    }
    parts = []
    for part in (part.strip() for part in text.split(",")):
        name = names.get(part.removeprefix(java), part.lower())
        if name not in names.values():
            raise ValueError(f"{part[:80]!r} is not one of {', '.join(names.values())}")
        parts.append(name)
    if "cooperative-sticky" in parts and len(parts) > 1:
        raise ValueError("cooperative-sticky cannot stand beside another assignor")
    return ",".join(parts)


ALLOWED: Mapping[str, Allowed] = {
    # Connection
    "client.id": _text(),
    "client.rack": _text(),
    "client.dns.lookup": _words("use_all_dns_ips", "resolve_canonical_bootstrap_servers_only"),
    "broker.address.family": _words("any", "v4", "v6"),
    "broker.address.ttl": _number(0, 86400000),
    "connections.max.idle.ms": _number(0, _INT),
    "log.connection.close": _flag(),
    "reconnect.backoff.ms": _number(0, 3600000),
    "reconnect.backoff.max.ms": _number(0, 3600000),
    "reconnect.backoff.jitter.ms": _number(0, 3600000),
    "retry.backoff.ms": _number(1, 300000),
    "retry.backoff.max.ms": _number(1, 300000),
    "socket.connection.setup.timeout.ms": _number(1000, _INT),
    "socket.keepalive.enable": _flag(),
    "socket.max.fails": _number(0, 1000000),
    "socket.nagle.disable": _flag(),
    "socket.receive.buffer.bytes": _number(0, 100000000),
    "socket.send.buffer.bytes": _number(0, 100000000),
    "socket.timeout.ms": _number(10, 300000),
    "max.in.flight": _number(1, 1000000),
    "max.in.flight.requests.per.connection": _number(1, 1000000),
    "message.max.bytes": _number(1000, 1000000000),
    "message.copy.max.bytes": _number(0, 1000000000),
    "receive.message.max.bytes": _number(1000, _INT),
    "enable.metrics.push": _flag(),
    # Metadata
    "metadata.max.age.ms": _number(1, 86400000),
    "metadata.recovery.strategy": _words("none", "rebootstrap"),
    "metadata.recovery.rebootstrap.trigger.ms": _number(0, _INT),
    "topic.metadata.propagation.max.ms": _number(0, 3600000),
    "topic.metadata.refresh.fast.cnt": _number(0, 1000),
    "topic.metadata.refresh.fast.interval.ms": _number(1, 60000),
    "topic.metadata.refresh.interval.ms": _number(-1, 3600000),
    "topic.metadata.refresh.sparse": _flag(),
    # Security
    "security.protocol": _words("plaintext", "ssl", "sasl_plaintext", "sasl_ssl"),
    "ssl.ca.location": _file("probe"),  # the word makes librdkafka look in the usual places
    "ssl.ca.pem": _text(),
    "ssl.ca.certificate.stores": _text(),
    "ssl.certificate.location": _file(),
    "ssl.certificate.pem": _text(),
    "ssl.cipher.suites": _text(),
    "ssl.crl.location": _file(),
    "ssl.curves.list": _text(),
    "ssl.key.location": _file(),
    "ssl.key.password": _secret(),
    "ssl.key.pem": _secret(),
    "ssl.keystore.location": _file(),
    "ssl.keystore.password": _secret(),
    "ssl.sigalgs.list": _text(),
    "ssl.endpoint.identification.algorithm": _words("none", "https"),
    "enable.ssl.certificate.verification": _flag(),
    "https.ca.location": _file("probe"),
    "https.ca.pem": _text(),
    "sasl.mechanism": _words("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI"),
    "sasl.mechanisms": _words("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI"),
    "sasl.username": _text(),
    "sasl.password": _secret(),
    "sasl.kerberos.keytab": _file(),
    "sasl.kerberos.principal": Allowed(lambda text: _principal(text)),
    "sasl.kerberos.service.name": _text(),
    "sasl.kerberos.min.time.before.relogin": _number(0, 86400000),
    "sasl.oauthbearer.method": _words("oidc"),
    "sasl.oauthbearer.client.id": _text(),
    "sasl.oauthbearer.client.secret": _secret(),
    "sasl.oauthbearer.client.credentials.client.id": _text(),
    "sasl.oauthbearer.client.credentials.client.secret": _secret(),
    "sasl.oauthbearer.extensions": _secret(),
    "sasl.oauthbearer.grant.type": _words("client_credentials"),
    "sasl.oauthbearer.metadata.authentication.type": _words("none", "azure_imds", "aws_iam"),
    "sasl.oauthbearer.scope": _text(),
    "sasl.oauthbearer.sub.claim.name": _text(),
    "sasl.oauthbearer.token.endpoint.url": _text(),
    # Producer
    "acks": Allowed(_acks, ("producer",), low=-1, high=1000),
    "request.required.acks": Allowed(_acks, ("producer",), low=-1, high=1000),
    "batch.num.messages": _number(1, 1000000, "producer"),
    "batch.size": _number(1, _INT, "producer"),
    "compression.codec": _words("none", "gzip", "snappy", "lz4", "zstd", roles=("producer",)),
    "compression.type": _words("none", "gzip", "snappy", "lz4", "zstd", roles=("producer",)),
    "compression.level": _number(-1, 12, "producer"),
    "enable.idempotence": _flag("producer"),
    "linger.ms": _decimal(0, 900000, "producer"),
    "queue.buffering.max.ms": _decimal(0, 900000, "producer"),
    "message.send.max.retries": _number(0, _INT, "producer"),
    "retries": _number(0, _INT, "producer"),
    "partitioner": _words(
        *("random", "consistent", "consistent_random", "murmur2", "murmur2_random", "fnv1a", "fnv1a_random"),
        roles=("producer",),
    ),
    "queue.buffering.backpressure.threshold": _number(1, 1000000, "producer"),
    "queue.buffering.max.kbytes": _number(1, _INT, "producer"),
    "queue.buffering.max.messages": _number(1, _INT, "producer"),
    "request.timeout.ms": _number(1, 900000, "producer"),
    "sticky.partitioning.linger.ms": _number(0, 900000, "producer"),
    # Consumer
    "auto.offset.reset": Allowed(_offset_reset, ("consumer",)),
    "check.crcs": _flag("consumer"),
    "coordinator.query.interval.ms": _number(1, 3600000, "consumer"),
    "fetch.error.backoff.ms": _number(0, 300000, "consumer"),
    "fetch.max.bytes": _number(0, 2147483135, "consumer"),
    "fetch.message.max.bytes": _number(1, 1000000000, "consumer"),
    "fetch.min.bytes": _number(1, 100000000, "consumer"),  # its documentation says otherwise
    "fetch.queue.backoff.ms": _number(0, 300000, "consumer"),
    "fetch.wait.max.ms": _number(0, 300000, "consumer"),
    "heartbeat.interval.ms": _number(1, 3600000, "consumer"),
    "isolation.level": _words("read_uncommitted", "read_committed", roles=("consumer",)),
    "max.partition.fetch.bytes": _number(1, 1000000000, "consumer"),
    "max.poll.interval.ms": _number(1, 86400000, "consumer"),
    "partition.assignment.strategy": Allowed(_assignors, ("consumer",)),
    "queued.max.messages.kbytes": _number(1, 2097151, "consumer"),
    "queued.min.messages": _number(1, 10000000, "consumer"),
    "session.timeout.ms": _number(1, 3600000, "consumer"),
}
"""Properties of librdkafka that an operator may set; the bounds are the library's."""


ALIASES: Mapping[str, str] = {
    "compression.codec": "compression.type",
    "max.in.flight": "max.in.flight.requests.per.connection",
    "max.partition.fetch.bytes": "fetch.message.max.bytes",
    "message.send.max.retries": "retries",
    "queue.buffering.max.ms": "linger.ms",
    "request.required.acks": "acks",
    "sasl.mechanisms": "sasl.mechanism",
    "sasl.oauthbearer.client.credentials.client.id": "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.credentials.client.secret": "sasl.oauthbearer.client.secret",
}
"""Second names that librdkafka has; the result holds the right one, so that a later layer can replace it by name."""


def _reasons(table: Mapping[str, str]) -> dict[str, str]:
    """One entry for each name; a key of the table holds several names that share a reason."""
    return {name: reason for names, reason in table.items() for name in names.split()}


OWNED: Mapping[str, str] = _reasons(
    {
        "bootstrap.servers metadata.broker.list": "set bootstrap.servers without a prefix, it serves all clients",
        "group.id group.instance.id": "clients of the gateway name their groups, the gateway their members",
        "enable.auto.commit auto.commit.enable": "the gateway commits itself; set consumer.enable.auto.commit",
        "auto.commit.interval.ms": "the gateway commits itself; set consumer.auto.commit.interval.ms",
        "enable.auto.offset.store": "the gateway stores the offset of a record when it has returned it",
        "enable.partition.eof": "the gateway asks for the end offsets where it needs them",
        "allow.auto.create.topics": "set auto.create.topics.enable; reading never creates a topic",
        "transactional.id transaction.timeout.ms": "the gateway has no transactions",
        "delivery.report.only.error": "the answer to a produce needs every delivery report",
        "produce.offset.report": "the answer to a produce always has the offset",
        "statistics.interval.ms": "the gateway has metrics of its own",
        "group.protocol group.remote.assignor group.protocol.type": "consumer groups use the classic protocol",
        "queuing.strategy": "lifo would break the order of records",
        "enable.gapless.guarantee": "one failed record would end the producer for all clients",
    }
)
"""Properties of librdkafka that the gateway itself decides."""

FORBIDDEN: Mapping[str, str] = _reasons(
    {
        "plugin.library.paths interceptors ssl.engine.location ssl.engine.id ssl.providers": (
            "it loads a program library into the gateway"
        ),
        "sasl.kerberos.kinit.cmd": "it runs a shell command; set sasl.kerberos.keytab and sasl.kerberos.principal",
        "test.mock.num.brokers test.mock.broker.rtt": (
            "it opens ports and replaces bootstrap.servers; leave bootstrap.servers empty for the embedded Kafka"
        ),
        "sasl.oauthbearer.assertion.algorithm sasl.oauthbearer.assertion.private.key.file"
        " sasl.oauthbearer.assertion.private.key.passphrase sasl.oauthbearer.assertion.private.key.pem"
        " sasl.oauthbearer.assertion.file sasl.oauthbearer.assertion.claim.aud"
        " sasl.oauthbearer.assertion.claim.exp.seconds sasl.oauthbearer.assertion.claim.iss"
        " sasl.oauthbearer.assertion.claim.jti.include sasl.oauthbearer.assertion.claim.nbf.seconds"
        " sasl.oauthbearer.assertion.claim.sub sasl.oauthbearer.assertion.jwt.template.file": (
            "it sends the text of files to a URL; set sasl.oauthbearer.client.id and sasl.oauthbearer.client.secret"
        ),
        "sasl.oauthbearer.config enable.sasl.oauthbearer.unsecure.jwt": (
            "tokens without a signature protect nothing; set sasl.oauthbearer.method=oidc"
        ),
        "debug log_level log.queue log.thread.name": (
            "it floods the log with names and addresses; --check tells which step to Kafka fails, log.level how much"
            " is logged"
        ),
        "error_cb throttle_cb stats_cb log_cb background_event_cb socket_cb connect_cb closesocket_cb open_cb"
        " resolve_cb opaque default_topic_conf ssl.certificate.verify_cb ssl_engine_callback_data ssl_key"
        " ssl_certificate ssl_ca oauthbearer_token_refresh_cb consume_cb rebalance_cb offset_commit_cb dr_cb"
        " dr_msg_cb partitioner_cb msg_order_cmp enabled_events internal.termination.signal builtin.features"
        " enable.random.seed on_commit on_delivery": ("it belongs to the programming interface of librdkafka"),
        "socket.blocking.max.ms api.version.request api.version.request.timeout.ms api.version.fallback.ms"
        " broker.version.fallback consume.callback.max.messages": (
            "it is for brokers and programs from before Kafka 0.10 and has no use here"
        ),
        "offset.store.method offset.store.path offset.store.sync.interval.ms": "offsets are kept in Kafka",
        "topic.blacklist": "hide topics with the ACLs of Kafka",
        "share.acknowledgement.mode": "the gateway has no share groups",
    }
)
"""Properties of librdkafka that nobody may set here."""

JAVA_RENAMED: Mapping[str, tuple[str, Callable[[str], str], tuple[Role, ...]]] = {
    "max.request.size": ("message.max.bytes", _plain, ("producer",)),
    "buffer.memory": ("queue.buffering.max.kbytes", lambda text: kilobytes(text), ("producer",)),
    "fetch.max.wait.ms": ("fetch.wait.max.ms", _plain, ("consumer",)),
    "send.buffer.bytes": ("socket.send.buffer.bytes", lambda text: "0" if text == "-1" else text, ROLES),
    "receive.buffer.bytes": ("socket.receive.buffer.bytes", lambda text: "0" if text == "-1" else text, ROLES),
    "request.timeout.ms": ("socket.timeout.ms", _plain, ("consumer", "admin")),
    "ssl.keystore.key": ("ssl.key.pem", _plain, ROLES),
    "ssl.keystore.certificate.chain": ("ssl.certificate.pem", _plain, ROLES),
    "ssl.truststore.certificates": ("ssl.ca.pem", _plain, ROLES),
}
"""Properties of the Java clients: librdkafka's name, the translation of the value, the clients that have it."""

DROPPED: Mapping[str, str] = _reasons(
    {
        "key.serializer value.serializer key.deserializer value.deserializer key.serializer.class serializer.class": (
            "the media type of a request says how records are encoded"
        ),
        "message.timeout.ms delivery.timeout.ms": "produce.timeout.ms decides",
        "max.poll.records": "consumer.records.max bounds a read",
        "max.block.ms": "a produce never waits for room; see produce.timeout.ms",
        "default.api.timeout.ms": "see consumer.request.timeout.ms and kafka.connect.timeout.ms",
        "socket.connection.setup.timeout.max.ms": "see socket.connection.setup.timeout.ms",
        "exclude.internal.topics": "see topics.internal.allow",
        "metric.reporters metrics.num.samples metrics.recording.level metrics.sample.window.ms"
        " auto.include.jmx.reporter": "the gateway has metrics of its own",
        "ssl.enabled.protocols ssl.protocol ssl.provider ssl.keymanager.algorithm ssl.trustmanager.algorithm"
        " ssl.secure.random.implementation": "OpenSSL decides, it speaks TLS 1.2 and later",
        "ssl.truststore.password": "a PEM file of certificates has no password",
        "sasl.kerberos.ticket.renew.jitter sasl.kerberos.ticket.renew.window.factor sasl.login.refresh.buffer.seconds"
        " sasl.login.refresh.min.period.seconds sasl.login.refresh.window.factor sasl.login.refresh.window.jitter"
        " sasl.login.connect.timeout.ms sasl.login.read.timeout.ms sasl.login.retry.backoff.ms"
        " sasl.login.retry.backoff.max.ms": "librdkafka renews tickets and tokens in time by itself",
        "partitioner.adaptive.partitioning.enable partitioner.availability.timeout.ms partitioner.ignore.keys"
        " metadata.max.idle.ms": "librdkafka has nothing like it",
        "consumer.timeout.ms queued.max.message.chunks rebalance.backoff.ms rebalance.max.retries"
        " refresh.leader.backoff.ms num.consumer.fetchers dual.commit.enabled offsets.storage producer.type"
        " queue.enqueue.timeout.ms zookeeper.connect zookeeper.connection.timeout.ms zookeeper.session.timeout.ms"
        " zookeeper.sync.time.ms": "it belongs to the clients of Kafka 0.8",
    }
)
"""Properties, most of them of the Java clients, that are accepted and have no effect."""

JAVA_REFUSED: Mapping[str, str] = _reasons(
    {
        "interceptor.classes": "Java classes cannot be loaded; write a plugin of the gateway",
        "partitioner.class": "Java classes cannot be loaded; set partitioner=murmur2_random for Java's own",
        "security.providers ssl.engine.factory.class sasl.client.callback.handler.class sasl.login.class"
        " sasl.login.callback.handler.class": "Java classes cannot be loaded",
        "config.providers": "it would read files and environment variables into properties; set the property itself",
    }
)
"""Properties of the Java clients that would have an effect which the gateway cannot have."""


def _principal(text: str) -> str:
    # librdkafka puts the principal into the command line of kinit without quotes.
    if not re.fullmatch(r"[\w.@/-]+", text):
        raise ValueError("is not of the form NAME/HOST@REALM")
    return text


def kilobytes(text: str) -> str:
    """Bytes as KiB, rounded up, at least 1; what is no number is left for the check to refuse."""
    return str(max(1, -(-int(text) // 1024))) if re.fullmatch(r"[0-9]{1,18}", text) else text
