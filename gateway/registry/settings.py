"""How the registry is asked: ``schema.registry.*``, read and judged at the start."""

from __future__ import annotations

import base64
import dataclasses
import ssl
from urllib.parse import unquote, urlsplit, urlunsplit

from kafka_gateway.config import Config, ConfigError, Fault

PREFIX = "schema.registry."
_KNOWN = {
    "basic.auth.credentials.source", "basic.auth.user.info", "bearer.auth.credentials.source", "bearer.auth.token",
    "ssl.truststore.location", "ssl.truststore.type", "ssl.ca.location", "ssl.keystore.location", "ssl.keystore.type",
    "ssl.certificate.location", "ssl.key.location", "ssl.key.password", "ssl.keystore.password",
    "ssl.endpoint.identification.algorithm", "http.connect.timeout.ms", "http.read.timeout.ms", "url",
    "request.timeout.ms",
}  # fmt: skip
_FORCED = {"auto.register.schemas": "false", "use.latest.version": "false"}
"""What upstream forces, too (kafka-rest-http.md §9.4): anything else is a misunderstanding that should be told."""


@dataclasses.dataclass(frozen=True, slots=True)
class RegistrySettings:
    urls: tuple[str, ...]
    """Base URLs, without the credentials and without a closing slash."""
    authorization: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    """The header's value for each URL; "" for none."""
    tls: ssl.SSLContext | None = None
    connect_timeout_s: float = 2.0
    read_timeout_s: float = 5.0
    total_timeout_s: float = 10.0


def registry_settings(config: Config) -> RegistrySettings | None:
    """The settings; None without a registry. ConfigError names every key that cannot be used."""
    urls = config.items("schema.registry.url")
    if not urls:
        return None
    given = config.under(PREFIX)
    faults: list[Fault] = []

    def fault(name: str, message: str) -> None:
        faults.append(Fault(config.place(PREFIX + name), PREFIX + name, message))

    for name in given:
        if name in _FORCED:
            if given[name].strip().lower() != _FORCED[name]:
                fault(name, f"is always {_FORCED[name]}: clients say which schema they want")
        elif name not in _KNOWN:
            fault(name, f"is unknown; there are {', '.join(sorted(_KNOWN))}")
    plain, authorization = [], []
    source = given.get("basic.auth.credentials.source", "URL").strip().upper()
    if source not in ("URL", "USER_INFO"):
        fault("basic.auth.credentials.source", "is not URL or USER_INFO")
    info = given.get("basic.auth.user.info", "")
    if source == "USER_INFO" and ":" not in info:
        fault("basic.auth.user.info", "is not user:password, which basic.auth.credentials.source=USER_INFO needs")
    for url in urls:
        try:
            base, own = _split(url)
        except ValueError as reason:
            fault("url", f"holds an address that cannot be used: {reason}")
            continue
        plain.append(base)
        authorization.append(_authorization(given, info if source == "USER_INFO" else own))
    bearer = given.get("bearer.auth.credentials.source", "").strip().upper()
    if bearer not in ("", "STATIC_TOKEN"):
        fault("bearer.auth.credentials.source", "is not STATIC_TOKEN")
    times = {}
    for name, default in (("http.connect.timeout.ms", 2000.0), ("http.read.timeout.ms", 5000.0)):
        try:
            times[name] = float(given.get(name, default)) / 1000
            if not times[name] > 0:
                raise ValueError
        except ValueError:
            fault(name, "is not a number of milliseconds above 0")
    tls = None
    try:
        if any(url.startswith("https:") for url in plain):
            tls = _tls(given)
    except (OSError, ssl.SSLError, ValueError) as error:
        fault("ssl.truststore.location", f"TLS cannot be set up: {error}")
    if faults:
        raise ConfigError(faults)
    return RegistrySettings(
        tuple(plain),
        tuple(authorization),
        tls,
        times["http.connect.timeout.ms"],
        times["http.read.timeout.ms"],
        config.seconds("schema.registry.request.timeout.ms"),
    )


def _split(url: str) -> tuple[str, str]:
    """The URL without the credentials, and those."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it is not http://host:port or https://host:port")
    if parts.query or parts.fragment:
        raise ValueError("it has a query")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    netloc = host if parts.port is None else f"{host}:{parts.port}"
    own = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username is not None else ""
    return urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", "")), own


def _authorization(given: dict[str, str], user_info: str) -> str:
    token = given.get("bearer.auth.token", "").strip()
    if token:
        return f"Bearer {token}"
    return "Basic " + base64.b64encode(user_info.encode()).decode() if user_info else ""


def _tls(given: dict[str, str]) -> ssl.SSLContext:
    for name in ("ssl.truststore.type", "ssl.keystore.type"):
        if given.get(name, "PEM").strip().upper() != "PEM":
            raise ValueError(f"{PREFIX}{name} is not PEM: convert the store with keytool -exportcert -rfc")
    context = ssl.create_default_context(
        cafile=given.get("ssl.truststore.location") or given.get("ssl.ca.location") or None
    )
    certificate = given.get("ssl.keystore.location") or given.get("ssl.certificate.location")
    if certificate:
        password = given.get("ssl.key.password") or given.get("ssl.keystore.password") or ""
        context.load_cert_chain(certificate, given.get("ssl.key.location") or None, lambda: password)
    if "ssl.endpoint.identification.algorithm" in given and not given["ssl.endpoint.identification.algorithm"].strip():
        context.check_hostname = False
    return context
