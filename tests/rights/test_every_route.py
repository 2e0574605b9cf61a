"""Every route needs what the table says, on every carrier of requests: without one of its needs it is refused."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.assembly.plugins import Plugins
from kafka_gateway.messages import Request
from kafka_gateway.session import Session
from tests.rights.conftest import EVERYTHING_ON, Rules
from tests.rights.needs import ROWS, SERVED, Row
from tests.transports.conftest import gateway

FORBIDDEN = 403
V1, V2 = "application/vnd.kafka.v1+json", "application/vnd.kafka.v2+json"
READS = {"v1": "application/vnd.kafka.json.v1+json", "v2": "application/vnd.kafka.json.v2+json"}

BODIES: dict[str, Any] = {
    "/subscription": {"topics": ["orders"]},
    "/assignments": {"partitions": [{"topic": "orders", "partition": 0}]},
    "/positions": {"offsets": [{"topic": "orders", "partition": 0, "offset": 0}]},
    "/positions/beginning": {"partitions": [{"topic": "orders", "partition": 0}]},
    "/positions/end": {"partitions": [{"topic": "orders", "partition": 0}]},
    "/topics/{topic}": {"records": [{"value": 1}]},
    "/partitions/{partition:int}": {"records": [{"value": 1}]},
}
Ask = Callable[[Row], Awaitable[tuple[int, Any]]]
"""Sends the request of a row: status, and the JSON of the reply."""


def registered(app: App) -> list[Row]:
    """The rows of routes that there are."""
    there = {(each.method, each.template) for each in app.gateway.router.routes}
    return [row for row in ROWS if (row.method, row.template) in there]


def headers_of(row: Row) -> dict[str, str]:
    """The media types that lead to the generation of the row."""
    if row.kind == "v3" and row.method in ("POST", "PUT", "PATCH"):
        return {"content-type": "application/json"}
    if row.kind not in ("v1", "v2"):
        return {}
    reads = row.template.endswith(("/records", "/messages", "/instances/{instance}/topics/{topic}"))
    produces = row.method == "POST" and row.template.startswith("/topics/")
    type_ = READS[row.kind] if produces else {"v1": V1, "v2": V2}[row.kind]
    accept = READS[row.kind] if reads and row.method == "GET" else {"v1": V1, "v2": V2}[row.kind]
    return {"accept": accept, "content-type": type_} if row.method in ("POST", "PUT", "GET") else {"accept": accept}


def body_of(row: Row) -> bytes:
    if row.method not in ("POST", "PUT", "PATCH"):
        return b""
    found = [body for end, body in BODIES.items() if row.template.endswith(end)]
    return json.dumps(found[0] if found else {}).encode()


def allowing(row: Row, *but: str) -> str:
    """Rules by which anybody may do what the row needs, but for this."""
    return "\n".join(f"allow User:anonymous {need}" for need in row.needs if need not in but)


def test_every_registered_route_is_in_the_table(app: App) -> None:
    known = {(row.method, row.template, row.kind) for row in ROWS}
    routes = {(each.method, each.template, each.generation or each.area or "-") for each in app.gateway.router.routes}
    assert routes - known == set(), "write down what these need"
    transports = Plugins(installed=False).transports(app.gateway.config)
    served = {each.name: each.permission for transport in transports for each in transport.resources}
    assert served == SERVED


def test_a_declaration_says_what_the_table_says(app: App) -> None:
    routes = {
        (each.method, each.template, each.generation or each.area or "-"): each for each in app.gateway.router.routes
    }
    for row in registered(app):
        route = routes[row.method, row.template, row.kind]
        assert (route.permission == "open") is (row.word == "open"), row
        if row.word == "list":
            assert [each.parameter or each.name for each in route.permissions] == [""], row


async def through_dispatch(app: App) -> AsyncIterator[Ask]:
    session = Session("test")
    app.gateway.admission.welcome(session)

    async def ask(row: Row) -> tuple[int, Any]:
        area = row.kind if row.kind.startswith("websocket-proxy") else ""
        request = Request(
            session, row.method, row.path, headers=headers_of(row), body=body_of(row), area=area,
            default_generation=row.kind if row.kind in ("v1", "v2") else "",
        )  # fmt: skip
        reply = await app.gateway.dispatch(request)
        if not isinstance(reply.body, bytes):
            await reply.body.aclose()
            return reply.status, None
        return reply.status, reply.body

    yield ask


async def through_http(app: App) -> AsyncIterator[Ask]:
    async with aiohttp.ClientSession(app.addresses[0]) as client:

        async def ask(row: Row) -> tuple[int, Any]:
            names = {name.title(): value for name, value in headers_of(row).items()}
            async with client.request(
                row.method, row.path, data=body_of(row) or None, headers=names, skip_auto_headers=["Content-Type"]
            ) as reply:
                stream = reply.headers.get("Content-Type", "").startswith(("application/x-ndjson", "text/event"))
                return reply.status, None if stream else await reply.read()

        yield ask


async def through_an_envelope(app: App) -> AsyncIterator[Ask]:
    async with aiohttp.ClientSession(app.addresses[0]) as client, client.ws_connect("/") as socket:
        numbers = itertools.count()

        async def ask(row: Row) -> tuple[int, Any]:
            names, id = headers_of(row), str(next(numbers))
            head = {"id": id, "method": row.method, "path": row.path}
            head |= {"accept": names["accept"]} if "accept" in names else {}
            head |= {"type": names["content-type"]} if "content-type" in names else {}
            await socket.send_str(json.dumps(head) + body_of(row).decode())
            while True:
                text = await socket.receive_str(timeout=10)
                reply, end = json.JSONDecoder().raw_decode(text)
                if reply.get("id") == id:
                    return reply.get("status", reply.get("code")), text[end:].encode()

        yield ask


CARRIERS = {"dispatch": through_dispatch, "http": through_http, "envelope": through_an_envelope}
INSTANCES = Row("v2", "POST", "/consumers/{group}", (), "")


@pytest.fixture(params=CARRIERS)
async def ask(request: pytest.FixtureRequest, app: App) -> AsyncIterator[Ask]:
    async for each in CARRIERS[request.param](app):
        yield each


def served_by(ask_name: str, row: Row) -> bool:
    """Whether that carrier leads to the row at all."""
    if ask_name == "dispatch":
        return True
    if row.kind.startswith("websocket-proxy") or row.template.startswith("/socket/"):
        return False
    if ask_name == "envelope":
        return not row.template.startswith("/ws/")
    return row.method not in ("OPTIONS", "TRACE")


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_without_one_of_its_needs_a_route_is_refused(carrier: str, rules: Rules, app: App) -> None:
    """All in one gateway: a thousand requests."""
    async for ask in CARRIERS[carrier](app):
        for row in registered(app):
            if not served_by(carrier, row) or row.word == "read nothing":
                continue
            for missing in row.needs:
                await asyncio.sleep(0)  # refused at once, all of them would be one step of the loop
                rules.set(allowing(row, missing))
                status, body = await ask(row)
                assert status == FORBIDDEN, (row, missing, status, body)
                operation, _, what = missing.partition(" ")
                kind, _, name = what.partition(":")
                assert body is not None
                if row.method != "HEAD":
                    assert f"User:anonymous may not {operation.replace('-', ' ').split()[0]}".encode() in body, body
                    assert (name or kind).encode() in body


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_with_just_its_needs_a_route_passes(carrier: str, rules: Rules, app: App) -> None:
    async for ask in CARRIERS[carrier](app):
        for row in registered(app):
            if not served_by(carrier, row) or row.word == "read nothing":
                continue
            rules.set(allowing(row))
            status, body = await ask(row)
            in_body = any(row.template.endswith(end) for end in ("/subscription", "/assignments", "/positions",
                          "/positions/beginning", "/positions/end", "/offsets/alter/{topic}"))  # fmt: skip
            assert status != FORBIDDEN or in_body, (row, body)


# --- names in bodies -------------------------------------------------------------------------------------------------

PLACES = [{"topic": "orders", "partition": 0}, {"topic": "secret", "partition": 0}]
OFFSETS = [{**each, "offset": 1} for each in PLACES]
INSTANCE = "/consumers/g/instances/c"
ACL = {
    "resource_type": "TOPIC", "resource_name": "t", "pattern_type": "LITERAL", "principal": "User:x", "host": "*",
    "operation": "READ", "permission": "ALLOW",
}  # fmt: skip
IN_BODIES = [
    ("POST", INSTANCE + "/subscription", {"topics": ["orders", "secret"]}, "read topic:secret"),
    ("POST", INSTANCE + "/assignments", {"partitions": PLACES}, "read topic:secret"),
    ("POST", INSTANCE + "/positions", {"offsets": OFFSETS}, "read topic:secret"),
    ("POST", INSTANCE + "/positions", {"timestamps": [{**PLACES[1], "timestamp": "2026-01-01T00:00:00Z"}]},
     "read topic:secret"),
    ("POST", INSTANCE + "/positions/beginning", {"partitions": PLACES}, "read topic:secret"),
    ("POST", INSTANCE + "/positions/end", {"partitions": PLACES}, "read topic:secret"),
    ("POST", INSTANCE + "/offsets", {"offsets": OFFSETS}, "read topic:secret"),
    ("GET", INSTANCE + "/offsets", {"partitions": PLACES}, "describe topic:secret"),
]  # fmt: skip


@pytest.fixture
async def send(app: App, rules: Rules) -> AsyncIterator[Callable[..., Awaitable[tuple[int, Any]]]]:
    """Sends a v2 request; an instance ``c`` of the group ``g`` is there."""
    async with aiohttp.ClientSession(app.addresses[0]) as client:

        async def send(method: str, path: str, body: Any = None, accept: str = V2) -> tuple[int, Any]:
            data = None if body is None else json.dumps(body)
            async with client.request(method, path, data=data, headers={"Content-Type": V2, "Accept": accept}) as reply:
                text = await reply.read()
                return reply.status, json.loads(text) if text else None

        rules.set("allow * read group:g\nallow * read topic:orders")
        status, _ = await send("POST", "/consumers/g", {"name": "c", "format": "json", "auto.offset.reset": "earliest"})
        assert status == 200
        yield send


@pytest.mark.parametrize(("method", "path", "body", "missing"), IN_BODIES)
async def test_one_forbidden_name_in_a_body_refuses_all_of_it(
    send: Any, rules: Rules, method: str, path: str, body: Any, missing: str
) -> None:
    status, answer = await send(method, path, body)
    operation, _, what = missing.partition(" ")
    assert (status, answer["error_code"]) == (403, 40301)
    assert answer["message"] == f"User:anonymous may not {operation} {what.replace(':', ' ')}."
    assert (await send("GET", INSTANCE + "/subscription"))[1] == {"topics": []}
    assert (await send("GET", INSTANCE + "/assignments"))[1] == {"partitions": []}
    rules.set(f"allow * read group:g\nallow * read topic:orders\nallow * {missing}")
    assert (await send(method, path, body))[0] != FORBIDDEN


async def test_topics_of_v3_bodies_count(send: Any, rules: Rules, app: App) -> None:
    for path, body, need in (
        ("/v3/clusters/none/topics", {"topic_name": "secret"}, "create topic:secret"),
        ("/v3/clusters/none/topics/-/configs:alter",
         {"data": [{"topic_name": "secret", "configs": [{"name": "retention.ms", "value": "1"}]}]},
         "alter-configs topic:secret"),
    ):  # fmt: skip
        async with aiohttp.ClientSession(app.addresses[0]) as client:
            rules.set("allow * all group:*")
            async with client.post(path, json=body) as reply:
                seen = reply.status, await reply.text()
            rules.set(f"allow * {need}")
            async with client.post(path, json=body) as reply:
                assert reply.status != FORBIDDEN
            assert seen[0] == FORBIDDEN, (path, seen)


async def test_a_stream_with_a_group_needs_the_group(app: App, rules: Rules) -> None:
    rules.set("allow * read topic:orders")
    async with aiohttp.ClientSession(app.addresses[0]) as client:
        async with client.get("/topics/orders/stream?group=g2") as reply:
            assert reply.status == 403
            assert "may not read group g2" in await reply.text()
        async with client.get("/topics/orders,secret/stream") as reply:
            assert reply.status == 403
            assert "may not read topic secret" in await reply.text()


# --- lists, patterns, instances --------------------------------------------------------------------------------------


async def test_lists_show_what_may_be_described(send: Any, rules: Rules) -> None:
    rules.set("allow * describe topic:orders\nallow * write topic:b*")
    assert await send("GET", "/topics") == (200, ["bridged", "orders"])
    rules.set("")
    assert await send("GET", "/topics") == (200, [])


async def test_what_may_not_be_described_is_refused_whether_it_exists_or_not(send: Any, rules: Rules) -> None:
    rules.set("")
    for name in ("secret", "nowhere"):
        status, answer = await send("GET", f"/topics/{name}")
        assert (status, answer["error_code"]) == (403, 40301)


async def test_a_pattern_gets_the_topics_that_may_be_read(send: Any, rules: Rules) -> None:
    assert (await send("POST", INSTANCE + "/subscription", {"topic_pattern": ".*"}))[0] == 204
    accept = "application/vnd.kafka.json.v2+json"
    assert (await send("GET", INSTANCE + "/records", accept=accept))[0] == 200
    assert (await send("GET", INSTANCE + "/subscription"))[1] == {"topics": ["orders"]}


async def test_a_subscription_that_may_not_be_read_any_more_is_not(send: Any, rules: Rules) -> None:
    assert (await send("POST", INSTANCE + "/subscription", {"topics": ["orders"]}))[0] == 204
    rules.set("allow * read group:g")
    status, answer = await send("GET", INSTANCE + "/records", accept="application/vnd.kafka.json.v2+json")
    assert (status, answer["message"]) == (403, "User:anonymous may not read topic orders.")


async def test_open_sources_of_names_are_judged_as_they_reach_kafka(send: Any, rules: Rules, app: App) -> None:
    """The decoded name counts, and nothing else (reliability.md §2.2, S4)."""
    rules.set("allow * write topic:orders")
    for path, status in (
        ("/topics/%6frders", 200),
        ("/topics/orders/", 200),
        ("/topics/%73ecret", 403),
        ("/topics/secret/", 403),
        ("/topics/%6f%72ders%2e", 403),
        ("/topics/orders%00", 400),
        ("/topics/orders%2Fsecret", 403),
    ):
        async with aiohttp.ClientSession() as client:
            from yarl import URL

            url = URL(app.addresses[0] + path, encoded=True)
            async with client.post(
                url, data=b'{"records":[{"value":1}]}', headers={"Content-Type": READS["v2"]}
            ) as reply:
                assert reply.status == status, (path, await reply.text())


@pytest.fixture
async def two(rules: Rules) -> AsyncIterator[App]:
    """A gateway whose clients are told apart by a name that they give."""
    from kafka_gateway.auth import Authenticator
    from kafka_gateway.hookspecs import hookimpl
    from kafka_gateway.session import Principal

    class ByName(Authenticator):
        name = "BYNAME"
        proof = ("x-name",)

        async def authenticate(self, headers: Any, peer: str) -> Principal:
            return Principal(headers.get("x-name", "anonymous"))

    class Plugin:
        @hookimpl
        def gateway_authenticators(self) -> list[Authenticator]:
            return [ByName()]

    settings = {**EVERYTHING_ON, "authentication.method": "BYNAME"}
    async with gateway(rules, Plugin(), **settings) as running:
        yield running


async def test_an_instance_belongs_to_who_made_it(two: App, rules: Rules) -> None:
    rules.set("allow * read group:g\nallow * read topic:orders\nallow User:carol alter group:g")
    async with aiohttp.ClientSession(two.addresses[0], headers={"Content-Type": V2}) as client:

        async def send(name: str, method: str, path: str, body: Any = None) -> int:
            data = None if body is None else json.dumps(body)
            async with client.request(method, path, data=data, headers={"X-Name": name}) as reply:
                return reply.status

        assert await send("alice", "POST", "/consumers/g", {"name": "c"}) == 200
        assert await send("bob", "GET", INSTANCE + "/subscription") == 404
        assert await send("bob", "DELETE", INSTANCE) == 404
        assert await send("alice", "GET", INSTANCE + "/subscription") == 200
        assert await send("carol", "GET", INSTANCE + "/subscription") == 200
        assert await send("carol", "DELETE", INSTANCE) == 204


async def test_a_principal_has_so_many_instances(two: App, rules: Rules) -> None:
    rules.set("allow * read group:g\nquota User:alice consumer.instances=2")
    async with aiohttp.ClientSession(two.addresses[0], headers={"Content-Type": V2}) as client:
        seen = []
        for name in ("alice", "alice", "alice", "bob"):
            async with client.post("/consumers/g", data="{}", headers={"X-Name": name}) as reply:
                seen.append(reply.status)
        assert seen == [200, 200, 429, 200]
