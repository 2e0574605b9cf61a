"""Connections of plain HTTP: keep-alive, HTTP/1.0, pipelining, HEAD, OPTIONS, Expect, names in paths."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kafka_gateway.assembly.app import App
from tests.transports.conftest import Connect
from tests.transports.wire import JSON_V2, V2, Wire, produce, request
from tests.waiting import until

ROUTES = [
    ("/", "GET, HEAD, OPTIONS, POST"),
    ("/brokers", "GET, HEAD, OPTIONS"),
    ("/topics", "GET, HEAD, OPTIONS"),
    ("/topics/t", "GET, HEAD, OPTIONS, POST"),
    ("/topics/t/partitions", "GET, HEAD, OPTIONS"),
    ("/topics/t/partitions/0", "GET, HEAD, OPTIONS, POST"),
    ("/topics/t/partitions/0/offsets", "GET, HEAD, OPTIONS"),
    ("/topics/t/partitions/0/messages", "GET, HEAD, OPTIONS"),
    ("/consumers/g", "OPTIONS, POST"),
    ("/consumers/g/instances/i", "DELETE, OPTIONS"),
    ("/consumers/g/instances/i/subscription", "DELETE, GET, HEAD, OPTIONS, POST"),
    ("/consumers/g/instances/i/assignments", "GET, HEAD, OPTIONS, POST"),
    ("/consumers/g/instances/i/positions", "OPTIONS, POST"),
    ("/consumers/g/instances/i/positions/beginning", "OPTIONS, POST"),
    ("/consumers/g/instances/i/positions/end", "OPTIONS, POST"),
    ("/consumers/g/instances/i/offsets", "GET, HEAD, OPTIONS, POST"),
    ("/consumers/g/instances/i/records", "GET, HEAD, OPTIONS"),
    ("/consumers/g/instances/i/topics/t", "GET, HEAD, OPTIONS"),
    ("/health/live", "GET, HEAD, OPTIONS"),
    ("/health/ready", "GET, HEAD, OPTIONS"),
    ("/topics/t/stream", "GET, HEAD, OPTIONS"),
]

ELSEWHERE = (
    "/metrics",
    "/admin/",
    "/bridges",
    "/healthz",
    "/readyz",
    "/ws/",
    "/socket/",
    "/flasfka/",
    "/v3/",
    "/console/",
)


def test_the_table_of_routes_is_complete(app: App) -> None:
    public = [route for route in app.gateway.router.routes if not route.area]
    routes = [route for route in public if not route.template.startswith(ELSEWHERE)]
    assert len({route.template for route in routes}) == len(ROUTES)


async def test_health(wire: Wire) -> None:
    live, ready = await wire.ask("GET", "/health/live"), await wire.ask("GET", "/health/ready")
    assert (live.status, live.json) == (200, {"status": "live"})
    assert (ready.status, ready.json) == (200, {"status": "ready"})


async def test_options_tells_the_methods(wire: Wire) -> None:
    for path, allow in ROUTES:
        reply = await wire.ask("OPTIONS", path)
        assert (reply.status, reply.headers["allow"], reply.body) == (200, allow, b""), path
        refused = await wire.ask("PATCH", path)
        assert (refused.status, refused.headers["allow"]) == (405, allow), path
        assert refused.json == {"error_code": 405, "message": "HTTP 405 Method Not Allowed"}


async def test_options_of_the_whole_server(wire: Wire) -> None:
    reply = await wire.ask("OPTIONS", "*")
    assert (reply.status, reply.headers["allow"]) == (200, "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT")


@pytest.mark.parametrize("settings", [{"reject.options.request": True}])
async def test_options_can_be_refused(wire: Wire) -> None:
    assert (await wire.ask("OPTIONS", "/topics")).status == 405


async def test_head_is_get_without_the_body(wire: Wire) -> None:
    for path in (path for path, allow in ROUTES if "HEAD" in allow):
        get, head = await wire.ask("GET", path), await wire.ask("HEAD", path)
        assert get.body, path
        assert head.status == get.status, path
        for each in (get, head):
            del each.headers["date"], each.headers["x-request-id"]
        assert head.headers == get.headers, path


async def test_a_connection_serves_many_requests(wire: Wire, topic: str) -> None:
    for number in range(20):
        await wire.send(produce(topic, b'{"records":[{"value":%d,"partition":0}]}' % number))
        reply = await wire.reply()
        assert (reply.status, reply.json["offsets"][0]["offset"]) == (200, number)
        assert "connection" not in reply.headers


async def test_it_works_on_after_a_refusal(wire: Wire, topic: str) -> None:
    for body, content_type, status in (
        (b"{", JSON_V2, 400),
        (b'{"records":1}', JSON_V2, 400),
        (b'{"records":[]}', JSON_V2, 422),
        (b'{"records":[{"value":"?"}]}', "application/vnd.kafka.binary.v2+json", 400),
        (b"{}", "text/plain", 415),
        (b"{}", "a/b/c", 400),
    ):
        reply = await wire.ask("POST", f"/topics/{topic}", body, Content_Type=content_type)
        assert reply.status == status, (body, content_type, reply)
        assert not reply.closes
    assert (await wire.ask("GET", "/nowhere")).status == 404
    await wire.send(produce(topic))
    assert (await wire.reply()).status == 200


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_connection_close(wire: Wire, version: str) -> None:
    reply = await wire.ask("GET", "/topics", version=version, Connection="close")
    assert reply.status == 200
    assert reply.closes
    assert await wire.closed() == b""


async def test_http_1_0_closes_unless_asked_to_keep_alive(connect: Connect) -> None:
    wire = await connect()
    await wire.send(b"GET /topics HTTP/1.0\r\n\r\n")  # without Host, as 1.0 allows
    assert (await wire.reply()).closes
    assert await wire.closed() == b""
    wire = await connect()
    for _ in range(3):
        reply = await wire.ask("GET", "/topics", version="1.0", Connection="keep-alive")
        assert (reply.status, reply.headers["connection"]) == (200, "keep-alive")


async def test_pipelined_requests_are_answered_in_order(wire: Wire, topic: str) -> None:
    """More than aiohttp queues (32), with a slow one at the front and a bad one in the middle."""
    bodies = [b'{"records":[{"value":%d,"partition":0}]}' % number for number in range(100)]
    await wire.send(
        request("GET", "/health/ready")
        + b"".join(produce(topic, body) for body in bodies[:50])
        + request("GET", "/nowhere")
        + b"".join(produce(topic, body) for body in bodies[50:])
    )
    replies = [await wire.reply() for _ in range(102)]
    assert [each.status for each in replies] == [200] * 51 + [404] + [200] * 50
    offsets = [each.json["offsets"][0]["offset"] for each in replies if "offsets" in each.json]
    assert offsets == list(range(100))


@pytest.mark.parametrize(
    "sent",
    [
        produce("{}") * 2 + b"GET /x y HTTP/1.1\r\n\r\n",
        request("POST", "/topics/{}", Content_Type=JSON_V2, Transfer_Encoding="chunked")
        + b'19\r\n{"records":[{"value":1}]}\r\n0\r\n\r\n'
        + produce("{}")
        + b"GET /topics HTTP/1.1\r\nno field\r\n\r\n",
        produce("{}") * 50 + b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
)
async def test_what_comes_before_an_invalid_request_is_answered(connect: Connect, topic: str, sent: bytes) -> None:
    """Fault: all of the segment was thrown away, and only 400 came. Also where the segment ends in between.

    Fault: a request that was taken from the queue before its body had come counted for ever, so that of the requests
    behind it the last were not answered until the client sent more.
    """
    sent = sent.replace(b"{}", topic.encode())
    valid = sent.count(b"POST")
    for cut in (0, 150, len(sent) - 30):
        wire = await connect()
        await wire.send(sent[:cut])
        await asyncio.sleep(0)
        await wire.send(sent[cut:])
        replies = [await wire.reply() for _ in range(valid + 1)]
        assert [each.status for each in replies] == [200] * valid + [400]
        assert await wire.closed() == b""


async def test_a_request_in_single_bytes(wire: Wire, topic: str) -> None:
    for byte in produce(topic):
        await wire.send(bytes([byte]))
    assert (await wire.reply()).status == 200


async def test_a_chunked_body(wire: Wire, topic: str) -> None:
    head = request("POST", f"/topics/{topic}", Content_Type=JSON_V2, Transfer_Encoding="chunked")
    body = b'{"records":[{"value":1}]}'
    await wire.send(head + b"".join(b"1;x=y\r\n%c\r\n" % byte for byte in body) + b"0\r\nTrailer: x\r\n\r\n")
    assert (await wire.reply()).status == 200
    assert (await wire.ask("GET", "/health/live")).status == 200


async def test_a_chunked_body_in_single_bytes(wire: Wire, topic: str) -> None:
    head = request("POST", f"/topics/{topic}", Content_Type=JSON_V2, Transfer_Encoding="chunked")
    await wire.send(head)
    for byte in b"19\r\n" + b'{"records":[{"value":1}]}' + b"\r\n0\r\n\r\n":
        await wire.send(bytes([byte]))
    assert (await wire.reply()).status == 200


# --- Expect: 100-continue (RFC 9110 §10.1.1) -------------------------------------------------------------------------


async def test_a_client_that_waits_is_told_to_go_on(wire: Wire, topic: str) -> None:
    head, _, body = produce(topic, Expect="100-continue").partition(b"\r\n\r\n")
    await wire.send(head + b"\r\n\r\n")
    assert (await wire.reply()).status == 100
    await wire.send(body)
    reply = await wire.reply()
    assert (reply.status, len(reply.json["offsets"])) == (200, 1)


async def test_a_client_that_does_not_wait_is_told_nothing(wire: Wire, topic: str) -> None:
    await wire.send(produce(topic, Expect="100-continue"))
    assert (await wire.reply()).status == 200


@pytest.mark.parametrize("settings", [{"request.max.bytes": 1000}])
async def test_a_client_that_waits_in_vain(wire: Wire) -> None:
    await wire.send(request("POST", "/topics/t", Content_Length="1001", Expect="100-continue", Content_Type=JSON_V2))
    reply = await wire.reply()
    assert reply.status == 413
    assert reply.closes


async def test_an_expectation_that_nobody_can_meet(wire: Wire) -> None:
    await wire.send(request("POST", "/topics/t", Content_Length="2", Expect="200-ok", Content_Type=JSON_V2))
    reply = await wire.reply()
    assert (reply.status, reply.json["error_code"]) == (417, 417)


async def test_http_1_0_knows_no_100(wire: Wire, topic: str) -> None:
    head, _, body = produce(topic, Expect="100-continue").replace(b"HTTP/1.1", b"HTTP/1.0").partition(b"\r\n\r\n")
    await wire.send(head + b"\r\n\r\n")
    await asyncio.sleep(0.05)  # time itself: nothing comes back
    await wire.send(body)
    assert (await wire.reply()).status == 200


# --- upgrades that nobody takes (RFC 9110 §7.8) ----------------------------------------------------------------------


async def test_an_offer_of_http_2_is_passed_over(wire: Wire, topic: str) -> None:
    """Java's HttpClient makes it with its first request, body or not, and curl --http2 does."""
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAEAAEAAAAIAAAABAAMAAABk"}
    for _ in range(2):
        assert (await wire.ask("GET", "/health/live", **offer)).json == {"status": "live"}
        head, _, body = produce(topic, **offer).partition(b"\r\n\r\n")
        for parts in ((head + b"\r\n\r\n" + body,), (head + b"\r\n\r\n", body[:5], body[5:])):
            for part in parts:
                await wire.send(part)
                await asyncio.sleep(0.01)  # time itself: so that they come as several segments
            reply = await wire.reply()
            assert (reply.status, len(reply.json.get("offsets", ()))) == (200, 1), reply


