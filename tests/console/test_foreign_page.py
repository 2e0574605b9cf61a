"""The JavaScript client with BASIC on a page of another origin, in headless Chromium: all of its ways in."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import bcrypt
import pytest
from playwright.async_api import Page

from tests.gateway_process import ROOT, GatewayProcess

pytestmark = [pytest.mark.browser, pytest.mark.slow]

DIST = ROOT / "share" / "js-client" / "dist"
CONNECT = """
async ({url, transport, user}) => {
  const { connect } = await import('/kafka-gateway.mjs');
  const options = {transports: [transport], headers: {Authorization: `Basic ${btoa(user)}`}, retries: 0};
  const gateway = connect(url, options);
  try {
    await gateway.produce('orders', [{value: transport, headers: [{name: 'h', value: null}]}]);
    return [gateway.transport, await gateway.topics()];
  } catch (error) {
    return error.message;
  } finally {
    await gateway.close();
  }
}
"""
STREAM = """
async ({url, user, more}) => {
  const { stream } = await import('/kafka-gateway-stream.mjs');
  const headers = {Authorization: `Basic ${btoa(user)}`};
  const options = {offset: 'earliest', format: 'json', headers, retries: 0, ...more};
  try {
    for await (const record of stream(url, 'orders', options)) return record.value;
  } catch (error) {
    return error.message;
  }
}
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    extensions_map: ClassVar = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a page comes from that is not the gateway's."""
    pages = tmp_path_factory.mktemp("pages")
    (pages / "index.html").write_text("<!doctype html><link rel=icon href=data:,>")
    for name in ("kafka-gateway.mjs", "kafka-gateway-stream.mjs"):
        shutil.copy(DIST / name, pages)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(pages)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    users = tmp_path_factory.mktemp("settings") / "users"
    users.write_bytes(b"alice:" + bcrypt.hashpw(b"s\xc3\xa4cret", bcrypt.gensalt(4)) + b"\n")
    return (
        "listeners=http://127.0.0.1:0",
        "embedded.enable=true",
        "embedded.topics=orders",
        "authentication.method=BASIC",
        f"authentication.basic.file={users}",
        "access.control.allow.methods=GET,POST,PUT,DELETE",
    )


@pytest.fixture(scope="module")
def gateway(settings: tuple[str, ...], origin: str) -> Iterator[GatewayProcess]:
    with GatewayProcess(*settings, f"access.control.allow.origin={origin}") as running:
        yield running


@pytest.fixture(scope="module")
def strict(settings: tuple[str, ...]) -> Iterator[GatewayProcess]:
    """Allows no foreign origin."""
    with GatewayProcess(*settings) as running:
        yield running


TRANSPORTS = ["websocket", "sse", "long-polling"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_it_connects(page: Page, gateway: GatewayProcess, origin: str, transport: str) -> None:
    await page.goto(f"{origin}/index.html")
    # btoa takes the bytes of UTF-8, one character each.
    asked = {"url": f"{gateway.url}/", "transport": transport, "user": "alice:s\xc3\xa4cret"}
    assert await page.evaluate(CONNECT, asked) == [transport, ["orders"]]
    assert "uthorization=" not in "".join(gateway.output)  # no proof in an address, which logs would show
    wrong = await page.evaluate(CONNECT, {**asked, "user": "alice:wrong"})
    assert "cannot connect" in wrong
    assert "401" in wrong
    assert "access.control" not in wrong  # it is allowed


@pytest.mark.parametrize("more", [{}, {"group": "g", "ack": "client"}], ids=["fetch", "socket"])
async def test_it_follows_a_topic(page: Page, gateway: GatewayProcess, origin: str, more: dict[str, str]) -> None:
    await page.goto(f"{origin}/index.html")
    url, user = f"{gateway.url}/", "alice:s\xc3\xa4cret"
    await page.evaluate(CONNECT, {"url": url, "transport": "websocket", "user": user})
    assert await page.evaluate(STREAM, {"url": url, "user": user, "more": more}) in TRANSPORTS
    # Refused credentials end it: no number of attempts makes them right.
    wrong = await page.evaluate(STREAM, {"url": url, "user": "alice:wrong", "more": {**more, "retries": 1000}})
    assert "401" in wrong


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_error_of_an_origin_that_is_not_allowed_names_the_property(
    page: Page, strict: GatewayProcess, origin: str, transport: str
) -> None:
    await page.goto(f"{origin}/index.html")
    asked = {"url": f"{strict.url}/", "transport": transport, "user": "alice:s\xc3\xa4cret"}
    assert f"access.control.allow.origin={origin}" in await page.evaluate(CONNECT, asked)
    more = {"group": "g", "ack": "client"} if transport == "websocket" else {}
    told = await page.evaluate(STREAM, {"url": f"{strict.url}/", "user": asked["user"], "more": more})
    assert f"access.control.allow.origin={origin}" in told
