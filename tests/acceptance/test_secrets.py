"""S10: secrets show up nowhere. S15: what the gateway is made of."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import tomllib
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from tests.gateway_process import GatewayProcess
from tests.transports.process import ROOT, run_gateway
from tests.transports.wire import JSON_V2, V2, Wire, produce, request

PLACES = ("sasl", "oauth", "jaas", "key", "keystore", "registry")
PLACES += ("userinfo", "basic", "bearer", "api-key", "cookie", "stranger")
CANARIES = {name: f"canary{number:02d}{name}" for number, name in enumerate(PLACES)}


def assert_no_canary(text: str, *but: str) -> None:
    for name, canary in CANARIES.items():
        if name not in but:
            assert canary not in text, f"{name}: {[line for line in text.splitlines() if canary in line][:3]}"


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port that refuses connections for as long as the test runs."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def config_file(directory: Path, *lines: str) -> Path:
    file = directory / "gateway.properties"
    file.write_text("\n".join(lines))
    return file


SASL = (
    "client.security.protocol=SASL_PLAINTEXT",
    "client.sasl.mechanism=PLAIN",
    "client.sasl.username=ada",
    f"client.sasl.password={CANARIES['sasl']}",
)


@pytest.mark.slow
async def test_s10_a_gateway_that_fails_at_everything(tmp_path: Path, dead_port: int) -> None:
    users = tmp_path / "users"
    users.write_text("ada:" + bcrypt.hashpw(CANARIES["basic"].encode(), bcrypt.gensalt(4)).decode() + "\n")
    file = config_file(
        tmp_path,
        *SASL,
        f"schema.registry.url=http://u:{CANARIES['userinfo']}@127.0.0.1:{dead_port}",
        f"schema.registry.basic.auth.user.info=u:{CANARIES['registry']}",
        "authentication.method=BASIC",
        f"authentication.basic.file={users}",
        "listeners=http://127.0.0.1:0",
        "embedded.enable=true",
        "log.level=DEBUG",
        "debug=true",
        "produce.timeout.ms=300",
        "kafka.connect.timeout.ms=300",
        f"client.bootstrap.servers=127.0.0.1:{dead_port}",
    )

    def basic(password: str) -> str:
        return "Basic " + base64.b64encode(f"ada:{password}".encode()).decode()

    seen = []
    good, bad = basic(CANARIES["basic"]), basic(CANARIES["stranger"])
    secrets = {"Cookie": CANARIES["cookie"], "X-Api-Key": CANARIES["api-key"]}
    properties = file.read_text().splitlines()
    with GatewayProcess(*properties[:-1], bootstrap=f"127.0.0.1:{dead_port}") as gateway:
        for authorization in (
            good,
            bad,
            f"Bearer {CANARIES['bearer']}",
            CANARIES["jaas"],
            "Basic " + CANARIES["oauth"],
        ):
            for data in (
                request("GET", "/topics", Authorization=authorization, **secrets),
                request("GET", "/health/ready", Authorization=authorization, **secrets),
                request("GET", "/nowhere", Authorization=authorization, **secrets),
                request("POST", "/topics/t", b"{", Authorization=authorization, Content_Type=JSON_V2, **secrets),
                request(
                    "POST", "/consumers/g", b'{"name":"i"}', Authorization=authorization, Content_Type=V2, **secrets
                ),
                request("POST", "/consumers/g", b'{"x":1}', Authorization=authorization, Content_Type=V2, **secrets),
                produce("t", Authorization=authorization, **secrets),
                b"GET / HTTP/1.1\r\nAuthorization: " + authorization.encode() + b"\r\nBad\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: " + authorization.encode() + b"\r\nA\x00: b\r\n\r\n",
            ):
                async with await Wire.open(gateway.url) as wire:
                    await wire.send(data)
                    with contextlib.suppress(ConnectionError):
                        seen.append(repr(await wire.reply()))
                    wire.writer.close()
        assert gateway.stop() == 0
    assert len(seen) > 40
    output = "\n".join(gateway.output)
    assert "DEBUG" in output
    assert_no_canary(output)
    assert_no_canary("\n".join(seen))
    encoded = [re.escape(value.split()[-1]) for value in (good, bad)]
    assert not re.search("|".join(encoded), output + "\n".join(seen)), "nor as it is written in the header"


FAULTY = [
    (*SASL, f"client.sasl.pasword={CANARIES['stranger']}"),
    (*SASL, f"consumer.sasl.password={CANARIES['key']}", "consumer.fetch.min.bytes=x"),
    (*SASL, f'client.sasl.jaas.config=Plain required password="{CANARIES["jaas"]}";'),
    (*SASL, "port=x", f"ssl.key.password={CANARIES['keystore']}", "ssl.keystore.location=/nowhere"),
    (*SASL, f"schema.registry.url=ftp://u:{CANARIES['userinfo']}@host"),
    (f"bootstrap.servers=u:{CANARIES['userinfo']}@127.0.0.1:1",),
    (*SASL, "client.sasl.mechanism=OAUTHBEARER", f"client.sasl.oauthbearer.client.secret={CANARIES['oauth']}"),
    (f"unknown.password={CANARIES['stranger']}",),
    (f"listeners=http://u:{CANARIES['userinfo']}@127.0.0.1:99999",),
    (f"advertised.listeners=http://u:{CANARIES['userinfo']}@host:x",),
    (f"producer.ssl.key.pem={CANARIES['key']}",),
]


@pytest.mark.parametrize("check", [True, False], ids=["check", "start"])
@pytest.mark.parametrize("lines", FAULTY)
def test_s10_faulty_configurations(tmp_path: Path, dead_port: int, lines: tuple[str, ...], check: bool) -> None:
    base = () if any(line.startswith("bootstrap") for line in lines) else (f"bootstrap.servers=127.0.0.1:{dead_port}",)
    # A fault is always among them, so that the gateway does not start.
    file = config_file(tmp_path, *base, *lines, "no.such.property=1")
    result = run_gateway(*(["--check"] if check else []), str(file))
    assert result.returncode != 0
    assert "no.such.property" in result.stdout
    assert_no_canary(result.stdout)


def test_s10_check_with_a_broker_that_is_not_there(tmp_path: Path, dead_port: int) -> None:
    file = config_file(tmp_path, f"bootstrap.servers=127.0.0.1:{dead_port}", "kafka.connect.timeout.ms=500", *SASL)
    for more in ((), ("--json",)):
        result = run_gateway("--check", *more, str(file))
        assert result.returncode == 4, result.stdout
        assert_no_canary(result.stdout)


# --- S15 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["1", "true"])
def test_s15_aiohttps_parser_in_python_is_refused(value: str) -> None:
    result = run_gateway("port=0", environment={"AIOHTTP_NO_EXTENSIONS": value})
    assert result.returncode == 2
    assert re.search(r"environment AIOHTTP_NO_EXTENSIONS: unset it", result.stdout)
    assert "Traceback" not in result.stdout


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-test.lock"])
def test_s15_every_package_is_pinned_with_its_hashes(name: str) -> None:
    text = (ROOT / name).read_text().replace("\\\n", " ")
    entries = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert len(entries) >= 15
    for entry in entries:
        assert re.match(r"[a-zA-Z0-9._-]+==[^ ;]+", entry), entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry
    aiohttp = re.search(r"^aiohttp==(\d+)\.(\d+)\.(\d+)", text, re.MULTILINE)
    assert aiohttp
    assert tuple(int(part) for part in aiohttp.groups()) >= (3, 14, 5)


def test_s15_the_floor_of_aiohttp() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert any(each.startswith("aiohttp>=3.14.5") for each in project["dependencies"])
