"""Several gateways as one cluster on one machine, as processes, and what clients ask of them."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from tests.gateway_process import GatewayProcess

V1, V2 = "application/vnd.kafka.v1+json", "application/vnd.kafka.v2+json"
JSON_V1, JSON_V2 = "application/vnd.kafka.json.v1+json", "application/vnd.kafka.json.v2+json"
SLOTS = 8
PATIENCE_S = 60.0
HOLD_MS = 40_000
"""On a busy machine a node takes its time to take over."""
EARLIEST = {"format": "json", "auto.offset.reset": "earliest"}


class Answer(NamedTuple):
    status: int
    body: Any


class Door:
    """A connection to one process of a node, and the only way to choose one: the system gives each connection to some
    worker."""

    def __init__(self, node: GatewayProcess, process: str) -> None:
        until = time.monotonic() + PATIENCE_S
        while True:
            self._connection = http.client.HTTPConnection(node.url.partition("//")[2], timeout=PATIENCE_S)
            if self.ask("GET", "/cluster").body["process"] == process:
                return
            self.close()
            assert time.monotonic() < until, f"no connection comes to {process}"

    def ask(self, method: str, path: str, body: Any = None, accept: str = "*/*", type: str = V2) -> Answer:
        content = None if body is None else json.dumps(body).encode()
        self._connection.request(method, path, content, {"Content-Type": type, "Accept": accept})
        reply = self._connection.getresponse()
        return Answer(reply.status, json.loads(reply.read() or b"null"))

    def close(self) -> None:
        self._connection.close()


def ask(
    by: GatewayProcess | Door, method: str, path: str, body: Any = None, accept: str = "*/*", type: str = V2
) -> Answer:
    """The answer of a node, whichever of its processes has got the connection, or of one process."""
    if isinstance(by, Door):
        return by.ask(method, path, body, accept, type)
    headers = {"Content-Type": type, "Accept": accept}
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(by.url + path, content, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
            return Answer(reply.status, json.loads(reply.read() or b"null"))
    except urllib.error.HTTPError as error:
        return Answer(error.code, json.loads(error.read() or b"null"))


class Nodes:
    """Two gateways of one cluster. ``self[0]`` is the one of that number at present. ``workers``: processes of each."""

    def __init__(self, bootstrap: str, directory: Path, *more: str, workers: int = 1) -> None:
        self.workers = workers
        self.id = f"t{uuid.uuid4().hex[:10]}"
        self.bootstrap = bootstrap
        self._directory = directory
        self._more = more
        self._nodes: list[GatewayProcess] = []
        self._stack = contextlib.ExitStack()

    def __getitem__(self, number: int) -> GatewayProcess:
        return self._nodes[number]

    def make(self, number: int, *more: str) -> GatewayProcess:
        properties = (
            "cluster.enable=true",
            f"cluster.id={self.id}",
            f"cluster.node.id=gw-{number}",
            f"cluster.peer.dir={self._directory}",
            f"cluster.slots={SLOTS}",
            f"cluster.hold.ms={HOLD_MS}",
            f"workers={self.workers}",
            "cluster.session.timeout.ms=8000",  # on a busy machine nobody is taken for dead
            "idle.timeout.ms=300000",  # nor does a connection end that a test has left alone for half a minute
            *self._more,
            *more,
        )
        return self._stack.enter_context(GatewayProcess(*properties, bootstrap=self.bootstrap, start_s=60))

    def __enter__(self) -> Nodes:
        with self._stack:
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                self._nodes = list(pool.map(self.make, range(2)))
            self.shared_out()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def restart(self, number: int) -> None:
        """A new gateway of that name; returns when all processes serve their share."""
        self._nodes[number] = self.make(number)
        self.shared_out()

    def shared_out(self) -> None:
        """Returns when every slot is served, each process has some, and all know that."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            pages = list(self.pages().values())
            own = [{slot for slot, state in page["slots"].items() if state == "serving"} for page in pages]
            owners = [page["owners"] for page in pages]
            if all(own) and len(set().union(*own)) == len(owners[0]) == SLOTS and owners.count(owners[0]) == len(pages):
                return
            time.sleep(0.1)  # time itself: no event tells what all nodes think
        raise AssertionError(pages)

    def pages(self) -> dict[str, Any]:
        """What each process shows of the cluster, by its id."""
        found: dict[str, Any] = {}
        for count, node in enumerate(self._nodes, 1):
            until = time.monotonic() + PATIENCE_S
            while len(found) < count * self.workers:
                page = ask(node, "GET", "/cluster").body
                found[page["process"]] = page
                assert time.monotonic() < until, found.keys()
        return found

    def owner(self, group: str, name: str) -> str:
        """The process that has that instance."""
        return str(ask(self._nodes[0], "GET", f"/cluster?group={group}&instance={name}").body["owner"])

    def name_at(self, process: str | int, group: str) -> str:
        """A new name that this process has, or the first of the node of this number."""
        process = f"gw-{process}/0" if isinstance(process, int) else process
        return next(name for each in range(10_000) if self.owner(group, name := f"c{each}") == process)

    def door(self, process: str) -> Door:
        """A new connection to it."""
        return Door(self._nodes[int(process.removeprefix("gw-").partition("/")[0])], process)


class Client:
    """Reads an instance by one node, or one process, and notes what it got."""

    def __init__(self, by: GatewayProcess | Door, path: str) -> None:
        self.by, self.path = by, path
        self.values: list[int] = []
        self.statuses: set[int] = set()

    def read(self, timeout_ms: int = 1000) -> list[int]:
        answer = ask(self.by, "GET", f"{self.path}/records?timeout={timeout_ms}", accept=JSON_V2)
        self.statuses.add(answer.status)
        found = [each["value"] for each in answer.body] if answer.status == 200 else []
        self.values += found
        return found

    def until(self, last: int) -> None:
        until = time.monotonic() + PATIENCE_S
        while last not in self.values:
            assert time.monotonic() < until, (self.values, self.statuses)
            self.read()


def produce(node: GatewayProcess | Door, topic: str, values: range) -> None:
    body = {"records": [{"value": each, "partition": 0} for each in values]}
    assert ask(node, "POST", f"/topics/{topic}", body, type=JSON_V2).status == 200


def instance(
    nodes: Nodes, at: int | str, by: int | Door, topic: str, subscribe: bool = True, **options: str
) -> tuple[str, str, str]:
    """Group, name and path of a new instance that one node, or process, has, made by the door of another one."""
    group = f"group-{uuid.uuid4().hex[:8]}"
    name = nodes.name_at(at, group)
    door = nodes[by] if isinstance(by, int) else by
    answer = ask(door, "POST", f"/consumers/{group}", {"name": name, **EARLIEST, **options})
    assert answer.status == 200, answer
    path = f"/consumers/{group}/instances/{name}"
    if subscribe:
        assert ask(door, "POST", f"{path}/subscription", {"topics": [topic]}).status == 204
    return group, name, path
