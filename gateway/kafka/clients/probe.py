"""Connects to Kafka step by step, so that an operator learns which step fails.

Order: name resolution, TCP connection, TLS, SASL, metadata, and then each listener that the brokers advertise: the
address with which every Kafka client goes on after the first contact, and the usual cause of "it connects and then
nothing works". All functions block; none prints a secret.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import confluent_kafka
from confluent_kafka.admin import AdminClient

from kafka_gateway.addresses import split_address
from kafka_gateway.config import Config, Fault
from kafka_gateway.counted import counted
from kafka_gateway.errors import InvalidConsumerConfig
from kafka_gateway.kafka.clients.factory import ClientFactory
from kafka_gateway.kafka.clients.properties import client_properties
from kafka_gateway.kafka.ports.consuming import ConsumerSettings

NAME, CONNECTION, TLS, SASL, METADATA, ADVERTISED = "name", "connection", "tls", "sasl", "metadata", "advertised"
"""The steps, in their order; `Step.kind` is one of them."""

_Code = confluent_kafka.KafkaError
_SASL_CODES = frozenset(
    {
        _Code._AUTHENTICATION,
        _Code.SASL_AUTHENTICATION_FAILED,
        _Code.UNSUPPORTED_SASL_MECHANISM,
        _Code.ILLEGAL_SASL_STATE,
        _Code._UNSUPPORTED_FEATURE,  # librdkafka was built without the mechanism
    }
)
_SSL_CODES = frozenset({_Code._SSL})
_NAME_CODES = frozenset({_Code._RESOLVE})


@dataclass(frozen=True, slots=True)
class Step:
    """The outcome of one step: which, to whom, whether it worked, what to say, and how long it took."""

    kind: str
    ok: bool
    subject: str
    text: str
    duration_ms: float = 0.0


def probe(config: Config, timeout_s: float) -> Iterator[Step]:
    """Each step as soon as it is done. After a failure the steps that need it are left out, not guessed.

    Every bootstrap server is tried; one that can be reached is enough to go on.

    Raises:
        ConfigError: when the properties passed on to the clients are at fault.
    """
    settings = client_properties(config, "admin")
    context = None
    if settings.get("security.protocol", "plaintext").endswith("ssl"):
        try:
            context = tls_context(settings)
        except (ssl.SSLError, OSError) as error:
            yield Step(TLS, False, "kafka", f"the files for TLS cannot be used: {error.strerror or error}")
            return
    reached = False
    for server in config.items("bootstrap.servers"):
        steps = []
        for step in _reach(f"bootstrap {server}", server, context, timeout_s, None):
            yield step
            steps.append(step)
        reached = reached or all(step.ok for step in steps)
    if not reached:
        return
    steps, brokers = _metadata(settings, timeout_s)
    yield from steps
    for broker in brokers:
        yield from _reach(f"broker {broker}", broker, context, timeout_s, ADVERTISED)


def client_faults(config: Config) -> list[Fault]:
    """librdkafka's own objections to the properties of each client. The clients are built once for that, unconnected.

    `gateway.kafka.clients.properties` finds what can be told beforehand; files that hold no certificate, say, only show
    here.
    """
    clients = ClientFactory(config.with_values({"bootstrap.servers": ""}))
    settings = ConsumerSettings(group="check", client_id="check")
    builders: tuple[tuple[str, Callable[[], object]], ...] = (
        ("producer", lambda: confluent_kafka.Producer(clients.producer_config())),
        ("consumer", lambda: clients.consumer(settings)),
        ("admin", clients.admin),
    )
    faults: dict[str, Fault] = {}
    for role, build in builders:
        try:
            build()
        except confluent_kafka.KafkaException as error:
            message = error.args[0].str()
            faults.setdefault(message, Fault("", f"{role}.*", message))
        except InvalidConsumerConfig as error:
            message = error.message.removeprefix(InvalidConsumerConfig.text)
            faults.setdefault(message, Fault("", f"{role}.*", message))
    return list(faults.values())


def _reach(
    subject: str, server: str, context: ssl.SSLContext | None, timeout_s: float, kind: str | None
) -> Iterator[Step]:
    """Name, connection and TLS of one address; a failure ends it. ``kind`` replaces the kinds of the steps."""
    try:
        host, port = split_address(server)
    except ValueError as error:
        yield Step(kind or NAME, False, subject, str(error))
        return
    begin = time.monotonic()
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        # UnicodeError: a host name that IDNA cannot write, such as one with an empty part.
        reason = getattr(error, "strerror", None) or "it is not a host name"
        yield Step(kind or NAME, False, subject, f"the name cannot be resolved: {reason}", _since(begin))
        return
    begin = time.monotonic()
    connection, failure = _connect(addresses, timeout_s)
    if connection is None:
        yield Step(kind or CONNECTION, False, subject, f"does not connect: {failure}", _since(begin))
        return
    with contextlib.closing(connection):
        text = "connects" if kind is None else "is advertised and connects"
        yield Step(kind or CONNECTION, True, subject, text, _since(begin))
        if context is None:
            return
        begin = time.monotonic()
        try:
            with context.wrap_socket(connection, server_hostname=host) as secured:
                text = f"speaks {secured.version()}"
        except ssl.SSLCertVerificationError as error:
            yield Step(
                kind or TLS, False, subject, f"the certificate is refused: {error.verify_message}", _since(begin)
            )
        except ssl.SSLError as error:
            yield Step(kind or TLS, False, subject, f"TLS fails: {error.reason or 'no answer in TLS'}", _since(begin))
        except OSError as error:
            reason = error.strerror or "no answer in time"
            yield Step(kind or TLS, False, subject, f"TLS fails, perhaps it is no TLS port: {reason}", _since(begin))
        else:
            yield Step(kind or TLS, True, subject, text, _since(begin))


def _connect(
    addresses: Sequence[tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]], timeout_s: float
) -> tuple[socket.socket | None, str]:
    """A connection to the first address that takes one, as librdkafka does, or why the last one does not."""
    failure = "it has no address"
    for family, kind, protocol, _, address in addresses:
        connection = socket.socket(family, kind, protocol)
        connection.settimeout(timeout_s)
        try:
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = error.strerror or f"no answer within {timeout_s:g} s"
        else:
            return connection, ""
    return None, failure


def tls_context(settings: Mapping[str, str]) -> ssl.SSLContext:
    """Python's TLS set like librdkafka's from the same properties.

    A client key in a PKCS12 store is not loaded: Python cannot read those. A broker that insists on a client
    certificate says so only in the SASL or metadata step then, which librdkafka does.

    Raises:
        ssl.SSLError, OSError: when a file cannot be used.
    """
    context = ssl.create_default_context()
    authority = settings.get("ssl.ca.location", "")
    if authority and authority != "probe":
        place = Path(authority)
        context = ssl.create_default_context(
            cafile=None if place.is_dir() else authority, capath=authority if place.is_dir() else None
        )
    if "ssl.ca.pem" in settings:
        context = ssl.create_default_context(cadata=settings["ssl.ca.pem"])
    certificate, key = settings.get("ssl.certificate.location"), settings.get("ssl.key.location")
    password = settings.get("ssl.key.password", "")
    if certificate:
        # A function, so that OpenSSL never asks on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: password)
    elif "ssl.certificate.pem" in settings and "ssl.key.pem" in settings:
        # ssl reads keys from files only; this one is readable by its owner alone and gone at once.
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(f"{settings['ssl.key.pem']}\n{settings['ssl.certificate.pem']}\n")
            file.flush()
            context.load_cert_chain(file.name, password=lambda: password)
    if settings.get("ssl.endpoint.identification.algorithm") == "none":
        context.check_hostname = False
    if settings.get("enable.ssl.certificate.verification") == "false":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _metadata(settings: Mapping[str, str], timeout_s: float) -> tuple[list[Step], list[str]]:
    """SASL and metadata, done by librdkafka itself, and the addresses that the brokers advertise."""
    begin = time.monotonic()
    errors: list[confluent_kafka.KafkaError] = []
    subject = "kafka"
    given: dict[str, Any] = {**settings, "error_cb": errors.append}
    try:
        client = AdminClient(given, logger=_Silence())
    except confluent_kafka.KafkaException as error:
        return [_failed_step(subject, [error.args[0]], begin)], []
    uses_sasl = settings.get("security.protocol", "").startswith("sasl_")
    try:
        answer = _list_topics(client, errors, timeout_s)
    except confluent_kafka.KafkaException as error:
        client.poll(0)
        return [_failed_step(subject, [*errors, error.args[0]], begin)], []
    steps = []
    if uses_sasl:
        mechanism = settings.get("sasl.mechanism", "")
        steps.append(Step(SASL, True, subject, f"accepts the credentials ({mechanism})", _since(begin)))
    cluster = f" of cluster {answer.cluster_id}" if answer.cluster_id else ""
    found = f"{counted(len(answer.brokers), 'broker')}, {counted(len(answer.topics), 'topic')}"
    steps.append(Step(METADATA, True, subject, f"answers for its metadata{cluster}: {found}", _since(begin)))
    brokers = sorted(answer.brokers.values(), key=lambda broker: broker.id)
    return steps, [join_address(broker.host, broker.port) for broker in brokers]


class _Silence:
    """Drops librdkafka's own log lines, which would mix with those of the report."""

    def log(self, level: int, message: str, *args: object) -> None:
        """As `logging.Logger.log`."""


