"""The command ``flasfka-serve`` (bridges.md §B1): its flags, its configuration file, and flasfka's own tests."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafka_gateway.commands.push_pull import read_settings
from kafka_gateway.config import ConfigError
from tests.cache import UnavailableError, once, run_tool, unavailable
from tests.gateway_process import ROOT, GatewayProcess
from tests.kafka_cluster import KafkaCluster
from tests.push_pull.service import PushPull, Served

FLASFKA = "flasfka==1.1.6"

CONFIG = """\
# The hosts
import sys
HOSTS = ["127.0.0.1:9093", "kafka"]  # a list
CONSUMER_TIMEOUT = 0.25
CONSUMER_LIMIT = 7
DEFAULT_GROUP = "them"
SECRET_KEY = "canary"
lower = 1
open("executed", "w")
"""


def test_the_file_is_read_and_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """17"""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "flasfka.conf.py"
    path.write_text(CONFIG)
    properties, notes = read_settings(path)
    assert properties == {
        "bootstrap.servers": "127.0.0.1:9093,kafka:9092",
        "push.pull.timeout.ms": "250",
        "push.pull.limit": "7",
        "push.pull.group.default": "them",
    }
    assert [note.rpartition(":")[0].rpartition(":")[2] for note in notes] == ["2", "7", "8", "9"]
    assert "canary" not in "".join(notes)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("line", "property"),
    [
        ('HOSTS = "a:1, b"', "a:1,b:9092"),
        ('HOSTS = ("[::1]:9092",)', "[::1]:9092"),
        ("CONSUMER_TIMEOUT = 2", "2000"),
        ("CONSUMER_TIMEOUT = 0", "1"),
        ("CONSUMER_LIMIT_MAX = 5", "5"),
        ("CONSUMER_MAX_WAIT = 1.5", "1500"),
        ("CONSUMER_MAX_BYTES = 100", "100"),
        ("AUTO_CREATE_TOPICS = False", "false"),
        ('DEFAULT_GROUP = b"g"', "g"),
    ],
)
def test_settings(tmp_path: Path, line: str, property: str) -> None:
    path = tmp_path / "c.py"
    path.write_text(f'"""A text."""\n{line}\n')
    properties, notes = read_settings(path)
    assert ([*properties.values()], notes) == ([property], [])


@pytest.mark.parametrize(
    "line",
    ["HOSTS = open('x')", "HOSTS = 7", 'CONSUMER_LIMIT = "x"', "CONSUMER_LIMIT = 1.5", "CONSUMER_TIMEOUT = True",
     "DEFAULT_GROUP = None", "AUTO_CREATE_TOPICS = 1", "x = (", "\0"],
)  # fmt: skip
def test_faulty_settings(tmp_path: Path, line: str) -> None:
    path = tmp_path / "c.py"
    path.write_text(line)
    with pytest.raises(ConfigError) as caught:
        read_settings(path)
    assert len(caught.value.faults) == 1


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "kafka_gateway", "flasfka-serve", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        check=False,
    )


@pytest.mark.slow
def test_what_does_not_start() -> None:
    missing = run(FLASFKA_CONFIG="/nowhere/flasfka.conf.py")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert (
        missing.stderr
        == "flasfka-serve: FLASFKA_CONFIG: /nowhere/flasfka.conf.py cannot be read: No such file or directory\n"
    )
    assert run("push.pull.prefx=/x").returncode == 2
    assert run("push.pull.prefix=x y").returncode == 2
    assert run("--host", "0.0.0.0", "-p", "0").returncode == 2  # open to the world, and nobody need authenticate
    assert run("--what").returncode == 2
    assert run("-h").returncode == 0


@pytest.fixture(scope="module")
def served(kafka: KafkaCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    path = tmp_path_factory.mktemp("flasfka") / "flasfka.conf.py"
    path.write_text(f'import os\nHOSTS = ["{kafka.bootstrap}"]\nCONSUMER_LIMIT = 3\nDEFAULT_GROUP = "ours"\n')
    with Served(environment={"FLASFKA_CONFIG": str(path)}) as running:
        yield running


@pytest.mark.slow
async def test_serving(served: GatewayProcess, topic: str) -> None:
    """The four keys at work, and all paths for topics: none of the gateway's other services is there."""
    async with PushPull(served.url) as client:
        await client.store(topic, *"abcde")
        assert (await client.pull(topic)).json == {"group": "ours", "messages": ["a", "b", "c"]}
        assert (await client.pull("topics")).messages == []
        for path in ("/", "/a/b/c/", "/console/x/y"):
            assert (await client.request("GET", path)).status == 404
    served.wait_for(r"flasfka.conf.py:1: not read")


@pytest.mark.slow
def test_the_flags(kafka: KafkaCluster) -> None:
    tested = run("--test", f"bootstrap.servers={kafka.bootstrap}")
    assert (tested.returncode, tested.stdout.splitlines()[-1]) == (0, "all well"), tested
    with Served("-o", "-d", f"bootstrap.servers={kafka.bootstrap}") as gateway:
        assert gateway.stop() == 0
    gateway.wait_for(r"tottime")


ADAPTER = """
import json, os, urllib.error, urllib.request

class Response:
    def __init__(self, status, data):
        self.status_code, self.data = status, data

class Client:
    def _ask(self, path, data=None):
        body = data.encode("latin-1") if isinstance(data, str) else data
        try:
            with urllib.request.urlopen(os.environ["FLASFKA_URL"] + path, body, 60) as response:
                return Response(response.status, response.read())
        except urllib.error.HTTPError as error:
            return Response(error.code, error.read())

    def post(self, path, data):
        return self._ask(path, data)

    def get(self, path):
        return self._ask(path)

class App:
    config = {}

    def test_client(self):
        return Client()

app = App()
"""
"""In place of flasfka: its test client, sending to an address instead of into an application of Flask's."""


def flasfkas_archive() -> Path:
    """Its source as it is published."""
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", ":all:", "--no-build-isolation"]

    def fill(folder: Path) -> None:
        run_tool([sys.executable, "-m", "pip", "download", *options, FLASFKA], folder)

    (archive,) = once(FLASFKA.replace("==", "-"), fill).glob("*.tar.gz")
    return archive


@pytest.mark.slow
@pytest.mark.fetches(what=flasfkas_archive)
def test_flasfkas_own_tests(kafka: KafkaCluster, tmp_path: Path) -> None:
    """As they are; what they import as their application is a client of the gateway."""
    try:
        archive = flasfkas_archive()
    except UnavailableError as error:
        unavailable(str(error))
    package = tmp_path / "flasfka"
    package.mkdir()
    with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as content:
        member = content.extractfile("flasfka-1.1.6/flasfka/tests.py")
        assert member is not None
        (package / "tests.py").write_bytes(member.read())
    (package / "__init__.py").write_text(ADAPTER)
    with Served(f"bootstrap.servers={kafka.bootstrap}") as gateway:
        done = subprocess.run(
            [sys.executable, "-m", "unittest", "flasfka.tests"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "FLASFKA_URL": gateway.url},
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "Ran 7 tests" in done.stderr
