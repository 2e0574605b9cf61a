"""An authority that signs certificates, takes them back, and writes the files of servers and clients."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID

_KEYWORDS = {
    "CN": NameOID.COMMON_NAME, "OU": NameOID.ORGANIZATIONAL_UNIT_NAME, "O": NameOID.ORGANIZATION_NAME,
    "C": NameOID.COUNTRY_NAME, "L": NameOID.LOCALITY_NAME, "DC": NameOID.DOMAIN_COMPONENT, "E": NameOID.EMAIL_ADDRESS,
}  # fmt: skip


def subject(text: str) -> x509.Name:
    """``O=Example / CN=ann``: the parts as they stand in the certificate."""
    parts = [each.partition("=") for each in text.split(" / ")] if text else []
    return x509.Name([x509.NameAttribute(_KEYWORDS[word], value) for word, _, value in parts])


class Certificate:
    """One that the authority has signed, with its key."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate, self.key = certificate, key

    def pem(self) -> bytes:
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return self.certificate.public_bytes(Encoding.PEM) + key

    def pkcs12(self, password: str) -> bytes:
        hidden = BestAvailableEncryption(password.encode()) if password else NoEncryption()
        return pkcs12.serialize_key_and_certificates(b"one", self.key, self.certificate, None, hidden)

    def write(self, path: Path) -> Path:
        path.write_bytes(self.pem())
        return path


class Authority:
    """Signs for a day; ``folder`` gets its files."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder, self.name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = subject(f"CN={name}")
        self.certificate = (
            self._builder(self._subject, self._key, 0, 86400)
            .add_extension(x509.BasicConstraints(True, None), critical=True)
            .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(self.certificate.public_bytes(Encoding.PEM))
        self._revoked: list[x509.Certificate] = []

    def _builder(
        self, named: x509.Name, key: ec.EllipticCurvePrivateKey, from_s: float, to_s: float
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(named)
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(seconds=from_s - 3600))
            .not_valid_after(now + datetime.timedelta(seconds=to_s))
        )

    def sign(
        self, named: str, uris: Sequence[str] = (), hosts: Sequence[str] = (), *, ends_s: float = 86400
    ) -> Certificate:
        """A certificate for this subject; it ends in so many seconds."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(each) for each in uris]
        for host in hosts:
            try:
                names.append(x509.IPAddress(ipaddress.ip_address(host)))
            except ValueError:
                names.append(x509.DNSName(host))
        builder = self._builder(subject(named), key, min(0.0, ends_s - 7200), ends_s)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not named)
        return Certificate(builder.sign(self._key, hashes.SHA256()), key)

    def server(self, *hosts: str) -> Certificate:
        return self.sign(f"CN={(hosts or ('localhost',))[0]}", hosts=hosts or ("localhost", "127.0.0.1"))

    def revoke(self, *signed: Certificate) -> Path:
        """The file with the list of all that have been taken back so far."""
        self._revoked += [each.certificate for each in signed]
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._subject)
            .last_update(now - datetime.timedelta(hours=1))
            .next_update(now + datetime.timedelta(days=1))
        )
        for each in self._revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(each.serial_number).revocation_date(now).build()
            builder = builder.add_revoked_certificate(entry)
        path = self.folder / f"{self.name}.crl"
        new = path.with_suffix(".new")
        new.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        new.replace(path)
        return path

    @staticmethod
    def trusting(folder: Path, name: str = "authority") -> ssl.SSLContext:
        """What a client makes its connections with that trusts the authority of this folder."""
        return ssl.create_default_context(cafile=str(folder / f"{name}.pem"))

    def context(self, client: Certificate | None = None) -> ssl.SSLContext:
        """What a client of a server of this authority makes its connections with."""
        context = ssl.create_default_context(cafile=str(self.path))
        if client is not None:
            context.load_cert_chain(client.write(self.folder / f"client-{client.certificate.serial_number}.pem"))
        return context
