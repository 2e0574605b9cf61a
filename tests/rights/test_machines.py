"""docs/security.md's machines with certificates, as the page has them: files, properties and rules."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.gateway_process import ROOT
from tests.transports.authority import Authority, Certificate
from tests.transports.conftest import gateway
from tests.waiting import PATIENCE_S

PAGE = (ROOT / "docs" / "security.md").read_text()
JSON = {"Content-Type": "application/vnd.kafka.json.v2+json"}
REFUSED = (ssl.SSLError, ConnectionError, aiohttp.ClientError)


def block(kind: str) -> str:
    found = re.search(rf"<!-- {kind}: machines -->\n```\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """The page's properties, with the files and the port of this test."""
    authority = Authority(tmp_path, "machines")
    store, rules = tmp_path / "server.p12", tmp_path / "rules"
    store.write_bytes(authority.server().pkcs12("changeit"))
    rules.write_text(block("set-up"))
    return dict(line.split("=", 1) for line in block("properties").splitlines()) | {
        "listeners": "https://127.0.0.1:0",
        "ssl.keystore.location": store,
        "ssl.truststore.location": authority.path,
        "ssl.crl.location": authority.revoke(),
        "authorization.file": rules,
        "embedded.enable": True,
        "embedded.topics": "measured.sensor-7,measured.sensor-8",
        "authority": authority,
    }


def client(address: str, authority: Authority, certificate: Certificate | None) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(address, connector=aiohttp.TCPConnector(ssl=authority.context(certificate)))


async def produce(session: aiohttp.ClientSession, topic: str) -> tuple[int, Any]:
    body = json.dumps({"records": [{"value": 21.5}]})
    async with session.post(f"/topics/{topic}", data=body, headers=JSON) as reply:
        return reply.status, await reply.json()


async def test_machines(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    authority: Authority = settings.pop("authority")
    sensor, reporter, other = (authority.sign(f"O=Example / CN={name}") for name in ("sensor-7", "reporter", "guest"))
    async with gateway(**settings) as app:
        address = app.addresses[0]
        async with client(address, authority, sensor) as its:
            assert (await produce(its, "measured.sensor-7"))[0] == 200
            status, body = await produce(its, "measured.sensor-8")
            message = "User:sensor-7 may not write to topic measured.sensor-8."
            assert (status, body) == (403, {"error_code": 40301, "message": message})
        async with client(address, authority, reporter) as its:
            stream = await its.get(
                "/topics/measured.sensor-7/stream?offset=earliest&format=json", headers={"Accept": "text/event-stream"}
            )
            async with asyncio.timeout(PATIENCE_S):
                while b"21.5" not in (line := await stream.content.readline()):
                    assert line
            assert (await produce(its, "measured.sensor-7"))[0] == 403
            stream.close()
        async with client(address, authority, other) as its:
            assert (await produce(its, "measured.sensor-7"))[0] == 403
        async with client(address, authority, None) as its:
            with pytest.raises(REFUSED):
                await produce(its, "measured.sensor-7")
        monkeypatch.setattr("kafka_gateway.door.tls._FILE_CHECK_S", 0.05)
        authority.revoke(sensor)
        app.gateway.reload()
        async with client(address, authority, sensor) as its:
            with pytest.raises(REFUSED):
                await produce(its, "measured.sensor-7")
