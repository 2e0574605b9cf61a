"""S4 over envelopes: a topic's name, however it is written, is decided upon as over plain HTTP."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from kafka_gateway.assembly.app import App
from tests.behaviour.clients import SseClient
from tests.transports.conftest import Connect
from tests.transports.peer import Peer
from tests.transports.test_http_hostile import ENCODINGS
from tests.transports.wire import JSON_V2

V1 = "application/vnd.kafka.v1+json"
RECORD = b'{"records":[{"value":1}]}'
ASKED = [("GET", b"", {"accept": V1}), ("POST", RECORD, {"type": JSON_V2})]

Decision = tuple[int, Any]
Decisions = dict[str, list[Decision]]


@pytest.fixture
def settings() -> dict[str, Any]:
    return {"transport.websocket.enable": True}


def decision(status: int, payload: bytes) -> Decision:
    """What was decided; of the records only whether they were taken."""
    answer = json.loads(payload)
    if isinstance(answer, dict) and "offsets" in answer:
        answer = answer["offsets"][0]["error_code"]
    elif isinstance(answer, dict) and "message" in answer:
        answer = answer["error_code"]
    return status, answer


async def over_http(paths: dict[str, str], connect: Connect) -> Decisions:
    found: Decisions = {case: [] for case in paths}
    for case, path in paths.items():
        for method, body, types in ASKED:
            headers = {{"type": "Content-Type"}.get(name, name): value for name, value in types.items()}
            reply = await (await connect()).ask(method, path, body, **headers)
            found[case].append(decision(reply.status, reply.body))
    return found


async def over_socket(paths: dict[str, str], app: App, detached: str) -> Decisions:
    found: Decisions = {case: [] for case in paths}
    async with await Peer.open(app.addresses[0], f"/?X-Atmosphere-SimpleRestProtocolDetached={detached}") as peer:
        for case, path in paths.items():
            for method, body, types in ASKED:
                head = {"id": "1", "method": method, "path": path, **types}
                if detached == "true":
                    message = json.dumps(head) + body.decode()
                else:
                    message = json.dumps(head | ({"data": json.loads(body)} if body else {}))
                reply = await peer.ask(message)
                answer, end = json.JSONDecoder().raw_decode(reply)
                payload = reply[end:] if detached == "true" else json.dumps(answer["data"])
                found[case].append(decision(answer.get("code", 200), payload.encode()))
    return found


async def over_sse(paths: dict[str, str], app: App) -> Decisions:
    found: Decisions = {case: [] for case in paths}
    client = SseClient(app.addresses[0])
    try:
        for case, path in paths.items():
            for method, body, types in ASKED:
                answer = await client.request(
                    method, path, body, content_type=types.get("type"), accept=types.get("accept")
                )
                found[case].append(decision(answer.status, answer.payload))
    finally:
        await client.close()
    return found


async def test_s4_a_name_has_one_meaning_on_every_transport(app: App, connect: Connect, topic: str) -> None:
    name = quote(topic)
    paths = {}
    for case, (written, _) in ENCODINGS.items():
        written = written.replace(".x", "." + name).replace("%2ex", "%2e" + name).replace("%2Ex", "%2E" + name)
        paths[case] = "/topics/" + written.replace("%78", name)
    assert (await (await connect()).ask("POST", f"/topics/name.{name}", RECORD, Content_Type=JSON_V2)).status == 200
    expected = await over_http(paths, connect)
    for case, (_, same) in ENCODINGS.items():
        shown, sent = expected[case]
        assert (shown[0] == 200, sent == (200, None)) == (same, same), case
    assert await over_socket(paths, app, "true") == expected
    assert await over_socket(paths, app, "false") == expected
    assert await over_sse(paths, app) == expected
