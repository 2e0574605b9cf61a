"""What pages of other origins may ask: nothing that changes something, reads records or lasts (reliability.md S11)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kafka_gateway.assembly.app import App
from tests.door.conftest import BASIC
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
