"""The admin listener, health check and metrics on a real Kafka (websocket-proxy.md §1.4, §1.8, §7, §8: 22, 49, 50)."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
import yarl

from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import KafkaCluster, free_ports
from tests.waiting import PATIENCE_S, until
from tests.websocket_proxy.conftest import Log, Refused, Sockets

KEY = "kafka.ws.proxy."
Answer = tuple[int, bytes]
Ask = Callable[..., Awaitable[Answer]]


class Both:
    """A gateway with its own listeners: the public one and the admin's."""

    def __init__(self, process: GatewayProcess, admin: str) -> None:
        self.process = process
        self.public, self.admin = process.url, admin


def gateway(kafka: KafkaCluster, *more: str) -> tuple[GatewayProcess, str]:
    port, admin = free_ports(2)
    name = os.urandom(4).hex()
    process = GatewayProcess(
        f"{KEY}server.port={port}",
        f"{KEY}server.bind-interface=127.0.0.1",
        f"{KEY}server.admin.enabled=yes",
        f"{KEY}server.admin.port={admin}",
        f"{KEY}session-handler.topic-name=state-{name}",
        f"{KEY}dynamic-config-handler.topic-name=dynamic-{name}",
        *more,
        bootstrap=kafka.bootstrap,
        own_port=False,
    )
    return process, f"http://127.0.0.1:{admin}"


@pytest.fixture(scope="module")
def both(kafka: KafkaCluster) -> Iterator[Both]:
    process, admin = gateway(
        kafka,
        f"{KEY}dynamic-config-handler.enabled=true",
        f"{KEY}producer.sessions-enabled=on",
        f"{KEY}producer.limits.default-max-connections-per-client=1",
        f"{KEY}consumer.limits.client-specific-limits.0.group-id=fixed",
        f"{KEY}consumer.limits.client-specific-limits.0.batch-size=7",
    )
    with process:
        yield Both(process, admin)


@pytest.fixture
async def ask(both: Both) -> AsyncIterator[Ask]:
    async with aiohttp.ClientSession() as session:

        async def asker(method: str, path: str, body: Any = None, public: bool = False) -> Answer:
            url = (both.public if public else both.admin) + path
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            async with session.request(method, yarl.URL(url, encoded=True), data=data) as response:
                assert "Server" not in response.headers
                assert response.headers["Content-Type"].startswith(("application/json", "text/plain; version=0.0.4"))
                return response.status, await response.read()

        yield asker


def error(text: str) -> bytes:
    return json.dumps({"message": text}, indent=2, separators=(",", " : ")).encode()


# --- listeners --------------------------------------------------------------------------------------------------------


async def test_each_listener_has_its_own_paths(ask: Ask) -> None:
    unknown = (404, error("This is not the resource you are looking for."))
    for path in ("/admin/client/config", "/admin/kafka/info", "/admin/consumer-group/all", "/metrics", "/topics", "/"):
        assert await ask("GET", path, public=True) == unknown, path
    for path in ("/healthcheck", "/kafka/cluster/info", "/socket/in?clientId=c&topic=t", "/topics", "/", "/admin"):
        assert await ask("GET", path) == unknown, path


async def test_health_check_and_cluster(ask: Ask, kafka: KafkaCluster) -> None:
    assert await ask("GET", "/healthcheck", public=True) == (200, b'{ "response": "I\'m healthy" }')
    assert await ask("HEAD", "/healthcheck", public=True) == (200, b"")
    assert (await ask("GET", "/healthcheck/", public=True))[0] == 404
    wrong = (405, error("HTTP method not allowed, supported methods: GET"))
    assert await ask("POST", "/healthcheck", public=True) == wrong
    assert await ask("OPTIONS", "/healthcheck", public=True) == wrong
    port = kafka.bootstrap.rpartition(":")[2]
    expected = f'[\n  {{\n    "id" : 1,\n    "host" : "127.0.0.1",\n    "port" : {port},\n    "rack" : null\n  }}\n]'
    assert await ask("GET", "/kafka/cluster/info", public=True) == (200, expected.encode())
    assert await ask("GET", "/admin/kafka/info") == (200, expected.encode())


async def test_on_a_shared_listener_the_admin_paths_are_nowhere(proxy: GatewayProcess) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(proxy.url + "/healthcheck") as response:
            assert await response.read() == b'{ "response": "I\'m healthy" }'
        for path in ("/admin/client/config", "/admin/kafka/info"):  # /metrics is the gateway's own
            async with session.get(proxy.url + path) as response:
                assert response.status == 404


# --- limits -----------------------------------------------------------------------------------------------------------

