"""Several gateways as one, with a real Kafka between them: any request may come to any node (cluster.md §11).

Two nodes as processes on one machine, which reach each other by Unix sockets. One is killed, and one is stopped, while
a client reads by the other; each comes back under its name.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import json
import os
import signal
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient

from kafka_gateway import jsonio
from kafka_gateway.cluster.records import hash_of_key, record_key
from kafka_gateway.definitions import SlotKey
from tests.acceptance.envelopes import EnvelopeClient
from tests.conformance.test_conformance import HERE as CONFORMANCE
from tests.conformance.test_conformance import compare, make_groups_topic
from tests.gateway_process import GatewayProcess
from tests.integration.nodes import (
    JSON_V1,
    JSON_V2,
    PATIENCE_S,
    SLOTS,
    V1,
    V2,
    Client,
    Nodes,
    ask,
    instance,
    produce,
)
from tests.kafka_cluster import KafkaCluster
from tests.sse import events
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

TRANSCRIPT = CONFORMANCE / "transcripts" / "confluent-8.1.1.jsonl"


@pytest.fixture(scope="module")
def nodes(kafka: KafkaCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    directory = tmp_path_factory.mktemp("p")
    os.chmod(directory, 0o700)
    with Nodes(kafka.bootstrap, directory) as started:
        yield started


@contextlib.contextmanager
def balancer(*nodes: GatewayProcess) -> Iterator[str]:
    """The address of one that gives each connection to the next node, and keeps nobody at one."""
    turns = itertools.cycle(int(node.url.rpartition(":")[2]) for node in nodes)
    loop = asyncio.new_event_loop()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", next(turns))
        await asyncio.gather(pass_on(reader, back), pass_on(there, writer))

    server = loop.run_until_complete(asyncio.start_server(accept, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        server.close()
        loop.close()


def test_a_node_that_is_killed_loses_nothing(nodes: Nodes, kafka: KafkaCluster) -> None:
    """Auto commit off and on, by subscription and by assignment, v1 and v2; a deleted one stays deleted."""
    topic = kafka.create_topic()
    away, here = nodes[0], nodes[1]
    _, _, committed = instance(nodes, 0, 1, topic, **{"auto.commit.enable": "false"})
    _, _, automatic = instance(nodes, 0, 1, topic, **{"auto.commit.enable": "true"})
    _, _, assigned = instance(nodes, 0, 1, topic, False, **{"auto.commit.enable": "false"})
    places = {"partitions": [{"topic": topic, "partition": 0}]}
    assert ask(here, "POST", f"{assigned}/assignments", places).status == 204
    from_the_end = {"auto.offset.reset": "latest", "auto.commit.enable": "false"}
    _, _, latest = instance(nodes, 0, 1, topic, **from_the_end)
    _, _, gone = instance(nodes, 0, 1, topic)
    at_end = Client(here, latest)
    assert at_end.read() == []  # it has joined its group and stands at the end, of an empty topic
    produce(here, topic, range(10))
    sought = {"offsets": [{"topic": topic, "partition": 0, "offset": 3}]}
    assert ask(here, "POST", f"{assigned}/positions", sought).status == 204
    clients = [Client(here, path) for path in (committed, automatic, assigned)]
    for client in clients:
        client.until(9)
    assert clients[2].values == list(range(3, 10))
    assert ask(here, "POST", f"{committed}/offsets").status == 200
    assert ask(away, "DELETE", gone).status == 204
    group = f"group-{uuid.uuid4().hex[:8]}"
    name = nodes.name_at(0, group)
    made = {"id": name, "format": "json", "auto.offset.reset": "smallest"}
    assert ask(here, "POST", f"/consumers/{group}", made, type=V1).status == 200
    of_v1 = f"/consumers/{group}/instances/{name}/topics/{topic}"
    while not (answer := ask(here, "GET", of_v1, accept=JSON_V1)).body:
        assert answer.status == 200

    away.process.kill()
    killed_at = time.monotonic()
    produce(here, topic, range(10, 20))
    # Nobody has committed what these have read; body-less commits would say so.
    answer = ask(here, "POST", f"{assigned}/offsets")
    assert (answer.status, answer.body["error_code"]) == (500, 50002), answer
    assert "moved after a failure" in answer.body["message"]
    for client in (*clients, at_end):
        client.until(19)
        assert client.statuses == {200}
    took_s = time.monotonic() - killed_at
    known = ask(here, "GET", "/cluster").body["nodes"]
    assert known["gw-0/0"]["state"] == "serving", "what it said last"
    assert (known["gw-0/0"]["reachable"], known["gw-1/0"]["reachable"]) == (False, True)
    assert known["gw-0/0"]["error"]
    assert clients[0].values == list(range(20)), "all once: it had committed"
    assert sorted(set(clients[1].values)) == list(range(20)), "nothing lost; what was not committed comes again"
    assert clients[2].values == [*range(3, 10), *range(3, 20)], "from the anchor of its seek"
    assert sorted(set(at_end.values)) == list(range(20)), "from where it stood before the first record"
    values: list[int] = []
    while 19 not in values:
        answer = ask(here, "GET", of_v1, accept=JSON_V1)
        assert answer.status == 200, answer
        values += [each["value"] for each in answer.body]
    assert values == list(range(20)), "v1 had committed nothing"
    assert ask(here, "DELETE", gone).body["error_code"] == 40403
    # The group has no member that nobody serves: a newcomer would get all partitions at once after this.
    for path in (committed, automatic, assigned, latest, of_v1.rpartition("/topics")[0]):
        type = V1 if path in of_v1 else V2
        assert ask(here, "DELETE", path, type=type).status == 204
    nodes.restart(0)
    print(f"taken over and read to the end after {took_s:.1f} s")


def test_a_node_that_stops_fails_no_request(nodes: Nodes, kafka: KafkaCluster) -> None:
    """Its instances go on elsewhere, at the very next record, whether anything was committed or not."""
    topic = kafka.create_topic()
    leaving, here = nodes[1], nodes[0]
    paths = [instance(nodes, 1, 0, topic, **{"auto.commit.enable": flag})[2] for flag in ("true", "false", "false")]
    clients = [Client(here, path) for path in paths]
    committed_first = [instance(nodes, 1, 0, topic, **{"auto.commit.enable": "false"})[2] for _ in range(2)]
    produce(here, topic, range(10))
    for client in (*clients, *(Client(here, path) for path in committed_first)):
        client.until(9)
    leaving.process.send_signal(signal.SIGTERM)
    produced = 10
    while leaving.process.poll() is None:
        produce(here, topic, range(produced, produced + 1))
        produced += 1
        for client in clients:
            client.read(100)
        answer = ask(here, "POST", f"{clients[2].path}/offsets")
        assert answer.status == 200, answer
    assert leaving.process.returncode == 0
    # The first that is asked of them there: Kafka takes a commit of none that is not in its group again.
    place = {"topic": topic, "partition": 0}
    for path, body in zip(committed_first, (None, {"offsets": [{**place, "offset": 9}]}), strict=True):
        answer = ask(here, "POST", f"{path}/offsets", body)
        assert answer.status == 200, answer
        (stored,) = ask(here, "GET", f"{path}/offsets", {"partitions": [place]}).body["offsets"]
        assert stored["offset"] == 10
        assert ask(here, "DELETE", path).status == 204
    produce(here, topic, range(produced, produced + 1))
    for client in clients:
        client.until(produced)
        assert client.values == list(range(produced + 1)), "each record once, in order"
        assert client.statuses == {200}
    nodes.restart(1)
    # The newcomer gets its share while they are read, which nobody notices either.
    produce(nodes[1], topic, range(produced + 1, produced + 6))
    for client, node in zip(clients, (nodes[1], nodes[0], nodes[1]), strict=True):
        client.by = node
        client.until(produced + 5)
        assert client.values == list(range(produced + 6))
        assert client.statuses == {200}
        assert ask(node, "DELETE", client.path).status == 204


def forwarded_at_work(node: GatewayProcess) -> float:
    """Requests of other nodes that this one is at work on."""
    with urllib.request.urlopen(f"{node.url}/metrics", timeout=PATIENCE_S) as reply:
        lines = reply.read().decode().splitlines()
    found = [line for line in lines if line.startswith("kafka_gateway_requests_in_progress{") and '"worker"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in found)


def test_a_read_that_waits_at_another_node_is_answered_by_one_that_stops(nodes: Nodes, kafka: KafkaCluster) -> None:
    """As those of its own instances are: with what there is, and without a wait for the end of its time."""
    options = {"auto.commit.enable": "false", "consumer.request.timeout.ms": "50000"}
    path = instance(nodes, 0, 1, topic := kafka.create_topic(), **options)[2]
    here, leaving = nodes
    client = Client(leaving, path)
    produce(here, topic, range(1))
    client.until(0)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        reading = pool.submit(client.read, 50_000)
        wait_until(lambda: forwarded_at_work(here) == 1, PATIENCE_S)
        began = time.monotonic()
        leaving.process.send_signal(signal.SIGTERM)
        assert reading.result(PATIENCE_S) == []
        took_s = time.monotonic() - began
    assert client.statuses == {200}
    assert took_s < 4.0, "it need not be given up half a second before the end of shutdown.graceful.ms"
    assert leaving.process.wait(PATIENCE_S) == 0
    produce(here, topic, range(1, 2))
    client.by = here
    client.until(1)
    assert client.values == [0, 1]
    assert ask(here, "DELETE", path).status == 204
    nodes.restart(1)


async def follow(url: str, values: list[int]) -> None:
    """An instance as an event stream, which is not to end."""
    async with (
        aiohttp.ClientSession() as http,
        http.get(url, headers={"Accept": "text/event-stream"}, timeout=aiohttp.ClientTimeout(total=None)) as reply,
    ):
        assert reply.status == 200, await reply.text()
        async for event in events(reply):
            if event.name == "message":
                values += [row["value"] for row in json.loads(event.data)]
            else:
                assert event.name == "ready", event
    raise AssertionError("the stream has ended")


async def pushed(url: str, path: str, values: list[int]) -> None:
    """An instance pushed over a WebSocket."""
    async with await EnvelopeClient.open(url.replace("http", "ws")) as client:
        client.write("push", "GET", f"/ws{path}/records", accept=JSON_V2)
        while True:
            reply = await client.reply(PATIENCE_S)
            assert (reply.id, reply.status) == ("push", 200), reply
            values += [row["value"] for row in reply.json]


async def test_streams_go_on_where_their_instance_is(nodes: Nodes, kafka: KafkaCluster) -> None:
    """Their clients are connected to the other node, which asks for them again; and to the one to which they move."""
    topic = kafka.create_topic()
    options = {"auto.commit.enable": "false"}
    paths = [(await asyncio.to_thread(instance, nodes, 1, 0, topic, **options))[2] for _ in range(2)]
    events: list[int] = []
    pushes: list[int] = []
    url = nodes[0].url
    tasks = [
        asyncio.create_task(follow(f"{url}{paths[0]}/records", events)),
        asyncio.create_task(pushed(url, paths[1], pushes)),
    ]
    made = 0

    async def all_come(exactly: bool) -> None:
        nonlocal made
        await asyncio.to_thread(produce, nodes[0], topic, range(made, made + 5))
        made += 5
        async with asyncio.timeout(PATIENCE_S):
            while not (made - 1 in events and made - 1 in pushes):
                failed = [each.exception() for each in tasks if each.done()]
                assert not failed, failed
                await asyncio.sleep(0.05)  # time itself: it looks for failures meanwhile
        for values in (events, pushes):
            assert (values if exactly else sorted(set(values))) == list(range(made))

    try:
        await all_come(exactly=True)
        assert await asyncio.to_thread(nodes[1].stop) == 0
        await all_come(exactly=True)
        await asyncio.to_thread(nodes.restart, 1)
        await all_come(exactly=True)
        nodes[1].process.kill()
        await all_come(exactly=False)
        await asyncio.to_thread(nodes.restart, 1)
        await all_come(exactly=False)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for path in paths:
        assert (await asyncio.to_thread(ask, nodes[0], "DELETE", path)).status == 204


def test_replies_are_those_of_the_recorded_server(
    kafka: KafkaCluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whichever of four processes gets a request: the balancer in front of the nodes is not sticky. (That server had no
    v1.)"""
    directory = tmp_path_factory.mktemp("c")
    os.chmod(directory, 0o700)
    make_groups_topic(kafka)
    with (
        Nodes(kafka.bootstrap, directory, "api.v1.enable=false", workers=2) as nodes,
        balancer(nodes[0], nodes[1]) as url,
    ):
        compare(
            *("--url", url),
            *("--bootstrap", kafka.bootstrap),
            *("--with", TRANSCRIPT),
            *("--only", "v2."),
        )
        for node in (nodes[0], nodes[1]):
            with urllib.request.urlopen(f"{node.url}/metrics", timeout=PATIENCE_S) as page:
                assert b'kafka_gateway_cluster_forwarded_total{worker="1",process="gw-' in page.read()


