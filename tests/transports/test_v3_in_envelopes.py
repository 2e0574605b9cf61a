"""Streaming produce requests of v3 in envelopes: kafka-rest-http.md §7.10, in parts as atmosphere-binding.md §1.7 says.

On the embedded Kafka, through a WebSocket.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.transports.envelope import streamed_bodies
from tests.transports.conftest import gateway
from tests.transports.peer import Peer
from tests.waiting import until


@pytest.fixture
async def app(settings: dict[str, Any]) -> AsyncIterator[App]:
    async with gateway(**{"transport.websocket.enable": True, "api.v3.enable": True, **settings}) as running:
        yield running


@pytest.fixture
async def peer(app: App) -> AsyncIterator[Peer]:
    async with await Peer.open(app.addresses[0]) as opened:
        yield opened


def record(data: Any) -> str:
    return json.dumps({"partition_id": 0, "value": {"type": "STRING", "data": data}})


def head(topic: str, **members: Any) -> str:
    path = f"/v3/clusters/c/topics/{topic}/records"
    return json.dumps({"id": "a", "method": "POST", "path": path, "type": "application/json", **members})


def part(**members: Any) -> str:
    return json.dumps({"id": "a", **members})


MORE = {"continue": True}


async def reply(peer: Peer) -> tuple[dict[str, Any], Any]:
    """The head of the next message, and its content, JSON or nothing."""
    text = await peer.text()
    found, end = json.JSONDecoder().raw_decode(text)
    return found, json.loads(text[end:]) if text[end:] else None


async def codes(peer: Peer) -> list[int]:
    """The codes of all reports up to the end of the reply."""
    found = []
    while True:
        head_, report = await reply(peer)
        if report is not None:
            found.append(report["error_code"])
        if not head_.get("continue"):
            return found


async def test_reports_come_while_the_request_is_sent(peer: Peer, topic: str) -> None:
    await peer.send(head(topic, **MORE) + record("0"))
    for number in range(3):
        head_, report = await reply(peer)
        assert head_ == {"code": 200, "continue": True, "id": "a", "type": "application/json"}
        assert (report["error_code"], report["offset"]) == (200, number)
        half = record(str(number + 1))
        await peer.send(part(**MORE) + half[:10])
        await peer.send(part(**MORE) + half[10:])
    assert (await reply(peer))[1]["offset"] == 3
    await peer.send(part())
    assert await reply(peer) == ({"code": 200, "id": "a"}, None)
    # The id is free again.
    await peer.send(head(topic) + record("x"))
    head_, report = await reply(peer)
    assert (head_, report["offset"]) == ({"code": 200, "id": "a", "type": "application/json"}, 4)


async def test_each_report_of_a_whole_request_is_a_part(peer: Peer, topic: str) -> None:
    await peer.send(head(topic) + record("1") + record(2) + record("3"))
    assert await codes(peer) == [200, 400, 200]


async def test_other_requests_go_on_beside_it(peer: Peer, topic: str) -> None:
    await peer.send(head(topic, **MORE) + record("0"))
    assert (await reply(peer))[1]["error_code"] == 200
    assert (await peer.ask('{"id":"b","path":"/health/live"}')).startswith('{"code":200,"id":"b"')
    await peer.send(part() + record("1"))
    assert await codes(peer) == [200]


async def test_embedded_parts_are_strings(peer: Peer, topic: str) -> None:
    await peer.send(head(topic, **MORE, data=json.loads(record("0"))))
    message = json.loads(await peer.text())
    assert message["continue"] is True
    assert json.loads(message["data"])["error_code"] == 200
    await peer.send(part())
    assert json.loads(await peer.text()) == {"id": "a", "code": 200}


async def test_what_follows_a_refusal_is_ignored(peer: Peer, topic: str) -> None:
    await peer.send(head(topic, **MORE, type="text/plain") + record("0"))
    assert (await reply(peer))[0]["code"] == 415
    await peer.send(part(**MORE) + record("1"))
    await peer.send(part() + record("2"))
    assert (await peer.ask('{"id":"b","path":"/health/live"}')).startswith('{"code":200,"id":"b"')
    await peer.send(head(topic) + record("3"))
    assert (await reply(peer))[1]["offset"] == 0


async def test_broken_json_ends_the_reply(peer: Peer, topic: str) -> None:
    await peer.send(head(topic, **MORE) + record("0") + "}")
    assert await codes(peer) == [200, 400]
    await peer.send(part() + record("1"))
    assert (await peer.ask('{"id":"b","path":"/health/live"}')).startswith('{"code":200,"id":"b"')


@pytest.mark.parametrize("settings", [{"transport.websocket.sequence.timeout.ms": 200}])
async def test_a_request_that_does_not_go_on_is_over(peer: Peer, topic: str) -> None:
    await peer.send(head(topic, **MORE) + record("0"))
    assert await codes(peer) == [200, 408]


@pytest.mark.parametrize("settings", [{"transport.websocket.sequences.max": 1}])
async def test_so_many_at_once(peer: Peer, topic: str) -> None:
    await peer.send(head(topic, **MORE) + record("0"))
    assert (await reply(peer))[1]["error_code"] == 200
    await peer.send(head(topic, **MORE, id="b") + record("1"))
    refusal = (await reply(peer))[0]
    assert (refusal["code"], refusal["id"]) == (429, "b")
    await peer.send(part() + record("2"))
    assert await codes(peer) == [200]


async def test_nothing_more_is_read_while_nobody_takes_it(
    peer: Peer, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed_bodies, "WAITING_MAX", 100)
    await peer.send(head(topic, **MORE))
    for number in range(200):
        await peer.send(part(**MORE) + record(str(number)))
    await peer.send(part())
    assert await codes(peer) == [200] * 200


async def test_a_client_that_leaves_leaves_nothing(app: App, topic: str) -> None:
    async with await Peer.open(app.addresses[0]) as peer:
        await peer.send(head(topic, **MORE) + record("0") + record("1")[:9])
        assert (await reply(peer))[1]["error_code"] == 200
        peer.kill()
    await until(lambda: not app.gateway.running)
