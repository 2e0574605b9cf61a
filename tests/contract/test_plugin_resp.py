"""A transport with a port of its own, as a plugin's author writes it: the protocol of Redis in less than 90 lines."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import importlib
import json
import logging
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import bcrypt
import pytest

from kafka_gateway.assembly.app import App, serve
from kafka_gateway.assembly.plugins import Plugins
from kafka_gateway.config import load

SOURCE = Path(__file__).parents[1] / "plugin_resp"
MODULE = SOURCE / "kafka_gateway_resp" / "__init__.py"
PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()
V2 = "application/vnd.kafka.v2+json"


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SOURCE))
    return importlib.import_module("kafka_gateway_resp")


@pytest.fixture
def settings() -> dict[str, Any]:
    return {}


@pytest.fixture
async def app(plugin: ModuleType, settings: dict[str, Any]) -> AsyncIterator[App]:
    plugins = Plugins(extra=[plugin], installed=False)
    values = {"port": 0, "transport.resp.port": 0, "access.log.enable": False, "errors.help": False, **settings}
    async with serve(load(plugins.config_keys()).with_values(values), plugins) as running:
        yield running


class Redis:
    """As much of a Redis client as that takes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, app: App) -> AsyncIterator[Redis]:
        reader, writer = await asyncio.open_connection("127.0.0.1", app.ports["resp"])
        try:
            yield cls(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def ask(self, *words: str | bytes) -> Any:
        parts = [word.encode() if isinstance(word, str) else word for word in words]
        lines = [b"*%d\r\n" % len(parts), *(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)]
        self.writer.write(b"".join(lines))
        return await self.receive()

    async def receive(self) -> Any:
        line = (await asyncio.wait_for(self.reader.readline(), 20)).rstrip()
        kind, rest = line[:1], line[1:]
        match kind:
            case b"*":
                return [await self.receive() for _ in range(int(rest))]
            case b"$":
                return (await self.reader.readexactly(int(rest) + 2))[:-2]
            case b":":
                return int(rest)
        return line.decode()


def test_it_is_short_and_uses_what_the_page_names() -> None:
    source = MODULE.read_text()
    assert sum(bool(line.strip()) for line in source.splitlines()) < 90
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kafka_gateway"):
            row = next((line for line in PAGE.splitlines() if line.startswith(f"| `{node.module}` |")), "")
            for each in node.names:
                assert f"`{each.name}`" in row, f"docs/plugins.md does not name {node.module}.{each.name}"
    attributes = {node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
    own = {"_server", "_max", "_serve", "_run", "_command"}
    assert {name for name in attributes if name.startswith("_")} <= own


@pytest.fixture
async def redis(app: App) -> AsyncIterator[Redis]:
    async with Redis.connect(app) as client:
        yield client


async def test_records_go_in_as_they_are_and_come_out(app: App, redis: Redis) -> None:
    assert await redis.ask("PING") == "+PONG"
    assert await redis.ask("PUBLISH", "t", b"\x00\xff\r\n") == 0  # made the topic
    async with Redis.connect(app) as other:
        assert await other.ask("SUBSCRIBE", "t") == [b"subscribe", b"t", 1]
        await redis.ask("PUBLISH", "t", b"{}")
        kind, channel, record = await other.receive()
        assert (kind, channel) == (b"message", b"t")
        assert json.loads(record)["value"] == "e30="
        assert await other.ask("PING") == "+PONG"  # while the stream goes on


async def test_errors_are_replies(redis: Redis) -> None:
    assert (await redis.ask("PUBLISH", "../x", "v")).startswith("-ERR ")
    assert (await redis.ask("SUBSCRIBE", "nothing")).startswith("-ERR ")
    assert (await redis.ask("CALL", "nonsense"))[0] == b"400"
    assert (await redis.ask("CALL", "GET /topics/nothing"))[0] == b"404"
    assert (await redis.ask("FLUSHALL")) == "-ERR no such command, or with other arguments"
    assert (await redis.ask("SUBSCRIBE", "t/stream?offset=earliest&")).startswith("-ERR ")  # is a name, and no more


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"GET / HTTP/1.1\r\n", "-ERR * and a number up to 8 was to come here"),
        (b"*-1\r\n", "-ERR * and a number up to 8 was to come here"),
        (b"*9\r\n", "-ERR * and a number up to 8 was to come here"),
        (b"*1\r\n$\xff\r\n", "-ERR $ and a number up to 1099511627776 was to come here"),
        (b"*1\r\n$99999999999\r\n", "-ERR A request has more than 20000 bytes; no more are taken (request.max.bytes)."),
        (b"*" + b"1" * 30_000, "-ERR A request has more than 20000 bytes; no more are taken (request.max.bytes)."),
    ],
)
@pytest.mark.parametrize("settings", [{"request.max.bytes": 20_000}])
async def test_what_is_no_request_ends_the_connection_and_is_no_fault(
    app: App, redis: Redis, sent: bytes, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    redis.writer.write(sent)
    assert await redis.receive() == told
    assert await asyncio.wait_for(redis.reader.read(), 20) == b""
    assert app.gateway.counters.refused.total() == 1
    assert [each for each in caplog.records if each.name == "gateway.stream_server"] == []


async def test_who_is_sent_away_while_it_sends_hears_why(plugin: ModuleType) -> None:
    """It may have a stream open, and the gateway may stop meanwhile."""
    loop, plugins = asyncio.get_running_loop(), Plugins(extra=[plugin], installed=False)
    values = {"port": 0, "transport.resp.port": 0, "embedded.enable": True}
    async with (
        serve(load(plugins.config_keys()).with_values(values), plugins) as app,
        Redis.connect(app) as redis,
    ):
        client = socket.create_connection(("127.0.0.1", app.ports["resp"]))
        client.setblocking(False)
        await redis.ask("PUBLISH", "t", "1")
        await loop.sock_sendall(client, b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nt\r\n")
        assert (await loop.sock_recv(client, 1000)).startswith(b"*3\r\n$9\r\nsubscribe")
        await loop.sock_sendall(client, b"nonsense\r\n")
        told = b""
        async with asyncio.timeout(20):
            while part := await loop.sock_recv(client, 1000):
                told += part
        assert told.startswith(b"-ERR ")
        await redis.ask("PUBLISH", "t", "1")
        for _ in range(5):  # a connection that was closed answers with a reset
            await loop.sock_sendall(client, b"x" * 10_000)
    client.close()


@pytest.fixture
def users(tmp_path: Path) -> Path:
    file = tmp_path / "users"
    file.write_text(f"ada:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n")
    return file


async def test_who_must_prove_something_does_so_soon(plugin: ModuleType, users: Path) -> None:
    plugins = Plugins(extra=[plugin], installed=False)
    values = {"authentication.method": "BASIC", "authentication.basic.file": str(users), "port": 0}
    values |= {"transport.resp.port": 0, "request.header.timeout.ms": 2000, "embedded.enable": True}
    async with (
        serve(load(plugins.config_keys()).with_values(values), plugins) as app,
        Redis.connect(app) as ada,
        Redis.connect(app) as silent,
    ):
        assert (await ada.ask("PUBLISH", "t", "1")).startswith("-ERR HTTP 401")
        assert (await ada.ask("AUTH", "ada", "wrong")).startswith("-ERR HTTP 401")
        assert await ada.ask("AUTH", "ada", "secret") == "+OK"
        assert await silent.receive() == "-ERR idle for too long"
        assert await ada.ask("PUBLISH", "t", "1") == 0
        assert app.gateway.counters.refused["authentication"] == 2


@pytest.mark.parametrize("settings", [{"access.log.enable": True}])
async def test_requests_have_their_lines_and_are_counted(
    app: App, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.access")
    app.gateway.access.enabled = True
    await redis.ask("CALL", "GET /topics?x=y")
    await redis.ask("CALL", "GET /nothing")
    await redis.ask("CALL", "nonsense")
    app.gateway.access.flush()
    lines = [line.split('"', 1)[1].rsplit(" ", 2)[0] for line in caplog.messages]
    assert lines == ['GET /topics?x=y" 200', 'GET /nothing" 404', 'nonsense " 400']
    assert all(line.startswith("127.0.0.1 - anonymous ") for line in caplog.messages)
    counted = {key: each for key, each in app.gateway.counters.requests.items() if "resp" in key}
    assert counted, app.gateway.counters.requests.keys()


@pytest.mark.parametrize("settings", [{"memory.max.bytes": 1 << 20}])
async def test_a_client_that_does_not_read_counts_and_is_given_up(app: App, redis: Redis) -> None:
    """What waits for it is in the memory budget, and it goes when that is used up."""
    record = "x" * 500_000
    assert await redis.ask("PUBLISH", "t", record) == 0
    reading, slow = await asyncio.open_connection("127.0.0.1", app.ports["resp"], limit=1024)
    reading._transport.pause_reading()  # type: ignore[attr-defined]  # so that nothing is taken from the system
    memory = app.gateway.memory
    for _ in range(40):
        slow.write(b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nt\r\n")
    async with asyncio.timeout(20):
        while not memory.given_up:
            await redis.ask("PUBLISH", "t", record)
    assert await redis.ask("PING") == "+PONG"
    async with asyncio.timeout(20):
        await memory.room()
    slow.transport.abort()


async def test_urls_in_replies_are_those_of_this_gateway(app: App, redis: Redis) -> None:
    """kafka-rest-http.md §3.8: for a transport that says no base URL, too."""
    status, _, body = await redis.ask("CALL", "POST /consumers/g", '{"name": "c", "format": "json"}', V2)
    assert (status, json.loads(body)["base_uri"]) == (b"200", f"{app.addresses[0]}/consumers/g/instances/c")
    assert (await redis.ask("CALL", "DELETE /consumers/g/instances/c", "", V2))[0] == b"204"


async def test_it_ends_with_the_gateway(plugin: ModuleType) -> None:
    plugins = Plugins(extra=[plugin], installed=False)
    config = load(plugins.config_keys()).with_values({"port": 0, "transport.resp.port": 0})
    async with contextlib.AsyncExitStack() as stack:
        async with serve(config, plugins) as app:
            redis = await stack.enter_async_context(Redis.connect(app))
            assert await redis.ask("PUBLISH", "t", "1") == 0
            await redis.ask("SUBSCRIBE", "t")
        assert await redis.receive() == "-ERR gateway is shutting down"
        assert await redis.reader.read() == b""
        assert not app.gateway.sessions


def test_pip_finds_the_gateway_that_it_depends_on_in_the_environment(tmp_path: Path) -> None:
    """An index is not asked for our name: somebody else could have it there."""
    copy = tmp_path / "plugin"
    shutil.copytree(SOURCE, copy)  # building leaves traces beside the source
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-build-isolation", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Would install kafka-gateway-resp-1.0" in done.stdout
