"""Request ids, the forms and levels of the log, its file (observability.md §3)."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.door.access_log import AccessLog
from kafka_gateway.logs.destination import Destination
from kafka_gateway.logs.levels import LEVELS
from kafka_gateway.request_ids import CURRENT, request_id
from kafka_gateway.session import Session
from tests.gateway_process import GatewayProcess
from tests.transports.conftest import Connect, gateway
from tests.transports.wire import Wire, request
from tests.waiting import PATIENCE_S, wait_until

LINES = ["time", "level", "logger", "request_id", "peer", "principal", "transport", "method", "target", "route",
         "status", "bytes_in", "bytes_out", "records", "duration_ms"]  # fmt: skip


@pytest.fixture(autouse=True)
def _levels() -> Iterator[None]:
    yield
    LEVELS.set_all("WARNING", {})


# --- ids -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shown", ["a", "trace-1/2 x", "x" * 128, '"quoted" \\'])
def test_an_id_that_can_stand_in_a_header_is_taken(shown: str) -> None:
    assert request_id(shown) == shown


@pytest.mark.parametrize(
    "shown",
    [None, "", "x" * 129, "x" * 1024 * 1024, "a\nb", "a\r\nSet-Cookie: b", "\x00", "\x1b[2J", "é", "请求", "\u202e"],
)
def test_any_other_is_replaced(shown: str | None) -> None:
    first, second = request_id(shown), request_id(shown)
    assert first != second
    assert re.fullmatch("[0-9a-f]{12}-[0-9a-f]+", first)


async def test_every_reply_has_an_id(app: App) -> None:
    url = app.addresses[0]
    async with aiohttp.ClientSession() as client:
        for path, status in (("/topics", 200), ("/topics/none", 404), ("/nowhere", 404), ("/console", 200)):
            reply = await client.get(url + path, headers={"X-Request-Id": "mine-7"})
            assert (reply.status, reply.headers["X-Request-Id"]) == (status, "mine-7"), path
        ids = {(await client.get(url + "/topics")).headers["X-Request-Id"] for _ in range(3)}
    assert len(ids) == 3


async def test_what_never_reaches_a_route_has_one_too(connect: Connect) -> None:
    wire = await connect()
    await wire.send(request("GET", "/topics", Host="other.example.com", Origin="https://evil.example"))
    assert (await wire.reply()).headers.get("x-request-id")


async def test_the_access_log_has_every_id_that_a_reply_shows() -> None:
    """Also of heads that nobody can read, and of messages that are no requests: the operator is asked by these ids."""
    lines: list[bytes] = []
    shown: dict[str, tuple[str, int]] = {}
    async with gateway(transport_websocket_enable=True, max_request_header_size=2000) as app:
        access = app.gateway.access
        logging.getLogger("gateway.access").setLevel(logging.INFO)
        access.refresh(True)
        access.write_to(lambda some, _: lines.append(some), "json")
        for what, head in {
            "400 no Host": b"GET /topics HTTP/1.1\r\n\r\n",
            "400 no colon": b"GET /topics HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
            "405 no method": b"NO\x7fWORD / HTTP/1.1\r\nHost: a\r\n\r\n",
            "431 too long": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 3000 + b"\r\n\r\n",
            "505 version": b"GET / HTTP/7.1\r\nHost: a\r\n\r\n",
            "403 page": request("POST", "/topics/t", b"{}", Origin="https://evil.example"),
            "404 route": request("GET", "/nowhere"),
        }.items():
            async with await Wire.open(app.addresses[0]) as wire:
                await wire.send(head)
                reply = await wire.reply()
            assert reply.status == int(what[:3]), (what, reply)
            shown[what] = reply.headers["x-request-id"], reply.status
        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(app.addresses[0] + "/?X-Atmosphere-SimpleRestHeaders=true") as socket,
        ):
            await socket.send_str('{"id": "1", "method": 7}')
            answer = await socket.receive_str(timeout=PATIENCE_S)
            shown["envelope"] = answer.split('"x-request-id":"')[1].split('"')[0], 400
        access.flush()
    logged = {each["request_id"]: each["status"] for each in map(json.loads, b"".join(lines).splitlines())}
    assert {what: logged.get(id_) for what, (id_, _) in shown.items()} == {
        what: status for what, (_, status) in shown.items()
    }


async def test_in_an_envelope_it_stands_in_the_headers() -> None:
    async with (
        gateway(transport_websocket_enable=True) as app,
        aiohttp.ClientSession() as client,
        client.ws_connect(app.addresses[0] + "/?X-Atmosphere-SimpleRestHeaders=true") as socket,
    ):
        head = {"id": "1", "method": "GET", "path": "/topics", "headers": {"X-Request-Id": "of-mine"}}
        await socket.send_str(json.dumps(head))
        reply = await socket.receive_str(timeout=PATIENCE_S)
    assert '"x-request-id":"of-mine"' in reply.replace(" ", "").lower()


async def test_the_line_of_an_error_names_the_request(app: App, caplog: pytest.LogCaptureFixture) -> None:
    from kafka_gateway.logs.formatters import JsonFormatter, TextFormatter

    record = logging.LogRecord("gateway.test", logging.ERROR, __file__, 1, "it failed", (), None)
    CURRENT.set(("http", "req-9"))
    assert TextFormatter().format(record).endswith("it failed [req-9]")
    line = JsonFormatter().format(record)
    assert json.loads(line)["request_id"] == "req-9"
    assert '"level":"ERROR","logger":"gateway.test"' in line  # as in lines of the access log, for who searches both


# --- the access log --------------------------------------------------------------------------------------------------


async def test_json_lines_have_all_members(app: App, topic: str) -> None:
    written: list[bytes] = []
    access = app.gateway.access
    access.refresh(True)
    logging.getLogger("gateway.access").setLevel(logging.INFO)
    access.refresh()
    access.write_to(lambda lines, count: written.append(lines), "json")
    async with aiohttp.ClientSession() as client:
        body = {"records": [{"value": 1}, {"value": 2}]}
        headers = {"Content-Type": "application/vnd.kafka.json.v2+json", "X-Request-Id": "p-1"}
        reply = await client.post(f"{app.addresses[0]}/topics/{topic}?access_token=geheim", json=body, headers=headers)
        sent = len(await reply.read())
        await client.get(app.addresses[0] + '/"\\%0a')
    access.flush()
    lines = [json.loads(line) for line in b"".join(written).splitlines()]
    assert [list(line) for line in lines] == [LINES] * 2
    produced = lines[0]
    assert produced["request_id"] == "p-1"
    assert (produced["principal"], produced["transport"]) == ("anonymous", "http")
    assert (produced["method"], produced["route"], produced["status"]) == ("POST", "/topics/{topic}", 200)
    assert (produced["records"], produced["bytes_out"]) == (2, sent)
    assert produced["bytes_in"] == len(json.dumps(body))
    assert "geheim" not in produced["target"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", produced["time"])
    assert (lines[1]["route"], lines[1]["status"] // 100) == ("", 4)


async def test_hostile_text_stays_in_its_line() -> None:
    log = AccessLog(True)
    written: list[bytes] = []
    session = Session("http", peer="127.0.0.1")
    for form in ("json", "text"):
        log.write_to(lambda lines, count: written.append(lines), form)
        for target in ("/\n", "/\udcff?x=\udc80", '/"\\', "/\u2028\x85\u2029\u202e", "/é"):
            log.add("127.0.0.1", "name\n", "GET", target, 200, 1, 0.001, session.transport)
        log.flush()
    as_json, as_text = written
    assert [json.loads(line)["target"] for line in as_json.decode().splitlines()][3:] == [
        "/\u2028\x85\u2029\u202e",
        "/é",
    ]
    assert as_text.count(b"\n") == 5
    assert all(line.decode().isprintable() for line in as_text.split(b"\n"))


# --- levels ----------------------------------------------------------------------------------------------------------


async def test_levels_change_while_it_runs(app: App) -> None:
    url = app.addresses[0] + "/admin/loggers"
    async with aiohttp.ClientSession() as client:
        before = (await (await client.get(url)).json())["loggers"]
        assert "gateway.access" in before
        reply = await client.put(f"{url}/gateway.host", json={"level": "debug"})
        assert reply.status == 204
        assert logging.getLogger("gateway.host").isEnabledFor(logging.DEBUG)
        assert (await (await client.get(url)).json())["loggers"]["gateway.host"] == "DEBUG"
        for name, body in (("gateway.host", {"level": "LOUD"}), ("nobody", {"level": "INFO"})):
            reply = await client.put(f"{url}/{name}", json=body)
            assert reply.status == 422
            assert (await reply.json())["message"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"\x18p\xff", 400), (b"{", 400), (b"[]", 400), (b'"DEBUG"', 400), (b"null", 422), (b"{}", 422),
        (b'{"level":null}', 422), (b'{"level":{}}', 400), (b'{"level":1}', 422), (b'{"level":"INFO","more":1}', 422),
    ],
)  # fmt: skip
async def test_a_level_that_cannot_be_read_is_told(app: App, body: bytes, status: int) -> None:
    async with aiohttp.ClientSession() as client:
        headers = {"Content-Type": "application/json"}
        reply = await client.put(app.addresses[0] + "/admin/loggers/gateway.host", data=body, headers=headers)
        assert reply.status == status
        assert (await reply.json())["message"]


async def test_the_access_log_follows_its_level(app: App) -> None:
    app.gateway.access.refresh(True)
    LEVELS.set("gateway.access", "INFO")
    assert app.gateway.access.enabled
    LEVELS.set("gateway.access", "WARNING")
    assert not app.gateway.access.enabled


def test_levels_of_single_loggers_come_and_go() -> None:
    LEVELS.set_all("INFO", {"gateway.kafka": "DEBUG"})
    assert logging.getLogger("gateway.kafka.producer").isEnabledFor(logging.DEBUG)
    assert not logging.getLogger("gateway.door").isEnabledFor(logging.DEBUG)
    LEVELS.set_all("WARNING", {})
    assert not logging.getLogger("gateway.kafka.producer").isEnabledFor(logging.INFO)
    LEVELS.toggle()
    assert logging.getLogger("gateway.door").isEnabledFor(logging.DEBUG)
    LEVELS.toggle()
    assert not logging.getLogger("gateway.door").isEnabledFor(logging.INFO)


# --- the file --------------------------------------------------------------------------------------------------------


def test_a_file_that_was_moved_away_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "gateway.log"
    log = Destination(str(path))
    log.open()
    log.write(b"one\n")
    path.rename(tmp_path / "gateway.log.1")
    log.write(b"two\n")
    log.reopen()
    log.write(b"three\n")
    log.close()
    assert (tmp_path / "gateway.log.1").read_bytes() == b"one\ntwo\n"
    assert path.read_bytes() == b"three\n"


def test_a_full_disk_loses_lines_and_says_so_once(capfd: pytest.CaptureFixture[str]) -> None:
    log = Destination("/dev/full")
    log.open()
    for _ in range(100):
        log.write(b'{"a":1}\n')
    told = capfd.readouterr().err.splitlines()
    assert len(told) == 1
    assert "No space left on device" in told[0]


def test_what_was_lost_is_told_when_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "gateway.log"
    log = Destination(str(path))
    log.open()
    put = Destination._put

    def full(self: Destination, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Destination, "_put", full)
    log.write(b'{"a":1}\n', 3)
    monkeypatch.setattr(Destination, "_put", put)
    log.write(b'{"a":2}\n')
    log.close()
    note, line = path.read_text().splitlines()
    assert json.loads(note)["message"] == "3 lines of the log were lost"
    assert line == '{"a":2}'


def test_a_line_begins_on_its_own_whoever_left_half_of_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk takes half a line of one worker; others write to the same file, also after a new start."""
    path = tmp_path / "gateway.log"
    path.write_text("of a process that was kil")
    one, other = Destination(str(path), shared=True), Destination(str(path), shared=True)
    one.open()
    other.open()
    write, room = os.write, [10]

    def nearly_full(file: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        taken = write(file, data[: room[0]])
        room[0] -= taken
        return taken

    monkeypatch.setattr(os, "write", nearly_full)
    one.write(b"first and more\n")
    monkeypatch.setattr(os, "write", write)
    other.write(b"second\n")
    one.write(b"third\n")
    one.reopen()
    one.write(b"fourth\n")
    one.close()
    other.close()
    lines = path.read_text().splitlines()
    assert lines[:3] == ["of a process that was kil", "first and", "second"]
    assert lines[3].endswith("1 lines of the log were lost")
    assert lines[4:] == ["third", "fourth"]


@pytest.mark.slow
def test_a_process_with_json_logs(tmp_path: Path) -> None:
    """Every line of the file is JSON, whatever happens; SIGUSR1 changes the level, SIGHUP takes a new file."""
    path = tmp_path / "gateway.log"
    with GatewayProcessWithFile(path) as gateway:
        import urllib.request

        for each in range(3):
            asked = urllib.request.Request(f"{gateway.url}/topics", headers={"X-Request-Id": f"r-{each}"})
            urllib.request.urlopen(asked, timeout=5).read()
        os.kill(gateway.pid, signal.SIGUSR1)
        _wait_for(path, '"log.level is DEBUG now')
        _wait_for(path, '"r-2"')
        path.rename(tmp_path / "old.log")
        os.kill(gateway.pid, signal.SIGHUP)
        _wait_for(path, "the configuration was read again")
        assert gateway.stop() == 0
    lines = (tmp_path / "old.log").read_text().splitlines() + path.read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert {"r-0", "r-1", "r-2"} <= {each.get("request_id") for each in events if each["logger"] == "gateway.access"}
    assert {tuple(each)[:3] for each in events} == {("time", "level", "logger")}


class GatewayProcessWithFile(GatewayProcess):
    """Its address stands in the file."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"log.file={path}", "log.format=json", "access.log.enable=true")
        self._path = path

    def wait_for(self, pattern: str, timeout_s: float = PATIENCE_S) -> re.Match[str]:
        if "Listening" in pattern:
            return _wait_for(self._path, r"Listening on (http://[^\s,\"]+)", timeout_s)
        return super().wait_for(pattern, timeout_s)


def _wait_for(path: Path, pattern: str, timeout_s: float = PATIENCE_S) -> re.Match[str]:
    def text() -> str:
        return path.read_text() if path.exists() else ""

    found: re.Match[str] = wait_until(
        lambda: re.search(pattern, text()), timeout_s, what=lambda: f"{pattern!r} in {text()}"
    )
    return found


def test_a_line_may_come_while_another_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal's handler that logs is called in the middle of whatever the thread does."""
    destination = Destination(str(tmp_path / "log"))
    destination.open()
    put = destination._put

    def interrupted(data: bytes) -> None:
        monkeypatch.setattr(destination, "_put", put)
        destination.write(b"inner\n")
        put(data)

    monkeypatch.setattr(destination, "_put", interrupted)
    writing = threading.Thread(target=destination.write, args=(b"outer\n",), daemon=True)
    writing.start()
    writing.join(5)
    assert not writing.is_alive()
    assert (tmp_path / "log").read_bytes() == b"inner\nouter\n"
