"""``authorization.file`` in a running gateway, ``--may``, quotas, and the audit log (security.md §3, §5, §7)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import re
import socket
import time
from collections.abc import AsyncIterator
from io import StringIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.assembly.plugins import Plugins
from kafka_gateway.authorizers.file import FileAuthorizer
from kafka_gateway.commands.command import run_command
from kafka_gateway.commands.may import may
from kafka_gateway.config import Config, ConfigError, load
from kafka_gateway.door.access_log import refresh_all
from kafka_gateway.door.audit import Audit, AuditLine
from kafka_gateway.door.authorization import Authorization
from kafka_gateway.door.quotas import Allowance
from kafka_gateway.messages import Request
from kafka_gateway.session import Principal, Session
from tests.bench.instructions import instructions
from tests.door.conftest import proof
from tests.keys import BUILTIN_KEYS
from tests.rights.conftest import EVERYTHING_ON
from tests.transports.conftest import gateway
from tests.waiting import until

SECURITY = Path(__file__).parents[2] / "docs" / "security.md"
V2 = {"Content-Type": "application/vnd.kafka.json.v2+json"}
MANAGED = {"Content-Type": "application/vnd.kafka.v2+json"}
RECORDS = b'{"records":[{"value":1}]}'


def configured(**values: Any) -> Config:
    given = {name.replace("_", "."): value for name, value in values.items()}
    return load(BUILTIN_KEYS).with_values({"errors.help": False, **given})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rules"
    path.write_text("allow User:* read topic:orders\n")
    return path


@pytest.fixture
async def app(file: Path, settings: dict[str, Any]) -> AsyncIterator[App]:
    async with gateway(**{**EVERYTHING_ON, "authorization.file": str(file), **settings}) as running:
        yield running


async def status(app: App, target: str = "/topics/orders/partitions", **headers: str) -> int:
    async with aiohttp.ClientSession(app.addresses[0]) as client, client.get(target, headers=headers) as reply:
        return reply.status


def put(file: Path, text: str) -> None:
    new = file.with_suffix(".new")
    new.write_text(text)
    os.replace(new, file)


async def replace(app: App, file: Path, text: str) -> None:
    """Returns when the gateway has read the new rules."""
    authorization = app.gateway.admission.authorization
    before = authorization.changes
    put(file, text)
    await until(lambda: authorization.changes > before)


async def test_the_file_is_read_again_when_it_changes(app: App, file: Path) -> None:
    async with aiohttp.ClientSession(app.addresses[0]) as client:  # one session, so that nothing is forgotten with it
        assert [(await client.get("/topics/orders/partitions")).status for _ in range(2)] == [200, 200]
        await replace(app, file, "allow User:* read topic:second\n")
        assert (await client.get("/topics/orders/partitions")).status == 403


async def test_a_faulty_file_changes_nothing_and_is_told(
    app: App, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(file, "allow User:* read topic:orders\nalow User:* read topic:*\ndeny\n")
    await until(lambda: "the changed file has 2 faults" in caplog.text)
    assert b"\nkafka_gateway_authorization_stale 1.0\n" in (await app.gateway.metrics.render(None))[0]
    assert "line 2, column 1: 'alow' is not allow, deny or quota (did you mean allow?)" in caplog.text
    assert "line 3, column 5: a principal is expected here" in caplog.text
    assert await status(app) == 200
    os.unlink(file)
    await until(lambda: "cannot be read" in caplog.text)
    assert await status(app) == 200
    await replace(app, file, "")
    assert await status(app) == 403
    assert "has no rule, so nobody may do anything" in caplog.text
    assert b"\nkafka_gateway_authorization_stale 0.0\n" in (await app.gateway.metrics.render(None))[0]


async def test_the_operator_may_have_it_read_at_once(app: App, file: Path) -> None:
    seen = app.gateway.admission.authorization.changes
    app.gateway.admission.reload()
    await until(lambda: app.gateway.admission.authorization.changes > seen)


def test_a_faulty_file_is_refused_at_start_with_all_faults(file: Path) -> None:
    file.write_bytes(b"allow nobody read topic:t\n# caf\xe9\nallow User:a raed topic:t\n")
    config = configured(authorization_file=str(file), authorization_super_users="admin,User:*")
    with pytest.raises(ConfigError) as refused:
        Plugins(installed=False).authorizers(config)
    said = [str(fault) for fault in refused.value.faults]
    assert len(said) == 5
    assert any("line 1, column 7" in each for each in said)
    assert any("line 2, column 6: the byte 0xe9 is not UTF-8" in each for each in said)
    assert any("line 3, column 14" in each for each in said)
    assert any("'admin' is not KIND:NAME" in each for each in said)
    assert any("'User:*' would be everybody" in each for each in said)


def test_what_was_read_is_told_by_check(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is empty by mistake is no fault, and would let nobody in."""
    file.write_text(f"{set_ups()['team']}quota User:shop streams=5\n")
    users = tmp_path / "users"
    users.write_text(documented_users())
    passwords = tmp_path / "passwords"
    passwords.write_text("User:ann a s3cret\n")
    passwords.chmod(0o600)
    given = [
        "authentication.method=BASIC", f"authentication.basic.file={users}", f"authorization.file={file}",
        f"kafka.credentials.mtls.map={passwords}", "plugins.installed=false", "embedded.enable=true",
    ]  # fmt: skip
    assert run_command(["--check", *given]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == (
        "ok   read: authentication.basic.file has 2 users; authorization.file has 3 rules for 2 principals and "
        "1 quota; kafka.credentials.mtls.map has 1 principal"
    )
    assert run_command(["--check", "plugins.installed=false"]) == 0
    assert "read:" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "more", "answer", "code"),
    [
        (("User:a", "read", "topic:orders"), ((), ()), "yes: line 1: allow User:* read topic:orders\n", 0),
        (("User:a", "write", "topic:orders"), ((), ()), "no: no line allows it\n", 1),
        (("User:a", "write", "topic:x"), (("r",), ()), "yes: line 2: allow Role:r write topic:x\n", 0),
        (("User:a", "read", "topic:t.u"), ((), ("t=u",)), "yes: line 3: allow User:* read topic:t.${claim:t}\n", 0),
        (("User:root", "alter", "cluster"), ((), ()), "yes: authorization.super.users\n", 0),
        (("user:a", "read", "topic:orders"), ((), ()), "'user' is not a kind of principal (did you mean User?)", 2),
        (("a", "read", "topic:orders"), ((), ()), "'a' is not KIND:NAME, such as User:alice", 2),
        (("User:a", "read", "cluster"), ((), ()), "'read' is not an operation on a cluster: ", 2),
        (("User:a", "read", "topic"), ((), ()), "a name is missing: topic:NAME", 2),
        (("Role:r", "write", "topic:x"), ((), ()), "--may User:NAME write topic:x --role r", 2),
        (
            ("User:a", "read", "gateway:bogus"),
            ((), ()),
            "no part called bogus, if no plugin has: its own are console,",
            1,
        ),
    ],
)
def test_may(
    file: Path, asked: tuple[str, ...], more: tuple[tuple[str, ...], tuple[str, ...]], answer: str, code: int
) -> None:
    file.write_text(
        "allow User:* read topic:orders\nallow Role:r write topic:x\nallow User:* read topic:t.${claim:t}\n"
    )
    config = configured(authorization_file=str(file), authorization_super_users="User:root")
    out, errors = StringIO(), StringIO()
    assert may(config, Plugins(installed=False), asked, *more, out, errors) == code
    if answer.endswith("\n"):
        assert out.getvalue() == answer
    else:
        assert answer in (errors if code == 2 else out).getvalue()


