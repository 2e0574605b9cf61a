"""Kafka clients that nobody here wrote, through one port of the gateway, to three brokers (bridges.md C8 17 to 19).

Each gets the tunnel's bootstrap port as ``bootstrap.servers``, and no other setting for its sake.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import subprocess
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.cache import UnavailableError, find_program, once, run_tool, unavailable
from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import fetch_jars, find_java
from tests.tunnel.conftest import Tunnel
from tests.tunnel.local_process import LocalProcess, free_range

Unique = Callable[..., str]
GO = Path(__file__).parent / "go"
DEADLINE_S = 40.0


def run(*command: str, stdin: str = "", timeout_s: float = DEADLINE_S) -> str:
    """What the program printed; it must succeed."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout


def consumed(consumer: confluent_kafka.Consumer, count: int, timeout_s: float = DEADLINE_S) -> list[bytes]:
    found: list[bytes] = []
    deadline = time.monotonic() + timeout_s
    while len(found) < count and time.monotonic() < deadline:
        for message in consumer.consume(1000, 0.5):
            if message.error() is None:
                found.append(message.value())
    return found


def group_config(tunnel: Tunnel, group: str, **more: object) -> dict[str, object]:
    return {
        "bootstrap.servers": tunnel.bootstrap,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    } | {name.replace("_", "."): value for name, value in more.items()}


# --- kcat ------------------------------------------------------------------------------------------------------------


def test_kcat(tunnel: Tunnel, unique: Unique) -> None:
    find_program("kcat")
    topic = unique("tunnel-kcat")
    admin = AdminClient({"bootstrap.servers": tunnel.bootstrap})
    admin.create_topics([NewTopic(topic, 6, 3)], operation_timeout=10)[topic].result(20)
    listed = json.loads(run("kcat", "-b", tunnel.bootstrap, "-L", "-J"))
    ports = {each["id"]: each["name"] for each in listed["brokers"]}
    assert ports == {node: f"127.0.0.1:{port}" for node, port in tunnel.ports.items()}
    lines = "".join(f"line {number}\n" for number in range(600))
    run("kcat", "-b", tunnel.bootstrap, "-P", "-t", topic, "-X", "acks=all", stdin=lines)
    read = run("kcat", "-b", tunnel.bootstrap, "-C", "-t", topic, "-o", "beginning", "-e", "-q")
    assert sorted(read.splitlines()) == sorted(lines.splitlines())


# --- librdkafka ------------------------------------------------------------------------------------------------------


def test_confluent_kafka(tunnel: Tunnel, unique: Unique) -> None:
    topic, group = unique("tunnel-librdkafka"), unique("tunnel-group")
    admin = AdminClient({"bootstrap.servers": tunnel.bootstrap})
    admin.create_topics([NewTopic(topic, 6, 3)], operation_timeout=10)[topic].result(20)
    nodes = admin.describe_cluster(request_timeout=10).result(20).nodes
    assert {node.id: (node.host, node.port) for node in nodes} == {
        node: ("127.0.0.1", port) for node, port in tunnel.ports.items()
    }
    producer = confluent_kafka.Producer({"bootstrap.servers": tunnel.bootstrap, "enable.idempotence": True})
    for number in range(6000):
        producer.produce(topic, b"value-%d" % number, str(number).encode(), partition=number % 6)
    assert producer.flush(DEADLINE_S) == 0
    leaders = {each.leader for each in admin.list_topics(topic, timeout=10).topics[topic].partitions.values()}
    assert leaders == set(tunnel.ports)
    consumer = confluent_kafka.Consumer(group_config(tunnel, group))
    consumer.subscribe([topic])
    assert sorted(consumed(consumer, 6000)) == sorted(b"value-%d" % number for number in range(6000))
    consumer.commit(asynchronous=False)
    committed = consumer.committed([confluent_kafka.TopicPartition(topic, number) for number in range(6)], timeout=10)
    assert [each.offset for each in committed] == [1000] * 6
    consumer.close()
    admin.delete_topics([topic], operation_timeout=10)[topic].result(20)


