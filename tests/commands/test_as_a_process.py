"""The commands as an administrator meets them: signals, and a reader of the output that leaves."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway_process import NO_OTHERS, ROOT, GatewayProcess
from tests.processes import killed_at_the_end

pytestmark = pytest.mark.slow

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("KAFKA")} | NO_OTHERS


def test_signals_without_a_meaning_do_not_kill() -> None:
    """Without a handler a signal kills: consumers leave without a word, records on their way are lost."""
    with GatewayProcess() as gateway:
        for name, told in (
            ("SIGHUP", "the configuration was read again"),
            ("SIGUSR1", "log.level is DEBUG"),
            ("SIGUSR2", "SIGUSR2 is ignored"),
        ):
            gateway.process.send_signal(getattr(signal, name))
            gateway.wait_for(told)
        with urllib.request.urlopen(f"{gateway.url}/health/live", timeout=5) as reply:
            assert reply.status == 200
        assert gateway.stop() == 0


EARLY = """
import builtins, importlib, os, signal, sys
script, signals, *arguments = sys.argv[1:]
module, _, name = script.partition(":")
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in a script's background
program = getattr(importlib.import_module(module), name)

real = builtins.__import__

def importing(name, *more):
    if name.startswith("kafka_gateway.commands"):  # it is on its way, and has no handlers of its own yet
        builtins.__import__ = real
        for each in signals.split(","):
            os.kill(os.getpid(), getattr(signal, each))
    return real(name, *more)

builtins.__import__ = importing
sys.argv = ["program", *arguments]
sys.exit(program())
"""
"""Runs a script of pyproject.toml, which gets these signals before it has imported what it needs."""
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


@contextlib.contextmanager
def early(script: str, signals: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", EARLY, SCRIPTS[script], signals, *arguments],
        env={**ENVIRONMENT, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with killed_at_the_end(process):
        yield process


@pytest.mark.parametrize(
    "words",
    [
        ("kafka-gateway", "port=0"),
        ("kafka-gateway", "port=0", "workers=2"),
        ("bytehoops", "producer", "-b", "127.0.0.1:1", "-l", "127.0.0.1:0"),
        ("flasfka-serve", "--port=0"),
        ("kafka-gateway", "flasfka-serve", "--port=0"),
    ],
)
def test_a_stop_while_it_starts_is_a_stop(words: tuple[str, ...]) -> None:
    """Also behind signals that mean something for a gateway that serves."""
    script, *arguments = words
    with early(script, "SIGHUP,SIGUSR1,SIGUSR2,SIGTERM", *arguments) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "stopping" in output


@pytest.mark.parametrize("words", [("kafka-websocket-proxy",), ("kafka-gateway", "tunnel")])
def test_a_tunnel_that_is_stopped_while_it_starts_stops_in_order(words: tuple[str, ...]) -> None:
    """Its other signals end it, as they end what belongs to a terminal."""
    script, *first = words
    with early(script, "SIGTERM", *first, "-port", "0", "-broker", "127.0.0.1:1") as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output


def test_a_command_that_is_no_gateway_ends_by_an_early_signal() -> None:
    with early("kafka-gateway", "SIGTERM", "--check") as process:
        output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (-signal.SIGTERM, "")


@pytest.mark.parametrize(
    "words",
    [
        ("kafka-gateway", "port=0"),
        ("kafka-gateway", "tunnel", "-port", "0"),
        ("kafka-websocket-proxy", "-port", "0"),
        ("bytehoops", "producer", "-b", "127.0.0.1:1", "-l", "127.0.0.1:0"),
        ("flasfka-serve", "--port=0"),
    ],
)
def test_ctrl_c_while_it_starts_gives_the_terminal_back_without_a_word(words: tuple[str, ...]) -> None:
    script, *arguments = words
    with early(script, "SIGINT", *arguments) as process:
        output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (-signal.SIGINT, "")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_reload_while_it_starts_is_done_when_it_serves(workers: int) -> None:
    with early("kafka-gateway", "SIGHUP", "port=0", f"workers={workers}") as process:
        assert process.stdout is not None
        seen, read = [], 0
        for line in process.stdout:
            seen.append(line)
            read += "the configuration was read again" in line
            if read == workers:
                process.terminate()
                break
        rest = process.stdout.read()
        assert process.wait(60) == 0, "".join(seen) + rest


def test_workers_that_are_signalled_right_behind_their_start_come_to_serve() -> None:
    """As by a script that rotates logs, and signals all processes of a name."""
    with early("kafka-gateway", "SIGHUP", "port=0", "workers=2") as process:
        children, signalled = Path(f"/proc/{process.pid}/task/{process.pid}/children"), set[int]()
        assert process.stdout is not None
        while len(signalled) < 2 and process.poll() is None:
            for each in {int(word) for word in children.read_text().split()} - signalled:
                os.kill(each, signal.SIGHUP)
                signalled.add(each)
            time.sleep(0.002)  # time itself: nothing announces a child
        seen = []
        for line in process.stdout:
            seen.append(line)
            if "2 workers serve" in line:
                process.terminate()
        assert process.wait(60) == 0, "".join(seen)
    assert "2 workers serve" in "".join(seen)


def test_ctrl_c_while_workers_start_is_a_stop() -> None:
    """All processes before the terminal get it."""

    def holds_back(pid: str) -> bool:
        blocked = Path(f"/proc/{pid}/status").read_text().partition("SigBlk:")[2].split()[0]
        return bool(int(blocked, 16) & 1 << signal.SIGINT - 1)

    with early("kafka-gateway", "SIGHUP", "port=0", "workers=2") as process:
        children, found = Path(f"/proc/{process.pid}/task/{process.pid}/children"), list[str]()
        assert process.stdout is not None
        while process.poll() is None and (len(found) < 2 or any(map(holds_back, found))):
            found = children.read_text().split()
            time.sleep(0.002)  # time itself: nothing announces a child, nor that it has come so far
        for each in (process.pid, *map(int, found)):
            with contextlib.suppress(ProcessLookupError):  # the parent was quicker
                os.kill(each, signal.SIGINT)
        output = process.stdout.read()
        assert process.wait(60) == 0, output
    assert "Traceback" not in output


@pytest.mark.parametrize("arguments", [["--check", "--json"], ["--check"]])
def test_a_reader_that_has_seen_enough_is_no_failure(arguments: list[str]) -> None:
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "kafka_gateway", *arguments],
        env={**ENVIRONMENT, "PYTHONPATH": str(ROOT)},
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    os.close(read)  # `| head -0`: nothing is read
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize("arguments", [["--check", "--json"], ["--check"]])
def test_output_that_cannot_be_written_is_told_in_one_line(arguments: list[str]) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        process = subprocess.run(
            [sys.executable, "-P", "-m", "kafka_gateway", *arguments],
            env={**ENVIRONMENT, "PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    told = "kafka-gateway: the output cannot be written: No space left on device\n"
    assert (process.returncode, process.stderr) == (1, told)
