"""The case that Bytehoops is for, with nothing replaced: a Prometheus writes to producer mode, consumer mode writes to
another Prometheus, and every sample arrives, although that one is down in the middle.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bridges.conftest import Bytehoops
from tests.cache import find_program
from tests.gateway_process import ROOT
from tests.kafka_cluster import KafkaCluster, free_ports
from tests.waiting import wait_until

PROMETHEUS = shutil.which("prometheus")
DOWN_S = 12.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(autouse=True)
def need_prometheus() -> None:
    find_program("prometheus")


class Prometheus:
    """A Prometheus on a port of this machine that can be stopped and started again with its data."""

    def __init__(self, directory: Path, config: str, *flags: str) -> None:
        self.port = free_ports(1)[0]
        self._directory = directory
        self._flags = flags
        directory.mkdir()
        (directory / "prometheus.yml").write_text(config.replace("SELF", f"127.0.0.1:{self.port}"))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(PROMETHEUS), f"--config.file={self._directory}/prometheus.yml",
                    f"--storage.tsdb.path={self._directory}/data", f"--web.listen-address=127.0.0.1:{self.port}",
                    *self._flags,
                ],
                stdout=log, stderr=log,
            )  # fmt: skip
        wait_until(self._ready, what=lambda: (self._directory / "log").read_text())

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=2) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def samples(self, at: float, seconds: float) -> dict[str, list[Any]]:
        """All samples of the job ``self`` in so many seconds up to a time: series → [[time, value], …]."""
        query = urllib.parse.urlencode({"query": f'{{job="self"}}[{seconds:.0f}s]', "time": f"{at:.3f}"})
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/query?{query}", timeout=20) as reply:
            found = json.load(reply)["data"]["result"]
        return {json.dumps(each["metric"], sort_keys=True): each["values"] for each in found}


@contextlib.contextmanager
def started(prometheus: Prometheus) -> Iterator[Prometheus]:
    try:
        prometheus.start()
        yield prometheus
    finally:
        prometheus.stop()


def test_every_sample_arrives_although_the_sink_was_down(
    kafka: KafkaCluster, create_topic: Callable[..., str], unique: Callable[..., str], tmp_path: Path
) -> None:
    topic, group = create_topic(), unique("group")
    (recipe,) = re.findall(r"```yaml\n(.*?)\n```", (ROOT / "docs" / "bridges.md").read_text(), re.DOTALL)
    receiver = Prometheus(tmp_path / "receiver", "global: {}\n", "--web.enable-remote-write-receiver")
    bridge_in = Bytehoops(
        "producer", "-b", kafka.bootstrap, "-t", topic, "-l", "127.0.0.1:0", "--key-header", "X-Source"
    )
    bridge_out = Bytehoops(
        "consumer", "-b", kafka.bootstrap, "-t", topic, "-g", group,
        "-s", f"http://127.0.0.1:{receiver.port}/api/v1/write",
        "--retry-initial", "0.2", "--retry-max", "1", "--retry-jitter", "0.1", "--commit-interval", "0.1",
    )  # fmt: skip
    with started(receiver), bridge_in, bridge_out:
        sender = Prometheus(
            tmp_path / "sender",
            f"""
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: self
    static_configs: [{{targets: [SELF]}}]
{recipe.replace("http://127.0.0.1:8080", bridge_in.url)}
    queue_config: {{batch_send_deadline: 500ms}}
""",
        )
        with started(sender):
            began = time.time()
            time.sleep(5)  # time itself: it scrapes every second
            receiver.stop()
            time.sleep(DOWN_S)  # time itself: so long the sink is down
            receiver.start()
            time.sleep(3)  # time itself: it scrapes on
            until = time.time()
            time.sleep(1.5)  # time itself: what was scraped by then is written by now
            sent = sender.samples(until, until - began)

            def arrived() -> dict[str, list[Any]]:
                return receiver.samples(until, until - began)

            wait_until(lambda: arrived() == sent, what=lambda: (difference(sent, arrived()), bridge_out.output[-3:]))
        count = sum(map(len, sent.values()))
        assert len(sent) > 200
        assert max(map(len, sent.values())) >= DOWN_S
        print(f"{count} samples of {len(sent)} series")
        assert any("attempt" in line for line in bridge_out.output), "the sink was never missed"


def difference(sent: dict[str, list[Any]], arrived: dict[str, list[Any]]) -> str:
    """Some of what is missing, or too much."""
    wrong = [name for name in sent.keys() | arrived.keys() if sent.get(name) != arrived.get(name)]
    name = wrong[0]
    return f"{len(wrong)} of {len(sent)} series differ; {name}: {sent.get(name)} became {arrived.get(name)}"