def test_an_instance_takes_its_place_in_the_group_back(nodes: Nodes, kafka: KafkaCluster) -> None:
    """From a client that has taken it, as that of a node does which was cut off from Kafka for longer than a member's
    session, and joins the group again before it learns that others have its slots."""
    topic = kafka.create_topic()
    group, _, path = instance(nodes, 0, 1, topic, **{"auto.commit.enable": "false"})
    client = Client(nodes[1], path)
    produce(nodes[1], topic, range(2))
    client.until(1)
    assert ask(nodes[1], "POST", f"{path}/offsets").status == 200
    produce(nodes[1], topic, range(2, 4))
    client.until(3)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    (member,) = admin.describe_consumer_groups([group])[group].result(PATIENCE_S).members
    settings = {"bootstrap.servers": kafka.bootstrap, "group.id": group, "group.instance.id": member.group_instance_id}
    taken = threading.Event()
    thief = confluent_kafka.Consumer({**settings, "log_level": 0})
    try:
        thief.subscribe([topic], on_assign=lambda *_: taken.set())
        wait_until(lambda: thief.poll(0.1) is None and taken.is_set())
        refused = ask(nodes[1], "POST", f"{path}/offsets")
        while refused.status == 503:  # so is answered what meets the fence
            refused = ask(nodes[1], "POST", f"{path}/offsets")
        assert (refused.status, refused.body["error_code"]) == (500, 50002)
        assert "moved after a failure" in refused.body["message"]
        client.values.clear()
        client.until(3)
        assert client.values == [2, 3]
        assert ask(nodes[1], "POST", f"{path}/offsets").status == 200
        produce(nodes[1], topic, range(4, 6))
        client.until(5)
        assert client.values == [2, 3, 4, 5]
    finally:
        thief.close()
    assert ask(nodes[1], "DELETE", path).status == 204
    assert client.statuses <= {200, 503}


