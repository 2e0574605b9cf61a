"""Two workers of the real program on the embedded Kafka: any of them serves any client (docs/cluster.md)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import re
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from kafka_gateway.workers.slots import StaticTable
from tests.acceptance.envelopes import EnvelopeClient
from tests.gateway_process import GatewayProcess
from tests.operation.scraped import scrape
from tests.transports.listener import Listener, handshake, target
from tests.transports.wire import JSON_V2, V2, Reply, Wire, produce, request
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

WORKERS = 2
PATIENCE_S = 60.0
"""For what waits until a worker is started again: on a busy machine that takes its time."""
HOLD = f"cluster.hold.ms={PATIENCE_S * 1000:.0f}"
HOMES = StaticTable(WORKERS)
V1 = "application/vnd.kafka.v1+json"
PULLS = ("push.pull.enable=true", "push.pull.prefix=/flasfka")
TOPICS = ("pulled", "any", "v1", "leaves", "pushes", "events", "load")
"""One for each test: the embedded Kafka has them from the start."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    peers = tmp_path_factory.mktemp("peers", numbered=True) / "own"
    properties = (
        f"workers={WORKERS}",
        f"cluster.peer.dir={peers}",
        f"embedded.topics={','.join(TOPICS)}",
        HOLD,
        "cluster.session.timeout.ms=60000",  # on a busy machine nobody is taken for dead
        "bridge.producer.in.topic=any",
        "bridge.producer.in.path=/in",
        *PULLS,
    )
    with GatewayProcess(*properties, start_s=60) as started:
        started.peers = peers  # type: ignore[attr-defined]
        yield started
        assert started.stop() == 0


def pid_of(gateway: GatewayProcess, worker: int) -> int:
    """Of the process that this worker is at present."""
    for child in Path(f"/proc/{gateway.pid}/task/{gateway.pid}/children").read_text().split():
        if f'{{"number":{worker},' in Path(f"/proc/{child}/cmdline").read_text():
            return int(child)
    raise AssertionError(f"there is no worker {worker}")


def told(gateway: GatewayProcess, pattern: str) -> int:
    """In how many lines that stands by now."""
    return sum(re.search(pattern, line) is not None for line in gateway.output)


async def tells_of_workers(gateway: GatewayProcess, what: str, expected: dict[str, float]) -> None:
    """Whichever worker gets the scrape: the parent has told it, or does so soon."""
    async with asyncio.timeout(PATIENCE_S):
        found: dict[str, float] = {}
        while found != expected:
            name, page = f"kafka_gateway_worker_{what}", await scrape(gateway.url)
            found = {each.labels["worker"]: each.value for each in page.samples if each.name == name}


def write(file: Path, text: str) -> None:
    file.write_text(text)


async def serves_again(gateway: GatewayProcess, worker: int, times: int) -> None:
    await until(lambda: told(gateway, f"worker {worker} serves again") == times, PATIENCE_S)


async def ask(wire: Wire, method: str, path: str, body: Any = None, **headers: str) -> Reply:
    content = b"" if body is None else json.dumps(body).encode()
    if body is not None:
        headers.setdefault("Content_Type", V2)
    await wire.send(request(method, path, content, **headers))
    return await wire.reply(timeout_s=PATIENCE_S)


async def connect(gateway: GatewayProcess, worker: int, address: str = "", **headers: str) -> Wire:
    """A connection to this worker: it draws names whose home it is."""
    while True:
        wire = await Wire.open(address or gateway.url)
        reply = await ask(wire, "POST", "/consumers/which", {}, **headers)
        assert reply.status == 200, reply
        if HOMES.home("which", reply.json["instance_id"]) == worker:
            return wire
        wire.writer.transport.abort()


def name_at(worker: int, group: str) -> str:
    """A new name whose home is this worker."""
    return next(name for number in itertools.count() if HOMES.home(group, name := f"c{number}") == worker)


def new(what: str) -> str:
    return f"{what}-{uuid.uuid4().hex[:8]}"