def _list_topics(client: AdminClient, errors: list[confluent_kafka.KafkaError], timeout_s: float) -> Any:
    """The metadata; gives up early once librdkafka has told that the credentials are refused.

    It is a ClusterMetadata of confluent_kafka, whose annotations say that all its fields are None.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        remaining = deadline - time.monotonic()
        try:
            return client.list_topics(timeout=max(0.05, min(1.0, remaining)))
        except confluent_kafka.KafkaException:
            client.poll(0)  # runs error_cb
            refused = any(error.code() in _SASL_CODES | _SSL_CODES for error in errors)
            if refused or time.monotonic() >= deadline:
                raise


def _failed_step(subject: str, errors: list[confluent_kafka.KafkaError], begin: float) -> Step:
    """The step that the errors belong to, by their codes; the most telling one counts, not the last."""
    for kind, codes, text in (
        (SASL, _SASL_CODES, "refuses the credentials or the mechanism"),
        (TLS, _SSL_CODES, "TLS fails"),
        (NAME, _NAME_CODES, "a name cannot be resolved"),
    ):
        found = next((error for error in errors if error.code() in codes), None)
        if found is not None:
            return Step(kind, False, subject, f"{text} ({found.name()})", _since(begin))
    name = errors[-1].name()
    return Step(METADATA, False, subject, f"gives no metadata ({name}); is it a Kafka broker?", _since(begin))


def join_address(host: str, port: int) -> str:
    """``host:port``, the host in brackets if it is an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _since(begin: float) -> float:
    return (time.monotonic() - begin) * 1000