ODD = ("plain", "two words", "é", "a/b", "100%", '"q"', "+", "?&#", "..", "consumer-x")


@pytest.mark.parametrize("name", ODD)
async def test_a_limit_lives(ask: Ask, name: str) -> None:
    path = f"/admin/client/config/consumer/{quote(name, safe='')}"
    if name == "..":
        path = "/admin/client/config/consumer/.."
    limits = {"group-id": name, "max-connections": 2, "colour": "blue"}
    assert await ask("PUT", path, limits) == (404, b"")
    assert await ask("GET", path) == (404, b"")
    assert await ask("POST", "/admin/client/config/consumer", limits) == (200, b"")
    expected = json.dumps({"group-id": name, "max-connections": 2}, separators=(",", ":"), ensure_ascii=False).encode()
    assert await ask("GET", path) == (200, expected)
    changed = {"group-id": name, "messages-per-second": 9, "batch-size": 4}
    assert await ask("PUT", path, changed) == (200, b"")
    found = json.loads((await ask("GET", path))[1])
    assert found == changed
    assert list(found) == ["batch-size", "group-id", "messages-per-second"]
    assert await ask("DELETE", path) == (200, b"")
    assert await ask("DELETE", path) == (404, b"")
    assert await ask("GET", path) == (404, b"")


async def test_what_is_configured_stays(ask: Ask) -> None:
    fixed = b'{"batch-size":7,"group-id":"fixed"}'
    assert await ask("GET", "/admin/client/config/consumer/fixed") == (200, fixed)
    assert await ask("DELETE", "/admin/client/config/consumer/fixed") == (404, b"")
    own = {"group-id": "fixed", "batch-size": 8}
    assert await ask("POST", "/admin/client/config/consumer/anything", own) == (200, b"")
    assert await ask("GET", "/admin/client/config/consumer/fixed") == (200, b'{"batch-size":8,"group-id":"fixed"}')
    everything = json.loads((await ask("GET", "/admin/client/config"))[1])
    assert everything["consumers"]["dynamic"] == [{"batch-size": 8, "group-id": "fixed"}]
    assert await ask("DELETE", "/admin/client/config") == (200, b"")
    assert await ask("GET", "/admin/client/config/consumer/fixed") == (200, fixed)
    default = b'{"max-connections":1,"messages-per-second":0,"producer-id":"__DEFAULT__"}'
    assert await ask("GET", "/admin/client/config/producer/__DEFAULT__") == (200, default)


@pytest.mark.parametrize(
    "body",
    [
        b'{"grop-id":"x"}',
        b"{nope",
        b"",
        b"[]",
        b"\xff",
        b"[" * 3000,
        b'{"group-id":"x","max-connections":"many"}',
        b'{"group-id":"x","max-connections":-1}',
        b'{"group-id":"x","max-connections":2147483648}',
        b'{"group-id":7}',
        b'{"producer-id":"x"}',
    ],
)
async def test_bodies_that_are_no_limits(ask: Ask, body: bytes) -> None:
    refused = (400, error("Invalid JSON for consumer config."))
    assert await ask("POST", "/admin/client/config/consumer", body) == refused
    assert await ask("PUT", "/admin/client/config/consumer/x", body) == refused


async def test_an_object_with_both_ids_is_a_consumers(ask: Ask) -> None:
    body = {"group-id": "both", "producer-id": "both", "max-connections": 3}
    refused = (400, error("Invalid JSON for producer config."))
    assert await ask("POST", "/admin/client/config/producer", body) == refused
    assert await ask("POST", "/admin/client/config/consumer", body) == (200, b"")
    assert (await ask("POST", "/admin/client/config/tourist", body))[0] == 404
    assert await ask("DELETE", "/admin/client/config/consumer/both") == (200, b"")


async def test_a_new_limit_counts_for_the_next_socket(
    ask: Ask, both: Both, log: Log, new_topic: Callable[..., str]
) -> None:
    topic = new_topic()
    async with aiohttp.ClientSession() as session:
        sockets = Sockets(session, both.public)
        await sockets.producer(topic, "limited", instanceId="1")
        with pytest.raises(Refused, match="Limit is 1"):
            await sockets.producer(topic, "limited", instanceId="2")
        limits = {"producer-id": "limited", "max-connections": 2, "messages-per-second": 1}
        assert await ask("POST", "/admin/client/config/producer", limits) == (200, b"")
        slow = await sockets.producer(topic, "limited", instanceId="2")
        with pytest.raises(Refused, match="Limit is 2"):
            await sockets.producer(topic, "limited", instanceId="3")
        await slow.produce("1")
        await slow.produce("2")
        started = asyncio.get_running_loop().time()
        await slow.hear(2)
        assert asyncio.get_running_loop().time() - started > 0.7
        await sockets.aclose()