async def test_each_request_of_a_v2_instance_may_come_to_another_worker(gateway: GatewayProcess) -> None:
    group, topic = new("group"), "any"
    async with contextlib.AsyncExitStack() as open_now:
        wires = [await open_now.enter_async_context(await connect(gateway, worker)) for worker in range(WORKERS)]
        for home, away in ((0, 1), (1, 0)):
            name = name_at(home, group)
            made = {"name": name, "format": "json", "auto.offset.reset": "earliest"}
            reply = await ask(wires[away], "POST", f"/consumers/{group}", made, Host="gateway:1")
            path = f"/consumers/{group}/instances/{name}"
            assert (reply.status, reply.json) == (
                200,
                {"instance_id": name, "base_uri": f"http://gateway:1{path}"},
            )
            for wire in wires:
                assert (await ask(wire, "POST", f"/consumers/{group}", made)).json["error_code"] == 40902
            places = {"partitions": [{"topic": topic, "partition": 0}]}
            assert (await ask(wires[away], "POST", f"{path}/assignments", places)).status == 204
            assert (await ask(wires[home], "GET", f"{path}/assignments")).json == places
            body = b'{"records":[{"value":{"home":%d},"partition":0}]}' % home
            await wires[home].send(produce(topic, body))
            assert (await wires[home].reply()).status == 200
            values: list[Any] = []
            while {"home": home} not in values:
                reply = await ask(wires[away], "GET", f"{path}/records?timeout=3000", Accept=JSON_V2)
                assert reply.status == 200, reply
                values += [each["value"] for each in reply.json]
            assert (await ask(wires[away], "POST", f"{path}/offsets")).status == 200
            committed = await ask(wires[home], "GET", f"{path}/offsets", places)
            assert committed.json["offsets"][0]["offset"] == home + 1
            assert (await ask(wires[away], "GET", f"{path}/records", Accept="text/html")).status == 406
            assert (await ask(wires[away], "DELETE", path, Content_Type=V2)).status == 204
            for wire in wires:
                assert (await ask(wire, "DELETE", path, Content_Type=V2)).json["error_code"] == 40403


async def test_the_home_knows_that_an_instance_is_v1(gateway: GatewayProcess) -> None:
    group, topic = new("group"), "v1"
    async with await connect(gateway, 0) as wire:
        name = name_at(1, group)
        made = {"id": name, "format": "binary", "auto.offset.reset": "smallest"}
        reply = await ask(wire, "POST", f"/consumers/{group}", made, Content_Type=V1)
        assert (reply.status, reply.json["instance_id"]) == (200, name)
        await wire.send(produce(topic))
        assert (await wire.reply()).status == 200
        path = f"/consumers/{group}/instances/{name}"
        while not (reply := await ask(wire, "GET", f"{path}/topics/{topic}")).json:
            assert reply.status == 200
        assert reply.headers["content-type"] == "application/vnd.kafka.binary.v1+json"
        assert reply.json[0]["value"] == "MQ=="
        assert (await ask(wire, "DELETE", path)).status == 204


async def test_a_reader_that_leaves_takes_no_record_with_it(gateway: GatewayProcess) -> None:
    group, topic = new("group"), "leaves"
    path = f"/consumers/{group}/instances/{name_at(1, group)}"
    async with await connect(gateway, 0) as away:
        made = {"name": path.rpartition("/")[2], "format": "json", "auto.offset.reset": "earliest"}
        assert (await ask(away, "POST", f"/consumers/{group}", made)).status == 200
        places = {"partitions": [{"topic": topic, "partition": 0}]}
        assert (await ask(away, "POST", f"{path}/assignments", places)).status == 204
        # Each time with the same head: from the third time on it is known, and its requests need no task.
        for value in range(5):
            async with await connect(gateway, 0) as leaving:
                await leaving.send(request("GET", f"{path}/records?timeout=10000", Accept=JSON_V2))
                await ask(away, "GET", f"{path}/assignments")  # the read is on its way to the instance
            await away.send(produce(topic, b'{"records":[{"value":%d,"partition":0}]}' % value))
            assert (await away.reply()).status == 200
            reply = await ask(away, "GET", f"{path}/records?timeout=10000", Accept=JSON_V2)
            assert [each["value"] for each in reply.json] == [value]


