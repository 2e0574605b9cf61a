"""What reaches librdkafka: the one list of properties that an operator may set, and their translation from Java names.

Every property of librdkafka is in exactly one of four tables: `ALLOWED` with the values it takes, `DROPPED` with the
reason why it has no effect, `OWNED` and `FORBIDDEN` with the reason of their refusal; a test compares them with what
the library itself lists. Java's names are translated (`JAVA_RENAMED` and the functions for TLS and JAAS), dropped with
a note or refused (`JAVA_REFUSED`). Nothing is passed on unseen: a property that is in no table is a fault, because some
load code, open ports or post files to a URL (reliability.md section 2.1).

What clients of the gateway may choose for a consumer instance is the short list `CLIENT_SETTINGS`.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from gateway.config import Config, ConfigError, Fault, check_readable
from gateway.errors import InvalidSettings

Role = Literal["producer", "consumer", "admin"]
ROLES: tuple[Role, ...] = ("producer", "consumer", "admin")

CLIENT_SETTINGS = frozenset(
    {"auto.offset.reset", "auto.commit.enable", "fetch.min.bytes", "consumer.request.timeout.ms", "isolation.level"}
)
"""All that a client may choose for its consumer instance, besides name and format (kafka-rest-http.md section 6.2)."""


class Note(NamedTuple):
    """A property that has no effect, or another one than its reader might think, and why; for the start-up log."""

    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message}"


@dataclass(frozen=True, slots=True)
class _Allowed:
    """The values that a property takes, and the clients that know it."""

    read: Callable[[str], str]
    roles: tuple[Role, ...] = ROLES
    secret: bool = False
    low: int | None = None
    high: int | None = None
    words: tuple[str, ...] = ()


def _plain(text: str) -> str:
    return text


def _text(*roles: Role) -> _Allowed:
    return _Allowed(_plain, roles or ROLES)


def _secret(*roles: Role) -> _Allowed:
    return _Allowed(_plain, roles or ROLES, secret=True)


def _number(low: int, high: int, *roles: Role) -> _Allowed:
    def read(text: str) -> str:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            raise ValueError(f"{text[:40]!r} is not a whole number")
        if not low <= int(text) <= high:
            raise ValueError(f"{text} is outside {low} to {high}")
        return str(int(text))

    return _Allowed(read, roles or ROLES, low=low, high=high)


def _decimal(low: int, high: int, *roles: Role) -> _Allowed:
    def read(text: str) -> str:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
            raise ValueError(f"{text[:40]!r} is not a number")
        if not low <= float(text) <= high:
            raise ValueError(f"{text} is outside {low} to {high}")
        return text

    return _Allowed(read, roles or ROLES, low=low, high=high)


def _flag(*roles: Role) -> _Allowed:
    def read(text: str) -> str:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{text[:40]!r} is not true or false")
        return text.lower()

    return _Allowed(read, roles or ROLES)


def _words(*words: str, roles: tuple[Role, ...] = ROLES, several: bool = False) -> _Allowed:
    by_lower = {word.lower(): word for word in words}

    def read(text: str) -> str:
        parts = [part.strip() for part in text.split(",")] if several else [text]
        for part in parts:
            if part.lower() not in by_lower:
                raise ValueError(f"{part[:40]!r} is not one of {', '.join(words)}")
        return ",".join(by_lower[part.lower()] for part in parts)

    return _Allowed(read, roles, words=words)


def _file(*words: str) -> _Allowed:
    """A readable file; with ``words`` also one of them, or a directory (of certificates)."""

    def read(text: str) -> str:
        if text in words or (words and os.path.isdir(text)):
            return text
        check_readable(text)
        return text

    return _Allowed(read)


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


ALLOWED: Mapping[str, _Allowed] = {
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
    "sasl.kerberos.principal": _Allowed(lambda text: _principal(text)),
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
    "acks": _Allowed(_acks, ("producer",), low=-1, high=1000),
    "request.required.acks": _Allowed(_acks, ("producer",), low=-1, high=1000),
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
    "auto.offset.reset": _Allowed(_offset_reset, ("consumer",)),
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
    "partition.assignment.strategy": _Allowed(_assignors, ("consumer",)),
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
    "buffer.memory": ("queue.buffering.max.kbytes", lambda text: _kilobytes(text), ("producer",)),
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

_JAVA_TLS = ("ssl.truststore.location", "ssl.truststore.type", "ssl.keystore.type")
_JAVA_SPECIAL = (*_JAVA_TLS, "sasl.jaas.config")


def librdkafka_properties(role: Role, operator: Mapping[str, str]) -> tuple[dict[str, str], list[Note]]:
    """What an operator configured for the clients of a role, as librdkafka takes it, and notes on what has no effect.

    Args:
        role: the client that is to be built.
        operator: names without their prefix (`Config.passthrough`), in librdkafka's or in Java's spelling.
    Raises:
        ConfigError: with every fault; `Fault.key` is the name as the operator wrote it, without its prefix. No message
            contains a secret.
    """
    result: dict[str, str] = {}
    notes: list[Note] = []
    faults: list[Fault] = []
    sources: dict[str, str] = {}

    def put(source: str, name: str, text: str) -> None:
        """Take over one property under librdkafka's name, or report why not."""
        allowed, name = ALLOWED[name], ALIASES.get(name, name)
        if role not in allowed.roles:
            notes.append(Note(source, f"a {role} client does not know it"))
            return
        if name in sources and sources[name] in operator and source != sources[name]:
            faults.append(Fault("", source, f"sets the same as {sources[name]}; keep one of them"))
            return
        try:
            result[name] = allowed.read(text)
            sources[name] = source
        except ValueError as error:
            faults.append(Fault("", source, "the value is not usable" if allowed.secret else str(error)))

    for name, given in operator.items():
        text = given.strip()
        if name == "ssl.endpoint.identification.algorithm" and not text:
            text = "none"  # Java's way to switch the check of the host name off
        if name in _JAVA_SPECIAL or (name.startswith("ssl.keystore.") and name in ALLOWED):
            continue
        renamed = JAVA_RENAMED.get(name)
        if renamed is not None and role in renamed[2]:
            put(name, renamed[0], renamed[1](text))
        elif name in ALLOWED:
            put(name, name, text)
        elif renamed is not None:
            notes.append(Note(name, f"a {role} client does not know it"))
        elif name in DROPPED:
            notes.append(Note(name, f"has no effect: {DROPPED[name]}"))
        else:
            faults.append(_refusal(name))
    _truststore(operator, put, notes, faults)
    _keystore(operator, put, notes, faults)
    _jaas(operator, put, faults)
    faults += _contradictions(role, result, sources)
    if result.get("enable.ssl.certificate.verification") == "false":
        notes.append(Note("enable.ssl.certificate.verification", "DANGER: any server can pretend to be the broker"))
    if result.get("ssl.endpoint.identification.algorithm") == "none":
        notes.append(Note("ssl.endpoint.identification.algorithm", "DANGER: any certificate of the CA will do"))
    if result.get("acks") == "0":
        notes.append(Note("acks", "0 means that nobody learns whether a record was stored, answers have no offsets"))
    if faults:
        raise ConfigError(faults)
    return result, notes


