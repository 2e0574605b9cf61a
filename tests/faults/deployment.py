"""Three nodes that serve as one, with all their lines through gates: to Kafka, to each other, and from the balancer."""

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

from tests.cache import unavailable
from tests.faults.gates import FINE, HOST, Gate, Network
from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import KafkaCluster, KafkaUnavailableError, Node, free_ports

NODES = 3
SLOTS = 24
SESSION_S, HEARTBEAT_S = 6.0, 0.5
"""The defaults: what operators get."""
PATIENCE_S = 90.0
"""A busy machine takes its time to start things."""


class GatedKafka(KafkaCluster):
    """As `KafkaCluster`, with a listener for each gateway, to which that comes through gates of its own."""

    def __init__(self, network: Network, brokers: int, gateways: int) -> None:
        # All at once: nobody listens there yet, so another call could name the same ones.
        ports = free_ports(brokers * (2 + gateways))
        own = iter(ports[2 * brokers :])
        super().__init__(brokers, min_insync_replicas=min(brokers, 2), ports=ports[: 2 * brokers])
        self._own = {node: {name: next(own) for name in _names(gateways)} for node in self.nodes}
        self._gates = {
            node: {name: network.gate(port) for name, port in ports.items()} for node, ports in self._own.items()
        }
        plain = "".join(f",{name}:PLAINTEXT" for name in _names(gateways))
        self.settings["listener.security.protocol.map"] += plain

    def listeners(self, node: Node) -> dict[str, int]:
        return {**super().listeners(node), **self._own[node.id]}

    def advertised(self, node: Node) -> dict[str, int]:
        return {**super().advertised(node), **{name: gate.port for name, gate in self._gates[node.id].items()}}

    def gates(self, gateway: int) -> list[Gate]:
        """Between that gateway and each broker."""
        return [gates[_name(gateway)] for gates in self._gates.values()]

    def through_gates(self, gateway: int) -> str:
        """``bootstrap.servers`` of that gateway."""
        return ",".join(f"{HOST}:{gate.port}" for gate in self.gates(gateway))


def _name(gateway: int) -> str:
    return f"GATEWAY{gateway}"


def _names(gateways: int) -> list[str]:
    return [_name(number) for number in range(gateways)]


def node_id(number: int) -> str:
    """``cluster.node.id`` of that node."""
    return f"gw-{number}"


class Deployment:
    """The nodes. Each keeps its ports and its name over restarts. All methods block."""

    def __init__(self, network: Network, kafka: GatedKafka, directory: Path, workers: int = 1) -> None:
        self.kafka = kafka
        self._directory = directory
        self._workers = workers
        self.id = f"t{uuid.uuid4().hex[:10]}"
        rows = _rows(3 * NODES, workers)
        self.ports = [row[0] for row in rows[:NODES]]
        self._peer_ports = rows[NODES : 2 * NODES]
        """Of each node, of each worker."""
        self._peer_gates = [
            [network.gate(port, at) for port, at in zip(ports, own, strict=True)]
            for ports, own in zip(self._peer_ports, rows[2 * NODES :], strict=True)
        ]
        self.balancer = network.balancer(self.ports)
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
        return f"http://{HOST}:{self.ports[number]}"

    def start(self, number: int) -> None:
        """Returns when it listens."""
        file = self._directory / f"{node_id(number)}.properties"
        properties = {
            "port": self.ports[number],
            "bootstrap.servers": self.kafka.through_gates(number),
            "workers": self._workers,
            "cluster.enable": "true",
            "cluster.id": self.id,
            "cluster.node.id": node_id(number),
            "cluster.slots": SLOTS,
            "cluster.peer.listener": f"tcp://{HOST}:{self._peer_ports[number][0]}",
            "cluster.peer.advertised": f"tcp://{HOST}:{self._peer_gates[number][0].port}",
            "cluster.peer.secret.file": self._secret,
            "cluster.drain.wait.ms": 1000,
            "access.log.enable": "false",
        }
        file.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        process = GatewayProcess(str(file), own_port=False, start_s=PATIENCE_S)
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

    # --- the lines ----------------------------------------------------------------------------------------------------

    def to_kafka(self, number: int) -> list[Gate]:
        """Between that node and the brokers."""
        return self.kafka.gates(number)

    def to_peer(self, number: int) -> list[Gate]:
        """In front of each worker of that node, for the other nodes."""
        return self._peer_gates[number]

    def mend(self) -> None:
        """All lines are as they should be."""
        for number in range(NODES):
            for gate in (*self.to_kafka(number), *self.to_peer(number)):
                for who in ("", *map(node_id, range(NODES))):
                    gate.set(FINE, of=who)

    # --- what they say ------------------------------------------------------------------------------------------------

    def page(self, number: int) -> dict[str, Any]:
        """``GET /cluster`` of that node, of whichever worker gets the request. OSError."""
        with urllib.request.urlopen(f"{self.url(number)}/cluster", timeout=10) as reply:
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
            with urllib.request.urlopen(f"{self.url(number)}/health/ready", timeout=10):
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
def running(brokers: int, directory: Path, workers: int = 1) -> Iterator[Deployment]:
    """A Kafka of its own, and nodes that serve as one in front of it. Without Java the test is skipped, in CI it
    fails."""
    with Network() as network:
        try:
            kafka = GatedKafka(network, brokers, NODES).start()
        except KafkaUnavailableError as error:
            unavailable(str(error))
        try:
            with Deployment(network, kafka, directory, workers) as started:
                yield started
        finally:
            kafka.stop()


Strike = Callable[[Deployment], None]
"""What happens to the nodes, their lines or Kafka; returns when it is over and what was stopped runs again."""
