"""Unmodified atmosphere.js of three generations in headless Chromium, on each transport that they have."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Page, Route

from tests.cache import node_packages
from tests.console.test_console import produce
from tests.gateway_process import ROOT, GatewayProcess

CLIENTS = ROOT / "tests" / "clients" / "atmosphere"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.fetches(what=functools.partial(node_packages, CLIENTS)),
]
SOURCES = {
    "2": "atmosphere2/lib/atmosphere.js",
    "3": "atmosphere3/lib/atmosphere.js",
    "5": "atmosphere5/dist/atmosphere.global.js",
}

TALK = """
async ({generation, transport, url, topic}) => {
  const messages = [], waiting = [];
  const take = (body) => { const next = waiting.shift(); if (next) next(body); else messages.push(body); };
  const message = () => messages.length ? messages.shift() : new Promise((resolve) => waiting.push(resolve));
  let opens = 0, errors = 0, opened;
  const open = new Promise((resolve) => opened = resolve);
  const request = {url, transport, fallbackTransport: transport, enableProtocol: true, trackMessageLength: true,
                   contentType: 'application/json', logLevel: 'none'};
  const onOpen = () => { opens += 1; opened(); };
  let push, close;
  if (generation === '5') {
    const client = new AtmosphereJS.Atmosphere({logLevel: 'silent'});
    const subscription = await client.subscribe(request,
      {open: onOpen, message: (response) => take(response.responseBody), error: () => errors += 1});
    push = (text) => subscription.push(text);
    close = () => subscription.close();
  } else {
    const socket = atmosphere.subscribe({...request, onOpen, onError: () => errors += 1,
                                         onMessage: (response) => take(response.responseBody)});
    push = (text) => socket.push(text);
    close = () => socket.close();
  }
  await open;
  const ask = async (head, content = '') => { push(JSON.stringify(head) + content); return message(); };
  const v1 = 'application/vnd.kafka.json.v1+json';
  const got = [];
  got.push(await ask({id: '1', path: '/topics'}));
  got.push(await ask({id: '2', method: 'POST', path: `/consumers/${topic}`, type: v1},
                     '{"id":"c","format":"json","auto.offset.reset":"smallest"}'));
  let pushed = await ask({id: '3', path: `/ws/consumers/${topic}/instances/c/topics/${topic}`, accept: v1});
  if (pushed.endsWith('[]')) pushed = await message();
  got.push(pushed);
  got.push(await ask({id: '4', method: 'DELETE', path: `/consumers/${topic}/instances/c`}));
  close();
  return {got, opens, errors};
}
"""


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayProcess]:
    with GatewayProcess() as running:
        yield running


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def scripts(page: Page) -> None:
    """The clients' sources, as if the gateway served them."""
    node_packages(CLIENTS)

    async def answer(route: Route) -> None:
        name = route.request.url.rpartition("/")[2]
        source = (CLIENTS / "node_modules" / SOURCES[name[0]]).read_text()
        if name[0] != "5":  # made for bundlers: what they put round it
            source = (
                f"(() => {{ const module = {{}}, exports = module; {source}\n window.atmosphere = module.exports }})()"
            )
        await route.fulfill(content_type="text/javascript", body=source)

    await page.route("**/*-client.js", answer)


TALKS = [(each, via) for each in sorted(SOURCES) for via in ("websocket", "sse", "streaming", "long-polling")]


@pytest.mark.parametrize(("generation", "transport"), TALKS)
async def test_it_asks_subscribes_and_closes(
    page: Page, gateway: GatewayProcess, generation: str, transport: str
) -> None:
    value, topic = "a|b 😀 |1|", f"{generation}-{transport}"
    produce(gateway, topic, value)
    # A page that really comes from the gateway: Chromium lets no made-up one open a socket to this machine.
    await page.goto(f"{gateway.url}/health/live")
    await page.add_script_tag(url=f"{gateway.url}/{generation}-client.js")
    asked = {"generation": generation, "transport": transport, "url": f"{gateway.url}/", "topic": topic}
    told = await page.evaluate(TALK, asked)
    topics, created, pushed, deleted = told["got"]
    assert topic in json.loads(topics[topics.index("}[") + 1 :])
    assert '"instance_id":"c"' in created
    assert json.loads(pushed[pushed.index("}[") + 1 :])[0]["value"] == value
    assert '"code":204' in deleted
    assert (told["opens"], told["errors"]) == (1, 0)
