"""Files of keys and certificates as OpenSSL takes them: PEM, and PKCS#12, which Java's keytool writes by default.

The first bytes of a file tell what it is; its name and the ``…type`` property do not count, because keytool calls
PKCS#12 files ``.jks`` as well.
"""

from __future__ import annotations

import os
import secrets
import ssl
import tempfile
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, pkcs12

_SIZE_MAX: Final = 16 * 1024 * 1024
_JKS: Final = (b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce")
"""How Java's own formats begin, JKS and JCEKS."""
_SEQUENCE: Final = b"\x30"
"""How DER begins (X.690 8.9): PKCS#12 is one."""


def load_key(context: ssl.SSLContext, path: str, store_password: str, key_password: str) -> float:
    """Loads the certificate chain and its key; the seconds since 1970 at which the certificate ends.

    ValueError, OSError or ssl.SSLError says why they cannot be used, and names no secret.
    """
    content = _read(path)
    if _is_pem(content):
        password = key_password or store_password
        context.load_cert_chain(path, password=lambda: password)  # a function: OpenSSL never asks on the terminal
        return _end(x509.load_pem_x509_certificates(content)[0])
    key, certificate, others = _unpack(content, store_password or key_password, path)
    if key is None or certificate is None:
        raise ValueError("the PKCS#12 file has no private key with a certificate")
    # Python takes keys from files only: one that nobody else can read, and encrypted, is there for that moment.
    passphrase = secrets.token_bytes(32).hex().encode()
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase))
    text += b"".join(each.public_bytes(Encoding.PEM) for each in (certificate, *others))
    with _Temporary(text) as name:
        context.load_cert_chain(name, password=lambda: passphrase)
    return _end(certificate)


def load_authorities(context: ssl.SSLContext, path: str, password: str) -> None:
    """Loads the authorities whose certificates are believed. Errors as `load_key`."""
    content = _read(path)
    if _is_pem(content):
        context.load_verify_locations(path)
        return
    _, certificate, others = _unpack(content, password, path)
    found = [*others] if certificate is None else [certificate, *others]
    if not found:
        raise ValueError("the PKCS#12 file has no certificates")
    context.load_verify_locations(cadata=b"".join(each.public_bytes(Encoding.DER) for each in found))


def read_revocations(path: str) -> list[x509.CertificateRevocationList]:
    """The lists of revoked certificates in a file, PEM or DER (RFC 5280). ValueError, OSError."""
    content = _read(path)
    if not _is_pem(content):
        return [x509.load_der_x509_crl(content)]
    end = b"-----END X509 CRL-----"
    texts = [part[part.index(b"-----BEGIN X509 CRL-----") :] + end for part in content.split(end)[:-1]]
    if not texts:
        raise ValueError("the file has no list of revoked certificates (BEGIN X509 CRL)")
    return [x509.load_pem_x509_crl(text) for text in texts]


def load_revocations(context: ssl.SSLContext, path: str) -> None:
    """Has client certificates looked up in the lists of that file. Errors as `load_key`."""
    text = b"".join(each.public_bytes(Encoding.PEM) for each in read_revocations(path))
    with _Temporary(text) as name:
        context.load_verify_locations(name)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        content = file.read(_SIZE_MAX + 1)
    if len(content) > _SIZE_MAX:
        raise ValueError(f"the file has more than {_SIZE_MAX} bytes")
    return content


def _is_pem(content: bytes) -> bool:
    return not content.startswith((*_JKS, _SEQUENCE))


def _unpack(
    content: bytes, password: str, path: str
) -> tuple[PrivateKeyTypes | None, x509.Certificate | None, list[x509.Certificate]]:
    if content.startswith(_JKS):
        raise ValueError(
            "this is Java's own format; convert it: keytool -importkeystore"
            f" -srckeystore {path} -destkeystore {os.path.splitext(path)[0]}.p12 -deststoretype PKCS12"
        )
    try:
        return pkcs12.load_key_and_certificates(content, password.encode() if password else None)
    except ValueError:
        raise ValueError("it is no PKCS#12 file, or its password is another one") from None


def _end(certificate: x509.Certificate) -> float:
    return certificate.not_valid_after_utc.timestamp()


class _Temporary:
    """The name of a file with this content, which only this user can read; gone at the end of the block."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._name = ""

    def __enter__(self) -> str:
        number, self._name = tempfile.mkstemp(prefix="kafka-gateway-")
        with os.fdopen(number, "wb") as file:
            file.write(self._content)
        return self._name

    def __exit__(self, *exc: object) -> None:
        os.unlink(self._name)
