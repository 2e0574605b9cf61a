"""``?dry_run=true`` on every produce route, over HTTP and in envelopes: who may not write is refused, and nothing is
written."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from kafka_gateway.assembly.app import App
from tests.rights.conftest import Rules

SETTINGS = {"api.v3.enable": True}
RECORDS: dict[str, Any] = {"records": [{"value": "mark"}]}
V3_RECORD: dict[str, Any] = {"value": {"type": "JSON", "data": "mark"}}
V3 = "/v3/clusters/any/topics/secret/records"
ROUTES = {
    "v1": ("/topics/secret", "application/vnd.kafka.json.v1+json", RECORDS),
    "v1-partition": ("/topics/secret/partitions/0", "application/vnd.kafka.json.v1+json", RECORDS),
    "v2": ("/topics/secret", "application/vnd.kafka.json.v2+json", RECORDS),
    "v2-partition": ("/topics/secret/partitions/0", "application/vnd.kafka.json.v2+json", RECORDS),
    "v3": (V3, "application/json", V3_RECORD),
    "v3-batch": (f"{V3}:batch", "application/json", {"entries": [{"id": "1", **V3_RECORD}]}),
}


async def by_http(client: aiohttp.ClientSession, path: str, type_: str, body: Any) -> tuple[int, Any]:
    async with client.post(path, data=json.dumps(body), headers={"Content-Type": type_}) as reply:
        return reply.status, await reply.json(content_type=None)


async def by_envelope(client: aiohttp.ClientSession, path: str, type_: str, body: Any) -> tuple[int, Any]:
    async with client.ws_connect("/") as socket:
        head = {"id": "1", "method": "POST", "path": path, "type": type_}
        await socket.send_str(json.dumps(head) + json.dumps(body))
        text, content = "", ""
        while True:
            text = await socket.receive_str(timeout=10)
            found, end = json.JSONDecoder().raw_decode(text)
            content += text[end:]
            if not found.get("continue"):
                break
        return int(found.get("status", found["code"])), json.loads(content)


def rows(reply: Any) -> list[Any]:
    """Partition, offset and error of each record."""
    found = reply.get("offsets") or [*reply.get("successes", ()), *reply.get("failures", ())] or [reply]
    return [(row.get("partition", row.get("partition_id")), row.get("offset"), row.get("error")) for row in found]


async def stored(client: aiohttp.ClientSession) -> int:
    url = "/topics/secret/stream?offset=earliest&until=end&format=json"
    async with client.get(url, headers={"Accept": "application/x-ndjson"}) as reply:
        assert reply.status == 200
        return (await reply.text()).count('"mark"')


@pytest.mark.parametrize("settings", [SETTINGS])
@pytest.mark.parametrize("way", [by_http, by_envelope])
@pytest.mark.parametrize("route", ROUTES)
async def test_it_needs_the_right_and_writes_nothing(app: App, rules: Rules, way: Any, route: str) -> None:
    path, type_, body = ROUTES[route]
    async with aiohttp.ClientSession(app.addresses[0]) as client:
        rules.set("allow * read topic:secret\nallow * all topic:orders\nallow * read group:*\nallow * all cluster")
        status, reply = await way(client, f"{path}?dry_run=true", type_, body)
        assert status == 403, reply
        rules.set("allow * write topic:secret")
        status, reply = await way(client, f"{path}?dry_run=true", type_, body)
        assert status == (207 if route == "v3-batch" else 200), reply
        assert rows(reply) == [(0, None, None) if "partition" in route else (None, None, None)]
        assert (await way(client, f"{path}?dry_run=perhaps", type_, body))[0] == 400
        rules.set("allow * all *")
        before = await stored(client)
        status, reply = await way(client, f"{path}?dry_run=false", type_, body)
        assert rows(reply)[0][1] is not None
        assert await stored(client) == before + 1
