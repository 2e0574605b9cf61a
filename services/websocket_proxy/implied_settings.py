"""Translates the settings of kafka-websocket-proxy into the gateway's own keys, where it has a key for the same.

Durations and booleans may be written as there: ``30 seconds``, ``yes``, ``off`` (websocket-proxy.md §5).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

PREFIX: Final = "kafka.ws.proxy."

SOCKETS: Final = "websocket-proxy"
"""The transport of the sockets."""
HTTP: Final = "websocket-proxy-http"
"""The transport of the plain requests beside the sockets."""
ADMIN: Final = "websocket-proxy-admin"
METRICS: Final = "websocket-proxy-metrics"

_UNITS = {
    "ms": 1, "milli": 1, "millis": 1, "millisecond": 1, "milliseconds": 1,
    "s": 1000, "second": 1000, "seconds": 1000,
    "m": 60_000, "minute": 60_000, "minutes": 60_000,
    "h": 3_600_000, "hour": 3_600_000, "hours": 3_600_000,
    "d": 86_400_000, "day": 86_400_000, "days": 86_400_000,
}  # fmt: skip
_DURATION = re.compile(r"([0-9]{1,18})\s*([a-z]*)")
_WORDS = {"yes": "true", "on": "true", "no": "false", "off": "false"}
_LEVELS = {"OFF": "ERROR", "ERROR": "ERROR", "WARN": "WARNING", "INFO": "INFO"}


def milliseconds(text: str) -> str:
    """``30 seconds`` as ``30000``; a bare number is milliseconds (websocket-proxy.md §5). ValueError for others."""
    found = _DURATION.fullmatch(text.strip().lower())
    unit = _UNITS.get(found[2] or "ms") if found else None
    if found is None or unit is None:
        raise ValueError(f"{text[:80]!r} is not a duration such as 30 seconds, 500 ms or 2 hours")
    return str(int(found[1]) * unit)


def truth(text: str) -> str:
    """HOCON's words for true and false as ``true`` and ``false``; other texts as they are."""
    return _WORDS.get(text.strip().lower(), text)


RENAMED: Final[Mapping[str, str]] = {
    "kafka-client.bootstrap-hosts": "bootstrap.servers",
    "kafka-client.schema-registry.url": "schema.registry.url",
    "server.openid-connect.custom-jwt.jwt-kafka-username-key": "authentication.openid.kafka.username.claim",
    "server.openid-connect.custom-jwt.jwt-kafka-password-key": "authentication.openid.kafka.password.claim",
    "producer.delivery-timeout-ms": "produce.timeout.ms",
    "producer.compression-type": "producer.compression.type",
    "consumer.default-rate-limit-messages-per-second": PREFIX + "consumer.limits.default-messages-per-second",
    "consumer.default-batch-size": PREFIX + "consumer.limits.default-batch-size",
    "producer.rate-limit.default-messages-per-second": PREFIX + "producer.limits.default-messages-per-second",
    **{f"session-handler.session-state-{old}": f"{PREFIX}session-handler.{new}" for old, new in (
        ("topic-name", "topic-name"),
        ("replication-factor", "topic-replication-factor"),
        ("retention", "topic-retention"),
        ("topic-init-timeout", "topic-init-timeout"),
        ("topic-init-retries", "topic-init-retries"),
        ("topic-init-retry-interval", "topic-init-retry-interval"),
    )},
}  # fmt: skip
"""Old name, without the prefix → the key that it sets."""

CLIENTS: Final[Mapping[str, str]] = {
    "kafka-client.properties.": "client.",
    "admin-client.kafka-client-properties.": "admin.",
    "consumer.kafka-client-properties.": "consumer.",
    "producer.kafka-client-properties.": "producer.",
}
"""Old prefix, without `PREFIX` → the gateway's."""

REGISTRY: Final = "kafka-client.schema-registry.properties."
"""Before properties that have the names of the gateway's own: ``schema.registry.basic.auth.user.info``."""
REGISTRY_URL: Final = f"{PREFIX}kafka-client.schema-registry.url"
AUTO_REGISTER: Final = f"{PREFIX}kafka-client.schema-registry.auto-register-schemas"

_NO_LOGIN = frozenset({"sasl.mechanism", "sasl.jaas.config", "sasl.kerberos.service.name"})
"""Without SASL in security.protocol Java's clients ignore these, and librdkafka refuses them."""


