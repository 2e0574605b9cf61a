"""No broker has ever answered: whatever wants one is 503 with 50302, on every route, within seconds; nothing is 500."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from typing import Any

import aiohttp
import pytest

from tests.transports.conftest import gateway
from tests.transports.wire import V2

pytestmark = pytest.mark.timeout(120)

V1, JSON_V1 = "application/vnd.kafka.v1+json", "application/vnd.kafka.json.v1+json"
JSON_V2 = "application/vnd.kafka.json.v2+json"
NAMES = {"partition": "0", "partition_id": "0", "broker_id": "1", "replica_id": "1", "name": "num.partitions"}
RECORDS = {"records": [{"value": 1}]}
PROPERTIES = {"embedded.enable": False, "push.pull.enable": True, "bridge.producer.in.path": "/hooks"}
PROPERTIES |= {"bridge.producer.in.topic": "t"}
ONE = {"partitions": [{"topic": "t", "partition": 0}]}
CHOSEN: list[tuple[str, str, Any, str, str]] = [
    ("POST", "/consumers/s/instances/i/offsets", {"offsets": [{"topic": "t", "partition": 0, "offset": 1}]}, V2, "*/*"),
    ("POST", "/consumers/a/instances/i/offsets", {"offsets": [{"topic": "t", "partition": 0, "offset": 1}]}, V2, "*/*"),
    ("GET", "/consumers/s/instances/i/offsets", ONE, V2, V2),
    ("GET", "/consumers/old/instances/i/topics/t", None, "", JSON_V1),
    ("GET", "/topics/t/partitions/0/messages?offset=0", None, "", JSON_V1),
    ("GET", "/topics/t/stream?group=g", None, "", "*/*"),
    ("POST", "/v3/clusters/c/topics", {"topic_name": "t"}, "application/json", "*/*"),
    ("GET", "/consumers/s/instances/i/records", None, "", JSON_V2),
    ("GET", "/consumers/a/instances/i/records?timeout=0", None, "", JSON_V2),
    ("POST", "/topics/t", RECORDS, JSON_V2, "*/*"),
    ("POST", "/topics/t/partitions/0", RECORDS, JSON_V2, "*/*"),
    ("POST", "/topics/v1", RECORDS, JSON_V1, V1),
    ("POST", "/topics/t/partitions/0", RECORDS, JSON_V1, V1),
    ("POST", "/hooks", {}, "application/json", "*/*"),
]
"""Beside all that can be asked without a body."""
SLOW_S = 20.0
"""A question has 5 s for its answer, records and reads wait for a second and a half; records once took 30 s."""
AS_THEY_ARE = {"/kafka/cluster/info"}
"""Protocols with statuses of their own (websocket-proxy.md §1.2)."""


async def test_nothing_is_500_when_no_broker_answers() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        where = f"127.0.0.1:{unused.getsockname()[1]}"
        slow: list[tuple[str, float]] = []
        async with (
            gateway(**{"bootstrap.servers": where, **PROPERTIES}) as app,
            aiohttp.ClientSession(app.addresses[0], connector=aiohttp.TCPConnector(limit=0)) as http,
        ):

            async def ask(method: str, path: str, body: Any = None, type_: str = "", accept: str = "*/*") -> Any:
                began = time.monotonic()
                headers = {"Accept": accept} | ({"Content-Type": type_} if type_ else {})
                data = None if body is None else json.dumps(body)
                async with http.request(method, path, data=data, headers=headers) as reply:
                    text = await reply.text()
                    code = re.search(r'"error_code":(\d+)', text)
                    if (seconds := time.monotonic() - began) > SLOW_S:
                        slow.append((path, seconds))
                    return method, path, reply.status, int(code[1]) if code else 0

            for group, version in (("s", V2), ("a", V2), ("old", V1)):
                await ask("POST", f"/consumers/{group}", {"name": "i", "format": "json"}, version, version)
            await ask("POST", "/consumers/s/instances/i/subscription", {"topics": ["t"]}, V2)
            await ask("POST", "/consumers/a/instances/i/assignments", ONE, V2)
            async with http.get("/openapi.json") as reply:
                described = (await reply.json())["paths"]
            plain = [
                (method.upper(), re.sub(r"\{(\w+)\}", lambda name: NAMES.get(name[1], "t"), path))
                for path, operations in described.items()
                for method in operations
                if method in ("get", "delete")
            ]
            assert len(plain) > 60
            answers = await asyncio.gather(*(ask(*each) for each in plain), *(ask(*each) for each in CHOSEN))
    assert slow == []
    failed = [each for each in answers if each[2] >= 500 and each[2:] not in ((503, 50302), (503, 0))]
    assert [each for each in failed if each[1] not in AS_THEY_ARE] == []
    told = {each[:2] for each in answers if each[2:] == (503, 50302)}
    assert {each[:2] for each in CHOSEN} - told == set()
    of_v3 = {each[:2] for each in answers if each[1].startswith("/v3/") and each[2] != 400}
    assert len(of_v3) > 30
    assert of_v3 - told == set()
