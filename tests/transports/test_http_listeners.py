"""Where the gateway listens: several addresses, IPv6, Unix sockets, TLS, and addresses that cannot be had."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import stat
import subprocess
import warnings
from pathlib import Path

import pytest

from kafka_gateway.config import ConfigError
from kafka_gateway.door import tls
from tests.loop_watch import paused
from tests.transports.conftest import gateway
from tests.transports.process import run_gateway
from tests.transports.wire import V2, Wire
from tests.waiting import until

HEALTH = {"status": "live"}


async def health(address: str, context: ssl.SSLContext | None = None) -> object:
    async with await Wire.open(address, context) as wire:
        return (await wire.ask("GET", "/health/live")).json


async def test_several_listeners(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    listeners = f"http://127.0.0.1:0,http://[::1]:0,http://localhost:0,unix:{path}"
    async with gateway(listeners=listeners) as app:
        assert len(app.addresses) == 4
        assert app.addresses[3] == f"unix:{path}"
        for address in app.addresses:
            assert await health(address) == HEALTH
    assert not path.exists()


async def test_one_listener_for_ipv4_and_ipv6() -> None:
    async with gateway(listeners="http://[::]:0", **{"listeners.insecure": True}) as app:
        port = app.addresses[0].rpartition(":")[2]
        assert await health(f"http://127.0.0.1:{port}") == HEALTH
        assert await health(f"http://[::1]:{port}") == HEALTH


# --- Unix sockets ----------------------------------------------------------------------------------------------------


async def test_a_socket_that_a_dead_gateway_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with gateway(listeners=f"unix:{path}"):
        assert await health(f"unix:{path}") == HEALTH


async def test_a_socket_in_use_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    async with gateway(listeners=f"unix:{path}"):
        with pytest.raises(OSError, match=f"cannot listen on unix:{path}: Address already in use"):
            async with gateway(listeners=f"unix:{path}"):
                pass
        assert await health(f"unix:{path}") == HEALTH


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(OSError, match="Address already in use"):
        async with gateway(listeners=f"unix:{path}"):
            pass
    assert path.read_text() == "data"


async def test_a_socket_in_no_directory(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"cannot listen on unix:.*No such file or directory"):
        async with gateway(listeners=f"unix:{tmp_path}/missing/gateway.sock"):
            pass


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o755), (0o007, 0o770)])
async def test_umask_says_who_may_connect(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        async with gateway(listeners=f"unix:{tmp_path}/s"):
            assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == mode
    finally:
        os.umask(before)


# --- addresses in use ------------------------------------------------------------------------------------------------


async def test_a_port_in_use_leaves_nothing_open(tmp_path: Path) -> None:
    """The listeners before it are closed again, and Kafka's clients too."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"cannot listen on http://127.0.0.1:{port}: Address already in use"):
            async with gateway(listeners=f"unix:{tmp_path}/s,http://127.0.0.1:{port}"):
                pass
    assert not (tmp_path / "s").exists()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.slow
def test_a_port_in_use_ends_the_program() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_gateway(f"listeners=http://127.0.0.1:{port}")
    assert ended.returncode == 1
    assert f"cannot listen on http://127.0.0.1:{port}: Address already in use" in ended.stdout
    assert "Traceback" not in ended.stdout


# --- TLS -------------------------------------------------------------------------------------------------------------


def make_certificate(directory: Path, name: str, password: str = "") -> Path:
    """A PEM file with a self-signed certificate for localhost and its key."""
    key, certificate, both = (directory / f"{name}.{kind}" for kind in ("key", "crt", "pem"))
    encrypted = ["-passout", f"pass:{password}"] if password else ["-nodes"]
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2"),
            *("-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate), *encrypted),
        ],
        check=True,
        capture_output=True,
    )
    both.write_text(certificate.read_text() + key.read_text())
    return both


def trusting(first: Path, *others: Path) -> ssl.SSLContext:
    # Without a file it would load all authorities of the machine, which can take 50 ms.
    context = ssl.create_default_context(cafile=first)
    for certificate in others:
        context.load_verify_locations(certificate)
    return context