def test_transactions(tunnel: Tunnel, unique: Unique) -> None:
    topic = tunnel.kafka.create_topic(unique("tunnel-transactions"), partitions=3)
    producer = confluent_kafka.Producer({"bootstrap.servers": tunnel.bootstrap, "transactional.id": unique("id")})
    producer.init_transactions(DEADLINE_S)
    for outcome, name in (
        (producer.commit_transaction, b"kept"),
        (producer.abort_transaction, b"dropped"),
        (producer.commit_transaction, b"last"),
    ):
        producer.begin_transaction()
        for partition in range(3):
            producer.produce(topic, name, partition=partition)
        assert producer.flush(DEADLINE_S) == 0
        outcome(DEADLINE_S)
    consumer = confluent_kafka.Consumer(group_config(tunnel, unique("group"), isolation_level="read_committed"))
    consumer.subscribe([topic])
    assert sorted(consumed(consumer, 6)) == [b"kept"] * 3 + [b"last"] * 3
    consumer.close()


def test_groups_of_the_new_protocol(tunnel: Tunnel, unique: Unique) -> None:
    topic = tunnel.kafka.create_topic(unique("tunnel-kip848"), partitions=3)
    producer = confluent_kafka.Producer({"bootstrap.servers": tunnel.bootstrap})
    for number in range(30):
        producer.produce(topic, b"%d" % number, partition=number % 3)
    assert producer.flush(DEADLINE_S) == 0
    consumer = confluent_kafka.Consumer(group_config(tunnel, unique("group"), group_protocol="consumer"))
    consumer.subscribe([topic])
    assert len(consumed(consumer, 30)) == 30
    consumer.close()


class Recorder:
    """Stands before ports of the tunnel, at another address of this machine, and keeps what comes out of them."""

    HOST = "127.0.0.2"

    def __init__(self, ports: list[int]) -> None:
        self._ports = ports
        self.connections: list[int] = []
        self.seen = bytearray()
        self._ready = threading.Event()

    def __enter__(self) -> Recorder:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        servers = [await asyncio.start_server(partial(self._forward, port), self.HOST, port) for port in self._ports]
        self._ready.set()
        await self._stop.wait()
        for server in servers:
            server.close()
        # Awaited, too: an end that nobody has seen is told of in whatever test comes next.
        for task in (left := asyncio.all_tasks() - {asyncio.current_task()}):
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _forward(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(port)
        back, forth = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(self._copy(reader, forth, None), self._copy(back, writer, self.seen))
        finally:
            for each in (writer, forth):
                each.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: bytearray | None) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if seen is not None:
                    seen += data
                writer.write(data)
                await writer.drain()
            writer.close()


def test_no_real_address_comes_out(tunnel: Tunnel, unique: Unique) -> None:
    """Of all that a client of every kind of request gets to see, not a byte names a broker (C8 nos. 16 and 18)."""
    with LocalProcess(tunnel.gateway.url, f"-advertise-host={Recorder.HOST}") as local:
        ports = [local.port, *(local.port_of(node) for node in tunnel.kafka.nodes)]
        with Recorder(ports) as recorder:
            bootstrap = {"bootstrap.servers": f"{Recorder.HOST}:{local.port}"}
            topic = unique("tunnel-scan")
            admin = AdminClient(bootstrap)
            admin.create_topics([NewTopic(topic, 6, 3)], operation_timeout=10)[topic].result(20)
            admin.describe_cluster(request_timeout=10).result(20)
            producer = confluent_kafka.Producer({**bootstrap, "transactional.id": unique("id")})
            producer.init_transactions(DEADLINE_S)
            producer.begin_transaction()
            for number in range(60):
                producer.produce(topic, b"%d" % number, partition=number % 6)
            producer.commit_transaction(DEADLINE_S)
            consumer = confluent_kafka.Consumer(group_config(tunnel, unique("group")) | bootstrap)
            consumer.subscribe([topic])
            assert len(consumed(consumer, 60)) == 60
            consumer.close()
            del admin, producer
        assert set(recorder.connections) == set(ports)
        told = {node: _address(Recorder.HOST, local.port_of(node)) for node in tunnel.kafka.nodes}
        assert [node for node, address in told.items() if address not in recorder.seen] == []
        real = {node.id: _address("127.0.0.1", node.port) for node in tunnel.kafka.nodes.values()}
        assert [node for node, address in real.items() if address in recorder.seen] == []