def client_properties(config: Config, role: Role) -> dict[str, str]:
    """The librdkafka properties for the clients of a role: the gateway's own keys, and over them the operator's.

    What the adapters force (``enable.auto.commit`` and the like) they add themselves; it cannot be among these.

    Raises:
        ConfigError: as `librdkafka_properties`, with place and whole name of each property.
    """
    properties = {"bootstrap.servers": ",".join(config.items("bootstrap.servers"))}
    if role == "producer":
        properties |= {
            "linger.ms": f"{config.number('producer.linger.ms'):g}",
            "queue.buffering.max.kbytes": _kilobytes(str(config.integer("producer.queue.bytes"))),
            "queue.buffering.max.messages": str(config.integer("producer.queue.records")),
            # Just the time in which the request is answered: the answer carries the record's own outcome then
            # (reliability.md section 3a).
            "message.timeout.ms": str(config.integer("produce.timeout.ms")),
        }
    properties |= _checked(config, role)[0]
    if role == "producer" and float(properties["linger.ms"]) >= float(properties["message.timeout.ms"]):
        properties["linger.ms"] = str(int(properties["message.timeout.ms"]) - 1)  # librdkafka refuses more
    return properties


def client_notes(config: Config) -> list[str]:
    """What to tell the operator at start about the properties that are passed on, each once.

    Raises:
        ConfigError: as `client_properties`.
    """
    lines: dict[str, None] = {}
    for role in ROLES:
        for note in _checked(config, role)[1]:
            # "client.linger.ms" is meant for the producer; that the others do not know it is no news.
            general = _whole_name(config, role, note.key).startswith("client.")
            if not (general and note.message.endswith("does not know it")):
                lines[f"{_whole_name(config, role, note.key)}: {note.message}"] = None
    return list(lines)