async def test_pushes_of_an_instance_elsewhere(gateway: GatewayProcess) -> None:
    group, topic = new("group"), "pushes"
    while True:
        client = await EnvelopeClient.open(gateway.url.replace("http", "ws"))
        drawn = await client.ask("POST", "/consumers/which", {}, type=V2)
        if HOMES.home("which", drawn.json["instance_id"]) == 0:
            break
        client.peer.kill()
    async with client:
        path = await client.instance(group, name_at(1, group))
        await client.produce(topic, 1)
        client.subscribe("pushes", path, topic)
        values: list[Any] = []
        while not values:
            reply = await client.reply(20)
            assert (reply.id, reply.status) == ("pushes", 200), reply
            values += [each["value"] for each in reply.json]
        client.write("more", "POST", f"/topics/{topic}", {"records": [{"value": 2}]}, type=JSON_V2)
        while len(values) < 2:
            reply = await client.reply(20)
            assert (reply.id, reply.status) in (("pushes", 200), ("more", 200)), reply
            if reply.id == "pushes":
                values += [each["value"] for each in reply.json]
        assert values == [1, 2]
        assert (await client.ask("DELETE", f"/ws{path}/topics/{topic}")).status == 204
        assert (await client.ask("DELETE", path)).status == 204


async def test_events_of_an_instance_elsewhere(gateway: GatewayProcess) -> None:
    group, topic = new("group"), "events"
    path = f"/consumers/{group}/instances/{name_at(1, group)}"
    async with await connect(gateway, 0) as wire, await connect(gateway, 1) as home:
        made = {"name": path.rpartition("/")[2], "format": "json", "auto.offset.reset": "earliest"}
        assert (await ask(home, "POST", f"/consumers/{group}", made)).status == 200
        places = {"partitions": [{"topic": topic, "partition": 0}]}
        assert (await ask(home, "POST", f"{path}/assignments", places)).status == 204
        await wire.send(request("GET", f"{path}/records", Accept="text/event-stream"))
        async with asyncio.timeout(20):
            await wire.reader.readuntil(b"event: ready")
            await home.send(produce(topic, b'{"records":[{"value":"there","partition":0}]}'))
            assert (await home.reply()).status == 200
            await wire.reader.readuntil(b'"value":"there"')
            assert (await ask(home, "DELETE", path, Content_Type=V2)).status == 204
            await wire.reader.readuntil(b"0\r\n\r\n")  # its end reaches the other worker, too


async def test_a_group_that_pulls_gets_each_message_once(gateway: GatewayProcess) -> None:
    group = new("group")
    async with contextlib.AsyncExitStack() as open_now:
        wires = [await open_now.enter_async_context(await connect(gateway, worker)) for worker in range(WORKERS)]
        sent = [f"message {number}" for number in range(6)]
        assert (await ask(wires[0], "POST", "/flasfka/pulled/", {"messages": sent})).status == 204
        found: list[str] = []
        for wire in itertools.chain(*itertools.repeat(wires, 4)):
            reply = await ask(wire, "GET", f"/flasfka/pulled/{group}/?limit=1")
            assert (reply.status, reply.json["group"]) == (200, group)
            found += reply.json["messages"]
        assert sorted(found) == sent
        refused = await ask(wires[0], "GET", f"/flasfka/pulled/{group}/?limit=x")
        assert (refused.status, set(refused.json)) == (400, {"error"})
        assert (await ask(wires[1], "GET", f"/flasfka/pulled/{group}/?limit=x")).json == refused.json


async def test_what_an_operator_asks_is_answered_for_all(gateway: GatewayProcess) -> None:
    async with contextlib.AsyncExitStack() as open_now:
        wires = [await open_now.enter_async_context(await connect(gateway, worker)) for worker in range(WORKERS)]
        for wire in wires:
            assert (await ask(wire, "GET", "/health/ready")).json == {"status": "ready"}
            page = await scrape(gateway.url)
            threads = {
                each.labels["worker"]: each.value for each in page.samples if each.name == "kafka_gateway_threads"
            }
            assert set(threads) == {"0", "1"}
            assert all(threads.values())
            await tells_of_workers(gateway, "up", {"0": 1.0, "1": 1.0})
            await tells_of_workers(gateway, "restarts_total", {"0": 0.0, "1": 0.0})
            assert b'worker="1"' in (await ask(wire, "GET", "/bridges/metrics")).body
            rows = (await ask(wire, "GET", "/console/clients")).json
            assert len(rows) >= WORKERS
            assert "worker" not in {each["transport"] for each in rows}


async def test_a_stranger_at_the_socket_of_a_worker_is_cut_off(gateway: GatewayProcess) -> None:
    peers: Path = gateway.peers  # type: ignore[attr-defined]
    assert os.stat(peers).st_mode & 0o777 == 0o700
    assert told(gateway, f"INFO gateway.workers: cluster.peer.dir: {peers} was made, of mode 0700") == 1
    hello = b'{"is":"hello","version":1,"worker":0,"workers":3}'
    for said in (b"GET / HTTP/1.1\r\n\r\n", (2 + len(hello)).to_bytes(4) + len(hello).to_bytes(2) + hello):
        reader, writer = await asyncio.open_unix_connection(str(peers / "1.sock"))
        writer.write(said)
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionResetError):
                await reader.read()
        writer.transport.abort()


