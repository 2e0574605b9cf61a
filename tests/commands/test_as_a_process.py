"""The commands as an administrator meets them: signals, and a reader of the output that leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request

import pytest

from tests.gateway_process import NO_OTHERS, ROOT, GatewayProcess

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


def test_signals_while_it_starts_do_not_kill() -> None:
    """A supervisor may reload it before it listens."""
    code = """
import builtins, os, signal, sys
import kafka_gateway.__main__ as program

real = builtins.__import__

def importing(name, *more):
    if name.startswith("kafka_gateway.commands"):  # it is on its way, and has no handlers of its own yet
        builtins.__import__ = real
        for each in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(os.getpid(), each)
    return real(name, *more)

builtins.__import__ = importing
sys.argv = ["kafka-gateway", "--version"]
sys.exit(program.start())
"""
    environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


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
