"""The conversations on docs/websocket-proxy.md, as they are printed there: wscat's lines, sent and compared."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from typing import Any

import aiohttp

from tests.contract.test_docs import BLOCK
from tests.gateway_process import ROOT, GatewayProcess
from tests.waiting import PATIENCE_S
from tests.websocket_proxy.conftest import Log

PAGE = (ROOT / "docs" / "websocket-proxy.md").read_text(encoding="utf-8")
CONVERSATIONS = [block.splitlines() for block in BLOCK.findall(PAGE) if block.startswith("wscat ")]


async def test_the_conversations_of_the_page(proxy: GatewayProcess, create_topic: Callable[..., str], log: Log) -> None:
    assert len(CONVERSATIONS) == 2
    topic = create_topic()  # its name stands in for that of the page: other pages have one of that name
    last_id = ""
    async with aiohttp.ClientSession() as session:
        for first, *lines in CONVERSATIONS:
            _, option, url = shlex.split(first)
            assert option == "-c"
            address = url.replace("ws://127.0.0.1:8082", proxy.url).replace("orders", topic)
            async with session.ws_connect(address) as socket:
                for line in lines:
                    way, text = line[:2], line[2:].replace("orders", topic)
                    if way == "> ":
                        await socket.send_str(text.replace(f"{topic}-0-0-1554896731782", last_id))
                        continue
                    assert way == "< "
                    found: dict[str, Any] = json.loads((await socket.receive(timeout=PATIENCE_S)).data)
                    last_id = found.get("wsProxyMessageId", "")
                    timestamp = str(found["timestamp"])
                    assert json.dumps(found, separators=(",", ":")).replace(timestamp, "1554896731782") == text
                await socket.close()
    assert re.fullmatch(rf"{topic}-0-0-\d+", last_id)
    await log.committed_becomes("mails", topic, 1)