def faults(config: Config) -> list[Fault]:
    """Every fault in the properties passed on, each once; a check for `gateway.config.load`."""
    found: dict[Fault, None] = {}
    for role in ROLES:
        try:
            _checked(config, role)
        except ConfigError as error:
            found |= dict.fromkeys(error.faults)
    return list(found)


def check_client_settings(names: Iterable[str]) -> None:
    """Refuse every property that a client of the gateway may not choose for its consumer instance.

    Exact names only: no prefix, no case folding, no alias (reliability.md section 2.1, test A1).

    Raises:
        InvalidSettings: naming the first properties that are not `CLIENT_SETTINGS`.
    """
    others = sorted(set(names) - CLIENT_SETTINGS)
    if others:
        shown = ", ".join(repr(name[:60]) for name in others[:5])
        message = f"{InvalidSettings.text}{shown} cannot be set; only {', '.join(sorted(CLIENT_SETTINGS))} can."
        raise InvalidSettings(message)


def _checked(config: Config, role: Role) -> tuple[dict[str, str], list[Note]]:
    given = config.passthrough(role)
    # client.compression.codec and producer.compression.type are one property: the role's own beats the general one.
    own = {_one_name(name): name for name in config.under(f"{role}.")}
    given = {
        name: text for name, text in given.items() if own.get(_one_name(name), name) == name or name in own.values()
    }
    try:
        return librdkafka_properties(role, given)
    except ConfigError as error:
        raise ConfigError(
            replace(
                fault,
                key=_whole_name(config, role, fault.key),
                place=config.place(_whole_name(config, role, fault.key)),
                suggestion=_whole_suggestion(config, role, fault),
            )
            for fault in error.faults
        ) from None


def _one_name(name: str) -> str:
    target = JAVA_RENAMED[name][0] if name in JAVA_RENAMED and name not in ALLOWED else name
    return ALIASES.get(target, target)


def _whole_name(config: Config, role: Role, key: str) -> str:
    own = f"{role}.{key}"
    return own if config.given(own) else f"client.{key}"


def _whole_suggestion(config: Config, role: Role, fault: Fault) -> str:
    prefix = _whole_name(config, role, fault.key).removesuffix(fault.key)
    if prefix == "client." and f"client.{fault.key}" in ALLOWED:
        return f"client.client.{fault.key}"  # "client.id" is the id, with the prefix taken off
    return prefix + fault.suggestion if fault.suggestion else ""


def _refusal(name: str) -> Fault:
    for table in (OWNED, FORBIDDEN, JAVA_REFUSED):
        if name in table:
            return Fault("", name, f"cannot be set: {table[name]}")
    if name.startswith("test."):
        return Fault("", name, "cannot be set: it is for tests of librdkafka")
    known = [*ALLOWED, *JAVA_RENAMED, *DROPPED, *_JAVA_SPECIAL]
    near = difflib.get_close_matches(name, known, 1, 0.75)
    return Fault("", name, "neither librdkafka nor Java's Kafka client has this property", near[0] if near else "")


_Put = Callable[[str, str, str], None]