async def test_dynamic_configuration_that_others_wrote(
    kafka: KafkaCluster, log: Log, new_topic: Callable[..., str]
) -> None:
    topic = new_topic(config={"cleanup.policy": "compact"})
    log.append(topic, b"group-id=g1,max-connections=2,messages-per-second=5", key=b"consumer-g1")
    log.append(topic, b'{ producer-id: "p 1", max-connections = 4 }', key=b"producer-p 1")
    log.append(topic, b"nonsense", key=b"consumer-g2")
    log.append(topic, b'{"group-id":"g4"}', key=b"consumer-g3")
    log.append(topic, b"x", key=b"tourist")
    name = f"{KEY}dynamic-config-handler.topic-name={topic}"
    process, admin = gateway(kafka, f"{KEY}dynamic-config-handler.enabled=true", name)
    with process:
        found = {}
        async with aiohttp.ClientSession() as session, asyncio.timeout(PATIENCE_S):
            while len(found.get("producers", {}).get("dynamic", ())) < 1:
                async with session.get(admin + "/admin/client/config") as response:
                    found = json.loads(await response.read())
        assert found["consumers"]["dynamic"] == [
            {"group-id": "g1", "max-connections": 2, "messages-per-second": 5},
        ]
        assert found["producers"]["dynamic"] == [{"max-connections": 4, "producer-id": "p 1"}]


async def test_without_dynamic_configuration_nothing_can_be_changed(kafka: KafkaCluster) -> None:
    credentials = (
        f"{KEY}server.basic-auth.enabled=true",
        f"{KEY}server.basic-auth.realm=kit",
        f"{KEY}server.basic-auth.username=user",
        f"{KEY}server.basic-auth.password=pass:word",
        f"{KEY}server.secure-health-check-endpoint=false",
    )
    process, admin = gateway(kafka, *credentials)
    limits = json.dumps({"group-id": "g"})
    right = {"Authorization": aiohttp.encode_basic_auth("user", "pass:word")}
    wrong = {"Authorization": aiohttp.encode_basic_auth("user", "wrong")}
    with process:
        async with aiohttp.ClientSession() as session:
            for method, path in (
                ("POST", "/consumer"),
                ("POST", "/consumer/g"),
                ("PUT", "/consumer/g"),
                ("DELETE", "/consumer/g"),
                ("DELETE", ""),
            ):
                url = f"{admin}/admin/client/config{path}"
                async with session.request(method, url, data=limits, headers=right) as response:
                    assert (response.status, await response.read()) == (405, b"")
            for url in (admin + "/admin/kafka/info", admin + "/metrics", process.url + "/kafka/cluster/info"):
                async with session.get(url, headers=right) as response:
                    assert response.status == 200
                async with session.get(url) as response:
                    assert response.status == 401
                    assert response.headers["WWW-Authenticate"] == 'Basic realm="kit",charset=UTF-8'
                    text = "The resource requires authentication, which was not supplied with the request"
                    assert await response.read() == error(text)
                async with session.get(url, headers=wrong) as response:
                    assert (response.status, await response.read()) == (
                        401,
                        error("The supplied authentication is invalid"),
                    )
            async with session.get(process.url + "/healthcheck") as response:
                assert response.status == 200
        assert "pass:word" not in "\n".join(process.output)


# --- groups -----------------------------------------------------------------------------------------------------------