class Load:
    """Produces for ever: ``kept`` on one connection, else with a new one for each request."""

    def __init__(self, gateway: GatewayProcess, topic: str, kept: Wire | None = None) -> None:
        self.done = 0
        self.failed: list[object] = []
        self._gateway, self._topic, self._kept = gateway, topic, kept
        self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        while True:
            try:
                if self._kept is not None:
                    reply = await self._produce(self._kept)
                else:
                    async with await Wire.open(self._gateway.url) as wire:
                        reply = await self._produce(wire)
                if reply.status != 200:
                    self.failed.append(reply)
            except ConnectionError as error:
                self.failed.append(error)
            self.done += 1

    async def _produce(self, wire: Wire) -> Reply:
        await wire.send(produce(self._topic))
        return await wire.reply(timeout_s=PATIENCE_S)

    async def go_on(self, count: int = 20) -> None:
        """Returns when so many more requests are over."""
        target = self.done + count
        await until(lambda: self.done >= target or self._task.done(), PATIENCE_S)
        assert not self._task.done()

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def test_reading_again_fails_no_request(gateway: GatewayProcess) -> None:
    load = Load(gateway, "load")
    await load.go_on()
    gateway.process.send_signal(signal.SIGHUP)
    await load.go_on(60)
    await load.end()
    assert load.failed == []