def _store_kind(path: str, declared: str) -> str:
    """``PEM``, ``JKS`` or ``PKCS12``: what the file is, else what its type property says."""
    with open(path, "rb") as file:
        begin = file.read(65536)
    if b"-----BEGIN" in begin:
        return "PEM"
    if begin[:4] in (b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce"):
        return "JKS"
    return declared or "PKCS12"


def _kind_or_fault(path_key: str, type_key: str, operator: Mapping[str, str], faults: list[Fault]) -> str:
    declared = operator.get(type_key, "").strip().upper()
    if declared not in ("", "PEM", "JKS", "PKCS12"):
        faults.append(Fault("", type_key, "is not PEM, PKCS12 or JKS"))
        declared = ""
    if path_key not in operator:
        return ""
    path = operator[path_key].strip()
    try:
        check_readable(path)
    except ValueError as error:
        faults.append(Fault("", path_key, str(error)))
        return ""
    return _store_kind(path, declared)


def _truststore(operator: Mapping[str, str], put: _Put, notes: list[Note], faults: list[Fault]) -> None:
    key = "ssl.truststore.location"
    kind = _kind_or_fault(key, "ssl.truststore.type", operator, faults)
    if kind == "PEM":
        put(key, "ssl.ca.location", operator[key].strip())
    elif kind:
        path = operator[key].strip()
        faults.append(
            Fault(
                "",
                key,
                f"{path} is a {kind} store, librdkafka reads PEM; for each alias of 'keytool -list -keystore {path}':"
                f" keytool -exportcert -rfc -keystore {path} -alias ALIAS >> ca.pem",
            )
        )


def _keystore(operator: Mapping[str, str], put: _Put, notes: list[Note], faults: list[Fault]) -> None:
    key = "ssl.keystore.location"
    kind = _kind_or_fault(key, "ssl.keystore.type", operator, faults)
    if kind == "PEM":
        put(key, "ssl.certificate.location", operator[key].strip())
        put(key, "ssl.key.location", operator[key].strip())
    elif kind == "PKCS12":
        put(key, key, operator[key].strip())
    elif kind == "JKS":
        path = operator[key].strip()
        faults.append(
            Fault(
                "",
                key,
                f"{path} is a JKS store, librdkafka reads PKCS12 and PEM:"
                f" keytool -importkeystore -srckeystore {path} -destkeystore keystore.p12 -deststoretype PKCS12",
            )
        )
    password = "ssl.keystore.password"
    if password in operator:
        if kind == "PEM":
            notes.append(Note(password, "has no effect: the key of a PEM file has its password in ssl.key.password"))
        else:
            put(password, password, operator[password].strip())


_JAAS = re.compile(r"(?P<module>[\w.$]+)\s+(required|requisite|sufficient|optional)\b(?P<options>.*);", re.DOTALL)
_JAAS_OPTION = re.compile(r"""\s*([\w.]+)\s*=\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s;"']+)""")
_JAAS_MODULES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "org.apache.kafka.common.security.plain.PlainLoginModule": (
        "PLAIN",
        {"username": "sasl.username", "password": "sasl.password"},
    ),
    "org.apache.kafka.common.security.scram.ScramLoginModule": (
        "",
        {"username": "sasl.username", "password": "sasl.password"},
    ),
    "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule": (
        "OAUTHBEARER",
        {
            "clientId": "sasl.oauthbearer.client.id",
            "clientSecret": "sasl.oauthbearer.client.secret",
            "scope": "sasl.oauthbearer.scope",
        },
    ),
    "com.sun.security.auth.module.Krb5LoginModule": (
        "GSSAPI",
        {
            "keyTab": "sasl.kerberos.keytab",
            "principal": "sasl.kerberos.principal",
            "serviceName": "sasl.kerberos.service.name",
        },
    ),
}
_JAAS_WITHOUT_MEANING = frozenset({"useKeyTab", "storeKey", "useTicketCache", "doNotPrompt", "debug", "tokenauth"})


def _jaas(operator: Mapping[str, str], put: _Put, faults: list[Fault]) -> None:
    """The login module of ``sasl.jaas.config`` as properties; no message repeats a part of the text but the class."""
    key = "sasl.jaas.config"
    text = operator.get(key, "").strip()
    if not text:
        return
    match = _JAAS.fullmatch(text)
    if match is None:
        faults.append(Fault("", key, 'write: CLASS required username="..." password="...";'))
        return
    known = {name.rpartition(".")[2]: (name, *module) for name, module in _JAAS_MODULES.items()}
    name, mechanism, names = known.get(match["module"].rpartition(".")[2], ("", "", {}))
    if match["module"] != name:
        # CVE-2023-25194: a class of one's choice (JndiLoginModule, LdapLoginModule) ran code in the Java proxies.
        allowed = ", ".join(sorted(known))
        faults.append(Fault("", key, f"the login module is none of {allowed}; Java classes cannot be loaded"))
        return
    options, position = {}, 0
    while option := _JAAS_OPTION.match(match["options"], position):
        position = option.end()
        value = option[2]
        options[option[1]] = re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL) if value[0] in "\"'" else value
    if match["options"][position:].strip():
        faults.append(Fault("", key, 'an option is not of the form name="value", or a second module follows'))
        return
    if mechanism and not {"sasl.mechanism", "sasl.mechanisms"} & set(operator):
        put(key, "sasl.mechanism", mechanism)
    if mechanism == "OAUTHBEARER" and "sasl.oauthbearer.method" not in operator:
        put(key, "sasl.oauthbearer.method", "oidc")
    for option_name, value in options.items():
        if option_name in names:
            put(key, names[option_name], value)
        elif option_name not in _JAAS_WITHOUT_MEANING and not option_name.startswith("extension_"):
            faults.append(Fault("", key, f"the option {option_name[:40]} has no counterpart in librdkafka"))


