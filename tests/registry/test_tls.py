"""The registry over TLS: an authority of one's own, a client certificate, and what must be refused."""

from __future__ import annotations

import contextlib
import datetime
import functools
import ipaddress
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kafka_gateway.config import ConfigError
from kafka_gateway.errors import SerializationError
from kafka_gateway.schemas import SchemaChoice
from tests.registry.fake_registry import FakeRegistry, serving

CHOICE = SchemaChoice("t", "value", "avro", text='"int"')
LOCALHOST = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
Serve = Callable[..., AbstractAsyncContextManager[FakeRegistry]]


class Authority:
    """Makes certificates; ``path`` is its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(_pem(self._sign(self._key, self._name, True, ())))

    def issue(self, name: str, *hosts: x509.GeneralName, password: bytes = b"") -> tuple[Path, Path]:
        """Files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate, key_file = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        certificate.write_bytes(_pem(self._sign(key, subject, False, hosts)))
        secret = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        form = serialization.PrivateFormat.PKCS8
        key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, secret))
        return certificate, key_file

    def _sign(self, key: ec.EllipticCurvePrivateKey, subject: x509.Name, ca: bool, hosts: Any) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@pytest.fixture
def catalogue(catalogue: Any) -> Any:
    """With the time that TLS may take on a busy machine."""
    times = {f"schema.registry.{name}.timeout.ms": 20_000 for name in ("request", "http.connect", "http.read")}
    return functools.partial(catalogue, **times)


@pytest.fixture
def serve(authority: Authority, caplog: pytest.LogCaptureFixture) -> Serve:
    """Serves a registry with a certificate for these hosts; ``clients``: theirs must be of this authority."""
    caplog.set_level(logging.CRITICAL, "asyncio")  # the server's word on handshakes that fail

    @contextlib.asynccontextmanager
    async def serve(*hosts: x509.GeneralName, clients: Authority | None = None) -> AsyncIterator[FakeRegistry]:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*authority.issue("server", *hosts))
        if clients is not None:
            context.load_verify_locations(clients.path)
            context.verify_mode = ssl.CERT_REQUIRED
        async with serving(FakeRegistry(), context) as registry:
            yield registry

    return serve


async def test_an_authority_of_ones_own(serve: Serve, catalogue: Any, authority: Authority) -> None:
    async with serve(LOCALHOST) as registry:
        trusting = {"schema.registry.url": (registry.url,), "schema.registry.ssl.truststore.location": authority.path}
        assert (await (await catalogue(**trusting)).resolve(CHOICE)).schema_id == 1
        with pytest.raises(SerializationError, match=r"does not answer.*certificate verify failed"):
            await (await catalogue(schema_registry_url=(registry.url,))).resolve(CHOICE)


async def test_the_name_is_looked_at_unless_it_is_switched_off(
    serve: Serve, catalogue: Any, authority: Authority
) -> None:
    async with serve(x509.DNSName("registry.example")) as registry:
        trusting = {"schema.registry.url": (registry.url,), "schema.registry.ssl.truststore.location": authority.path}
        with pytest.raises(SerializationError, match=r"not valid for '127\.0\.0\.1'"):
            await (await catalogue(**trusting)).resolve(CHOICE)
        trusting["schema.registry.ssl.endpoint.identification.algorithm"] = ""
        assert (await (await catalogue(**trusting)).resolve(CHOICE)).schema_id == 1


async def test_a_client_certificate(serve: Serve, catalogue: Any, authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    others = Authority(tmp_path / "others", "others")
    async with serve(LOCALHOST, clients=authority) as registry:
        trusting = {"schema.registry.url": (registry.url,), "schema.registry.ssl.truststore.location": authority.path}

        def shown(certificate: Path, key: Path) -> dict[str, Any]:
            names = {"keystore.location": certificate, "key.location": key, "key.password": "CANARY"}
            return trusting | {f"schema.registry.ssl.{name}": value for name, value in names.items()}

        own = await catalogue(**shown(*authority.issue("client", password=b"CANARY")))
        assert (await own.resolve(CHOICE)).schema_id == 1
        for settings in (trusting, shown(*others.issue("client"))):
            with pytest.raises(SerializationError, match="does not answer"):
                await (await catalogue(**settings)).resolve(CHOICE)


@pytest.mark.parametrize("fault", ["no such file", "a wrong password", "a store of Java"])
async def test_files_that_cannot_be_used(catalogue: Any, authority: Authority, tmp_path: Path, fault: str) -> None:
    certificate, key = authority.issue("client", password=b"CANARY")
    settings: dict[str, Any] = {"schema.registry.url": ("https://registry.example",)}
    if fault == "no such file":
        settings["schema.registry.ssl.truststore.location"] = tmp_path / "none.pem"
    elif fault == "a store of Java":
        settings["schema.registry.ssl.truststore.type"] = "JKS"
    else:
        settings["schema.registry.ssl.keystore.location"] = certificate
        settings["schema.registry.ssl.key.location"] = key
        settings["schema.registry.ssl.key.password"] = "none"
    with pytest.raises(ConfigError, match=r"schema\.registry\.ssl\.") as caught:
        await catalogue(**settings)
    assert "CANARY" not in str(caught.value)
