"""Clients that prove who they are with certificates, and what becomes of them (security.md §2, §6)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import ssl
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import aiohttp
import pytest
import uvloop
from cryptography.hazmat.primitives.serialization import Encoding

from kafka_gateway.config import ConfigError
from kafka_gateway.door.tls import NO_HOST
from kafka_gateway.logs.logs import _unraisable
from tests.door.conftest import proof
from tests.door.open_ends import end_of, opened
from tests.transports.authority import Authority, Certificate
from tests.transports.conftest import gateway
from tests.transports.stub_service import StubService
from tests.transports.wire import Wire
from tests.waiting import PATIENCE_S, until

RULES = {"ssl.principal.mapping.rules": r"RULE:^CN=([^,]+),OU=Shop.*$/$1/L"}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def settings(authority: Authority, **more: Any) -> dict[str, Any]:
    server = authority.server().write(authority.folder / "server.pem")
    return {
        "listeners": "https://127.0.0.1:0",
        "authentication.method": "MTLS",
        "ssl.keystore.location": server,
        "ssl.truststore.location": authority.path,
        "ssl.client.authentication": "REQUESTED",
        "transport.websocket.enable": True,
        "embedded.topics": "t",
        "audit.log": authority.folder / "audit",
        **more,
    }


async def asked(address: str, authority: Authority, client: Certificate | None, **headers: str) -> tuple[int, str]:
    async with await Wire.open(address, authority.context(client)) as wire:
        reply = await wire.ask("GET", "/stub/echo", **headers)
        return reply.status, reply.json.get("message", "")


async def test_names_by_kafkas_rules(authority: Authority) -> None:
    async with gateway(StubService(), **settings(authority, **RULES)) as app:
        address = app.addresses[0]
        shop, other = authority.sign("O=Example / OU=Shop / CN=Ann"), authority.sign("O=Example / CN=Ann")
        async with await Wire.open(address, authority.context(shop)) as wire:
            for _ in range(2):
                assert (await wire.ask("GET", "/stub/echo")).status == 200
            assert [str(each.principal) for each in app.gateway.sessions] == ["User:ann"]
            assert next(iter(app.gateway.sessions)).principal.attribute("subject") == "CN=Ann,OU=Shop,O=Example"
        status, message = await asked(address, authority, other)
        assert (status, "gives its subject a name" in message) == (401, True)
        status, message = await asked(address, authority, None)
        assert (status, "which was not shown" in message) == (401, True)
        # What a client writes is no certificate.
        assert (await asked(address, authority, None, **{"x-certificate": "x", "Client-Cert": "x"}))[0] == 401


async def test_spiffe(authority: Authority) -> None:
    values = {"authentication.mtls.name": "spiffe"}
    async with gateway(StubService(), **settings(authority, **values)) as app:
        named = authority.sign("CN=x", uris=["https://x", "spiffe://example.org/ns/a/sa/b", "spiffe://other"])
        async with await Wire.open(app.addresses[0], authority.context(named)) as wire:
            assert (await wire.ask("GET", "/stub/echo")).status == 200
            assert [str(each.principal) for each in app.gateway.sessions] == ["User:spiffe://example.org/ns/a/sa/b"]
        nobody = ["https://spiffe", "spiffe://", "spiffe://*", "spiffe:///ann", "spiffe://td/a/../b", "spiffe://td/"]
        signed = [authority.sign("CN=x"), *(authority.sign("CN=x", uris=[each]) for each in nobody)]
        # A name of a host is none of a workload, however it is written.
        for other in (*signed, authority.sign("CN=x", hosts=["spiffe://td/ann"])):
            assert (await asked(app.addresses[0], authority, other))[0] == 401


async def test_certificates_that_are_not_believed(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They are refused before a byte of HTTP is read, and the audit log has why and the address."""
    caplog.set_level(logging.INFO, "gateway.tls")
    (tmp_path / "foreign").mkdir()
    foreign = Authority(tmp_path / "foreign")
    revoked, good = authority.sign("CN=revoked"), authority.sign("CN=good")
    required = {"ssl.crl.location": authority.revoke(revoked), "ssl.client.authentication": "REQUIRED"}
    values = settings(authority, **required)
    late = authority.sign("CN=late", ends_s=-60)
    async with gateway(StubService(), **values) as app:
        assert (await asked(app.addresses[0], authority, good))[0] == 200
        for wrong in (revoked, late, foreign.sign("CN=good"), None, None):
            with pytest.raises((ssl.SSLError, ConnectionError, EOFError, asyncio.IncompleteReadError)):
                await asked(app.addresses[0], authority, wrong)
        assert (await asked(app.addresses[0], authority, good))[0] == 200
    lines = [json.loads(line) for line in (authority.folder / "audit").read_text().splitlines()]
    refused = [each for each in lines if not each["allowed"]]
    assert {(each["principal"], each["peer"], each["transport"], each["operation"]) for each in refused} == {
        ("-", "127.0.0.1", "tls", "authenticate")
    }
    reasons = [each["rule"].removeprefix("the client certificate is refused: ") for each in refused]
    assert list(zip(reasons, [each.get("count", 0) for each in refused], strict=True)) == [
        ("certificate revoked", 0), ("certificate has expired", 0), (ANY, 0), ("no client certificate was shown", 0),
        ("no client certificate was shown", 1),
    ]  # fmt: skip
    told = [each.getMessage() for each in caplog.records if each.name == "gateway.tls"]
    assert "refused the certificates of 1 client, the last one at 127.0.0.1: " in told[0]