class _Order(NamedTuple):
    """``larger`` must be at least ``smaller`` plus ``margin``; None for a default that follows the other."""

    roles: tuple[Role, ...]
    larger: str
    larger_default: int | None
    smaller: str
    smaller_default: int
    margin: int = 0


_ORDERS = (
    _Order(("consumer",), "fetch.max.bytes", None, "message.max.bytes", 1000000),
    _Order(("consumer",), "receive.message.max.bytes", None, "fetch.max.bytes", 52428800, 512),
    _Order(("consumer",), "max.poll.interval.ms", 300000, "session.timeout.ms", 45000),
    # The default of the larger one is ours (gateway.kafka.clients).
    _Order(ROLES, "reconnect.backoff.max.ms", 1000, "reconnect.backoff.ms", 100),
)
"""What librdkafka asks of pairs of numbers when it builds a client."""


def _contradictions(role: Role, result: Mapping[str, str], sources: Mapping[str, str]) -> list[Fault]:
    """Properties that librdkafka accepts one by one but not together; its message would name one at a time."""
    faults = []
    for order in _ORDERS:
        large = result.get(order.larger, order.larger_default)
        least = int(result.get(order.smaller, order.smaller_default)) + order.margin
        if role in order.roles and large is not None and int(large) < least:
            source = sources.get(order.larger) or sources[order.smaller]
            plus = f" + {order.margin}" if order.margin else ""
            faults.append(
                Fault("", source, f"{order.larger} ({large}) must be at least {order.smaller}{plus} ({least})")
            )
    mechanism = result.get("sasl.mechanism", "")
    uses_sasl = result.get("security.protocol", "").startswith("sasl_")
    source = sources.get("security.protocol", "security.protocol")
    if uses_sasl and not mechanism:
        faults.append(Fault("", source, "sasl.mechanism is missing (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, ...)"))
    if mechanism and not uses_sasl:
        message = "has no effect, and its password is not asked for, without security.protocol=SASL_SSL"
        faults.append(Fault("", sources["sasl.mechanism"], message))
    if uses_sasl and mechanism.startswith(("PLAIN", "SCRAM")):
        missing = [name for name in ("sasl.username", "sasl.password") if not result.get(name)]
        if missing:
            faults.append(Fault("", sources["sasl.mechanism"], f"{mechanism} needs {' and '.join(missing)}"))
    if role == "producer" and result.get("enable.idempotence") != "false":
        if result.get("acks", "all") not in ("all", "-1"):
            message = "only all keeps records in order and single; else set enable.idempotence=false too"
            faults.append(Fault("", sources["acks"], message))
        in_flight = "max.in.flight.requests.per.connection"
        if int(result.get(in_flight, 1)) > 5:
            message = "more than 5 loses the order of records; else set enable.idempotence=false too"
            faults.append(Fault("", sources[in_flight], message))
    return faults


def _principal(text: str) -> str:
    # librdkafka puts the principal into the command line of kinit without quotes.
    if not re.fullmatch(r"[\w.@/-]+", text):
        raise ValueError("is not of the form NAME/HOST@REALM")
    return text


def _kilobytes(text: str) -> str:
    """Bytes as KiB, rounded up, at least 1; what is no number is left for the check to refuse."""
    return str(max(1, -(-int(text) // 1024))) if re.fullmatch(r"[0-9]{1,18}", text) else text
