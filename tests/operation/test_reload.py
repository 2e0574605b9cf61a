"""SIGHUP: what changes, what does not, and that a faulty file changes nothing (observability.md §6)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from kafka_gateway.assembly.app import App, serve
from kafka_gateway.assembly.plugins import Plugins
from kafka_gateway.assembly.reload import Reload
from kafka_gateway.commands.run import on_the_loop
from kafka_gateway.config import Config, load
from kafka_gateway.request_ids import CURRENT
from tests import loop_watch as watch
from tests.operation.scraped import scrape
from tests.waiting import until

BASE = (
    "port=0\naccess.log.enable=false\nembedded.enable=true\nembedded.topics=in,in2,out\nbridge.sink.allow=127.0.0.1\n"
)


class Gateway:
    """A gateway of a file, which `write` changes and `reload` has read again."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.plugins = Plugins(installed=False)
        self.app: App
        self.again: Reload

    async def reload(self) -> bool:
        """Whether the file was taken. Making all routes anew takes a busy machine some time, as a start does."""
        with watch.paused():
            return await self.again()

    def read(self) -> Config:
        return load(self.plugins.config_keys(), self.file, checks=(self.plugins.faults,))

    def write(self, text: str) -> None:
        self.file.write_text(BASE + text)

    @property
    def url(self) -> str:
        return self.app.addresses[0]


@contextlib.asynccontextmanager
async def running(tmp_path: Path, text: str = "") -> AsyncIterator[Gateway]:
    gateway = Gateway(tmp_path / "gateway.properties")
    gateway.write(text)
    config = gateway.read()
    async with contextlib.AsyncExitStack() as stack:
        with watch.paused():  # the start may take its time
            app = await stack.enter_async_context(serve(config, gateway.plugins))
        gateway.app = app
        gateway.again = Reload(app.gateway, config, gateway.read)
        yield gateway


async def status(url: str, method: str = "GET", **more: object) -> int:
    async with aiohttp.ClientSession() as client, client.request(method, url, **more) as reply:  # type: ignore[arg-type]
        return reply.status


