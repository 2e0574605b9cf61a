"""The keys of the listeners' TLS (security.md §6)."""

from __future__ import annotations

from kafka_gateway.settings.declaration import ConfigKey, section

_KINDS = ("PEM", "PKCS12", "JKS")
_NO_MATTER = (
    "Accepted; the file itself says what it is. Of Java's formats PKCS12 is read, which keytool writes by default."
)


def _judge_host(rest: str, text: str) -> str:
    if not rest.endswith((".keystore.location", ".keystore.password", ".key.password")) or rest.startswith("."):
        return "is not ssl.sni.HOST.keystore.location, .keystore.password or .key.password"
    return ""


TLS = section(
    "TLS of the listeners",
    ConfigKey(
        name="ssl.keystore.location",
        type="file",
        per_listener=True,
        doc="File with the server's certificate chain and its private key, PEM or PKCS#12; required by https.",
    ),
    ConfigKey(
        name="ssl.keystore.password",
        type="secret",
        per_listener=True,
        doc="Password of a PKCS#12 file; of a PEM file's private key where ssl.key.password is not set.",
    ),
    ConfigKey(
        name="ssl.keystore.type",
        type="enum",
        default="PEM",
        choices=_KINDS,
        per_listener=True,
        doc=_NO_MATTER,
    ),
    ConfigKey(name="ssl.key.password", type="secret", per_listener=True, doc="Password of the private key."),
    ConfigKey(
        name="ssl.truststore.location",
        type="file",
        per_listener=True,
        doc="File with the authorities that sign client certificates, PEM or PKCS#12.",
    ),
    ConfigKey(name="ssl.truststore.password", type="secret", per_listener=True, doc="Password of a PKCS#12 file."),
    ConfigKey(
        name="ssl.truststore.type",
        type="enum",
        default="PEM",
        choices=_KINDS,
        per_listener=True,
        doc=_NO_MATTER,
    ),
    ConfigKey(
        name="ssl.client.authentication",
        type="enum",
        default="NONE",
        choices=("NONE", "REQUESTED", "REQUIRED"),
        per_listener=True,
        doc="Whether clients are asked for a certificate.",
    ),
    ConfigKey(
        name="ssl.crl.location",
        type="file",
        per_listener=True,
        doc="File with the lists of revoked client certificates, PEM or DER. The clients of an issuer without a list, "
        "or with one that is too old, are refused.",
    ),
    ConfigKey(
        name="ssl.sni.",
        prefix=True,
        judges=_judge_host,
        example="api.example.org.keystore.location=/etc/kafka-gateway/api.pem",
        doc="Certificates for single hosts that clients ask for: HOST.keystore.location, HOST.keystore.password, "
        "HOST.key.password; the host may be *.example.org.",
    ),
    ConfigKey(
        name="ssl.enabled.protocols",
        type="list",
        default=(),
        per_listener=True,
        doc="TLS versions to speak (TLSv1.2, TLSv1.3); empty: both.",
    ),
    ConfigKey(
        name="ssl.cipher.suites", type="list", default=(), per_listener=True, doc="Ciphers of TLS 1.2; empty: Python's."
    ),
    ConfigKey(
        name="ssl.keystore.reload",
        type="bool",
        default=True,
        per_listener=True,
        doc="Read certificates, authorities and revocations again when their files change; SIGHUP always does.",
    ),
)