def test_a_name_is_unique_among_all_nodes(nodes: Nodes) -> None:
    group = f"group-{uuid.uuid4().hex[:8]}"
    for at in (0, 1):
        name = nodes.name_at(at, group)
        assert ask(nodes[0], "POST", f"/consumers/{group}", {"name": name}).status == 200
        for node in (nodes[0], nodes[1]):
            assert ask(node, "POST", f"/consumers/{group}", {"name": name}).body["error_code"] == 40902
            # One of v1 would have the same definition.
            assert ask(node, "POST", f"/consumers/{group}", {"id": name}, type=V1).body["error_code"] == 40902
        path = f"/consumers/{group}/instances/{name}"
        assert ask(nodes[1], "GET", f"{path}/subscription").body == {"topics": []}
        assert ask(nodes[1], "DELETE", path).status == 204
        assert ask(nodes[0], "DELETE", path).body["error_code"] == 40403
        assert ask(nodes[0], "POST", f"/consumers/{group}", {"name": name}).status == 200
        assert ask(nodes[0], "DELETE", path).status == 204


def test_what_the_nodes_keep_in_kafka_is_theirs_alone(nodes: Nodes) -> None:
    own = [f"_gateway.{nodes.id}.instances", f"_gateway.{nodes.id}.processes"]
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": nodes.bootstrap})
    known = admin.list_topics(timeout=20).topics
    assert len(known[own[0]].partitions) == SLOTS
    assert len(known[own[1]].partitions) == 1
    listed = ask(nodes[0], "GET", "/topics").body
    clusters = ask(nodes[0], "GET", "/v3/clusters").body["data"]
    base = f"/v3/clusters/{clusters[0]['cluster_id']}"
    listed += [each["topic_name"] for each in ask(nodes[0], "GET", f"{base}/topics").body["data"]]
    listed += [each["consumer_group_id"] for each in ask(nodes[0], "GET", f"{base}/consumer-groups").body["data"]]
    assert not [name for name in listed if name.startswith(f"_gateway.{nodes.id}")]
    for name in own:
        answer = ask(nodes[0], "POST", f"/topics/{name}", {"records": [{"value": 1}]}, type=JSON_V2)
        assert answer.status == 403, answer
        assert answer.body["offsets"][0]["error_code"] == 40301


