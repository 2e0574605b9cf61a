"""What a client can have open, and what it is told when that ends."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp


async def opened(client: aiohttp.ClientSession, url: str = "") -> dict[str, Any]:
    """Sockets and an event stream of the topic ``t``. ``url``: of the gateway, if the session has none."""
    return {
        "envelope": await client.ws_connect(f"{url}/"),
        "stream socket": await client.ws_connect(f"{url}/topics/t/stream?offset=earliest"),
        "events": await client.get(f"{url}/topics/t/stream", headers={"Accept": "text/event-stream"}),
        "proxy socket": await client.ws_connect(f"{url}/socket/in?clientId=c&topic=t"),
    }


async def end_of(what: Any, within_s: float = 6) -> str:
    """All that still comes: of a socket with its close code. TimeoutError: it does not end in that time."""
    async with asyncio.timeout(within_s):
        if isinstance(what, aiohttp.ClientResponse):
            return (await what.content.read()).decode()
        told = ""
        while (message := await what.receive()).type is aiohttp.WSMsgType.TEXT:
            told += message.data
        return f"{told} {message.data}"
