"""Three nodes that serve as one, their lines to Kafka and to each other of either kind (lines.py), and a balancer."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import secrets
import socket
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from signal import Signals
from typing import Any

import pytest

from tests.cache import unavailable
from tests.faults import namespaces
from tests.faults.gates import HOST, GateLines, Network
from tests.faults.lines import KAFKA, Lines, node_id
from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import KafkaCluster, KafkaUnavailableError, Node, free_ports

NODES = 3
SLOTS = 24
SESSION_S, HEARTBEAT_S = 6.0, 0.5
"""The defaults: what operators get."""
PATIENCE_S = 90.0
"""A busy machine takes its time to start things."""
_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Whatever proxies this machine has."""


class LinedKafka(KafkaCluster):
    """As `KafkaCluster`, with a listener for each gateway, to which that comes through lines of its own."""

    def __init__(self, lines: Lines, brokers: int, gateways: int) -> None:
        # All at once: nobody listens there yet, so another call could name the same ones.
        ports = free_ports(brokers * (2 + gateways))
        own = iter(ports[2 * brokers :])
        super().__init__(brokers, min_insync_replicas=min(brokers, 2), ports=ports[: 2 * brokers])
        self._own: dict[int, dict[str, str]] = {node: {} for node in self.nodes}
        self._told: dict[int, dict[str, str]] = {node: {} for node in self.nodes}
        for node in self.nodes:
            for gateway in range(gateways):
                port = next(own)
                self._own[node][_name(gateway)] = f"{lines.host(KAFKA)}:{port}"
                self._told[node][_name(gateway)] = lines.to_broker(gateway, port)
        plain = "".join(f",{_name(gateway)}:PLAINTEXT" for gateway in range(gateways))
        self.settings["listener.security.protocol.map"] += plain

    def listeners(self, node: Node) -> dict[str, str]:
        return {**super().listeners(node), **self._own[node.id]}

    def advertised(self, node: Node) -> dict[str, str]:
        return {**super().advertised(node), **self._told[node.id]}

    def told(self, gateway: int) -> str:
        """``bootstrap.servers`` of that gateway."""
        return ",".join(told[_name(gateway)] for told in self._told.values())


def _name(gateway: int) -> str:
    return f"GATEWAY{gateway}"