def test_a_topic_that_was_deleted_comes_again(nodes: Nodes, kafka: KafkaCluster) -> None:
    """With what is known of the instances; and partitions that somebody adds are no slots."""
    topic = kafka.create_topic()
    own = f"_gateway.{nodes.id}.instances"
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": nodes.bootstrap})
    clients = [Client(nodes[0], instance(nodes, at, 0, topic)[2]) for at in (0, 1)]
    produce(nodes[0], topic, range(3))
    for client in clients:
        client.until(2)
    before = nodes[1].process.pid
    admin.delete_topics([own])[own].result(20)
    nodes[1].wait_for(f"{own} is another one", PATIENCE_S)
    nodes[0].wait_for(f"{own} is another one", PATIENCE_S)
    admin.create_partitions([confluent_kafka.admin.NewPartitions(own, SLOTS + 3)])[own].result(20)
    until = time.monotonic() + PATIENCE_S
    while sum(sum(ask(nodes[n], "GET", "/cluster").body["instances"].values()) for n in (0, 1)) < len(clients):
        assert time.monotonic() < until
        time.sleep(0.1)  # time itself: no event tells what all nodes have
    # What stands there is good for another process, too, which counts the slots as the first one did.
    assert nodes[1].stop() == 0
    nodes.restart(1)
    assert nodes[1].process.pid != before
    produce(nodes[1], topic, range(3, 6))
    for client in clients:
        client.by = nodes[1]
        client.until(5)
        assert client.statuses == {200}
        assert sorted(set(client.values)) == list(range(6))
        assert ask(nodes[1], "DELETE", client.path).status == 204


