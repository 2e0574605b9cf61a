"""The command line of ``kafka-gateway tunnel``: how the gateway is named, and an end without a traceback."""

from __future__ import annotations

import signal
import socket
from typing import Any

import pytest

from kafka_gateway.transports.tunnel import command
from tests.tunnel.local_process import LocalProcess


@pytest.mark.parametrize(
    ("text", "address", "tls"),
    [
        ("localhost:8787", "localhost:8787", False),
        ("http://gw.example:8082", "gw.example:8082", False),
        ("HTTP://gw.example:8082/", "gw.example:8082", False),
        ("ws://gw.example", "gw.example:80", False),
        ("https://gw.example", "gw.example:443", True),
        ("wss://[::1]:8443/", "[::1]:8443", True),
    ],
)
def test_the_gateway_may_be_named_by_its_http_address(
    text: str, address: str, tls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    async def serve(settings: Any) -> None:
        seen.append(settings)

    monkeypatch.setattr(command, "_serve", serve)
    assert command.main([f"-broker={text}"]) == 0
    assert (seen[0].broker, seen[0].tls, seen[0].ssl is not None) == (address, tls, tls)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("http://gw.example:8082/kafka", "give the path apart: -path=/kafka"),
        ("kafka://gw.example:9092", "kafka:// is neither http:// nor https://"),
        ("gw.example", "'gw.example' is not HOST:PORT"),
        ("http://u:p@gw.example", "is not HOST:PORT"),
        ("gw.example:99999", "'99999' is not a port"),
        ("", "is not HOST:PORT"),
    ],
)
def test_what_is_no_address_is_refused_by_name(text: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main([f"-broker={text}"])
    assert told in capsys.readouterr().err


@pytest.mark.slow
def test_stopping_while_a_connection_waits_for_the_gateway_is_quiet() -> None:
    nobody = socket.socket()
    nobody.bind(("127.0.0.1", 0))  # and does not listen
    with nobody, LocalProcess(f"http://127.0.0.1:{nobody.getsockname()[1]}", nodes=0) as local:
        waiting = socket.create_connection(("127.0.0.1", local.port))
        local.wait_for("accepted tcp connection")
        local.process.send_signal(signal.SIGINT)
        assert local.process.wait(10) == 0
        waiting.close()
    assert not [line for line in local.output if "Traceback" in line or "Error" in line]
