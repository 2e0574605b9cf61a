"""docs/tunnel.md: its commands and programs, as they stand there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest

from kafka_gateway.commands.main import main as program
from kafka_gateway.errors import CloseReason
from kafka_gateway.transports.tunnel import command, relay
from tests import cache
from tests.gateway_process import ROOT, GatewayProcess
from tests.tunnel.local_process import LocalProcess
from tests.tunnel.test_clients import run

PAGE = (ROOT / "docs" / "tunnel.md").read_text()
COMMANDS = [
    shlex.split(line) for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
]
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.slow
@pytest.mark.embedded
def test_the_page_from_top_to_bottom(tmp_path: object) -> None:
    cache.find_program("kcat")
    serve, tunnel, listing, say, read = COMMANDS
    assert serve[:2] == ["kafka-gateway", "port=8082"]
    assert tunnel[:4] == ["kafka-gateway", "tunnel", "-broker=127.0.0.1:8082", "-port=9190"]
    # As printed, on one machine: the port of no broker is the gateway's.
    assert 8082 not in {9190, *(9190 + 1 + broker for broker in range(10))}
    with GatewayProcess(*serve[2:]) as gateway, LocalProcess(gateway.url, *tunnel[4:], nodes=1) as local:

        def kcat(words: list[str], stdin: str = "") -> str:
            return run(*[word.replace("127.0.0.1:9190", local.bootstrap) for word in words], stdin=stdin)

        assert f"broker 1 at 127.0.0.1:{local.port_of(1)}" in kcat(listing)
        assert say[:3] == ["echo", "hello", "|"]
        kcat(say[3:], "hello\n")
        assert kcat(read) == "hello\n"
        first, second = PROGRAMS
        address = gateway.url.partition("://")[2]
        assert in_python(first, address) == "0 records were not delivered\n"
        assert "error 0" in in_python(second, address)
        assert "hello from Python" in kcat(read)


def in_python(text: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", text, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_close_code_is_in_the_page() -> None:
    codes = {each.code for each in vars(relay).values() if isinstance(each, CloseReason)} | {1001}
    assert [code for code in codes if f"| {code} " not in PAGE] == []


def test_every_flag_of_the_page_exists(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program(["tunnel", "--help"])
    known = capsys.readouterr().out
    assert [flag for flag in re.findall(r"`(-[a-z-]+)", PAGE) if flag not in known] == []
    assert command._parser().parse_args(["-port=1"]).port == 1
