"""Keys and certificates of a listener: kinds of files, several hosts, new files while clients come (security.md §6)."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kafka_gateway.config import ConfigError
from kafka_gateway.door import tls
from tests.cache import find_program
from tests.transports.authority import Authority, Certificate
from tests.transports.conftest import gateway
from tests.transports.wire import Wire
from tests.waiting import PATIENCE_S, until


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def settings(store: Path, **more: Any) -> dict[str, Any]:
    return {"listeners": "https://127.0.0.1:0", "ssl.keystore.location": store, **more}


async def shown(address: str, context: ssl.SSLContext, host: str = "localhost") -> str:
    """The name in the certificate that the gateway shows to a client that asks for this host."""
    port = int(address.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=host)
    try:
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b" 200 " in (await reader.read()).partition(b"\r\n")[0]
        subject = writer.get_extra_info("peercert")["subject"]
        return str(dict(pair for part in subject for pair in part)["commonName"])
    finally:
        writer.close()


async def alive(address: str, context: ssl.SSLContext) -> None:
    async with await Wire.open(address, context) as wire:
        assert (await wire.ask("GET", "/health/live")).status == 200


# --- kinds of files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["store.p12", "store.jks", "store.pem", "store"])
@pytest.mark.parametrize("password", ["a password", ""])
async def test_pkcs12_whatever_it_is_called(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, password: str
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = tmp_path / name
    store.write_bytes(authority.server().pkcs12(password))
    more = {"ssl.keystore.type": "JKS", "ssl.keystore.password": password}
    async with gateway(**settings(store, **more)) as app:
        await alive(app.addresses[0], authority.context())
    assert not [each for each in os.listdir(tmp_path) if each.startswith("kafka-gateway-")]


def keytool(*arguments: str) -> None:
    subprocess.run(
        [find_program("keytool", package="default-jdk-headless"), *arguments], check=True, capture_output=True
    )


JAVA = ("-storepass", "changeit", "-keypass", "changeit", "-alias", "one")


async def test_what_keytool_writes(authority: Authority, tmp_path: Path) -> None:
    """Its own certificate as the server's, and its store of authorities for the clients'."""
    store, trust, pem = tmp_path / "server.jks", tmp_path / "trust.jks", tmp_path / "own.pem"
    keytool("-genkeypair", *JAVA, "-keyalg", "EC", "-dname", "CN=localhost", "-ext", "san=dns:localhost,ip:127.0.0.1",
            "-keystore", str(store))  # fmt: skip
    keytool("-exportcert", "-rfc", *JAVA[:2], *JAVA[4:], "-keystore", str(store), "-file", str(pem))
    keytool("-importcert", "-noprompt", *JAVA[:2], *JAVA[4:], "-file", str(authority.path), "-keystore", str(trust))
    more = {
        "ssl.keystore.password": "changeit",
        "ssl.truststore.location": trust,
        "ssl.truststore.password": "changeit",
        "ssl.client.authentication": "REQUIRED",
    }
    async with gateway(**settings(store, **more)) as app:
        context = ssl.create_default_context(cafile=str(pem))
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError, asyncio.IncompleteReadError)):
            await alive(app.addresses[0], context)
        context.load_cert_chain(authority.sign("CN=ann").write(tmp_path / "ann.pem"))
        await alive(app.addresses[0], context)


async def test_java_s_own_format_is_refused_with_the_way_out(authority: Authority, tmp_path: Path) -> None:
    store = tmp_path / "old.jks"
    keytool("-genkeypair", *JAVA, "-keyalg", "EC", "-dname", "CN=x", "-storetype", "JKS", "-keystore", str(store))
    with pytest.raises(ConfigError, match=r"keystore\.location: cannot be used: .*keytool -imp") as error:
        async with gateway(**settings(store)):
            pass
    line = str(error.value).partition("keytool ")[2].split()
    keytool(*line, "-srcstorepass", "changeit", "-deststorepass", "changeit")
    async with gateway(**settings(tmp_path / "old.p12", **{"ssl.keystore.password": "changeit"})):
        pass


@pytest.mark.parametrize("content", [b"", b"nothing", b"0\x82\x01\x00garbage", b"\xfe\xed\xfe\xed\0\0"])
@pytest.mark.parametrize("key", ["ssl.keystore.location", "ssl.truststore.location", "ssl.crl.location"])
async def test_files_that_are_none(authority: Authority, tmp_path: Path, key: str, content: bytes) -> None:
    bad, good = tmp_path / "bad", authority.server().write(tmp_path / "good.pem")
    bad.write_bytes(content)
    more = {"ssl.truststore.location": authority.path, "ssl.client.authentication": "REQUESTED", key: bad}
    with pytest.raises(ConfigError, match=f"{key}: cannot be used"):
        async with gateway(**settings(good, **more)):
            pass


async def test_a_wrong_password(authority: Authority, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.write_bytes(authority.server().pkcs12("right"))
    with pytest.raises(ConfigError, match="its password is another one") as error:
        async with gateway(**settings(store, **{"ssl.keystore.password": "CANARY"})):
            pass
    assert "CANARY" not in str(error.value)


# --- hosts -----------------------------------------------------------------------------------------------------------


async def test_a_certificate_for_each_host(authority: Authority, tmp_path: Path) -> None:
    one = authority.server("localhost", "127.0.0.1").write(tmp_path / "one.pem")
    two = tmp_path / "two.p12"
    two.write_bytes(authority.server("api.example.org").pkcs12("secret"))
    three = authority.sign("CN=any", hosts=["*.example.net"]).write(tmp_path / "three.pem")
    more = {
        "ssl.sni.API.example.org.keystore.location": two,
        "ssl.sni.API.example.org.keystore.password": "secret",
        "ssl.sni.*.example.net.keystore.location": three,
    }
    async with gateway(**settings(one, **more)) as app:
        names = ("localhost", "api.example.org", "a.example.net")
        found = [await shown(app.addresses[0], authority.context(), name) for name in names]
        assert found == ["localhost", "api.example.org", "any"]
        await alive(app.addresses[0], authority.context())  # an address: no name is asked for


@pytest.mark.parametrize(
    "key", ["ssl.sni.x.keystore.password", "ssl.sni.x.foo", "ssl.sni.keystore.location", "ssl.sni.x.keystore.location"]
)
async def test_hosts_that_are_refused(authority: Authority, tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=r"ssl\.sni"):
        async with gateway(**settings(authority.server().write(tmp_path / "one.pem"), **{key: "/nowhere"})):
            pass


# --- new files --------------------------------------------------------------------------------------------------------


async def test_everything_is_renewed_under_load(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Certificates, authorities and revocations change again and again; no request of a client that may fails."""
    monkeypatch.setattr(tls, "_FILE_CHECK_S", 0.02)
    caplog.set_level(logging.INFO, "gateway.tls")
    (tmp_path / "second").mkdir()
    second = Authority(tmp_path / "second", "second")
    store, trust = tmp_path / "server.pem", tmp_path / "trust.pem"
    first_server = authority.server()
    first_server.write(store)
    trust.write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    ann, bob = authority.sign("CN=ann"), second.sign("CN=bob")
    revoked = tmp_path / "revoked.pem"
    revoked.write_bytes(authority.revoke().read_bytes() + second.revoke().read_bytes())
    more = {
        "ssl.truststore.location": trust,
        "ssl.client.authentication": "REQUIRED",
        "ssl.crl.location": revoked,
        "authentication.method": "MTLS",
    }
    async with gateway(**settings(store, **more)) as app:
        address, count, going = app.addresses[0], 0, True
        context = authority.context(ann)

        async def ask_again_and_again() -> None:
            nonlocal count
            async with await Wire.open(address, context) as stays:
                while going:
                    await alive(address, context)
                    assert (await stays.ask("GET", "/health/live")).status == 200
                    count += 1

        async def connections(more: int) -> None:
            before = count
            await until(lambda: count >= before + more or any(each.done() for each in load))

        load = [asyncio.ensure_future(ask_again_and_again()) for _ in range(4)]
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError, asyncio.IncompleteReadError)):
            await alive(address, _trusting(authority, second.sign("CN=bob")))
        for _ in range(5):
            replace(store, authority.server().pem())
            replace(trust, b"half a certif")  # cannot be used, and changes nothing
            await connections(4)
            both = (authority.certificate, second.certificate)
            replace(trust, b"".join(each.public_bytes(Encoding.PEM) for each in both))
            await connections(4)
        await alive(address, _trusting(authority, bob))  # whose authority is new
        replace(revoked, authority.revoke().read_bytes() + second.revoke(bob).read_bytes())
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    await alive(address, _trusting(authority, bob))
                except (ssl.SSLError, ConnectionError, EOFError, asyncio.IncompleteReadError):
                    break
        going = False
        await asyncio.gather(*load)  # none of them failed
        assert count > 10
    assert "stay as they were" in caplog.text
    assert str(first_server.key) not in caplog.text


def replace(path: Path, content: bytes) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.replace(path)


def _trusting(authority: Authority, client: Certificate) -> ssl.SSLContext:
    return authority.context(client)
