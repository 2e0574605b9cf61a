"""The keys of the listeners' TLS (security.md §6)."""

from __future__ import annotations

from kafka_gateway.settings.declaration import ConfigKey, section

_PEM_HINT = (
    "write PEM: keytool -importkeystore -srckeystore S.jks -destkeystore S.p12 -deststoretype PKCS12,"
    " then openssl pkcs12 -in S.p12 -out S.pem -noenc"
)

TLS = section(
    "TLS of the listeners",
    ConfigKey(
        name="ssl.keystore.location",
        type="file",
        per_listener=True,
        doc="PEM file with the server's certificate chain and its private key; required by https.",
    ),
    ConfigKey(
        name="ssl.keystore.password",
        type="secret",
        per_listener=True,
        doc="Password of the private key, where ssl.key.password is not set.",
    ),
    ConfigKey(
        name="ssl.keystore.type",
        type="enum",
        default="PEM",
        choices=("PEM",),
        hint=_PEM_HINT,
        per_listener=True,
        doc="Format of the file; Java's JKS cannot be read.",
    ),
    ConfigKey(name="ssl.key.password", type="secret", per_listener=True, doc="Password of the private key."),
    ConfigKey(
        name="ssl.truststore.location",
        type="file",
        per_listener=True,
        doc="PEM file with the authorities that sign client certificates.",
    ),
    ConfigKey(
        name="ssl.truststore.type",
        type="enum",
        default="PEM",
        choices=("PEM",),
        hint=_PEM_HINT,
        per_listener=True,
        doc="Format of the file; Java's JKS cannot be read.",
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
        default=False,
        per_listener=True,
        doc="Read the certificate again when its file changes.",
    ),
)