def _address(host: str, port: int) -> bytes:
    """Host and port as they stand side by side in every reply that names a broker."""
    return host.encode() + port.to_bytes(4, "big")


# --- kafka-python ----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # its own, of Python 3.11's importlib.resources
def test_kafka_python(tunnel: Tunnel, unique: Unique) -> None:
    import kafka
    from kafka.admin import NewTopic as PythonTopic

    topic = unique("tunnel-python")
    admin = kafka.KafkaAdminClient(bootstrap_servers=tunnel.bootstrap)
    admin.create_topics([PythonTopic(topic, 6, 3)])
    producer = kafka.KafkaProducer(bootstrap_servers=tunnel.bootstrap, acks="all")
    sent = [producer.send(topic, b"value-%d" % number, key=b"%d" % number) for number in range(300)]
    for each in sent:
        each.get(DEADLINE_S)
    producer.close()
    consumer = kafka.KafkaConsumer(
        topic,
        bootstrap_servers=tunnel.bootstrap,
        group_id=unique("group"),
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        consumer_timeout_ms=int(DEADLINE_S * 1000),
    )
    values = set()
    for message in consumer:
        values.add(message.value)
        if len(values) == 300:
            break
    consumer.commit()
    assert values == {b"value-%d" % number for number in range(300)}
    consumer.close()
    admin.delete_topics([topic])
    admin.close()


# --- franz-go --------------------------------------------------------------------------------------------------------


def go_client() -> str:
    """The client of tests/tunnel/go, built."""
    go = find_program("go", package="golang-go")
    content = b"".join(file.read_bytes() for file in sorted(GO.iterdir()))

    def build(folder: Path) -> None:
        run_tool([go, "build", "-o", str(folder / "client"), "."], GO)

    try:
        return str(once(f"go-{hashlib.sha256(content).hexdigest()[:16]}", build) / "client")
    except UnavailableError as error:
        unavailable(f"the Go client cannot be built: {error}")


@pytest.mark.fetches(what=go_client)
def test_franz_go(tunnel: Tunnel, unique: Unique) -> None:
    printed = run(go_client(), tunnel.bootstrap, unique("tunnel-go"), unique("group"), "600", timeout_s=50)
    assert json.loads(printed) == {"records": 600, "ports": {str(n): port for n, port in tunnel.ports.items()}}


# --- Kafka's own tools -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def tool() -> Callable[..., str]:
    """``tool("org.apache.kafka.tools.X", "--flag", …, stdin="")``: what the tool printed."""
    jars, java = fetch_jars(), find_java()
    options = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m", "-Dlog4j2.level=ERROR")

    def call(name: str, *arguments: str, stdin: str = "") -> str:
        return run(java, *options, "-cp", f"{jars}/*", name, *arguments, stdin=stdin)

    return call


def test_console_tools(tunnel: Tunnel, unique: Unique, tool: Callable[..., str]) -> None:
    topic, server = unique("tunnel-console"), ("--bootstrap-server", tunnel.bootstrap)
    topics = "org.apache.kafka.tools.TopicCommand"
    tool(topics, *server, "--create", "--topic", topic, "--partitions", "6", "--replication-factor", "3")
    described = tool(topics, *server, "--describe", "--topic", topic)
    assert described.count("Leader:") == 6
    lines = [f"line {number}" for number in range(200)]
    tool("org.apache.kafka.tools.ConsoleProducer", *server, "--topic", topic, stdin="\n".join(lines) + "\n")
    read = tool(
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        *(*server, "--topic", topic, "--group", unique("group"), "--from-beginning"),
        *("--max-messages", "200", "--timeout-ms", "30000"),
    )
    assert sorted(read.splitlines()) == sorted(lines)


