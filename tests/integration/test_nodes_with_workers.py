"""Two nodes of a cluster with two workers each, which are four processes (cluster.md §2, §5): any serves any request.

Nobody gets the slots of a process that is only away for a while: the session timeout is longer than these tests.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway_process import GatewayProcess
from tests.integration.nodes import PATIENCE_S, Client, Door, Nodes, ask, instance, produce
from tests.kafka_cluster import KafkaCluster
from tests.transports.listener import Listener, handshake, push, target

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PROCESSES = ("gw-0/0", "gw-0/1", "gw-1/0", "gw-1/1")
BY_HAND = {"auto.commit.enable": "false"}
NO_TAKEOVER = "cluster.session.timeout.ms=120000"


@pytest.fixture(scope="module")
def nodes(kafka: KafkaCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    directory = tmp_path_factory.mktemp("w")
    os.chmod(directory, 0o700)
    with Nodes(kafka.bootstrap, directory, NO_TAKEOVER, "console.enabled=true", workers=2) as started:
        yield started


@pytest.fixture
def doors(nodes: Nodes) -> Iterator[dict[str, Door]]:
    """A connection to each process."""
    with contextlib.ExitStack() as stack:
        yield {each: stack.enter_context(contextlib.closing(nodes.door(each))) for each in PROCESSES}


def pid_of(node: GatewayProcess, worker: int) -> int:
    """Of the process that this worker is at present."""
    for child in Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split():
        if f'{{"number":{worker},' in Path(f"/proc/{child}/cmdline").read_text():
            return int(child)
    raise AssertionError(f"there is no worker {worker}")


def moves(nodes: Nodes) -> dict[str, str]:
    """What each process counts of slots that came and went."""
    found = {}
    for number in range(2):
        with urllib.request.urlopen(f"{nodes[number].url}/metrics", timeout=PATIENCE_S) as reply:
            page = reply.read().decode()
        for worker in range(2):
            rows = re.findall(rf'^kafka_gateway_cluster_slot_moves_total{{worker="{worker}",.*$', page, re.MULTILINE)
            assert len(rows) == 3, page
            found[f"gw-{number}/{worker}"] = "\n".join(rows)
    return found


def test_an_instance_of_each_process_through_all_others(
    nodes: Nodes, doors: dict[str, Door], kafka: KafkaCluster
) -> None:
    topic = kafka.create_topic()
    produce(nodes[0], topic, range(8))
    for owner in PROCESSES:
        others = [doors[each] for each in PROCESSES if each != owner]
        _, name, path = instance(nodes, owner, others[0], topic, **BY_HAND)
        client = Client(others[1], path)
        client.until(7)
        assert client.values == list(range(8))
        for door in others:
            assert door.ask("GET", f"{path}/subscription").body == {"topics": [topic]}
            assert door.ask("POST", path.rpartition("/instances")[0], {"name": name}).body["error_code"] == 40902
        assert others[2].ask("POST", f"{path}/offsets").status == 200
        assert others[0].ask("DELETE", path).status == 204
        assert doors[owner].ask("DELETE", path).body["error_code"] == 40403


def test_what_an_operator_asks_is_answered_for_all_workers(nodes: Nodes, doors: dict[str, Door]) -> None:
    for process, door in doors.items():
        page = door.ask("GET", "/cluster?group=g&instance=i").body
        assert page["process"] == process
        assert set(page["nodes"]) == set(PROCESSES)
        assert page["owner"] in PROCESSES
        assert door.ask("GET", "/health/ready").body == {"status": "ready"}
        clients = door.ask("GET", "/console/clients").body  # these doors among them, which are open
        assert len(clients) >= len(PROCESSES)
        assert "worker" not in {each["transport"] for each in clients}
    assert set(moves(nodes)) == set(PROCESSES)


async def test_a_client_over_plain_http_is_found_from_everywhere(nodes: Nodes, doors: dict[str, Door]) -> None:
    """One process keeps it, as its tracking id says: what it sends may come to any process of any node."""
    urls = [nodes[number].url for number in (0, 1)]
    async with await Listener.open(urls[0], target("sse")) as stream:
        for number in range(16):  # to some worker of each node
            envelope = json.dumps({"id": f"n{number}", "method": "GET", "path": "/topics"})
            reply = await push(urls[number % 2], target("polling", stream.id), envelope)
            assert (reply.status, reply.body) == (200, b"")
        answered: set[str] = set()
        while len(answered) < 16:
            answered |= set(re.findall(r'"id": ?"(n\d+)"', await stream.event()))
    id = await handshake(urls[0])
    for url in (*urls, *urls):
        async with await Listener.open(url, target("long-polling", id)) as poll:
            assert poll.id == id
            assert (await push(urls[1], target("polling", id), envelope)).status == 200
            assert b'"n15"' in await poll.rest()


def test_a_worker_that_is_killed_comes_back_with_what_it_had(
    nodes: Nodes, doors: dict[str, Door], kafka: KafkaCluster
) -> None:
    """Under its name: nobody else gets a slot, and the group's other members see nothing. Requests wait that long."""
    topic = kafka.create_topic()
    paths = [instance(nodes, "gw-0/1", doors[each], topic, **BY_HAND)[2] for each in ("gw-0/0", "gw-1/0")]
    clients = [Client(doors[each], path) for each, path in zip(("gw-0/0", "gw-1/1"), paths, strict=True)]
    produce(nodes[1], topic, range(5))
    for client in clients:
        client.until(4)
        assert ask(client.by, "POST", f"{client.path}/offsets").status == 200
    produce(nodes[1], topic, range(5, 8))
    clients[1].until(7)  # which is not committed
    before, boot = moves(nodes), doors["gw-1/0"].ask("GET", "/cluster").body["nodes"]["gw-0/1"]["boot"]
    os.kill(pid_of(nodes[0], 1), signal.SIGKILL)
    for client in clients:
        client.until(7)
        assert client.statuses == {200}
    clients[1].until(7)
    assert clients[0].values == list(range(8))
    while len(clients[1].values) < 11:
        clients[1].read()
    assert clients[1].values == [*range(8), *range(5, 8)], "from its last commit"
    nodes.shared_out()
    page = doors["gw-1/0"].ask("GET", "/cluster").body["nodes"]["gw-0/1"]
    assert page["boot"] != boot
    after = moves(nodes)
    for process in set(PROCESSES) - {"gw-0/1"}:
        assert after[process] == before[process]
    with urllib.request.urlopen(f"{nodes[0].url}/metrics", timeout=PATIENCE_S) as reply:
        assert b'kafka_gateway_worker_restarts_total{worker="1"} 1' in reply.read()
    for client in clients:
        assert ask(client.by, "DELETE", client.path).status == 204