def implied(texts: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The gateway's properties that follow from those of the old program: name → text, and the property it comes from.

    A property that is given under the gateway's own name is never overruled.
    """
    given = {name.removeprefix(PREFIX): text.strip() for name, text in texts.items() if name.startswith(PREFIX)}
    found: dict[str, tuple[str, str]] = {}
    lost = "kafka-client.bootstrap-hosts"
    if given.get(lost) == "" and "bootstrap.servers" not in texts:
        found["bootstrap.servers"] = ("", PREFIX + lost)  # given, but empty: no reason for the embedded Kafka
    given = {name: text for name, text in given.items() if text}

    def put(name: str, text: str, source: str) -> None:
        if name not in texts:
            found.setdefault(name, (text, PREFIX + source))

    for name, text in given.items():
        if name in RENAMED:
            put(RENAMED[name], text, name)
        for old, new in CLIENTS.items():
            if name.startswith(old):
                put(new + name.removeprefix(old), text, name)
        if name.startswith(REGISTRY + "schema.registry."):
            put(name.removeprefix(REGISTRY), text, name)
        if name.startswith("producer.rate-limit.client-limits."):
            rest = name.removeprefix("producer.rate-limit.client-limits.").replace("client-id", "producer-id")
            put(f"{PREFIX}producer.limits.client-specific-limits.{rest}", text, name)
    secure = found.get("client.security.protocol", (texts.get("client.security.protocol", ""), ""))[0]
    if not secure.upper().startswith("SASL"):
        for name in _NO_LOGIN:
            found.pop(f"client.{name}", None)
    user = f"{REGISTRY}schema.registry.basic.auth.user.info"
    if user in given:  # the old program's default; ours is the user in the address
        put("schema.registry.basic.auth.credentials.source", "USER_INFO", user)
    _logging(given, put)
    _authentication(given, put)
    starts = next((name for name in ("server.port", "kafka-client.bootstrap-hosts") if name in given), "")
    if starts:
        put(PREFIX + "session-handler.at-start", "true", starts)
    _listeners(given, texts, starts, put, found)
    return found


def _logging(given: Mapping[str, str], put: Any) -> None:
    if (level := given.get("log.level")) is not None:
        put("log.level", _LEVELS.get(level.upper(), "DEBUG"), "log.level")
    if given.get("log.json", "").lower() == "true":
        put("log.format", "json", "log.json")


def _authentication(given: Mapping[str, str], put: Any) -> None:
    for name, method in (("openid-connect", "OPENID"), ("basic-auth", "SINGLE-USER")):
        if truth(given.get(f"server.{name}.enabled", "")).lower() == "true":
            put("authentication.method", method, f"server.{name}.enabled")
    if truth(given.get("server.secure-health-check-endpoint", "")).lower() == "false":
        put("authentication.skip.paths", "/healthcheck", "server.secure-health-check-endpoint")


def _listeners(given: Mapping[str, str], texts: Mapping[str, str], source: str, put: Any, found: Any) -> None:
    """The listeners of the old program, beside those that ``listeners`` or ``port`` name (§1.1).

    ``source`` is the property that asks for the proxy's own listener; "": the sockets are offered by the others.
    """

    def flag(name: str) -> bool:
        return truth(given.get(name, "")).lower() == "true"

    host = given.get("server.bind-interface", "0.0.0.0")
    tls = flag("server.ssl.enabled") if "server.ssl.enabled" in given else "server.ssl.port" in given
    tls = tls and "server.ssl.port" in given
    wanted: list[tuple[str, str, str, str, tuple[str, ...]]] = []
    if source and not flag("server.ssl.ssl-only"):
        wanted.append(("wsproxy", "http", host, given.get("server.port", "8078"), (SOCKETS, HTTP)))
    if source and tls:
        at = given.get("server.ssl.bind-interface", host)
        wanted.append(("wsproxy-tls", "https", at, given["server.ssl.port"], (SOCKETS, HTTP)))
    if flag("server.admin.enabled"):
        at = given.get("server.admin.bind-interface", host)
        scheme = "https" if tls else "http"
        wanted.append(("wsproxy-admin", scheme, at, given.get("server.admin.port", "9078"), (ADMIN,)))
    if flag("prometheus.enabled"):
        wanted.append(("wsproxy-metrics", "http", host, given.get("prometheus.port", "7778"), (METRICS,)))
    if not wanted:
        return
    source = source or ("server.admin.enabled" if flag("server.admin.enabled") else "prometheus.enabled")
    listeners = [texts["listeners"]] if texts.get("listeners", "").strip() else []
    if not listeners and ("port" in texts or not any(SOCKETS in transports for *_, transports in wanted)):
        guarded = "authentication.method" in {**texts, **found}
        listeners = [f"http://{'0.0.0.0' if guarded else '127.0.0.1'}:{texts.get('port', '8082').strip()}"]
    protocols = [texts["listener.protocol.map"]] if texts.get("listener.protocol.map", "").strip() else []
    origin = PREFIX + source
    for name, scheme, at, port, transports in wanted:
        at = f"[{at}]" if ":" in at and not at.startswith("[") else at
        listeners.append(f"{name}://{at}:{port}")
        protocols.append(f"{name}:{scheme}")
        put(f"listener.name.{name}.transports", ",".join(transports), source)
        # The old program warns of open listeners and starts (§1.1); so does this one, for its listeners.
        if "listeners.insecure" not in texts:
            put(f"listener.name.{name}.listeners.insecure", "true", source)
        for key, old in (("location", "keystore-location"), ("password", "keystore-password")):
            if scheme == "https" and f"server.ssl.{old}" in given:
                put(f"listener.name.{name}.ssl.keystore.{key}", given[f"server.ssl.{old}"], f"server.ssl.{old}")
    found["listeners"] = (",".join(listeners), origin)
    found["listener.protocol.map"] = (",".join(protocols), origin)
