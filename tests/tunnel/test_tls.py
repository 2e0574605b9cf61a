"""The tunnel over HTTPS, and the gateway's TLS towards brokers (bridges.md C-7)."""

from __future__ import annotations

import asyncio
import ssl
import struct
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest

from kafka_gateway.transports.tunnel import command
from kafka_gateway.transports.tunnel.broker import BrokerConnection
from kafka_gateway.transports.tunnel.dialer import DialError, TunnelDialer
from kafka_gateway.transports.tunnel.local import LocalSettings, LocalTunnel
from tests.transports.conftest import gateway
from tests.transports.peer import Refused
from tests.tunnel.fake_broker import Client, FakeBroker, request
from tests.tunnel.local_process import free_range
from tests.waiting import PATIENCE_S


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """PEM files of key and certificate, for 127.0.0.1 and for another host."""
    folder = tmp_path_factory.mktemp("certificates")
    made = {}
    for name, subject in (("here", "IP:127.0.0.1"), ("elsewhere", "DNS:elsewhere.example")):
        key, certificate, both = (folder / f"{name}{end}" for end in (".key", ".crt", ".pem"))
        command = [
            *[
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "2",
            ]
        ]
        names = ["-subj", f"/CN={name}", "-addext", f"subjectAltName={subject}"]
        subprocess.run([*command, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        both.write_bytes(key.read_bytes() + certificate.read_bytes())
        made[name], made[f"{name} authority"] = both, certificate
    return made


async def test_through_https(certificates: dict[str, Path]) -> None:
    async with FakeBroker() as broker:
        port = free_range(1)
        settings = {
            "listeners": f"https://127.0.0.1:{port}",
            "ssl.keystore.location": certificates["here"],
            "tunnel.enable": True,
            "tunnel.static.brokers": f"7=127.0.0.1:{broker.port}",
        }
        async with gateway(**settings):
            address = f"127.0.0.1:{port}"
            with pytest.raises(DialError, match=r"(?i)certificate"):
                await TunnelDialer(tls=True, path="/kafka/brokers/7").dial("tcp", address)
            trusting = ssl.create_default_context(cafile=str(certificates["here authority"]))
            async with LocalTunnel(LocalSettings(address, free_range(12), tls=True, ssl=trusting, drain_s=1)) as tunnel:
                reader, writer = await asyncio.open_connection("127.0.0.1", tunnel.ports[7])
                for size in (10, 3 << 20):
                    sent = request(11, 0, 1, bytes(size))
                    writer.write(sent)
                    assert await reader.readexactly(len(sent) - 4) == struct.pack(">i", len(sent) - 8) + sent[8:]
                writer.close()


@pytest.mark.slow  # librdkafka looks for a Kafka at the address of the fake
@pytest.mark.parametrize(("name", "status"), [("here", 101), ("elsewhere", 502)])
async def test_brokers_with_tls(certificates: dict[str, Path], name: str, status: int) -> None:
    """The certificate must be for the broker's real host name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates[name])
    async with FakeBroker(tls=context) as broker:
        settings = {
            "bootstrap.servers": f"127.0.0.1:{broker.port}",
            "client.security.protocol": "SSL",
            "client.ssl.ca.location": certificates[f"{name} authority"],
            "tunnel.enable": True,
            "tunnel.static.brokers": f"7=127.0.0.1:{broker.port}",
        }
        async with gateway(**settings) as app:
            if status != 101:
                with pytest.raises(Refused) as caught:
                    await Client.open(app.addresses[0])
                assert caught.value.reply.status == status
                return
            async with await Client.open(app.addresses[0]) as client:
                await client.send(request(11, 0, 5))
                assert (await client.message())[4:8] == struct.pack(">i", 5)


def test_the_flags_for_tls(certificates: dict[str, Path]) -> None:
    parse = command._parser().parse_args
    files = ["-ca-file", str(certificates["here authority"]), "-cert-file", str(certificates["here"])]
    context = command._context(parse(files))
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert command._context(parse(["-insecure"])).verify_mode is ssl.CERT_NONE


class Silent:
    """asyncio's transport over TLS to a broker that answers no goodbye."""

    def __init__(self, protocol: BrokerConnection) -> None:
        self._protocol = protocol

    def get_extra_info(self, name: str) -> object:
        return name == "sslcontext"

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def close(self) -> None:
        pass

    def abort(self) -> None:
        asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)


async def test_a_broker_that_says_no_goodbye_holds_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS waits half a minute for it by itself, and a gateway that stops would leave what it waits for."""
    monkeypatch.setattr("kafka_gateway.transports.tunnel.broker._LAST_BYTES_S", 0.01)
    connection = BrokerConnection(1000)
    connection.connection_made(cast(Any, Silent(connection)))
    connection.close()
    connection.close()
    async with asyncio.timeout(PATIENCE_S):
        await connection.over