async def test_a_killed_worker_is_started_again(gateway: GatewayProcess) -> None:
    """The last test with this gateway that knows its processes."""
    group, topic = new("group"), "load"
    path = f"/consumers/{group}/instances/{name_at(1, group)}"
    async with await connect(gateway, 0) as wire, await connect(gateway, 0) as other:
        made = {"name": path.rpartition("/")[2]}
        assert (await ask(wire, "POST", f"/consumers/{group}", made)).status == 200
        kept, fresh = Load(gateway, topic, other), [Load(gateway, topic) for _ in range(4)]
        for load in (kept, *fresh):
            await load.go_on()
        os.kill(pid_of(gateway, 1), signal.SIGKILL)
        gateway.wait_for(r"worker 1 ended with signal 9")
        # Sent while its home is away: it waits, and then there is no such instance.
        reply = await ask(wire, "GET", f"{path}/assignments")
        assert (reply.status, reply.json["error_code"]) == (404, 40403)
        assert gateway.wait_for(r"worker 1 serves again", PATIENCE_S)
        assert (await ask(wire, "POST", f"/consumers/{group}", made)).status == 200
        for load in (kept, *fresh):
            await load.go_on()
            await load.end()
        assert kept.failed == []  # the other worker's clients have noticed nothing
        assert sum(len(load.failed) for load in fresh) <= len(fresh)  # what the dead one was answering, and no more
    await tells_of_workers(gateway, "restarts_total", {"0": 0.0, "1": 1.0})


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Ada and bob may use the group ``which``, and ada the group ``hers``. It listens on a Unix socket, too, has a
    properties file, and logs in JSON."""
    folder = tmp_path_factory.mktemp("guarded")
    hashed = {name: bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode() for name in ("ada", "bob")}
    (folder / "users").write_text("".join(f"{name}:{each}\n" for name, each in hashed.items()))
    (folder / "rules").write_text(
        "allow User:ada read group:hers\nallow User:* read group:which\nallow User:* describe cluster\n"
    )
    properties = folder / "gateway.properties"
    properties.write_text(
        f"workers={WORKERS}\n{HOLD}\ncluster.session.timeout.ms=10000\nlog.format=json\n"
        f"embedded.enable=true\nauthentication.method=BASIC\nauthentication.basic.file={folder / 'users'}\n"
        f"authorization.file={folder / 'rules'}\nlisteners=http://127.0.0.1:0,unix:{folder / 'gw.sock'}\n"
    )
    with GatewayProcess(str(properties), own_port=False, start_s=60) as started:
        started.socket = folder / "gw.sock"  # type: ignore[attr-defined]
        started.properties = properties  # type: ignore[attr-defined]
        started.text = properties.read_text()  # type: ignore[attr-defined]
        yield started


def proof(name: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:secret".encode()).decode()


async def test_an_instance_is_its_makers_at_every_worker(guarded: GatewayProcess) -> None:
    made = {"format": "json"}
    for group, others in (("which", 40403), ("hers", 40301)):
        for worker in range(WORKERS):
            path = f"/consumers/{group}/instances/{name_at(worker, group)}"
            # The system alone chooses who gets a connection of the Unix socket.
            async with await Wire.open(f"unix:{guarded.socket}") as anywhere:  # type: ignore[attr-defined]
                ada, bob = {"Authorization": proof("ada")}, {"Authorization": proof("bob")}
                body = made | {"name": path.rpartition("/")[2]}
                assert (await ask(anywhere, "POST", f"/consumers/{group}", body)).status == 401
                assert (await ask(anywhere, "POST", f"/consumers/{group}", body, **ada)).status == 200
            for way in range(WORKERS):
                async with await connect(guarded, way, **bob) as wire:
                    assert (await ask(wire, "GET", f"{path}/assignments", **bob)).json["error_code"] == others
                    assert (await ask(wire, "GET", f"{path}/assignments", **ada)).status == 200
                    assert (await ask(wire, "GET", f"{path}/assignments")).status == 401
                    wrong = {"Authorization": proof("ada") + "x", "X_Gateway_Principal": "ada"}
                    assert (await ask(wire, "GET", f"{path}/assignments", **wrong)).status == 401


async def test_a_worker_comes_back_as_its_siblings_run(guarded: GatewayProcess) -> None:
    """Whatever the properties file says by then: it was not read yet, it was refused, it needs a start."""
    properties: Path = guarded.properties  # type: ignore[attr-defined]
    before: str = guarded.text  # type: ignore[attr-defined]
    ada = {"Authorization": proof("ada")}
    began = told(guarded, "worker 1 serves again")

    async def begin_anew(times: int) -> None:
        os.kill(pid_of(guarded, 1), signal.SIGKILL)
        await serves_again(guarded, 1, began + times)

    async def statuses(**headers: str) -> set[int]:
        """Of both workers, to a request that ``api.endpoints.blocklist`` can take away."""
        found = set()
        for way in range(WORKERS):
            async with await connect(guarded, way, **ada) as wire:
                found.add((await ask(wire, "GET", "/brokers", **headers)).status)
        return found

    write(properties, before.replace("=BASIC", "=NONE") + "nonsense=1\n")
    await begin_anew(1)
    assert await statuses() == {401}
    guarded.process.send_signal(signal.SIGHUP)
    await until(lambda: told(guarded, "nothing was changed") == WORKERS, PATIENCE_S)
    await begin_anew(2)
    assert await statuses() == {401}
    assert await statuses(**ada) == {200}
    write(properties, before.replace("=BASIC", "=NONE") + "api.endpoints.blocklist=api.v2.brokers.*\n")
    guarded.process.send_signal(signal.SIGHUP)
    await until(lambda: told(guarded, "with the next start only: authentication.method") == WORKERS, PATIENCE_S)
    os.unlink(properties)
    await begin_anew(3)
    assert await statuses() == {401}
    assert await statuses(**ada) == {404}
    # One that was being started when the others read again reads it, too.
    write(properties, before)
    os.kill(pid_of(guarded, 1), signal.SIGKILL)
    await until(lambda: told(guarded, "worker 1 ended with signal 9") == began + 4, PATIENCE_S)
    guarded.process.send_signal(signal.SIGHUP)
    await serves_again(guarded, 1, began + 4)
    async with asyncio.timeout(PATIENCE_S):
        while await statuses(**ada) != {200}:
            pass


async def test_a_worker_that_hangs_is_killed_and_started_again(guarded: GatewayProcess) -> None:
    ada, group = {"Authorization": proof("ada")}, "hers"
    path = f"/consumers/{group}/instances/{name_at(1, group)}"
    began = told(guarded, "worker 1 serves again")
    async with await connect(guarded, 0, **ada) as wire:
        assert (await ask(wire, "POST", f"/consumers/{group}", {"name": path.rpartition("/")[2]}, **ada)).status == 200
        os.kill(pid_of(guarded, 1), signal.SIGSTOP)
        # Sent while its home hangs: its successor answers.
        assert (await ask(wire, "GET", f"{path}/assignments", **ada)).json["error_code"] == 40403
        assert told(guarded, "worker 1 gives no sign of life for 10 s: it is killed") == 1
        await serves_again(guarded, 1, began + 1)


async def test_why_a_worker_cannot_start_stands_in_the_log(guarded: GatewayProcess) -> None:
    users = guarded.properties.with_name("users")  # type: ignore[attr-defined]
    began = told(guarded, "worker 1 serves again")
    kept = users.rename(users.with_name("users.kept"))
    os.kill(pid_of(guarded, 1), signal.SIGKILL)
    guarded.wait_for("worker 1 ended with exit code 2: it did not come to serve", PATIENCE_S)
    reasons = [json.loads(line) for line in guarded.output if "users cannot be read: No such file" in line]
    assert reasons[0]["worker"] == 1
    # Nobody waits for it: whoever comes is served by the other one.
    guarded.wait_for("worker 1 has ended 3 times in a row: connections go to the other workers", PATIENCE_S)
    for _ in range(12):
        async with await Wire.open(guarded.url) as wire:
            assert (await ask(wire, "GET", "/brokers", Authorization=proof("ada"))).status == 200
    kept.rename(users)
    await serves_again(guarded, 1, began + 1)
    async with await connect(guarded, 1, Authorization=proof("ada")):
        pass


async def test_all_lines_of_all_processes_are_json(guarded: GatewayProcess) -> None:
    for way in range(WORKERS):
        async with await connect(guarded, way, Authorization=proof("ada")):
            access = f'"logger":"gateway.access","worker":{way},"request_id":'
            await until(lambda access=access: told(guarded, access) > 0, PATIENCE_S)  # type: ignore[misc]
    lines = [json.loads(line) for line in guarded.output]
    assert {line.get("worker") for line in lines} == {None, *range(WORKERS)}
    assert {"Server started, listening for requests..."} <= {line.get("message") for line in lines}


@pytest.mark.parametrize("transport", ["sse", "streaming", "long-polling"])
async def test_atmosphere_clients_may_come_to_any_worker(gateway: GatewayProcess, transport: str) -> None:
    """More of it stands in test_atmosphere.py, on workers of one process."""
    async with contextlib.AsyncExitStack() as open_now:
        wires = [await open_now.enter_async_context(await connect(gateway, worker)) for worker in range(WORKERS)]
        id = "0"
        if transport == "long-polling":
            id = await handshake(gateway.url)
        listener = await open_now.enter_async_context(await Listener.open(gateway.url, target(transport, id)))
        for number, wire in enumerate(wires):
            asked = {"id": str(number), "method": "GET", "path": "/topics"}
            if number and transport == "long-polling":
                listener = await open_now.enter_async_context(await Listener.open(gateway.url, target(transport, id)))
            reply = await ask(wire, "POST", target("polling", listener.id), asked)
            assert (reply.status, reply.body) == (200, b"")
            found = b""
            while b'"id":"%d"' % number not in found:
                found += (await listener.chunk(PATIENCE_S)).replace(b" ", b"")


async def test_workers_end_with_their_parent(guarded: GatewayProcess) -> None:
    """The last one with this gateway."""
    children = [pid_of(guarded, worker) for worker in range(WORKERS)]
    guarded.process.send_signal(signal.SIGKILL)
    guarded.process.wait()

    def gone(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    await until(lambda: all(gone(pid) for pid in children), 20)


def test_an_address_in_use_is_refused(gateway: GatewayProcess) -> None:
    """With shared sockets the system itself would let two gateways have one address."""
    port = int(gateway.url.rpartition(":")[2])
    second = GatewayProcess(f"workers={WORKERS}", f"listeners=http://127.0.0.1:{port}", own_port=False)
    with (
        pytest.raises(
            AssertionError, match=re.escape(f"cannot listen on http://127.0.0.1:{port}: Address already in use")
        ),
        second,
    ):
        pass
    assert second.process.returncode != 0


def test_one_worker_has_nothing_of_this() -> None:
    with GatewayProcess(environment={"PYTHONPROFILEIMPORTTIME": "1"}) as alone:
        imported = "\n".join(alone.output)
        assert "kafka_gateway.core" in imported
        assert "kafka_gateway.workers" not in imported
        # Nobody has set up a schema registry.
        assert re.search(r"\| +(jsonschema|google\.protobuf)$", imported, re.MULTILINE) is None
        assert Path(f"/proc/{alone.pid}/task/{alone.pid}/children").read_text() == ""