def hello(host: bytes) -> bytes:
    """What a client sends first that asks for this host, of 9 bytes."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="host-name")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read().replace(b"host-name", host)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])  # the program's loop is uvloop
def test_a_host_with_bytes_that_no_name_has(
    run: Callable[[Coroutine[Any, Any, None]], None],
    authority: Authority,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python can raise it nowhere: it printed a traceback for each of these clients."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(sys, "unraisablehook", _unraisable)
    server = authority.server().write(tmp_path / "server.pem")
    values = {"listeners": "https://127.0.0.1:0", "ssl.keystore.location": server, "audit.log": tmp_path / "audit"}

    async def ask() -> None:
        async with gateway(StubService(), **values) as app:
            for _ in range(2):
                reader, writer = await asyncio.open_connection("127.0.0.1", int(app.addresses[0].rpartition(":")[2]))
                writer.write(hello(b"host\xff\xfeame"))
                with contextlib.suppress(ConnectionError):
                    await asyncio.wait_for(reader.read(), PATIENCE_S)
                writer.close()
            await until(lambda: app.gateway.counters.refused["tls"] == 2)
            assert (await asked(app.addresses[0], authority, None))[0] == 200

    run(ask())
    lines = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    refused = [(each["peer"], each["transport"], each.get("count", 0)) for each in lines if each["rule"] == NO_HOST]
    assert refused == [("127.0.0.1", "tls", 0), ("127.0.0.1", "tls", 1)]
    told = [each.getMessage() for each in caplog.records if "SNI" in each.getMessage() or each.exc_info]
    assert told == [f"refused TLS of 1 client, the last one at 127.0.0.1: {NO_HOST}"]


def test_what_can_be_raised_nowhere_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def __del__(self) -> None:
            raise ValueError("never mind")

    monkeypatch.setattr(sys, "unraisablehook", _unraisable)
    Broken()
    (line,) = caplog.records
    assert "Broken" in line.getMessage()
    assert line.exc_info is not None
    assert str(line.exc_info[1]) == "never mind"


async def test_a_certificate_or_a_password(authority: Authority, users: Path) -> None:
    values = {"authentication.method": "MTLS,BASIC", "authentication.basic.file": users}
    async with gateway(StubService(), **settings(authority, **values)) as app:
        address, ann = app.addresses[0], authority.sign("CN=ann")
        assert (await asked(address, authority, None))[0] == 401
        assert (await asked(address, authority, None, **proof("ada")))[0] == 200
        assert (await asked(address, authority, None, **proof("ada", "wrong")))[0] == 401
        assert (await asked(address, authority, ann, **proof("ada", "wrong")))[
            0
        ] == 200  # the first in the list decides


@pytest.mark.timing
@pytest.mark.parametrize("how", ["revoked", "expired"])
async def test_what_is_open_ends_within_five_seconds(authority: Authority, how: str) -> None:
    ann, bob = authority.sign("CN=ann", ends_s=6 if how == "expired" else 600), authority.sign("CN=bob")
    values = settings(authority, **{"ssl.crl.location": authority.revoke(authority.sign("CN=nobody"))})
    async with gateway(**values) as app:
        url = app.addresses[0]

        def connector(client: Certificate) -> aiohttp.ClientSession:
            return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=authority.context(client)))

        async with connector(ann) as hers, connector(bob) as his:
            of_ann, of_bob = await opened(hers, url), await opened(his, url)
            if how == "revoked":
                authority.revoke(ann)
            told = await asyncio.gather(*(end_of(each, 11 if how == "expired" else 6) for each in of_ann.values()))
            found = dict(zip(of_ann, told, strict=True))
            assert found["envelope"].endswith("1008")
            assert '"error_code":40101' in found["stream socket"]
            assert found["stream socket"].endswith("1008")
            assert '"error_code":40101' in found["events"]
            assert found["proxy socket"].endswith("1008")
            with pytest.raises(TimeoutError):
                await of_bob["envelope"].receive(timeout=0.5)
            for each in of_bob.values():
                assert not each.closed
                each.close() if isinstance(each, aiohttp.ClientResponse) else await each.close()


async def test_an_envelope_cannot_show_a_certificate(authority: Authority) -> None:
    """Its headers are a client's, whatever they are called."""
    async with gateway(StubService(), **settings(authority)) as app:
        ann = authority.sign("CN=ann")
        context = authority.context(authority.sign("CN=bob"))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as client:
            socket = await client.ws_connect(f"{app.addresses[0]}/")
            der = base64.b64encode(ann.certificate.public_bytes(Encoding.DER)).decode()
            for name in (":certificate", "x-certificate", "certificate"):
                forged = {name: der, "Accept": "*/*"}
                await socket.send_str(json.dumps({"id": "1", "method": "GET", "path": "/topics", "headers": forged}))
                await socket.receive(timeout=PATIENCE_S)
                assert {str(each.principal) for each in app.gateway.sessions} == {"User:CN=bob"}
            await socket.close()