def set_ups() -> dict[str, str]:
    """The rules of the worked set-ups of the page, by their names."""
    return dict(re.findall(r"<!-- set-up: (\w+) -->\n```\n(.*?)```", SECURITY.read_text(), re.DOTALL))


def documented_users() -> str:
    """The users of section 1 of the page."""
    written = re.search(r"<!-- users -->\n```\n(.*?)```", SECURITY.read_text(), re.DOTALL)
    assert written is not None
    return written[1]


TENANT = Principal("ann", attributes={"tenant": "acme"})
ANYBODY = Principal("anonymous")


@pytest.mark.parametrize(
    ("name", "principal", "need", "allowed"),
    [
        ("oidc", TENANT, ("write", "topic", "acme.orders"), True),
        ("oidc", TENANT, ("read", "group", "acme.g"), True),
        ("oidc", TENANT, ("write", "topic", "acme.audit"), False),
        ("oidc", TENANT, ("read", "topic", "other.orders"), False),
        ("oidc", Principal("eve"), ("read", "topic", ".orders"), False),
        ("feed", ANYBODY, ("read", "topic", "public.news"), True),
        ("feed", ANYBODY, ("write", "topic", "public.news"), False),
        ("feed", ANYBODY, ("read", "gateway", "console"), False),
        ("machines", Principal("sensor-7"), ("write", "topic", "measured.sensor-7"), True),
        ("machines", Principal("sensor-7"), ("write", "topic", "measured.sensor-8"), False),
        ("machines", Principal("sensor-7"), ("read", "topic", "measured.sensor-7"), False),
        ("machines", Principal("reporter"), ("read", "topic", "measured.sensor-7"), True),
    ],
)
def test_the_set_ups_of_the_page(
    file: Path, name: str, principal: Principal, need: tuple[str, str, str], allowed: bool
) -> None:
    file.write_text(set_ups()[name])
    authorizer = FileAuthorizer(configured(authorization_file=str(file)))
    assert authorizer.faults() == []
    assert authorizer.judge(principal)(*need).allowed is allowed


