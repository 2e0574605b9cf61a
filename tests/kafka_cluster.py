"""A real Apache Kafka on this machine: for the tests, and behind `bin/kafka` for development.

`KafkaCluster` runs one or more brokers (KRaft, each broker a controller too unless told otherwise) on 127.0.0.1. The
jars come from Maven into a cache, once. A broker is an ordinary child process that can be killed, paused and restarted
on the same port and data.

A cluster of the tests must not outlive them, not even when they are killed: a small watchdog process holds the reading
end of a pipe, and when that breaks it kills the brokers and removes their data.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import logging
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self
from xml.sax.saxutils import escape

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic  # .admin has it too, but does not say so to type checkers

from tests import cache
from tests.waiting import wait_until

KAFKA_VERSION = "4.1.1"
MAVEN_ARTIFACTS = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3",  # Kafka's log4j version; without it nothing is logged
)
COPY_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"

HOST = "127.0.0.1"
TEST_PORTS = range(20000, 30000)  # below the ephemeral range, so a killed broker's port stays free for its restart
_WORKERS = 16
"""Of pytest, that never choose the same ports."""
_QUORUM = b"__cluster_metadata"
"""The log that the controllers share."""
CLASSES, CHECKPOINT = "classes.jsa", "bootstrap.checkpoint"
JVM_OPTIONS = (
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
)

WATCHDOG = """
import os, shutil, signal, sys
pids = set()
for line in sys.stdin:  # "+pid" or "-pid"; ends when the tests have ended, however they did
    (pids.add if line[0] == "+" else pids.discard)(int(line[1:]))
for pid in pids:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
if pids:
    shutil.rmtree(sys.argv[1], ignore_errors=True)
"""

LOG4J = """<Configuration status="error">
  <Appenders>
    <File name="file" fileName="{file}"><PatternLayout pattern="[%d] %p %m (%c)%n"/></File>
  </Appenders>
  <Loggers><Root level="warn"><AppenderRef ref="file"/></Root></Loggers>
</Configuration>
"""

POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>kafka-gateway</groupId><artifactId>kafka-jars</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>{dependencies}</dependencies>
</project>
"""


class KafkaUnavailableError(cache.UnavailableError):
    """Kafka cannot run on this machine, or did not start; the text says why."""


def find_java() -> str:
    """Path of a Java that can run Kafka (17 or newer)."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin" if home else None)
    if java is None:
        raise KafkaUnavailableError("Kafka needs Java 17 or newer: no `java` in JAVA_HOME or PATH")
    banner = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', banner)
    if version is None or int(version[1]) < 17:
        raise KafkaUnavailableError(f"Kafka needs Java 17 or newer: {java} says {banner.partition(chr(10))[0]!r}")
    return java


def fetch_jars() -> Path:
    """Directory with Kafka's jars. The first call on a machine downloads them with Maven, others wait for it."""
    try:
        return cache.once(f"kafka-{KAFKA_VERSION}", _download_jars)
    except cache.UnavailableError as error:
        raise KafkaUnavailableError(f"Kafka's jars are fetched with Maven once, which failed: {error}") from None


def _download_jars(folder: Path) -> None:
    print(f"Fetching Kafka {KAFKA_VERSION} with Maven into {cache.cache_dir()} (once)", file=sys.stderr, flush=True)
    tags = ("groupId", "artifactId", "version")
    dependencies = "".join(
        "<dependency>"
        + "".join(f"<{tag}>{part}</{tag}>" for tag, part in zip(tags, artifact.split(":"), strict=True))
        + "</dependency>"
        for artifact in MAVEN_ARTIFACTS
    )
    with tempfile.TemporaryDirectory() as work:
        (Path(work) / "pom.xml").write_text(POM.format(dependencies=dependencies))
        command = ["mvn", "-q", "-B", cache.maven_repository(), COPY_GOAL, f"-DoutputDirectory={folder}"]
        cache.run_tool(command, Path(work))


def prepared(java: str, jars: Path) -> Path:
    """A directory with what the starts of all brokers have in common, made once on a machine by a start without it.

    `CLASSES` has Kafka's classes as this Java has them in memory, which halves the time and the work of a start; Java
    does without it when it cannot write one, and when one does not fit to it or to the jars. `CHECKPOINT` is what
    Kafka's tool writes into new storage, besides names; asking the tool takes a second of a processor for each broker.
    """
    banner = subprocess.run([java, "-version"], capture_output=True, check=False).stderr
    key = hashlib.sha256(banner + str(jars).encode()).hexdigest()[:16]

    def fill(folder: Path) -> None:
        cluster = KafkaCluster()
        cluster.archive_option = f"-XX:ArchiveClassesAtExit={folder / CLASSES}"
        with cluster:
            cluster.create_topic()
            cluster.shut_down(1)  # Java writes the file then
            shutil.copy(cluster.nodes[1].data / CHECKPOINT, folder)

    return cache.once(f"kafka-{KAFKA_VERSION}-prepared-{key}", fill)