def written(nodes: Nodes, key: SlotKey) -> list[confluent_kafka.Message]:
    """All records of that instance in the topic of definitions."""
    place = confluent_kafka.TopicPartition(f"_gateway.{nodes.id}.instances", hash_of_key(key) % SLOTS, 0)
    reader = confluent_kafka.Consumer(
        {"bootstrap.servers": nodes.bootstrap, "group.id": f"readers-of-{nodes.id}", "enable.auto.commit": False}
    )
    try:
        end = reader.get_watermark_offsets(place, timeout=PATIENCE_S)[1]
        reader.assign([place])
        found: list[confluent_kafka.Message] = []
        while not found or (found[-1].offset() or 0) < end - 1:
            found += reader.consume(100, 1.0)
    finally:
        reader.close()
    return [each for each in found if each.key() == record_key(key)]


def test_a_deletion_that_kafka_stores_late_ends_nothing_that_is_in_use_elsewhere(nodes: Nodes) -> None:
    """As of an instance that has expired in a node whose line to Kafka was cut just then."""
    topic = f"topic-{uuid.uuid4().hex[:8]}"
    group, name, path = instance(nodes, 0, 1, topic)
    key = SlotKey(group, name)
    before = jsonio.decode_value(written(nodes, key)[-1].value() or b"")
    assert nodes[0].stop() == 0
    nodes.restart(0)
    subscription = ask(nodes[1], "GET", f"{path}/subscription")
    assert subscription.body == {"topics": [topic]}
    opened = jsonio.decode_value(written(nodes, key)[-1].value() or b"")
    assert (opened["uid"], opened["epoch"]) == (before["uid"], 2)
    late = confluent_kafka.Producer({"bootstrap.servers": nodes.bootstrap})
    headers = [("uid", before["uid"]), ("epoch", b"2"), ("by", before["by"])]
    late.produce(f"_gateway.{nodes.id}.instances", None, record_key(key), hash_of_key(key) % SLOTS, headers=headers)
    assert late.flush(PATIENCE_S) == 0

    def repaired() -> bool:
        last = written(nodes, key)[-1]
        return last.value() is not None and [each for each, _ in last.headers() or ()] == ["uid", "epoch", "by"]

    wait_until(repaired)
    for node in (0, 1):
        assert ask(nodes[node], "GET", f"{path}/subscription").body == subscription.body
    assert nodes[1].stop() == 0
    nodes.restart(1)
    assert ask(nodes[1], "GET", f"{path}/subscription").body == subscription.body, "whoever reads all of it agrees"
    assert ask(nodes[0], "DELETE", path).status == 204
    assert written(nodes, key)[-1].value() is None
    for node in (0, 1):
        assert ask(nodes[node], "GET", f"{path}/subscription").status == 404