async def test_no_session_is_taken_up_again(authority: Authority) -> None:
    """A client that takes up a TLS session shows no certificate, and nobody would look at it."""
    async with gateway(StubService(), **settings(authority)) as app:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = authority.context(authority.sign("CN=ann"))
            context.minimum_version = context.maximum_version = version
            async with await Wire.open(app.addresses[0], context) as wire:
                assert (await wire.ask("GET", "/stub/echo")).status == 200
                session = wire.writer.get_extra_info("ssl_object").session
                assert session is None or not session.has_ticket


FAULTS: dict[str, dict[str, Any]] = {
    "ssl.client.authentication": {"ssl.client.authentication": "NONE"},
    "ssl.truststore.location": {"ssl.truststore.location": ""},
    "ssl.principal.mapping.rules": {"ssl.principal.mapping.rules": "RULE:x"},
    "ssl.crl.location": {"ssl.crl.location": __file__},
}


@pytest.mark.parametrize("key", FAULTS)
async def test_settings_that_are_refused(authority: Authority, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        async with gateway(StubService(), **settings(authority, **FAULTS[key])):
            pass


@pytest.mark.parametrize("asks", ["NONE", "REQUIRED"])
async def test_who_never_begins_tls_is_cut_off(authority: Authority, asks: str) -> None:
    """As who sends no head: the time is that of ``request.header.timeout.ms``; asyncio's own is a minute."""
    values = {"authentication.method": "NONE", "ssl.client.authentication": asks, "request.header.timeout.ms": 150}
    async with gateway(StubService(), **settings(authority, **values)) as app, asyncio.timeout(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(app.addresses[0].rpartition(":")[2]))
        assert await reader.read() == b""
        writer.close()
