"""The log: one line a request, one line an event, whatever clients put into them."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.door import access_log as access
from kafka_gateway.door.access_log import AccessLog, without_secrets
from kafka_gateway.logs.formatters import JsonFormatter, TextFormatter
from kafka_gateway.logs.levels import LEVELS
from kafka_gateway.logs.logs import Logs
from tests.loop_watch import LoopWatch
from tests.transports.conftest import Connect, gateway
from tests.transports.wire import JSON_V2, Wire, produce, request
from tests.waiting import until

LINE = re.compile(
    r"127\.0\.0\.1 - (?:anonymous|-) \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "
    r'"([^ ]+) (.+)" (\d{3}) (\d+) \d+\.\d{3}'
)
EVIL = '\x1b[2J\r\n\t\x00\x7f\x85\u2028"\\\u202e'


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name == "gateway.access"]


@pytest.fixture(autouse=True)
def _levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.access")


@pytest.mark.parametrize("settings", [{"access.log.enable": True}])
async def test_one_line_for_every_request(wire: Wire, caplog: pytest.LogCaptureFixture, topic: str) -> None:
    replies = [await wire.ask("GET", "/topics?x=1"), await wire.ask("HEAD", "/brokers"), await wire.ask("GET", "/%")]
    await wire.send(produce(topic))
    replies.append(await wire.reply())
    await wire.send(produce(topic, b"{"))
    replies.append(await wire.reply())
    await wire.send(request("POST", "/topics/t", Content_Length=str(10**12), Content_Type=JSON_V2))
    replies.append(await wire.reply())
    await until(lambda: len(lines(caplog)) == 6)
    seen = [LINE.fullmatch(line) for line in lines(caplog)]
    assert all(seen), lines(caplog)
    assert [each.groups() for each in seen if each] == [
        (method, target, str(reply.status), str(len(reply.body) if method != "HEAD" else each.groups()[3]))
        for (method, target), reply, each in zip(
            [
                ("GET", "/topics?x=1"),
                ("HEAD", "/brokers"),
                ("GET", "/%"),
                ("POST", f"/topics/{topic}"),
                ("POST", f"/topics/{topic}"),
                ("POST", "/topics/t"),
            ],
            replies,
            seen,
            strict=True,
        )
        if each
    ]


async def test_the_last_lines_are_written_at_the_stop(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "_BUNDLE_S", 60)
    async with gateway(**{"access.log.enable": True}) as app, await Wire.open(app.addresses[0]) as wire:
        for _ in range(5):
            await wire.ask("GET", "/health/live")
    assert len(lines(caplog)) == 5


@pytest.mark.parametrize("settings", [{"access.log.enable": True}])
async def test_a_client_cannot_break_out_of_its_line(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    targets = ['/a"b', "/a\\nb", "/\xff\xfe", "/%0d%0aGET%20/", "/é", '/x?"', "/\u0085".encode().decode("latin-1")]
    for target in targets:
        wire = await connect()
        await wire.send(f"GET {target} HTTP/1.1\r\nHost: x\r\nUser-Agent: {target}\r\n\r\n".encode("latin-1"))
        await wire.reply()
    await until(lambda: len(lines(caplog)) == len(targets))
    for line in lines(caplog):
        assert line.isprintable()
        assert LINE.fullmatch(line)
        assert line.count('"') - line.count('\\"') == 2


@pytest.mark.parametrize("settings", [{"access.log.enable": False}])
async def test_it_can_be_switched_off(app: App, wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    await wire.ask("GET", "/topics")
    await app.host.stop_listening()
    assert lines(caplog) == []


def test_a_level_above_info_switches_it_off(caplog: pytest.LogCaptureFixture) -> None:
    assert AccessLog(True).enabled
    caplog.set_level(logging.WARNING, "gateway.access")
    assert not AccessLog(True).enabled


async def test_a_burst_does_not_wait_for_the_clock(caplog: pytest.LogCaptureFixture, loop_watch: LoopWatch) -> None:
    loop_watch.limit_s = 0.5  # pytest keeps every record
    log = AccessLog(True)
    for _ in range(2500):
        log.add("127.0.0.1", "anonymous", "GET", "/", 200, 0, 0.0)
    assert 1000 <= len(lines(caplog)) < 2500
    log.flush()
    assert len(lines(caplog)) == 2500


# --- the forms of a line ---------------------------------------------------------------------------------------------


def record(message: str, *args: object, error: bool = False) -> logging.LogRecord:
    exc_info: Any = None
    if error:
        try:
            raise ValueError(EVIL)
        except ValueError as raised:
            exc_info = (type(raised), raised, raised.__traceback__)
    return logging.LogRecord("gateway.test", logging.WARNING, __file__, 1, message, args, exc_info)


@pytest.mark.parametrize("error", [False, True])
def test_text_lines(error: bool) -> None:
    line = TextFormatter().format(record("key %s", EVIL, error=error))
    assert line.isprintable()
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING gateway\.test: key ", line)
    assert ("Traceback" in line) == error


@pytest.mark.parametrize("error", [False, True])
def test_json_lines(error: bool) -> None:
    line = JsonFormatter().format(record("key %s", EVIL, error=error))
    assert line.isascii()
    assert line.isprintable()
    event = json.loads(line)
    assert (event["level"], event["logger"], event["message"]) == ("WARNING", "gateway.test", f"key {EVIL}")
    assert ("exception" in event) == error


@pytest.mark.parametrize(("level", "shown"), [("DEBUG", 4), ("INFO", 3), ("WARNING", 2), ("ERROR", 1)])
@pytest.mark.parametrize("form", ["text", "json"])
def test_levels(capsys: pytest.CaptureFixture[str], level: str, shown: int, form: str) -> None:
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    try:
        Logs(form)
        LEVELS.set_all(level, {})
        log = logging.getLogger("gateway.test.levels")
        for each in ("debug", "info", "warning", "error"):
            getattr(log, each)("a line of %s", each)
    finally:
        root.setLevel(before[0])
        root.handlers[:] = before[1]
        logging.captureWarnings(False)
    written = capsys.readouterr().err.splitlines()
    assert len(written) == shown
    if form == "json":
        assert [json.loads(line)["level"] for line in written] == ["DEBUG", "INFO", "WARNING", "ERROR"][4 - shown :]


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("Authorization=Basic%20eDp5", "Authorization=[hidden]"),
        ("%61uthorization=Basic+eDp5", "%61uthorization=[hidden]"),
        ("a=1;authorization=Basic+eDp5", "a=1;authorization=[hidden]"),
        ("x=Basic%20eDp5", "x=[hidden]"),
        ("x=basic%2520eDp5", "x=[hidden]"),
        ("Bearer%20abc", "[hidden]"),
        ("access_token=abc&offset=3", "access_token=[hidden]&offset=3"),
        ("user[password]=abc", "user[password]=[hidden]"),
        ("sasl.jaas.config=abc", "sasl.jaas.config=[hidden]"),
        ("code=abc&state=1", "code=[hidden]&state=1"),
        ("session=abc", "session=[hidden]"),
        ("zipcode=1&key=k&count=2", "zipcode=1&key=k&count=2"),
    ],
)
def test_no_secret_of_a_query_is_shown(query: str, shown: str) -> None:
    assert without_secrets(f"/topics?{query}") == f"/topics?{shown}"