async def test_five_minutes_as_the_page_says(tmp_path: Path) -> None:
    """One team may read orders, nobody else may write: users, roles and rules are those of section 1."""
    (tmp_path / "rules").write_text(set_ups()["team"])
    (tmp_path / "users").write_text(documented_users())
    settings: dict[str, Any] = {
        **EVERYTHING_ON,
        "authentication.method": "BASIC",
        "authentication.basic.file": str(tmp_path / "users"),
        "authorization.file": str(tmp_path / "rules"),
    }
    async with gateway(**settings) as app, aiohttp.ClientSession(app.addresses[0]) as client:

        async def status(user: str, method: str, path: str) -> int:
            body = RECORDS if method == "POST" else None
            headers = {**proof(user, f"{user}-secret"), **(V2 if body else {})}
            async with client.request(method, path, data=body, headers=headers) as reply:
                return reply.status

        assert await status("shop", "POST", "/topics/orders") == 200
        assert await status("shop", "GET", "/topics/orders/stream?until=end") == 403
        assert await status("ann", "GET", "/topics/orders/stream?until=end") == 200
        assert await status("ann", "POST", "/topics/orders") == 403
        assert await status("ann", "GET", "/topics/second/stream?until=end") == 403
        assert await status("eve", "GET", "/topics/orders/stream?until=end") == 401