async def test_an_offer_of_a_websocket_is_passed_over(wire: Wire) -> None:
    await wire.send(request("GET", "/health/live", Connection="Upgrade", Upgrade="websocket"))
    assert (await wire.reply()).json == {"status": "live"}
    assert (await wire.ask("GET", "/brokers")).status == 200


# --- paths -----------------------------------------------------------------------------------------------------------


async def test_percent_encoded_names(wire: Wire, topic: str) -> None:
    encoded = "".join(f"%{ord(char):02x}" for char in topic)
    await wire.send(produce(encoded))
    assert (await wire.reply()).json["offsets"][0]["error_code"] is None
    reply = await wire.ask("GET", f"/topics/{encoded}")
    assert (reply.status, reply.json["name"]) == (200, topic)


async def test_percent_encoded_groups_and_instances(wire: Wire) -> None:
    body = b'{"name":"in st/\xc3\xa4","format":"json"}'
    made = await wire.ask("POST", "/consumers/gr%C3%B6%2F+%20p", body, Content_Type=V2)
    assert (made.status, made.json["instance_id"]) == (200, "in st/ä")
    assert (await wire.ask("DELETE", "/consumers/gr%c3%b6%2f+%20p/instances/in%20st%2F%c3%a4")).status == 204


async def test_a_204_has_no_body(wire: Wire) -> None:
    await wire.ask("POST", "/consumers/g204", b'{"name":"i"}', Content_Type=V2)
    reply = await wire.ask("DELETE", "/consumers/g204/instances/i")
    assert reply.status == 204
    assert not {"content-length", "content-type", "content-encoding"} & reply.headers.keys()
    assert (await wire.ask("GET", "/health/live")).status == 200


