"""The command line of the bridges (bridges.md A1, A4 nos. 1-3)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kafka_gateway.commands import bytehoops
from kafka_gateway.commands.main import main as gateway_main
from kafka_gateway.config import Config
from kafka_gateway.version import VERSION
from tests.bridges.conftest import Bytehoops
from tests.gateway_process import ROOT


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """The configurations with which a bridge would have been run."""
    seen: list[Config] = []

    def run(config: Config, plugins: Any, *, hasty: bool = False) -> int:
        assert hasty
        assert plugins.names() == ["bridges", "core", "http"]
        seen.append(config)
        return 0

    monkeypatch.setattr("kafka_gateway.commands.bridge.run", run)
    monkeypatch.delenv("PORT", raising=False)
    return seen


def run(*words: str) -> tuple[int, str, str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "kafka_gateway.commands.bytehoops", *words],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


FLAGS = {
    "producer": {
        "-b, --bootstrap-servers": "localhost:9092", "-t, --topic": "prometheus", "-l, --listen-address": ":8080",
    },
    "consumer": {
        "-b, --bootstrap-servers": "localhost:9092", "-t, --topic": "prometheus", "-g, --group-name": "bytehoops",
        "-s, --sink-endpoint": "http://localhost:9009/api/v1/push",
    },
}  # fmt: skip


@pytest.mark.parametrize("mode", FLAGS)
@pytest.mark.parametrize("words", [["--help"], ["-h"]])
def test_help_lists_the_flags_and_their_defaults(
    mode: str, words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PORT", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    assert bytehoops.main([mode, *words]) == 0
    out = capsys.readouterr().out
    for flag, default in FLAGS[mode].items():
        short, long = flag.split(", ")
        (line,) = re.findall(rf"^  {short} \S+, {long} .*?\(default: .*?\)", out, re.MULTILINE | re.DOTALL)
        assert f"(default: {default})" in line


def test_without_a_mode_nothing_happens(capsys: pytest.CaptureFixture[str]) -> None:
    assert bytehoops.main([]) == 0
    assert bytehoops.main(["--help"]) == 0
    assert "producer|consumer" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [["prod"], ["producer", "--nope"], ["consumer", "-l", ":1"], ["consumer", "--ordering", "random"], ["-t", "x"],
     ["producer", "--max-inflight", "many"], ["producer", "-l", "nonsense"], ["producer", "--config", "/no/such/file"],
     ["consumer", "--max-attempts", "0"]],
    ids=" ".join,
)  # fmt: skip
def test_what_cannot_be_is_told_and_exits_1(
    words: list[str], configured: list[Config], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bytehoops.main(words) == 1
    told = capsys.readouterr()
    assert (told.out, configured) == ("", [])
    assert told.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["consumer", "-s", "ftp://x/"], "a sink is reached by http:// or https://"),
        (["consumer", "-s", "http://127.1/"], "127.1 is neither the name of a host nor an address"),
        (["producer", "-t", "no topic"], "'no topic' is not the name of a topic"),
        (["consumer", "--on-exhausted", "dlq"], "dlq needs a topic for dead letters"),
        (["consumer", "--dlq-topic", "prometheus"], "would read its own dead letters"),
    ],
)
def test_a_bridge_that_cannot_be_is_told_and_exits_1(words: list[str], told: str) -> None:
    code, out, err = run(*words)
    assert (code, told in out + err, "Traceback" in out + err) == (1, True, False)


def test_servers_are_a_list_that_replaces_the_default(configured: list[Config]) -> None:
    bytehoops.main(["producer", "-b", "a:1,b:2", "-b", '"c:3"'])
    bytehoops.main(["-b", "a:1", "-t", "x", "consumer", "--bootstrap-servers=b:2"])
    bytehoops.main(["producer"])
    assert [each.items("bootstrap.servers") for each in configured] == [
        ("a:1", "b:2", "c:3"), ("a:1", "b:2"), ("localhost:9092",),
    ]  # fmt: skip


def test_every_way_to_write_a_flag(configured: list[Config]) -> None:
    for words in (["-t", "x", "producer"], ["--topic=x", "producer"], ["producer", "--topic", "x", "surplus", "words"],
                  ["-tx", "producer"]):  # fmt: skip
        assert bytehoops.main(words) == 0
    assert {each.text("bridge.producer.bytehoops.topic") for each in configured} == {"x"}
    assert gateway_main(["producer", "-t", "x"]) == 0
    assert len(configured) == 5


@pytest.mark.parametrize(
    ("words", "port", "listener"),
    [
        (["-l", "127.0.0.1:9099"], "9100", "http://127.0.0.1:9099"),
        ([], "9100", "http://[::]:9100"),
        ([], "", "http://[::]:8080"),
        (["-l", "[::1]:1"], "", "http://[::1]:1"),
        (["-l", ":1"], "", "http://[::]:1"),
    ],
)
def test_where_it_listens(
    configured: list[Config], monkeypatch: pytest.MonkeyPatch, words: list[str], port: str, listener: str
) -> None:
    monkeypatch.setattr("socket.has_dualstack_ipv6", lambda: True)
    monkeypatch.setenv("PORT", port)
    bytehoops.main(["producer", *words])
    assert [str(each) for each in configured[0].listeners()] == [listener]


def test_flags_beat_the_file_and_the_file_beats_their_defaults(configured: list[Config], tmp_path: Path) -> None:
    file = tmp_path / "bridge.properties"
    prefix = "bridge.consumer.bytehoops."
    file.write_text(f"bootstrap.servers=k:1\n{prefix}topic=filed\n{prefix}group=filed\n{prefix}retry.factor=3\n")
    bytehoops.main(["consumer", "--config", str(file), "-g", "given", "--retry-max", "1.5"])
    (config,) = configured
    assert config.items("bootstrap.servers") == ("k:1",)
    assert (config.items(prefix + "topic"), config.text(prefix + "group")) == (("filed",), "given")
    assert (config.number(prefix + "retry.factor"), config.seconds(prefix + "retry.max.ms")) == (3, 1.5)
    assert config.seconds(prefix + "retry.initial.ms") == 2


def test_every_flag_reaches_its_property(configured: list[Config]) -> None:
    bytehoops.main(["consumer", "-s", "http://sink.example/x", "--sink-timeout", "0.5", "--split-commas",
                    "--offset-reset", "error", "--max-buffered-bytes", "77", "--on-permanent", "drop",
                    "--shutdown-timeout", "3"])  # fmt: skip
    bytehoops.main(["producer", "--header-deny", "X-*", "--header-deny", "Y", "--max-body-bytes", "20000000"])
    out, into = configured
    prefix = "bridge.consumer.bytehoops."
    assert (out.integer(prefix + "sink.timeout.ms"), out.flag(prefix + "split.commas")) == (500, True)
    assert (out.text(prefix + "offset.reset"), out.integer(prefix + "max.buffered.bytes")) == ("error", 77)
    assert (out.text(prefix + "on.permanent"), out.text(prefix + "on.exhausted")) == ("drop", "auto")
    assert (out.items("bridge.sink.allow"), out.integer("shutdown.graceful.ms")) == (("sink.example",), 3000)
    assert into.items("bridge.producer.bytehoops.header.deny") == ("X-*", "Y")
    assert into.integer("request.max.bytes") == 20_000_000
    assert into.under("producer.") == {"max.request.size": str(20_000_000 + 65536)}


def test_the_executable_is_installed_and_wrapped() -> None:
    assert 'bytehoops = "kafka_gateway.commands.bytehoops:main"' in (ROOT / "pyproject.toml").read_text()
    assert os.access(ROOT / "bin" / "bytehoops", os.X_OK)
    assert VERSION


@pytest.mark.slow
def test_a_port_that_is_taken_exits_1() -> None:
    words = ("producer", "-b", "127.0.0.1:1", "-l", "127.0.0.1:0")
    with Bytehoops(*words) as one:
        port = one.url.rpartition(":")[2]
        code, out, err = run("producer", "-b", "127.0.0.1:1", "-l", f"127.0.0.1:{port}")
        assert code == 1
        assert "Address already in use" in out + err
        assert one.stop() == 0  # a broker that is not there is no reason to fail, nor to hang
