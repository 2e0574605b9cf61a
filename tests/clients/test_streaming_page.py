"""The recipes of docs/streaming.md, as the page has them: run against a gateway that is killed in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import re
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from playwright.async_api import async_playwright

from tests.browser import CHROMIUM, FLAGS, need_chromium
from tests.cache import find_program, node_packages
from tests.gateway_process import ROOT, GatewayProcess
from tests.kafka_cluster import KafkaCluster

__all__ = ("need_chromium",)

PAGE = (ROOT / "docs" / "streaming.md").read_text()
FOLDER = Path(__file__).parent / "stream"
PATIENCE_S = 30

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.timeout(120),
    pytest.mark.fetches(what=functools.partial(node_packages, FOLDER)),
]


def recipe(title: str, language: str, gateway: GatewayProcess, topic: str) -> list[str]:
    """The blocks of that section, for this gateway and topic."""
    section = re.search(rf"^### {title}\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert section is not None
    blocks = re.findall(rf"```{language}\n(.*?)```", section[1], re.DOTALL)
    assert blocks
    return [each.replace("http://127.0.0.1:8082", gateway.url).replace("127.0.0.1:8082", gateway.url[7:])
            .replace("/orders/", f"/{topic}/") for each in blocks]  # fmt: skip


def produce(gateway: GatewayProcess, topic: str, values: range) -> None:
    body = json.dumps({"records": [{"value": value} for value in values]}).encode()
    request = urllib.request.Request(
        f"{gateway.url}/topics/{topic}", body, {"Content-Type": "application/vnd.kafka.json.v2+json"}
    )
    with urllib.request.urlopen(request) as reply:
        assert all(row["error_code"] is None for row in json.load(reply)["offsets"])


class Follower:
    """A program, and what it has printed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: list[str] = []
        self._changed = asyncio.Event()

    def take(self, line: str) -> None:
        self.lines.append(line)
        self._changed.set()

    async def until(self, done: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not done():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pytest.fail(f"{self.name} printed only {self.lines}")

    async def ready(self) -> None:
        await self.until(lambda: any("ready" in line for line in self.lines))

    @property
    def records(self) -> list[tuple[int, int, int]]:
        """(partition, offset, value), from lines that have these three and from JSON."""
        found = []
        for line in self.lines:
            if re.fullmatch(r"\d+ \d+ \d+", line):
                partition, offset, value = map(int, line.split())
                found.append((partition, offset, value))
            for each in re.findall(r'"partition":(\d+),"offset":(\d+),"timestamp":\d+,"key":null,"value":(\d+)', line):
                partition, offset, value = map(int, each)
                found.append((partition, offset, value))
        return found

    async def has(self, values: range) -> None:
        """These, each once, and each partition in order."""
        await self.until(lambda: len(self.records) >= len(values))
        assert sorted(value for _, _, value in self.records) == list(values), self.name
        last: dict[int, int] = {}
        for partition, offset, _ in self.records:
            assert offset == last.get(partition, offset - 1) + 1, self.name
            last[partition] = offset


@contextlib.asynccontextmanager
async def program(name: str, *command: str) -> AsyncIterator[Follower]:
    """Runs it; its standard input stays open, as that of a terminal does."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=FOLDER, stdin=pipe, stdout=pipe, limit=1 << 22)
    follower = Follower(name)

    async def read() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            follower.take(line.decode().strip())

    reading = asyncio.create_task(read())
    try:
        yield follower
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await reading


@contextlib.asynccontextmanager
async def web_page(gateway: GatewayProcess, script: str) -> AsyncIterator[Follower]:
    """Runs it in Chromium; what it logs is what it prints."""
    follower = Follower("EventSource in Chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = await browser.new_page()
        page.on("console", lambda message: follower.take(message.text))
        await page.goto(f"{gateway.url}/health/live")
        await page.evaluate(f"() => {{ {script} }}")
        yield follower
        await browser.close()


@pytest.fixture
def topic(kafka: KafkaCluster, unique: Callable[[str], str]) -> str:
    name = unique("recipes")
    kafka.create_topic(name, partitions=3)
    return name


@pytest.fixture
def other(kafka: KafkaCluster) -> Iterator[GatewayProcess]:
    """A gateway that nobody kills."""
    with GatewayProcess(f"bootstrap.servers={kafka.bootstrap}") as running:
        yield running


async def test_what_follows_goes_on_after_the_gateway_was_killed(
    kafka: KafkaCluster, other: GatewayProcess, topic: str
) -> None:
    node_packages(FOLDER)
    settings = f"bootstrap.servers={kafka.bootstrap}"
    with GatewayProcess(settings) as gateway:
        (script,) = recipe("A web page", "js", gateway, topic)
        (python,) = recipe("Python", "python", gateway, topic)
        (wscat,) = recipe("wscat", "sh", gateway, topic)
        node = f"const {{ EventSource }} = require('eventsource'); {script}"
        async with (
            web_page(gateway, script) as browser,
            program("eventsource of npm", "node", "-e", node) as npm,
            program("httpx-sse", sys.executable, "-c", python) as httpx,
            program("wscat", "sh", "-c", f"exec {wscat.replace('npx wscat', 'node_modules/.bin/wscat')}") as socket,
        ):
            resuming = [browser, npm, httpx]
            for each in [*resuming, socket]:
                await each.ready()
            produce(gateway, topic, range(10))
            for each in [*resuming, socket]:
                await each.has(range(10))
            gateway.process.kill()
            gateway.process.wait()
            produce(other, topic, range(10, 20))
            with GatewayProcess(f"port={gateway.url.rpartition(':')[2]}", settings) as again:
                for each in resuming:
                    await each.has(range(20))
                produce(again, topic, range(20, 30))
                for each in resuming:
                    await each.has(range(30))


async def test_what_comes_to_an_end(other: GatewayProcess, topic: str, tmp_path: Path) -> None:
    async def run(command: str) -> str:
        process = await asyncio.create_subprocess_exec(
            "bash", "-euc", command, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, env={**os.environ, "TZ": "UTC"}
        )
        out, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        assert process.returncode == 0, command
        return out.decode()

    find_program("curl")
    (hour,) = recipe("curl", "sh", other, topic)
    today, tomorrow = recipe("Resuming after a day", "sh", other, topic)
    produce(other, topic, range(10))
    lines = Follower("curl")
    lines.lines = (await run(hour)).splitlines()
    await lines.has(range(10))
    await run(today)
    produce(other, topic, range(10, 15))
    await run(tomorrow)
    both = Follower("curl, twice")
    both.lines = [
        *(tmp_path / "today.txt").read_text().splitlines(),
        *(tmp_path / "tomorrow.txt").read_text().splitlines(),
    ]
    await both.has(range(15))


async def test_the_first_example(other: GatewayProcess, topic: str) -> None:
    command = PAGE.partition("```sh\n")[2].partition("```")[0]
    command = command.replace("http://127.0.0.1:8082", other.url).replace("/orders/", f"/{topic}/")
    produce(other, topic, range(3))
    async with program("curl", "sh", "-c", f"exec {command}") as curl:
        await curl.until(lambda: any('"event":"end"' in line for line in curl.lines))
        assert '{"event":"ready","positions":[' in curl.lines[0]
        await curl.has(range(3))
