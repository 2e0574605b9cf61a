"""What pages of other origins may ask: nothing that changes something, reads records or lasts (reliability.md S11)."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kafka_gateway.assembly.app import App
from tests.door.conftest import BASIC, proof
from tests.transports.conftest import gateway
from tests.transports.stub_service import StubService
from tests.transports.wire import JSON_V2, Wire, request

LISTED = "https://app.example.com"

READS = (
    "/consumers/g/instances/i/records",
    "/consumers/g/instances/i/topics/t",
    "/topics/t/partitions/0/messages?offset=0",
    "/flasfka/t/g",
    "/flasfka/t/",
    "/topics/t/stream",
    "/topics/t/stream?group=g",
    "/ws/consumers/g/instances/i/records",
    "/ws/consumers/g/instances/i/topics/t",
)
LASTING = ("/?X-Atmosphere-Transport=sse&X-Atmosphere-tracking-id=0",)
HARMLESS = ("/", "/topics", "/topics/t", "/console", "/v3/clusters", "/health/live", "/stub/echo")

PAGES = {
    "cors": {"Origin": "https://evil.example", "Sec_Fetch_Site": "cross-site"},
    "cors, an old browser": {"Origin": "https://evil.example"},
    "a sandbox": {"Origin": "null"},
    "img": {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "image"},
    "link": {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"},
    "another port": {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "no-cors"},
}
OTHERS = {
    "no browser": {},
    "the address bar": {"Sec_Fetch_Site": "none", "Sec_Fetch_Mode": "navigate"},
    "the console": {"Sec_Fetch_Site": "same-origin", "Sec_Fetch_Mode": "cors"},
    "a listed page": {"Origin": LISTED, "Sec_Fetch_Site": "cross-site"},
}


@pytest.fixture
async def app() -> AsyncIterator[App]:
    settings = {**BASIC, "authentication.method": "NONE", "access.control.allow.origin": LISTED}
    async with gateway(StubService(), **settings) as running:
        yield running


async def status(app: App, method: str, target: str, headers: dict[str, str]) -> int:
    async with await Wire.open(app.addresses[0]) as wire:
        await wire.send(request(method, target, **headers))
        return (await wire.reply(head_only=True)).status


REBOUND = ("rebind.evil.example:18401", "127.0.0.1.evil.example", "localhost.evil.example", "evil.localhost.example")
OWN = (
    "127.0.0.1:1", "10.1.2.3", "[::1]:82", "localhost", "LOCALHOST.:80", "app.localhost", "node", socket.gethostname(),
    "", "public.example", "Listed.Example:443", "a.below.example", "host.example:8082",
)  # fmt: skip
NAMES: dict[str, object] = {
    **BASIC, "authentication.method": "NONE", "host.allowed": "listed.example,*.below.example",
    "advertised.listeners": "https://public.example:8443", "host.name": "host.example",
}  # fmt: skip


async def test_a_page_whose_name_leads_to_loopback_gets_nothing() -> None:
    """DNS rebinding: the page is of the gateway's own origin, as far as its browser knows."""
    async with gateway(StubService(), **NAMES) as app:
        for host in REBOUND:
            page = {"Host": host, "Origin": f"http://{host}", "Sec_Fetch_Site": "same-origin"}
            async with await Wire.open(app.addresses[0]) as wire:
                for _ in range(3):  # the head is known by then
                    reply = await wire.ask("GET", "/topics", Host=host)
                    assert (reply.status, reply.json["error_code"], b"host.allowed" in reply.body) == (403, 403, True)
            upgrade = {
                **page, "Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13",
                "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
            }  # fmt: skip
            assert await status(app, "GET", "/", upgrade) == 403
            for method, target in (
                ("POST", "/topics/t"),
                ("OPTIONS", "/topics"),
                ("GET", "/metrics"),
                ("GET", "/console"),
            ):
                assert await status(app, method, target, page) == 403, (host, target)
        for host in OWN:
            assert await status(app, "GET", "/topics", {"Host": host}) == 200, host
        async with await Wire.open(app.addresses[0]) as wire:
            await wire.send(b"GET /topics HTTP/1.0\r\n\r\n")
            assert (await wire.reply()).status == 200


async def test_a_trusted_proxy_tells_the_name() -> None:
    """A trusted proxy tells under which name its client came, and both that and its own count."""
    trusting = {**NAMES, "forwarded.trust": "127.0.0.1"}
    async with gateway(StubService(), **trusting) as app:
        for sent, asked, expected in (
            ("localhost", "listed.example", 200),
            ("localhost", "evil.example", 403),
            ("evil.example", "localhost", 403),
        ):
            headers = {"Host": sent, "X_Forwarded_Host": asked}
            assert await status(app, "GET", "/topics", headers) == expected, headers
    async with gateway(StubService(), **{**NAMES, "host.allowed": "*"}) as app:
        assert await status(app, "GET", "/topics", {"Host": REBOUND[0]}) == 200


async def test_who_must_show_a_proof_may_come_under_any_name(users: Path) -> None:
    settings = {**NAMES, "authentication.method": "BASIC", "authentication.basic.file": users}
    async with gateway(StubService(), **settings) as app:
        assert await status(app, "GET", "/topics", {"Host": REBOUND[0], **proof()}) == 200


async def test_a_foreign_page_reads_no_records(app: App) -> None:
    for page, headers in PAGES.items():
        for target in (*READS, *LASTING):
            for method in ("GET",) if target in LASTING else ("GET", "HEAD"):
                assert await status(app, method, target, headers) == 403, (page, method, target)
        for accept in (JSON_V2, "text/event-stream"):
            assert await status(app, "GET", READS[0], {**headers, "Accept": accept}) == 403, (page, accept)


async def test_it_may_ask_what_its_browser_keeps_from_it(app: App) -> None:
    for page, headers in PAGES.items():
        for target in HARMLESS:
            assert await status(app, "GET", target, headers) == 200, (page, target)
        assert await status(app, "POST", "/topics/t", headers) == 403, page


async def test_everybody_else_is_answered(app: App) -> None:
    for who, headers in OTHERS.items():
        for target in (*READS, *LASTING, *HARMLESS):
            assert await status(app, "GET", target, headers) != 403, (who, target)