@pytest.mark.parametrize("target", ["http://other.example/health/live", "HTTPS://[::1]:80/health/live"])
async def test_a_whole_url_as_the_target(wire: Wire, target: str) -> None:
    assert (await wire.ask("GET", target)).json == {"status": "live"}


# --- who leaves ------------------------------------------------------------------------------------------------------


LEAVINGS: dict[str, tuple[bytes, bool]] = {
    "with nothing sent": (b"", False),
    "in the head": (b"GET /topics HTTP/1.1\r\nHost: x", False),
    "after the head": (request("POST", "/topics/t", Content_Length="100", Content_Type=JSON_V2), True),
    "in the body": (request("POST", "/topics/t", Content_Length="9", Content_Type=JSON_V2) + b"{", True),
    "in a chunk": (request("POST", "/topics/t", Transfer_Encoding="chunked", Content_Type=JSON_V2) + b"5\r\n{", True),
    "before the reply": (produce("leaving") * 3, True),
    "while reading": (request("GET", "/consumers/left/instances/i/records?timeout=60000", Accept=JSON_V2), True),
}


ALONE = "http://127.0.0.2:0"
"""An address that nobody else can mean: Kafka clients of earlier tests look on for brokers that have gone, and the
system gives the port of one on 127.0.0.1 to somebody else."""