async def test_groups(
    ask: Ask, both: Both, log: Log, new_topic: Callable[..., str], unique: Callable[..., str]
) -> None:
    topic, other, group = new_topic(), new_topic(), unique("é/g")
    path = f"/admin/consumer-group/{quote(group, safe='')}"
    log.append(topic, b"1", b"2")
    dead = {"groupId": group, "isSimple": False, "state": "DEAD", "partitionAssignor": "", "members": []}
    status, body = await ask("GET", path + "/describe")
    assert (status, {**json.loads(body), "isSimple": False}) == (200, dead)
    assert await ask("GET", path + "/offsets") == (404, b"")
    assert (await ask("DELETE", f"{path}/offsets/delete/{topic}"))[0] == 500

    entries = [{"topic": topic, "partition": 0, "offset": 1}, {"topic": other, "partition": 0, "offset": 0}]
    status, body = await ask("PUT", f"{path}/offsets/alter/{topic}", entries)
    by_topic = sorted(({**each, "metadata": None} for each in entries), key=lambda each: str(each["topic"]))
    assert (status, json.loads(body)) == (200, by_topic)
    assert await ask("DELETE", f"{path}/offsets/delete/{other}") == (200, b"")
    assert json.loads((await ask("GET", path + "/offsets"))[1]) == [{**entries[0], "metadata": None}]

    async with aiohttp.ClientSession() as session:
        sockets = Sockets(session, both.public)
        peer = await sockets.consumer(topic, "client", groupId=group)
        assert (await peer.hear())[0]["offset"] == 1  # where the admin put it
        members: list[str] = []
        async with asyncio.timeout(PATIENCE_S):
            while members != ["client"]:
                found = json.loads((await ask("GET", path + "/describe"))[1])
                members = found["members"]
        assert (found["state"], found["partitionAssignor"], found["isSimple"]) == ("STABLE", "range", False)
        listed = json.loads((await ask("GET", "/admin/consumer-group/all?activeOnly=true"))[1])
        mine = {"groupId": group, "isSimple": False, "state": "STABLE", "members": []}
        assert [each for each in listed if each["groupId"] == group] == [mine]
        assert all(not each["groupId"].startswith(("_", "ws-proxy-session-consumer")) for each in listed)
        internal = json.loads((await ask("GET", "/admin/consumer-group/all?includeInternals=1"))[1])
        assert any(each["groupId"].startswith("ws-proxy-session-consumer-") for each in internal)
        active = (
            412,
            error(
                "Unable to modify the consumer group offsets because the group is still considered to be active. "
                "Please ensure that all consumer clients are stopped before trying again."
            ),
        )
        assert await ask("PUT", f"{path}/offsets/alter/{topic}", entries[:1]) == active
        assert await ask("DELETE", f"{path}/offsets/delete/{topic}") == active
        assert await ask("DELETE", f"{path}/offsets") == active
        await sockets.aclose()

    async def deleted() -> bool:
        status = (await ask("DELETE", f"{path}/offsets"))[0]
        assert status in (200, 412)
        return status == 200

    await until(deleted)
    assert await ask("GET", path + "/offsets") == (404, b"")


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[1]", b'[{"topic":"t","partition":0}]', b'[{"topic":"t","partition":-1,"offset":0}]']
)
async def test_offsets_that_are_none(ask: Ask, body: bytes) -> None:
    status, answer = await ask("PUT", "/admin/consumer-group/g/offsets/alter/t", body)
    assert status == 400
    assert list(json.loads(answer)) == ["message"]


async def test_wrong_flags_and_methods(ask: Ask) -> None:
    wrong = (400, error("'maybe' is not a valid Boolean value"))
    assert await ask("GET", "/admin/consumer-group/all?activeOnly=maybe") == wrong
    text = "HTTP method not allowed, supported methods: GET, DELETE"
    assert await ask("PATCH", "/admin/client/config", b"{}") == (405, error(text))
    assert (await ask("PUT", "/admin/client/config/consumer/%zz", b"{}"))[0] == 400


# --- metrics ----------------------------------------------------------------------------------------------------------


async def test_metrics(ask: Ask, both: Both, new_topic: Callable[..., str], unique: Callable[..., str]) -> None:
    topic, client = new_topic(), unique('m"\\n')

    async def value(name: str) -> float | None:
        text = (await ask("GET", "/metrics"))[1].decode()
        line = next((each for each in text.splitlines() if each.startswith(name)), None)
        return float(line.rpartition(" ")[2]) if line else None

    label = client.replace("\\", "\\\\").replace('"', '\\"')
    series = f'wsproxy_producer_records_received_total{{instance_id="i",producer_id="{label}"}}'
    before = await value('wsproxy_open_websockets{type="producer"}')
    async with aiohttp.ClientSession() as session:
        sockets = Sockets(session, both.public)
        peer = await sockets.producer(topic, client, instanceId="i")
        await peer.produce("a")
        await peer.produce("b")
        await peer.hear(2)
        assert await value(series) == 2
        assert await value(series.replace("records_received", "acks_sent")) == 2
        assert await value('wsproxy_open_websockets{type="producer"}') == (before or 0) + 1
        with pytest.raises(Refused):
            await sockets.producer(topic, client, instanceId="j")
        assert (await value('wsproxy_handshakes_refused_total{reason="limit"}') or 0) >= 1
        await sockets.aclose()

    async def gone() -> bool:
        return await value(series) is None

    await until(gone)
    assert await value('wsproxy_sockets_closed_total{code="1000",type="producer"}')
    port = re.escape(both.public.rpartition(":")[2])
    text = (await ask("GET", "/metrics"))[1].decode()
    assert re.search(rf'wsproxy_status_info{{.*http_port="{port}".*}} 1\.0', text)
    assert 'wsproxy_broker_info{host="127.0.0.1",id="1"' in text