class Deployment:
    """The nodes. Each keeps its ports and its name over restarts. All methods block."""

    def __init__(self, network: Network, lines: Lines, kafka: LinedKafka, directory: Path, workers: int = 1) -> None:
        self.kafka = kafka
        self.lines = lines
        self._directory = directory
        self._workers = workers
        self.id = f"t{uuid.uuid4().hex[:10]}"
        rows = iter(_rows(4 * NODES, workers))
        clients, operators, peers, spare = ([next(rows) for _ in range(NODES)] for _ in range(4))
        self._addresses = [(lines.host(number), row[0]) for number, row in enumerate(clients)]
        self._operators = [(lines.host(number), row[0]) for number, row in enumerate(operators)]
        self._peer_ports = [row[0] for row in peers]
        """Of the first worker of each node."""
        self._told = [
            lines.to_node(number, ports, spares)
            for number, (ports, spares) in enumerate(zip(peers, spare, strict=True))
        ]
        """Where the others find that."""
        self.balancer = network.balancer(dict(zip(self._addresses, self._operators, strict=True)))
        self._nodes: dict[int, GatewayProcess] = {}
        self._stack = contextlib.ExitStack()
        self._secret = directory / "secret"
        self._secret.write_text(secrets.token_hex(32))
        self._secret.chmod(0o600)

    def __enter__(self) -> Deployment:
        with self._stack:
            with concurrent.futures.ThreadPoolExecutor(NODES) as pool:
                list(pool.map(self.start, range(NODES)))
            self.shared_out()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    # --- one node -----------------------------------------------------------------------------------------------------

    def url(self, number: int) -> str:
        """Of that node, past the balancer."""
        host, port = self._addresses[number]
        return f"http://{host}:{port}"

    def operators_url(self, number: int) -> str:
        """Of that node, where it tells how it is."""
        host, port = self._operators[number]
        return f"http://{host}:{port}"

    def start(self, number: int) -> None:
        """Returns when it listens."""
        file = self._directory / f"{node_id(number)}.properties"
        properties = {
            "listeners": self.url(number),
            "admin.listeners": self.operators_url(number),
            "listeners.insecure": "true",  # not every kind of lines has them on loopback
            "bootstrap.servers": self.kafka.told(number),
            "workers": self._workers,
            "cluster.enable": "true",
            "cluster.id": self.id,
            "cluster.node.id": node_id(number),
            "cluster.slots": SLOTS,
            "cluster.peer.listener": f"tcp://{self.lines.host(number)}:{self._peer_ports[number]}",
            "cluster.peer.advertised": f"tcp://{self._told[number]}",
            "cluster.peer.secret.file": self._secret,
            "cluster.drain.wait.ms": 1000,
            "access.log.enable": "false",
        }
        file.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        process = GatewayProcess(str(file), own_port=False, start_s=PATIENCE_S, begin=self.lines.begin(number))
        self._nodes[number] = self._stack.enter_context(process)

    def signal(self, number: int, what: Signals) -> None:
        """To its process, which is the parent where there are workers."""
        self._nodes[number].process.send_signal(what)

    def signal_worker(self, number: int, worker: int, what: Signals) -> None:
        """To one of its workers."""
        parent = self._nodes[number].pid
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            if f'{{"number":{worker},' in Path(f"/proc/{child}/cmdline").read_text():
                os.kill(int(child), what)
                return
        raise AssertionError(f"node {number} has no worker {worker}")

    def ended(self, number: int) -> int:
        """Its exit code, when it has ended."""
        return self._nodes[number].process.wait(PATIENCE_S)

    def log(self, number: int) -> str:
        """What it has written."""
        return "\n".join(self._nodes[number].output)

    def wait_for(self, number: int, pattern: str) -> None:
        """Until that stands in its log."""
        self._nodes[number].wait_for(pattern, PATIENCE_S)

    # --- what they say ------------------------------------------------------------------------------------------------

    def page(self, number: int) -> dict[str, Any]:
        """``GET /cluster`` of that node, of whichever worker gets the request. OSError."""
        with _DIRECTLY.open(f"{self.operators_url(number)}/cluster", timeout=10) as reply:
            found: dict[str, Any] = json.loads(reply.read())
            return found

    def pages(self, but: int = -1) -> list[dict[str, Any]]:
        """Those of all processes that answered one of some requests. OSError."""
        found = {}
        for number in range(NODES):
            if number != but:
                for _ in range(1 if self._workers == 1 else 4 * self._workers):
                    page = self.page(number)
                    found[page["process"]] = page
        return list(found.values())

    def is_ready(self, number: int) -> bool:
        """Whether it says so."""
        try:
            with _DIRECTLY.open(f"{self.operators_url(number)}/health/ready", timeout=10):
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False

    def shared_out(self) -> None:
        """Returns when every slot is served by one, each has some, all know that, and all are ready."""
        state: Any = None
        for _ in until(PATIENCE_S):
            try:
                pages = self.pages()
            except OSError as error:
                state = error
                continue
            own = [served(page) for page in pages]
            state = [(sorted(slots), page["owners"], page["trouble"]) for slots, page in zip(own, pages, strict=True)]
            told = [page["owners"] for page in pages]
            if (
                all(map(self.is_ready, range(NODES)))
                and len(pages) == NODES * self._workers
                and all(own)
                and sum(map(len, own)) == len(set().union(*own)) == SLOTS
                and all(each == told[0] for each in told)
                and len(told[0]) == SLOTS
            ):
                return
        raise AssertionError(f"the slots were not shared out: {state}")


def _rows(count: int, length: int) -> list[range]:
    """So many rows of free ports that follow each other."""
    found: list[range] = []
    for first in free_ports(4 * count):
        row = range(first, first + length)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in row:
                stack.enter_context(socket.socket()).bind((HOST, port))
            found.append(row)
    return found[:count]


def served(page: Mapping[str, Any]) -> set[str]:
    """The slots that the node serves, by its page."""
    return {slot for slot, state in page["slots"].items() if state == "serving"}


def until(seconds: float, pause_s: float = 0.2) -> Iterator[None]:
    """Lets a loop ask again and again for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(pause_s)


@contextlib.contextmanager
def running(brokers: int, directory: Path, workers: int = 1, *, packets: bool = False) -> Iterator[Deployment]:
    """A Kafka of its own, and nodes that serve as one in front of it. Without Java the test is skipped, in CI it
    fails. ``packets``: the lines lose packets, in network namespaces; where these cannot be, the test is skipped, in CI
    too, for it is the machine's right."""
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network())
        lines = _namespaces(stack) if packets else GateLines(network)
        try:
            kafka = LinedKafka(lines, brokers, NODES).start()
        except KafkaUnavailableError as error:
            unavailable(str(error))
        stack.callback(kafka.stop)
        yield stack.enter_context(Deployment(network, lines, kafka, directory, workers))


def _namespaces(stack: contextlib.ExitStack) -> Lines:
    try:
        namespaces.check()
    except namespaces.NamespacesUnavailableError as error:
        pytest.skip(str(error))
    return stack.enter_context(namespaces.Namespaces(NODES))


Strike = Callable[[Deployment], None]
"""What happens to the nodes, their lines or Kafka; returns when it is over and what was stopped runs again."""