def free_ports(count: int) -> list[int]:
    """Ports on 127.0.0.1 that nobody listens on now. Workers of one run look in different places: a port is free until
    the process that is started for it listens."""
    found: list[int] = []
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = TEST_PORTS[worker % _WORKERS :: _WORKERS]
    for port in random.sample(ports, len(ports)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            found.append(port)
        if len(found) == count:
            return found
    raise KafkaUnavailableError(f"fewer than {count} free ports in {ports}")


class Node:
    """One broker: its ports, its directory, its process."""

    def __init__(self, node_id: int, port: int, controller_port: int, directory: Path) -> None:
        self.id = node_id
        self.port = port
        self.controller_port = controller_port
        self.directory = directory
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def properties(self) -> Path:
        return self.directory / "server.properties"

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def accepts(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of what this broker printed and logged, for error messages."""
        texts = [p.read_text(errors="replace") for p in sorted(self.directory.glob("*.log"))]
        return "\n".join("\n".join(texts).splitlines()[-lines:])


class KafkaCluster:
    """A running Kafka. Nodes are numbered from 1.

    Args:
        nodes: how many brokers; internal topics are replicated over all of them, up to three.
        controllers: how many of them are controllers too, all if not given. Killing most controllers leaves a cluster
            that knows no more which brokers are alive; with one of three, two brokers can be killed.
        settings: broker properties over the ones chosen here, e.g. `{"auto.create.topics.enable": "false"}`.
        directory: where to keep the data. Given: the data and the brokers outlive this process (`bin/kafka`).
            Not given: a temporary directory, and both end with this process.
        ports: of the brokers, then of the controllers; free ones if not given.

    Raises:
        KafkaUnavailableError: no Java, no Maven on the first use, or a broker that ends at its start.
    """

    def __init__(
        self,
        nodes: int = 1,
        *,
        controllers: int | None = None,
        min_insync_replicas: int = 1,
        settings: Mapping[str, str] | None = None,
        directory: Path | None = None,
        ports: Sequence[int] | None = None,
        start_timeout: float = 60,
    ) -> None:
        self.jvm_options: tuple[str, ...] = ()
        self._java = find_java()
        self._jars = fetch_jars()
        self.archive_option = ""
        self._prepared: Path | None = None
        self._start_timeout = start_timeout
        self._temporary = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="kafka-gateway-"))
        ports = ports or free_ports(2 * nodes)
        self.nodes = {
            n: Node(n, ports[n - 1], ports[nodes + n - 1], self.directory / f"node-{n}") for n in range(1, nodes + 1)
        }
        self._controllers = [node for node in self.nodes.values() if controllers is None or node.id <= controllers]
        self.settings = self._common_settings(nodes, min_insync_replicas) | dict(settings or {})
        self._watchdog: subprocess.Popen[str] | None = None

    @property
    def bootstrap(self) -> str:
        """Value for `bootstrap.servers`: all brokers."""
        return ",".join(f"{HOST}:{node.port}" for node in self.nodes.values())

    def start(self) -> Self:
        """Formats what is new, starts all brokers, and returns when all of them serve requests."""
        if not self.archive_option:
            self._prepared = prepared(self._java, self._jars)
            self.archive_option = f"-XX:SharedArchiveFile={self._prepared / CLASSES}"
        try:
            if self._temporary:
                self._watchdog = subprocess.Popen(
                    [sys.executable, "-I", "-c", WATCHDOG, self.directory],
                    stdin=subprocess.PIPE,
                    text=True,
                    bufsize=1,
                    start_new_session=True,
                )
            self._configure()
            for node in self.nodes.values():
                self._launch(node)
            self._await_ready(list(self.nodes.values()))
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Ends all brokers; may be called twice. Temporary ones are killed, the others shut down in order."""
        for node in self.nodes.values():
            self._end(node, signal.SIGKILL if self._temporary else signal.SIGTERM)
        if self._watchdog is not None and self._watchdog.stdin is not None:
            self._watchdog.stdin.close()
            self._watchdog.wait()
            self._watchdog = None
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def kill(self, node_id: int) -> None:
        """The broker is gone at once, as in a crash (SIGKILL)."""
        self._end(self.nodes[node_id], signal.SIGKILL)

    def shut_down(self, node_id: int) -> None:
        """The broker ends in order."""
        self._end(self.nodes[node_id], signal.SIGTERM)

    def pause(self, node_id: int) -> None:
        """The broker keeps its connections and answers nothing, as on a dead network (SIGSTOP)."""
        self._signal(self.nodes[node_id], signal.SIGSTOP)

    def resume(self, node_id: int) -> None:
        """Ends a `pause`."""
        self._signal(self.nodes[node_id], signal.SIGCONT)

    def restart(self, node_id: int) -> None:
        """Shuts the broker down in order if it runs, starts it on the same port and data, returns when it serves."""
        node = self.nodes[node_id]
        self.shut_down(node_id)
        self._launch(node)
        self._await_ready([node])

    def create_topic(
        self, name: str | None = None, *, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> str:
        """Name of a new topic, replicated over up to three brokers, that every running broker knows."""
        name = name or f"topic-{uuid.uuid4().hex[:12]}"
        replicas = min(len(self.nodes), 3)
        topic = NewTopic(name, partitions, replicas, config=dict(config or {}))
        admin = _admin(self.bootstrap)  # to be held until the answer is there, or the request ends with the client
        admin.create_topics([topic], operation_timeout=10)[name].result(20)
        for node in self.nodes.values():
            if node.running():
                self._await_topic(node, name, partitions)
        return name

    def controller(self) -> int:
        """The node that leads the quorum of controllers now, as a broker that runs knows it (DescribeQuorum)."""
        asked = next(node for node in self.nodes.values() if node.accepts())
        name = bytes([len(_QUORUM) + 1]) + _QUORUM
        # Both are of the flexible kind: 2 is the length of a list of one, 0 says that there are no tagged fields.
        request = struct.pack(">hhihb", 55, 0, 1, -1, 0) + b"\x02" + name + b"\x02" + struct.pack(">ibbb", 0, 0, 0, 0)

        def leader() -> int:
            with socket.create_connection((HOST, asked.port), 10) as connection, connection.makefile("rb") as file:
                connection.sendall(struct.pack(">i", len(request)) + request)
                reply = file.read(int.from_bytes(file.read(4), "big"))
            if len(reply) < 13 + len(name) + 6:
                raise OSError("no reply")
            # Behind the head of 5 bytes: an error, the topic, the partition with an error of its own and its leader.
            (error,) = struct.unpack_from(">h", reply, 5)
            of_partition, node = struct.unpack_from(">hi", reply, 13 + len(name))
            if error or of_partition or node not in self.nodes:
                raise OSError(f"no controller: {error}, {of_partition}, {node}")
            return int(node)

        found: int = wait_until(leader, but=OSError)
        return found

    def listeners(self, node: Node) -> dict[str, str]:
        """Name and ``HOST:PORT`` of each listener for clients. The one called PLAINTEXT is the cluster's own, too."""
        return {"PLAINTEXT": f"{HOST}:{node.port}"}

    def advertised(self, node: Node) -> dict[str, str]:
        """The same, with what clients are told."""
        return self.listeners(node)

    def _await_topic(self, node: Node, name: str, partitions: int) -> None:
        # A broker learns of a topic a moment after the controller has answered.
        admin = _admin(f"{HOST}:{node.port}")

        def known() -> bool:
            found = admin.list_topics(timeout=10).topics.get(name)
            return bool(
                found and len(found.partitions) == partitions and all(p.leader > 0 for p in found.partitions.values())
            )

        try:
            wait_until(known)
        except TimeoutError:
            raise KafkaUnavailableError(f"broker {node.id} never heard of topic {name}") from None

    def _common_settings(self, nodes: int, min_insync_replicas: int) -> dict[str, str]:
        replicas = str(min(nodes, 3))
        voters = ",".join(f"{node.id}@{HOST}:{node.controller_port}" for node in self._controllers)
        return {
            "controller.quorum.voters": voters,
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "auto.create.topics.enable": "true",
            "num.partitions": "1",
            "default.replication.factor": replicas,
            "min.insync.replicas": str(min_insync_replicas),
            "offsets.topic.replication.factor": replicas,
            "offsets.topic.num.partitions": "2",
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": str(min(nodes, 3, 2)),
            "transaction.state.log.num.partitions": "2",
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": "1",
            "share.coordinator.state.topic.num.partitions": "1",
            "group.initial.rebalance.delay.ms": "0",
            # Smaller than in production, so that several brokers fit beside the tests.
            "num.network.threads": "2",
            "num.io.threads": "4",
            "background.threads": "2",
            "log.cleaner.dedupe.buffer.size": "4194304",
            "group.coordinator.threads": "1",
            "share.coordinator.threads": "1",
            # A dead broker is noticed in 4 s and not 9.
            "broker.session.timeout.ms": "4000",
            "broker.heartbeat.interval.ms": "500",
            # No record of nothing in the metadata log twice a second: a third of what an idle broker costs.
            "metadata.max.idle.interval.ms": "0",
        }

    def _configure(self) -> None:
        cluster_id = _base64_id()
        for node in self.nodes.values():
            node.directory.mkdir(parents=True, exist_ok=True)
            listeners = _named(self.listeners(node))
            controls = node in self._controllers
            own = {
                "node.id": str(node.id),
                "process.roles": "broker,controller" if controls else "broker",
                "listeners": listeners + (f",CONTROLLER://{HOST}:{node.controller_port}" if controls else ""),
                "advertised.listeners": _named(self.advertised(node)),
                "log.dirs": str(node.data),
            }
            if len(self.nodes) > 1:
                own["broker.rack"] = f"rack-{node.id}"
            lines = (f"{key}={value}\n" for key, value in (self.settings | own).items())
            node.properties.write_text("".join(lines))
            log_file = escape(str(node.directory / "kafka.log"), {'"': "&quot;"})
            (node.directory / "log4j2.xml").write_text(LOG4J.format(file=log_file))
            if not (node.data / "meta.properties").exists():
                self._format(node, cluster_id)

    def _format(self, node: Node, cluster_id: str) -> None:
        """Makes new storage, as ``kafka-storage.sh format`` does."""
        if self._prepared is None:
            arguments = ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(node.properties)]
            if self._run_java(node, arguments).wait() != 0:
                raise KafkaUnavailableError(f"Kafka's storage could not be formatted:\n{node.log_tail()}")
            return
        node.data.mkdir(exist_ok=True)
        shutil.copy(self._prepared / CHECKPOINT, node.data)
        names = {"node.id": node.id, "directory.id": _base64_id(), "version": 1, "cluster.id": cluster_id}
        (node.data / "meta.properties").write_text("".join(f"{key}={value}\n" for key, value in names.items()))

    def _run_java(self, node: Node, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        logging_options = [f"-Dlog4j2.configurationFile={node.directory}/log4j2.xml", "-Dlog4j2.disable.jmx=true"]
        options = [
            *JVM_OPTIONS,
            "-XX:+IgnoreUnrecognizedVMOptions",
            self.archive_option,
            *self.jvm_options,
            *logging_options,
        ]
        command = [self._java, *options, "-cp", f"{self._jars}/*", *arguments]
        with (node.directory / "console.log").open("ab") as console:
            # A session of its own: Ctrl-C in the terminal is for the tests, which then stop the brokers.
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True
            )

    def _launch(self, node: Node) -> None:
        if node.accepts():
            raise KafkaUnavailableError(f"port {node.port} is in use by something else")
        node.process = self._run_java(node, ["kafka.Kafka", str(node.properties)])
        (node.directory / "pid").write_text(str(node.process.pid))
        self._tell_watchdog("+", node.process)

    def _await_ready(self, nodes: Sequence[Node]) -> None:
        """Waits until each node answers with all running brokers in its metadata: then it has joined the cluster."""
        deadline = time.monotonic() + self._start_timeout
        expected = {node.id for node in self.nodes.values() if node.running()}
        for node in nodes:
            try:
                wait_until(
                    functools.partial(self._is_ready, node, expected), deadline - time.monotonic(), but=KafkaException
                )
            except TimeoutError:
                raise KafkaUnavailableError(f"Kafka broker {node.id} does not answer:\n{node.log_tail()}") from None

    def _is_ready(self, node: Node, expected: set[int]) -> bool:
        if not node.running():
            raise KafkaUnavailableError(f"Kafka broker {node.id} ended at its start:\n{node.log_tail()}")
        return node.accepts() and expected <= _admin(f"{HOST}:{node.port}").list_topics(timeout=2).brokers.keys()

    def _end(self, node: Node, number: signal.Signals) -> None:
        process, node.process = node.process, None
        if process is None:
            return
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)  # a paused broker would never see a SIGTERM
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:  # with the other controllers gone a broker cannot shut down in order
            process.kill()
            process.wait()
        self._tell_watchdog("-", process)
        (node.directory / "pid").unlink(missing_ok=True)

    def _signal(self, node: Node, number: signal.Signals) -> None:
        if node.process is None:
            raise ValueError(f"broker {node.id} does not run")
        node.process.send_signal(number)

    def _tell_watchdog(self, sign: str, process: subprocess.Popen[bytes]) -> None:
        if self._watchdog is not None and self._watchdog.stdin is not None:
            self._watchdog.stdin.write(f"{sign}{process.pid}\n")


def _base64_id() -> str:
    """As Kafka makes them (its class Uuid): 22 characters that do not begin with a dash."""
    while (made := base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()).startswith("-"):
        pass
    return made


def _named(listeners: Mapping[str, str]) -> str:
    return ",".join(f"{name}://{address}" for name, address in listeners.items())


def _admin(bootstrap: str) -> AdminClient:
    quiet = logging.getLogger("tests.kafka_cluster")  # refused connections are expected while a broker starts
    quiet.setLevel(logging.CRITICAL)
    return AdminClient({"bootstrap.servers": bootstrap, "reconnect.backoff.max.ms": 100}, logger=quiet)
