"""What v3's produce costs, over a real Kafka: ``python -m tests.bench.v3 BOOTSTRAP [stream|single|batch|v2 …]``.

Starts a gateway, sends over raw sockets from this process, and prints requests or records a second, the gateway's
processor time for each (all threads), and its memory before and after. Nothing here passes or fails by time.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.gateway_process import GatewayProcess

JSON_RECORD = json.dumps({"value": {"type": "JSON", "data": {"id": 1, "text": "x" * 70}}}).encode()
V2_RECORD = json.dumps({"value": {"id": 1, "text": "x" * 70}}).encode()
PIECE_RECORDS = 400
"""Records of a piece of a stream: about 40 KiB."""


class Reports:
    """Counts the line ends of what a socket brings, on a thread."""

    def __init__(self, connection: socket.socket) -> None:
        self.count = 0
        self.tail = b""
        self._connection = connection
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        needle = b'"error_code":200'
        while data := self._connection.recv(1 << 18):
            data = self.tail + data
            self.count += data.count(needle)
            self.tail = data[-(len(needle) - 1) :]
            if data.endswith(b"0\r\n\r\n"):
                return

    def join(self) -> None:
        self._thread.join()


def connect(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def stream(url: str, cluster: str, topic: str, records: int) -> int:
    """One request with so many records; how many were confirmed."""
    connection = connect(url)
    reports = Reports(connection)
    head = f"POST /v3/clusters/{cluster}/topics/{topic}/records HTTP/1.1\r\nHost: x\r\n"
    connection.sendall(f"{head}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    piece = (JSON_RECORD + b"\n") * PIECE_RECORDS
    framed = b"%x\r\n%b\r\n" % (len(piece), piece)
    for _ in range(records // PIECE_RECORDS):
        connection.sendall(framed)
    connection.sendall(b"0\r\n\r\n")
    reports.join()
    connection.close()
    return reports.count


def closed_loop(url: str, request: bytes, connections: int, seconds: float) -> int:
    """The same request again and again on each of some connections, from one thread; how many were answered."""
    import selectors

    selector = selectors.DefaultSelector()
    for _ in range(connections):
        connection = connect(url)
        selector.register(connection, selectors.EVENT_READ)
        connection.sendall(request)
    answered, until = 0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        for key, _ in selector.select(1):
            assert isinstance(key.fileobj, socket.socket)
            data = key.fileobj.recv(1 << 18)
            assert data[9:12] in (b"200", b"207"), data
            answered += 1
            key.fileobj.sendall(request)
    for key in list(selector.get_map().values()):
        assert isinstance(key.fileobj, socket.socket)
        key.fileobj.close()
    return answered


def request(path: str, body: bytes, media_type: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def cpu_s(pid: int) -> tuple[float, float]:
    """Seconds in the program and in the system, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    tick = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / tick, int(fields[12]) / tick


def works(url: str, cluster: str, topic: str, arguments: argparse.Namespace) -> Iterator[tuple[str, Callable[[], int]]]:
    v3 = f"/v3/clusters/{cluster}/topics/{topic}/records"
    entry = b'{"id":"%d",' + JSON_RECORD[1:]
    ten = b'{"entries":[' + b",".join(entry % number for number in range(10)) + b"]}"
    v2 = "application/vnd.kafka.json.v2+json"
    v2_ten = b'{"records":[' + b",".join([V2_RECORD] * 10) + b"]}"
    yield "stream", lambda: stream(url, cluster, topic, arguments.records)

    def loop(asked: bytes, records: int = 1) -> Callable[[], int]:
        return lambda: records * closed_loop(url, asked, arguments.connections, arguments.seconds)

    yield "single", loop(request(v3, JSON_RECORD, "application/json"))
    yield "v2-single", loop(request(f"/topics/{topic}", b'{"records":[' + V2_RECORD + b"]}", v2))
    yield "batch", loop(request(v3 + ":batch", ten, "application/json"))
    v2_many = b'{"records":[' + b",".join([V2_RECORD] * 500) + b"]}"
    yield "v2-many", loop(request(f"/topics/{topic}", v2_many, v2), 500)
    yield "v2-batch", loop(request(f"/topics/{topic}", v2_ten, v2))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bootstrap")
    parser.add_argument("works", nargs="*")
    parser.add_argument("--records", type=int, default=400_000)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    with GatewayProcess("access.log.enable=false", bootstrap=arguments.bootstrap) as gateway:
        cluster = json.load(urllib.request.urlopen(gateway.url + "/v3/clusters"))["data"][0]["cluster_id"]
        topic = f"bench-v3-{os.getpid()}"
        asked = urllib.request.Request(
            f"{gateway.url}/v3/clusters/{cluster}/topics",
            json.dumps({"topic_name": topic, "partitions_count": 4, "replication_factor": 1}).encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(asked).close()
        stream(gateway.url, cluster, topic, 20_000)
        for _ in range(arguments.rounds):
            for name, work in works(gateway.url, cluster, topic, arguments):
                if arguments.works and name not in arguments.works:
                    continue
                memory, cpu, begun = gateway.rss_bytes(), cpu_s(gateway.pid), time.perf_counter()
                count = work()
                took, after = time.perf_counter() - begun, cpu_s(gateway.pid)
                own, system = ((after[i] - cpu[i]) / count * 1e6 for i in (0, 1))
                grown = (gateway.rss_bytes() - memory) / 2**20
                print(
                    f"{name:10} {count:9,} in {took:6.2f} s: {count / took:9,.0f}/s, {own + system:7.2f} µs each"
                    f" ({system:.2f} of the system), {gateway.rss_bytes() / 2**20:5.0f} MiB (+{grown:.1f})"
                )
                sys.stdout.flush()


if __name__ == "__main__":
    main()