async def test_the_public_feed_as_the_page_says(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.write_text(set_ups()["feed"])
    settings = {**EVERYTHING_ON, "embedded.topics": "public.news,private", "authorization.file": str(rules)}
    async with gateway(**settings) as app, aiohttp.ClientSession(app.addresses[0]) as client:
        async with client.get("/topics/public.news/stream?until=end") as reply:
            assert reply.status == 200
        async with client.get("/topics/private/stream?until=end") as reply:
            assert reply.status == 403
        async with client.post("/topics/public.news", data=RECORDS, headers=V2) as reply:
            assert reply.status == 403
        async with client.get("/console") as reply:
            assert reply.status == 403


# --- what it costs ---------------------------------------------------------------------------------------------------


def test_a_remembered_decision_costs_some_instructions_however_many_rules_there_are(file: Path) -> None:
    """40 of the interpreter's take less than half a microsecond on the machine that docs/performance.md speaks of."""
    lines = [f"allow User:u{number} all topic:t{number}.*" for number in range(1000)]
    file.write_text("\n".join([*lines, "allow User:alice write topic:orders"]))
    authorizer = FileAuthorizer(configured(authorization_file=str(file)))
    assert authorizer.faults() == []
    rights = Authorization([authorizer]).rights_of(Principal("alice"))
    assert rights.allows("write", "topic", "orders")

    def decide() -> None:
        rights.decide("write", "topic", "orders")

    assert asyncio.run(instructions(decide)) <= 40


def test_what_is_remembered_is_bounded(file: Path) -> None:
    authorizer = FileAuthorizer(configured(authorization_file=str(file)))
    authorizer.faults()
    rights: Any = Authorization([authorizer]).rights_of(Principal("alice"))
    for number in range(5000):
        rights.allows("read", "topic", f"made-up-{number}")
    assert len(rights.remembered) <= 1000


# --- quotas ----------------------------------------------------------------------------------------------------------


async def test_requests_above_the_quota_are_told_when_to_come_back(app: App, file: Path) -> None:
    await replace(app, file, "allow User:* read topic:orders\nquota User:anonymous requests.per.sec=1\n")
    async with aiohttp.ClientSession(app.addresses[0]) as client:
        replies = await asyncio.gather(*(client.get("/topics/orders/partitions") for _ in range(6)))
        refused = [each for each in replies if each.status == 429]
        assert refused
        assert int(refused[0].headers["Retry-After"]) >= 1
        assert "quota.requests.per.sec" in await refused[0].text()
        for reply in replies:
            assert reply.headers["X-RateLimit-Limit"] == "1"
            assert reply.headers["X-RateLimit-Remaining"] == "0"
            assert int(reply.headers["X-RateLimit-Reset"]) >= 1


async def test_who_has_a_quota_sees_what_is_left(app: App, file: Path) -> None:
    await replace(app, file, "allow User:* read topic:orders\nquota User:anonymous requests.per.sec=100\n")
    async with aiohttp.ClientSession(app.addresses[0]) as client:
        for most in (99, 100):
            async with client.get("/topics/orders/partitions") as reply:
                assert reply.headers["X-RateLimit-Limit"] == "100"
                assert most - 2 <= int(reply.headers["X-RateLimit-Remaining"]) <= most
    await replace(app, file, "allow User:* read topic:orders\n")
    async with aiohttp.ClientSession(app.addresses[0]) as client, client.get("/topics/orders/partitions") as reply:
        assert "X-RateLimit-Limit" not in reply.headers


@pytest.mark.parametrize("settings", [{"quota.produce.bytes.per.sec": 1000}])
async def test_what_is_produced_is_counted_in_bytes(app: App, file: Path) -> None:
    await replace(app, file, "allow User:* write topic:orders\n")
    body = json.dumps({"records": [{"value": "x" * 600}]})
    async with aiohttp.ClientSession(app.addresses[0]) as client:
        seen = []
        for _ in range(3):
            async with client.post("/topics/orders", data=body, headers=V2) as reply:
                seen.append(reply.status)
    assert seen[0] == 200
    assert seen[-1] == 429


@pytest.mark.parametrize("settings", [{"quota.produce.bytes.per.sec": 1000}])
async def test_a_body_without_end_is_slowed_down_and_loses_nothing(app: App, file: Path) -> None:
    await replace(app, file, "allow User:* write topic:orders\n")
    record = json.dumps({"value": {"type": "STRING", "data": "x" * 460}}).encode()

    async def body() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield record

    began = asyncio.get_running_loop().time()
    session = await app.gateway.open_session("test", {})
    target, headers = "/v3/clusters/any/topics/orders/records", {"content-type": "application/json"}
    reply = await app.gateway.dispatch(Request(session, "POST", target, headers=headers, body=body()))
    assert not isinstance(reply.body, bytes)
    content = b"".join([part.data async for part in reply.body])
    assert [json.loads(line)["error_code"] for line in content.splitlines()] == [200] * 5
    # 2,500 bytes, of which a second's 1,000 go at once.
    assert asyncio.get_running_loop().time() - began > 1.2


@pytest.mark.parametrize("settings", [{"quota.produce.bytes.per.sec": 1000, "access.log.enable": True}])
async def test_a_client_that_leaves_while_it_is_slowed_down_is_missed(
    app: App, file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection is not read then: it stayed half closed, without a line in the access log. Nor is anything written
    to it here, which would tell."""
    monkeypatch.setattr("kafka_gateway.door.absence._EVERY_S", 0.02)
    caplog.set_level(logging.INFO, "gateway.access")
    refresh_all()
    await replace(app, file, "allow User:* write topic:orders\n")
    head = "POST /v3/clusters/any/topics/orders/records HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    record = '{"value":{"type":"STRING","data":"'
    host, port = app.addresses[0].removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.setblocking(False)
        client.send(f"{head}Content-Length: 10000000\r\n\r\n{record}".encode())

        async def is_full() -> bool:
            with contextlib.suppress(BlockingIOError):
                client.send(b"x" * 65_536)
            return any(each._reading_paused for server in app.host._servers.values() for each in server.connections)

        await until(is_full)
    await until(lambda: not app.gateway.sessions)
    await until(lambda: any(each.name == "gateway.access" for each in caplog.records))
    (line,) = [each.getMessage() for each in caplog.records if each.name == "gateway.access"]
    assert " 499 " in line


@pytest.mark.parametrize("settings", [{"quota.streams": 1}])
async def test_so_many_streams_and_no_more(app: App) -> None:
    async with (
        aiohttp.ClientSession(app.addresses[0]) as client,
        client.get("/topics/orders/stream") as one,
        client.get("/topics/orders/stream") as two,
    ):
        assert (one.status, two.status) == (200, 429)


@pytest.mark.parametrize("settings", [{"quota.connections": 2}])
async def test_so_many_connections_and_no_more(app: App) -> None:
    async with (
        aiohttp.ClientSession(app.addresses[0]) as client,
        client.get("/topics/orders/stream") as one,
        client.get("/topics/orders/stream") as two,
    ):
        assert (one.status, two.status) == (200, 200)
        assert await status(app) == 429

    async def served() -> bool:
        return await status(app) == 200

    await until(served)


def test_buckets_are_shared_and_kept_when_other_limits_change() -> None:
    allowance = Allowance(Principal("a"), {"requests.per.sec": 1})
    bucket = allowance.requests
    assert bucket is not None
    assert bucket.take(1, time.monotonic())
    assert not bucket.take(1, time.monotonic())
    allowance.set({"requests.per.sec": 1, "streams": 5})
    assert allowance.requests is bucket
    assert not bucket.take(1, time.monotonic())
    allowance.set({})
    assert allowance.requests is None


@pytest.mark.parametrize("settings", [{"quota.consume.bytes.per.sec": 2000}])
async def test_a_stream_above_the_quota_is_slowed_down_and_loses_nothing(app: App, file: Path) -> None:
    await replace(app, file, "allow User:* read,write topic:orders\n")
    records = json.dumps({"records": [{"value": "x" * 500, "partition": 0} for _ in range(8)]})
    async with aiohttp.ClientSession(app.addresses[0]) as client:
        async with client.post("/topics/orders", data=records, headers=V2) as reply:
            assert reply.status == 200
        target = "/topics/orders/stream?offset=earliest&format=json&limit=16"
        async with client.get(target, headers={"Accept": "application/x-ndjson"}) as reply:
            seen = b""
            async with asyncio.timeout(30):
                while seen.count(b'"value"') < 8:
                    seen += await reply.content.readany()
                began = asyncio.get_running_loop().time()
                async with client.post("/topics/orders", data=records, headers=V2) as produced:
                    assert produced.status == 200
                while seen.count(b'"value"') < 16:
                    seen += await reply.content.readany()
            assert asyncio.get_running_loop().time() - began > 0.5


@pytest.mark.parametrize("settings", [{"quota.consume.bytes.per.sec": 1000}])
async def test_only_records_count_as_read_and_only_reads_are_refused(app: App, file: Path) -> None:
    """A page of metrics has more bytes than the quota. Whoever has used it up may commit and leave."""
    await replace(
        app, file, "allow User:* read gateway:metrics\nallow User:* read,write topic:*\nallow User:* read group:*\n"
    )
    records = json.dumps({"records": [{"value": "x" * 3000, "partition": 0}]})
    async with aiohttp.ClientSession(app.addresses[0]) as client:

        async def ask(method: str, target: str, data: str = "", accept: str = "*/*") -> int:
            headers = {**(V2 if target == "/topics/orders" else MANAGED), "Accept": accept}
            async with client.request(method, target, data=data, headers=headers) as reply:
                await reply.read()
                return reply.status

        read = "/consumers/g/instances/c/records", "", V2["Content-Type"]
        assert await ask("POST", "/topics/orders", records) == 200
        options = '{"name":"c","format":"json","auto.offset.reset":"earliest","auto.commit.enable":"false"}'
        assert await ask("POST", "/consumers/g", options) == 200
        assert await ask("POST", "/consumers/g/instances/c/subscription", '{"topics":["orders"]}') == 204
        assert await ask("GET", "/metrics") == 200
        assert await ask("GET", *read) == 200, "the metrics are no records"
        assert await ask("GET", *read) == 429
        assert await ask("POST", "/consumers/g/instances/c/offsets") == 200
        assert await ask("DELETE", "/consumers/g/instances/c") == 204


# --- the audit log ---------------------------------------------------------------------------------------------------


async def test_the_audit_log(tmp_path: Path, file: Path) -> None:
    path = tmp_path / "audit.jsonl"
    put(file, "allow User:* read topic:orders\nallow User:* read group:g\n")
    settings = {**EVERYTHING_ON, "authorization.file": str(file), "audit.log": str(path)}
    async with gateway(**settings) as app, aiohttp.ClientSession(app.addresses[0]) as client:
        for _ in range(3):
            async with client.get("/topics/orders/partitions") as reply:
                assert reply.status == 200
        async with client.post("/topics/orders?access_token=hidden", data=RECORDS, headers=V2) as reply:
            assert reply.status == 403
        async with client.get("/topics/orders/stream?until=end") as reply:
            await reply.read()
        async with client.post("/consumers/g", data='{"name":"c"}', headers=MANAGED) as reply:
            assert reply.status == 200
        async with client.delete("/consumers/g/instances/c", headers=MANAGED) as reply:
            assert reply.status == 204
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    told = [(each["operation"], each["resource"], each["allowed"], each.get("count", 0)) for each in lines]
    assert told.count(("describe", "topic:orders", True, 0)) == 1
    assert ("describe", "topic:orders", True, 2) in told
    assert ("write", "topic:orders", False, 0) in told
    assert ("open", "stream", True, 0) in told
    assert ("create", "instances of group:g", True, 0) in told
    assert ("delete", "instances of group:g", True, 0) in told
    assert ("close", "stream", True, 0) in told
    allowed = next(each for each in lines if each["operation"] == "describe")
    assert allowed["rule"] == "line 1: allow User:* read topic:orders"
    refused = next(each for each in lines if not each["allowed"])
    assert refused["rule"] == "", "no line has decided, which is told, too"
    assert allowed["principal"] == "User:anonymous"
    assert allowed["request"] == "GET /topics/orders/partitions"
    assert "hidden" not in path.read_text()
    assert oct(path.stat().st_mode & 0o777) in ("0o640", "0o600")


def test_a_full_disk_is_told_once_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was told with every bundle; and of what lay in the disk's last room a half line was left."""
    path, write = tmp_path / "audit.jsonl", os.write
    room = [10]

    def nearly_full(file: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken, room[0] = room[0], 0
        return write(file, data[:taken])

    session = Session("test")
    writer = Audit(str(path))._writer
    assert writer is not None
    writer._file.open()
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", nearly_full)
        for number in range(50):
            writer.put(AuditLine("now", str(session.principal), "", "test", "alter", f"topic:{number}", True, ""))
            writer._write()
    writer.put(AuditLine("now", str(session.principal), "", "test", "alter", "topic:last", True, ""))
    writer._write()
    assert [record.message for record in caplog.records] == [
        f"audit.log: {path} cannot be written: No space left on device; 1 lines are lost"
    ]
    half, *lines = path.read_text().splitlines()
    assert len(half) == 10
    assert [json.loads(line).get("dropped") for line in lines] == [50, None]


def test_lines_that_find_no_room_are_counted(tmp_path: Path) -> None:
    audit = Audit(str(tmp_path / "log"))
    session = Session("test")
    for number in range(10_100):  # nobody writes yet
        audit.decided(session, ("alter", "topic", str(number)), True, "", "")
    assert audit.dropped == 100

    async def write() -> None:
        async with audit.writing():
            pass

    asyncio.run(write())
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 10_001
    assert json.loads(lines[-1])["dropped"] == 100