def common_name(wire: Wire) -> str:
    subject = wire.writer.get_extra_info("peercert")["subject"]
    return str(dict(pair for part in subject for pair in part)["commonName"])


async def test_tls(tmp_path: Path) -> None:
    pem = make_certificate(tmp_path, "one", password="the password")
    settings = {"listeners": "https://127.0.0.1:0", "ssl.keystore.location": pem, "ssl.key.password": "the password"}
    with paused():
        good, old = trusting(pem), trusting(pem)
    with warnings.catch_warnings(action="ignore"):  # that it is deprecated is the point
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with gateway(**settings) as app:
        assert app.addresses[0].startswith("https://")
        assert await health(app.addresses[0], good) == HEALTH
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await health(app.addresses[0], old)
        # Somebody who speaks plain HTTP to it, and somebody who says nothing, cost nothing.
        async with await Wire.open(app.addresses[0].replace("https", "http")) as wire:
            await wire.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200" not in await wire.closed()
        assert await health(app.addresses[0], good) == HEALTH


async def test_urls_of_a_tls_listener(tmp_path: Path) -> None:
    pem = make_certificate(tmp_path, "one")
    settings = {"listeners": "https://127.0.0.1:0", "ssl.keystore.location": pem}
    async with gateway(**settings) as app, await Wire.open(app.addresses[0], trusting(pem)) as wire:
        reply = await wire.ask("POST", "/consumers/g", b'{"name":"i"}', Content_Type=V2)
        assert reply.json["base_uri"] == "https://gateway/consumers/g/instances/i"


async def test_a_certificate_that_cannot_be_used(tmp_path: Path) -> None:
    pem = tmp_path / "bad.pem"
    pem.write_text("no certificate")
    with pytest.raises(ConfigError, match=r"ssl\.keystore\.location: cannot be used"):
        async with gateway(**{"listeners": "https://127.0.0.1:0", "ssl.keystore.location": pem}):
            pass


async def test_client_certificates(tmp_path: Path) -> None:
    pem, client, foreign = (make_certificate(tmp_path, name) for name in ("server", "client", "foreign"))
    settings = {
        "listeners": "https://127.0.0.1:0",
        "ssl.keystore.location": pem,
        "ssl.truststore.location": client,
        "ssl.client.authentication": "REQUIRED",
    }
    async with gateway(**settings) as app:
        context = trusting(pem)
        context.load_cert_chain(client)
        assert await health(app.addresses[0], context) == HEALTH
        for wrong in (None, foreign):
            context = trusting(pem)
            if wrong is not None:
                context.load_cert_chain(wrong)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await health(app.addresses[0], context)


async def test_a_new_certificate_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S16: nobody is disturbed, neither by the new one nor by one that cannot be used."""
    monkeypatch.setattr(tls, "_FILE_CHECK_S", 0.02)
    (tmp_path / "new").mkdir()
    one, two = make_certificate(tmp_path, "one"), make_certificate(tmp_path / "new", "two")
    context = trusting(one, two)
    settings = {"listeners": "https://127.0.0.1:0", "ssl.keystore.location": one, "ssl.keystore.reload": True}
    async with gateway(**settings) as app, await Wire.open(app.addresses[0], context) as old:

        async def connect() -> str:
            async with await Wire.open(app.addresses[0], context) as wire:
                assert (await wire.ask("GET", "/health/live")).status == 200
                return common_name(wire)

        assert await connect() == "one"
        one.write_text(two.read_text().partition("-----BEGIN PRIVATE")[0])  # the new one, half written
        await asyncio.sleep(0.1)  # time itself: nothing changes
        assert await connect() == "one"
        os.replace(two, one)

        async def changed() -> bool:
            return await connect() == "two"

        await until(changed)
        assert (await old.ask("GET", "/health/live")).status == 200
    await until(lambda: not any(task.get_name().startswith("follow https") for task in asyncio.all_tasks()))


async def test_a_certificate_is_not_followed_unless_wanted(tmp_path: Path) -> None:
    pem = make_certificate(tmp_path, "one")
    settings = {"listeners": "https://127.0.0.1:0", "ssl.keystore.location": pem, "ssl.keystore.reload": False}
    async with gateway(**settings):
        await asyncio.sleep(0)
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("follow https")]
