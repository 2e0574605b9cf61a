"""`bin/kafka start|stop|status|fetch`: a Kafka for development that stays until it is stopped, and keeps its data."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.cache import cache_dir
from tests.kafka_cluster import HOST, KAFKA_VERSION, KafkaCluster, KafkaUnavailableError, fetch_jars

NOT_RUNNING = 3  # exit code of `status`, as init scripts have it (LSB)


def running(directory: Path) -> list[int]:
    """Process ids of the brokers whose data is in the directory."""
    pids = []
    for file in directory.glob("node-*/pid"):
        pid = file.read_text()
        # The number may belong to another process by now: the command line must name this broker's properties.
        command = subprocess.run(["ps", "-ww", "-o", "args=", "-p", pid], capture_output=True, text=True, check=False)
        if f"{file.parent}/server.properties" in command.stdout:
            pids.append(int(pid))
    return pids


def start(directory: Path, port: int, nodes: int) -> int:
    bootstrap = ",".join(f"{HOST}:{port + n}" for n in range(nodes))
    if running(directory):
        print(f"Kafka already runs: bootstrap.servers={bootstrap}")
        return 0
    ports = [port + n for n in range(nodes)] + [port + 1000 + n for n in range(nodes)]
    cluster = KafkaCluster(nodes, min_insync_replicas=min(nodes, 2), directory=directory, ports=ports).start()
    print(f"Kafka {KAFKA_VERSION} is ready: bootstrap.servers={cluster.bootstrap}")
    print(f"Data and logs: {directory}")
    return 0


def stop(directory: Path, wipe: bool) -> int:
    pids = running(directory)
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 30
    while remaining := running(directory):
        if time.monotonic() > deadline:
            for pid in remaining:  # the last of several controllers cannot shut down in order
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)  # time itself: processes of others tell nobody when they end
    if wipe:
        shutil.rmtree(directory, ignore_errors=True)
    print("Kafka has stopped." if pids else "Kafka was not running.")
    return 0


def status(directory: Path) -> int:
    pids = running(directory)
    print(f"Kafka runs (pid {', '.join(map(str, pids))}), data in {directory}" if pids else "Kafka does not run.")
    return 0 if pids else NOT_RUNNING


def main() -> int:
    parser = argparse.ArgumentParser(prog="bin/kafka", description="Apache Kafka on 127.0.0.1 for development.")
    parser.add_argument("command", choices=["start", "stop", "status", "fetch"], help="fetch only downloads Kafka")
    parser.add_argument("--port", type=int, default=9092, help="of the first broker (9092); the next ones follow")
    parser.add_argument("--nodes", type=int, default=1, choices=range(1, 10), metavar="N", help="brokers (1)")
    parser.add_argument("--wipe", action="store_true", help="stop: delete the data too")
    options = parser.parse_args()
    directory = cache_dir() / f"kafka-data-{options.port}-{options.nodes}"
    try:
        match options.command:
            case "start":
                return start(directory, options.port, options.nodes)
            case "stop":
                return stop(directory, options.wipe)
            case "status":
                return status(directory)
        fetch_jars()
    except KafkaUnavailableError as error:
        print(f"bin/kafka: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