async def test_lists_and_rates_follow(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        assert await status(gateway.url + "/brokers") == 200
        gateway.write("api.endpoints.blocklist=" + _names_of(gateway, "/brokers") + "\n")
        assert await gateway.reload()
        assert await status(gateway.url + "/brokers") == 404
        gateway.write("rate.limit.enable=true\nrate.limit.permits.per.sec=1\n")
        assert await gateway.reload()
        assert {await status(gateway.url + "/brokers") for _ in range(4)} == {200, 429}
        gateway.write("")
        assert await gateway.reload()
        assert {await status(gateway.url + "/brokers") for _ in range(4)} == {200}


def _names_of(gateway: Gateway, template: str) -> str:
    return ",".join({route.name for route in gateway.app.gateway.router.routes if route.template == template})


async def test_origins_and_quotas_follow(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        page = {"Origin": "https://app.example", "Content-Type": "application/vnd.kafka.json.v2+json"}
        body = '{"records":[{"value":1}]}'
        assert await status(gateway.url + "/topics/in", "POST", headers=page, data=body) == 403
        gateway.write("access.control.allow.origin=https://app.example\n")
        assert await gateway.reload()
        assert await status(gateway.url + "/topics/in", "POST", headers=page, data=body) == 200
        gateway.write("quota.requests.per.sec=1\n")
        assert await gateway.reload()
        assert await status(gateway.url + "/topics/in", "POST", headers=page, data=body) == 403
        async with aiohttp.ClientSession() as client:  # a principal that has nothing open is forgotten
            assert 429 in [(await client.get(gateway.url + "/topics")).status for _ in range(4)]


async def test_a_faulty_file_changes_nothing_and_all_of_it_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as gateway:
        gateway.write(
            "rate.limit.enable=true\nrate.limit.permits.per.sec=1\nno.such.key=1\nquota.streams=many\n"
            "bridge.producer.a.path=/a\n"
        )
        assert not await gateway.reload()
        gateway.write("rate.limit.enable=true\napi.endpoints.blocklist=nothing.like.it\nbridge.producer.a.path=/a\n")
        assert not await gateway.reload()
        gateway.write("no.such.key=1\n")
        assert not await gateway.reload()
        told = caplog.text
        for part in (
            "no.such.key",
            "quota.streams",
            "nothing.like.it",
            "bridge.producer.a.topic",
            "the configuration has 1 fault; nothing was changed",
        ):
            assert part in told, part
        assert {await status(gateway.url + "/topics") for _ in range(4)} == {200}
        counted = await scrape(gateway.url)
        assert counted.value("kafka_gateway_config_reloads_total", result="refused") == 3
        assert counted.value("kafka_gateway_config_reloads_total", result="taken") == 0


async def test_what_needs_a_start_is_named_and_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway")
    async with running(tmp_path) as gateway:
        gateway.write("requests.max=1\nlog.level=INFO\nquota.streams=5\n")
        assert await gateway.reload()
        assert "take effect with the next start only: requests.max" in caplog.text
        assert "changed: log.level, quota.streams;" in caplog.text
        caplog.clear()
        assert await gateway.reload()
        assert "its properties are the same; files of rules, users and certificates are read, too" in caplog.text
        assert gateway.app.gateway.is_full is False


async def test_what_a_signal_begins_belongs_to_no_request() -> None:
    """The signal comes while a request is served: its lines of the log would have that request's id."""
    seen: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    handler = on_the_loop(asyncio.get_running_loop(), lambda: seen.set_result(CURRENT.get()))
    before = CURRENT.set(("http", "of-somebody"))
    handler(1, None)
    CURRENT.reset(before)
    assert await seen == ("", "")


async def test_bridges_come_change_and_go(tmp_path: Path) -> None:
    got: list[tuple[str, bytes]] = []

    async def take(request: web.Request) -> web.Response:
        got.append((request.path, await request.read()))
        return web.Response()

    sink = web.Application()
    sink.router.add_route("*", "/{tail:.*}", take)
    runner = web.AppRunner(sink)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    to = f"http://127.0.0.1:{runner.addresses[0][1]}"
    out = "bridge.consumer.o.topic=out\nbridge.consumer.o.group=g\nbridge.consumer.o.commit.interval.ms=50\n"
    into = "bridge.producer.i.topic=in\nbridge.producer.i.path=/hook\n"
    try:
        async with running(tmp_path) as gateway:
            assert await status(gateway.url + "/hook", "POST", data=b"x") == 404
            gateway.write(into + out + f"bridge.consumer.o.sink={to}/first\n")
            assert await gateway.reload()
            assert await status(gateway.url + "/hook", "POST", data=b"\x00raw") == 200
            headers = {"Content-Type": "application/vnd.kafka.binary.v2+json"}
            body = '{"records":[{"value":"eA=="}]}'
            assert await status(gateway.url + "/topics/out", "POST", data=body, headers=headers) == 200
            await until(lambda: ("/first", b"x") in got, 25)
            before = await scrape(gateway.url)
            assert before.value("kafka_gateway_bridge_producer_records_total", bridge="i") == 1

            gateway.write(into + out + f"bridge.consumer.o.sink={to}/second\n")
            assert await gateway.reload()
            assert await status(gateway.url + "/topics/out", "POST", data=body, headers=headers) == 200
            await until(lambda: ("/second", b"x") in got, 25)
            assert got.count(("/first", b"x")) == 1  # it committed what it had posted
            kept = await scrape(gateway.url)
            assert kept.value("kafka_gateway_bridge_producer_records_total", bridge="i") == 1  # not restarted

            gateway.write("bridge.producer.i.topic=in2\nbridge.producer.i.path=/other\n")
            assert await gateway.reload()
            assert await status(gateway.url + "/hook", "POST", data=b"x") == 404
            assert await status(gateway.url + "/other", "POST", data=b"x") == 200
            async with aiohttp.ClientSession() as client, client.get(gateway.url + "/bridges") as reply:
                told = await reply.json()
            assert ([each["name"] for each in told["producers"]], told["consumers"]) == (["i"], [])
    finally:
        await runner.cleanup()


async def test_a_path_that_is_taken_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with running(tmp_path) as gateway:
        gateway.write("bridge.producer.i.topic=in\nbridge.producer.i.path=/health/live\n")
        assert not await gateway.reload()
        assert "clashes with" in caplog.text
        assert await status(gateway.url + "/topics") == 200


def test_check_tells_both_kinds_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from kafka_gateway.commands.main import main

    file = tmp_path / "gateway.properties"
    file.write_text("log.level=DEBUG\nport=0\nrate.limit.enable=true\n")
    assert main(["--check", str(file)]) == 0
    written = capsys.readouterr().out
    assert "take effect on SIGHUP: log.level, rate.limit.enable" in written
    assert "take effect with the next start only: port" in written