# --- a broker dies in the middle -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_broker_is_killed_in_the_middle(tunnel: Tunnel, unique: Unique) -> None:
    """With acks=all nothing is lost and nothing doubled, the leaders move, and the broker comes back (C8 19, 20)."""
    topic = tunnel.kafka.create_topic(unique("tunnel-kill"), partitions=6)
    delivered: list[bytes] = []

    def report(error: object, message: confluent_kafka.Message) -> None:
        assert error is None, error
        delivered.append(message.value())

    producer = confluent_kafka.Producer({"bootstrap.servers": tunnel.bootstrap, "enable.idempotence": True})
    consumer = confluent_kafka.Consumer(group_config(tunnel, unique("group")))
    consumer.subscribe([topic])

    def send(first: int, count: int) -> None:
        for number in range(first, first + count):
            producer.produce(topic, b"%d" % number, partition=number % 6, on_delivery=report)
            producer.poll(0)

    send(0, 600)
    found = consumed(consumer, 300)
    tunnel.kafka.kill(2)
    try:
        send(600, 600)
        assert producer.flush(DEADLINE_S) == 0
        found += consumed(consumer, 1200 - len(found))
    finally:
        tunnel.kafka.restart(2)
    send(1200, 600)
    assert producer.flush(DEADLINE_S) == 0
    found += consumed(consumer, 1800 - len(found))
    consumer.close()
    expected = sorted(b"%d" % number for number in range(1800))
    assert sorted(delivered) == expected
    assert sorted(found) == expected
    # The broker that came back is reached again, at the port it had.
    brokers = AdminClient({"bootstrap.servers": tunnel.bootstrap}).list_topics(timeout=10).brokers
    assert {node: each.port for node, each in brokers.items()} == tunnel.ports


@pytest.mark.slow
def test_the_gateway_is_restarted(tunnel: Tunnel, unique: Unique) -> None:
    """Clients reconnect straight to their brokers and go on (C8 no. 21)."""
    topic = tunnel.kafka.create_topic(unique("tunnel-restart"), partitions=6)
    address = f"http://127.0.0.1:{free_range(1)}"
    properties = ("tunnel.enable=true", f"listeners={address}")
    delivered: list[bytes] = []
    sent = [0]

    def report(error: object, message: confluent_kafka.Message) -> None:
        assert error is None, error
        delivered.append(message.value())

    def send(producer: confluent_kafka.Producer, count: int) -> None:
        for number in range(sent[0], sent[0] + count):
            producer.produce(topic, b"%d" % number, partition=number % 6, on_delivery=report)
        sent[0] += count

    with contextlib.ExitStack() as stack:
        first = stack.enter_context(GatewayProcess(*properties, bootstrap=tunnel.kafka.bootstrap))
        local = stack.enter_context(LocalProcess(address))
        producer = confluent_kafka.Producer({"bootstrap.servers": local.bootstrap, "enable.idempotence": True})
        send(producer, 300)
        assert producer.flush(DEADLINE_S) == 0
        send(producer, 300)
        assert first.stop() == 0
        second = stack.enter_context(GatewayProcess(*properties, bootstrap=tunnel.kafka.bootstrap))
        send(producer, 300)  # to every broker, whatever the first gateway has still passed on
        assert producer.flush(DEADLINE_S) == 0
        del producer
        for node in tunnel.kafka.nodes:
            second.wait_for(rf"to broker {node} closed with 1000")
    assert sorted(delivered) == sorted(b"%d" % number for number in range(900))
    consumer = confluent_kafka.Consumer(group_config(tunnel, unique("group")))
    consumer.subscribe([topic])
    assert sorted(consumed(consumer, 900)) == sorted(delivered)
    consumer.close()
