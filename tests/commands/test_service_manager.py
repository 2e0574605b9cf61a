"""What the gateway tells systemd; the test plays the socket."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafka_gateway.commands.service_manager import ServiceManager
from tests.gateway_process import GatewayProcess


class Manager:
    """The socket of a service manager."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(20)

    def until(self, word: str) -> list[str]:
        """The messages up to the one that begins with the word."""
        seen: list[str] = []
        while not seen or not seen[-1].startswith(word):
            seen.append(self.socket.recv(4096).decode())
        return seen

    def nothing_of(self, *words: str) -> None:
        """No message that is left begins with one of the words."""
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while told := self.socket.recv(4096).decode():
                assert not told.startswith(words)


@contextlib.contextmanager
def manager(address: str) -> Iterator[Manager]:
    made = Manager(address)
    with made.socket:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_ready_signs_of_life_reload_and_stop(tmp_path: Path, workers: int) -> None:
    rules = tmp_path / "rules"
    rules.write_text("allow User:anonymous read topic:orders\n")
    # The sign of life of several says that each of them has given one, which takes its time on a busy machine.
    environment = {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": str(600_000 if workers == 1 else 3_000_000),
    }
    with manager(environment["NOTIFY_SOCKET"]) as systemd:
        began = time.monotonic()
        properties = (f"audit.log={tmp_path / 'audit.log'}", f"authorization.file={rules}", f"workers={workers}")
        with GatewayProcess(*properties, environment=environment, start_s=60) as gateway:
            assert "STATUS=serving" in systemd.until("READY=1")[-1]
            for _ in range(4):
                systemd.until("WATCHDOG=1")
            assert time.monotonic() - began < 15 or workers > 1
            gateway.process.send_signal(signal.SIGHUP)
            told = systemd.until("RELOADING=1")[-1]
            micros = int(told.partition("MONOTONIC_USEC=")[2])
            assert abs(micros / 1e6 - time.clock_gettime(time.CLOCK_MONOTONIC)) < 10
            assert "STATUS=serving" in systemd.until("READY=1")[-1].splitlines()
            rules.write_text("nonsense\n")
            gateway.process.send_signal(signal.SIGHUP)
            assert "is refused" in systemd.until("READY=1")[-1]
            gateway.process.send_signal(signal.SIGTERM)
            systemd.until("STOPPING=1")
            gateway.process.send_signal(signal.SIGHUP)
            assert gateway.process.wait(15) == 0
            systemd.nothing_of("READY", "RELOADING")


def test_an_abstract_address(capfd: pytest.CaptureFixture[str]) -> None:
    name = f"kafka-gateway-test-{time.monotonic_ns()}"
    with manager(f"\0{name}") as systemd:
        ServiceManager({"NOTIFY_SOCKET": f"@{name}"}).ready()
        systemd.until("READY=1")


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({}, 0.0),
    ],
)
def test_whose_watchdog_it_is(environment: dict[str, str], seconds: float) -> None:
    assert ServiceManager({"NOTIFY_SOCKET": "/nowhere", **environment}).watchdog_s == seconds


def test_without_a_manager_and_with_one_that_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    ServiceManager({}).ready()
    assert not caplog.records
    ServiceManager({"NOTIFY_SOCKET": "/nowhere/at/all"}).ready()
    assert "READY=1" in caplog.text


def test_a_reload_that_ends_in_the_stop_is_not_told() -> None:
    name = f"kafka-gateway-test-{time.monotonic_ns()}"
    with manager(f"\0{name}") as systemd:
        one = ServiceManager({"NOTIFY_SOCKET": f"@{name}"})
        one.begin_reload()
        one.stopping()
        one.ready()
        one.begin_reload()
        systemd.until("STOPPING=1")
        systemd.nothing_of("READY", "RELOADING")