def test_a_node_that_stops_fails_no_request(nodes: Nodes, doors: dict[str, Door], kafka: KafkaCluster) -> None:
    """Both of its workers at once. Their instances go on at the other node, at the very next record."""
    topic = kafka.create_topic()
    leaving = nodes[0]
    owners = ("gw-0/0", "gw-0/1", "gw-0/1")
    paths = [instance(nodes, each, doors["gw-1/0"], topic, **BY_HAND)[2] for each in owners]
    clients = [Client(doors[each], path) for each, path in zip(("gw-1/0", "gw-1/1", "gw-1/0"), paths, strict=True)]
    produce(nodes[1], topic, range(10))
    for client in clients:
        client.until(9)
    leaving.process.send_signal(signal.SIGTERM)
    produced = 10
    while leaving.process.poll() is None:
        produce(nodes[1], topic, range(produced, produced + 1))
        produced += 1
        for client in clients:
            client.read(100)
    assert leaving.process.returncode == 0
    produce(nodes[1], topic, range(produced, produced + 1))
    for client in clients:
        client.until(produced)
        assert client.values == list(range(produced + 1)), "each record once, in order"
        assert client.statuses == {200}
    nodes.restart(0)
    for client in clients:
        assert ask(client.by, "DELETE", client.path).status == 204


def test_a_node_whose_workers_lose_their_names_ends(nodes: Nodes, tmp_path: Path) -> None:
    """As if on two machines, in a cluster of their own: none of its workers is started again, and none waits for others
    that do not stop."""
    started = []
    for number in range(2):
        (tmp_path / str(number)).mkdir(mode=0o700)
        patient = "shutdown.graceful.ms=300000"
        apart = (f"cluster.id={nodes.id}-two", f"cluster.peer.dir={tmp_path / str(number)}")
        started.append(nodes.make(7, *apart, patient))
        started[-1].wait_for("serving [1-9]", PATIENCE_S)
    older, newer = started
    assert older.process.wait(PATIENCE_S) == 70
    assert not any("started again" in line for line in older.output)
    assert any("cluster.node.id" in line for line in older.output)
    assert newer.stop() == 0
