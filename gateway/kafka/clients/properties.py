"""What reaches librdkafka: the one place where an operator's properties are checked and translated from Java names.

`gateway.kafka.clients.property_table` says what may be set. Nothing is passed on unseen: a property that is in no table
is a fault, because some load code, open ports or post files to a URL (reliability.md section 2.1).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from kafka_gateway.config import Config, ConfigError, Fault, check_readable
from kafka_gateway.kafka.clients.property_table import (
    ALIASES,
    ALLOWED,
    DROPPED,
    FORBIDDEN,
    JAVA_REFUSED,
    JAVA_RENAMED,
    OWNED,
    ROLES,
    kilobytes,
)
from kafka_gateway.kafka.clients.property_table import (
    Role as Role,
)

SESSION_TIMEOUT_MS = 8000
"""How long Kafka hears nothing of a member before its partitions go to others, where nobody says; librdkafka's default
is 45 s. Brokers allow 6 s and more (group.min.session.timeout.ms)."""


class Note(NamedTuple):
    """A property that has no effect, or another one than its reader might think, and why; for the start-up log."""

    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message}"


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
            "queue.buffering.max.kbytes": kilobytes(str(config.integer("producer.queue.bytes"))),
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
            # "client.linger.ms" is meant for the producer: the other clients ignore it without a note.
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
    _Order(("consumer",), "max.poll.interval.ms", 300000, "session.timeout.ms", SESSION_TIMEOUT_MS),
    # The default of the larger one is ours (gateway.kafka.clients), that of the smaller one above, too.
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