def test_of_two_nodes_with_one_name_the_older_ends(nodes: Nodes, tmp_path: Path) -> None:
    """As if on two machines: with a directory for each, they do not meet at a socket. The cluster is
    their own: its other nodes would not reach them."""
    started = []
    for number in range(2):
        (tmp_path / str(number)).mkdir(mode=0o700)
        started.append(nodes.make(7, f"cluster.id={nodes.id}-two", f"cluster.peer.dir={tmp_path / str(number)}"))
        started[-1].wait_for("serving [1-9]", PATIENCE_S)
    older, newer = started
    assert older.process.wait(PATIENCE_S) == 70
    assert any("cluster.node.id" in line for line in older.output)
    assert newer.stop() == 0


def test_a_node_that_kafka_takes_for_replaced_joins_again(nodes: Nodes) -> None:
    """Kafka fences a member for a late request of its own, too. Here it is a stranger's, who is no process of the
    cluster: nobody has told so, and the node goes on."""
    node = nodes[0]
    stranger = confluent_kafka.Consumer(
        {
            "bootstrap.servers": nodes.bootstrap,
            "group.id": f"_gateway.{nodes.id}",
            "group.instance.id": f"{nodes.id}.gw-0.0",
            "partition.assignment.strategy": "cooperative-sticky",
        }
    )
    try:
        stranger.subscribe([f"_gateway.{nodes.id}.instances"])
        until = time.monotonic() + PATIENCE_S
        while not stranger.assignment():
            assert time.monotonic() < until
            stranger.poll(0.1)
        node.wait_for("it joins again", PATIENCE_S)
    finally:
        stranger.close()
    nodes.shared_out()
    assert node.process.poll() is None