@pytest.mark.parametrize("settings", [{"consumer.request.timeout.ms": 60000, "listeners": ALONE}])
@pytest.mark.parametrize("how", ["end", "reset"])
@pytest.mark.parametrize("when", LEAVINGS)
async def test_a_client_that_leaves_costs_nothing(
    app: App, connect: Connect, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, when: str, how: str
) -> None:
    data, has_session = LEAVINGS[when]
    monkeypatch.setattr("kafka_gateway.door.connection.HALF_CLOSED_WAIT_S", 0.2)  # "while reading"
    wire = await connect()
    await wire.ask("POST", "/consumers/left", b'{"name":"i","format":"json"}', Content_Type=V2)
    body = b'{"topics":["left"]}'
    assert (await wire.ask("POST", "/consumers/left/instances/i/subscription", body, Content_Type=V2)).status == 204
    caplog.clear()
    before = _costs(app)
    leavers = [await connect() for _ in range(20)]
    for leaver in leavers:
        await leaver.send(data)
    if has_session:
        await until(lambda: len(app.gateway.sessions) >= before["sessions"] + 1)
    for leaver in leavers:
        leaver.writer.transport.abort() if how == "reset" else leaver.writer.close()
    await until(lambda: _costs(app) == before)
    assert (await wire.ask("GET", "/health/live")).status == 200
    # Kafka clients of other tests may still tell that their brokers have gone.
    told = [each for each in caplog.records if each.name != "gateway.kafka.librdkafka"]
    assert [each.getMessage() for each in told if each.levelname not in ("DEBUG", "INFO")] == []
    services: Any = {each.service for each in app.gateway.router.routes}
    reads = next(each.registry for each in services if hasattr(each, "registry"))
    assert [instance.running for instance in reads._instances.values()] == [0]


def _costs(app: App) -> dict[str, Any]:
    return {
        "sessions": len(app.gateway.sessions),
        "connections": app.host.connection_count,
        "requests": app.gateway.running,
        "tasks": len(asyncio.all_tasks()),
    }
