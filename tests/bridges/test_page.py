"""What docs/bridges.md shows works as it stands there."""

from __future__ import annotations

import asyncio
import re
import shlex
import subprocess
from typing import Any

import pytest

from kafka_gateway.commands import bytehoops
from kafka_gateway.config import Config
from tests.bridges.conftest import stored
from tests.bridges.raw_sink import OK, RawSink
from tests.gateway_process import ROOT, GatewayProcess
from tests.kafka_cluster import KafkaCluster
from tests.waiting import until

PAGE = (ROOT / "docs" / "bridges.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


COMMANDS = [shlex.split(line) for block in blocks("sh") for line in block.splitlines()]


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] == "bytehoops"], ids=" ".join)
def test_the_commands_are_understood(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Config] = []

    def run(config: Config, plugins: object, hasty: object) -> int:
        seen.append(config)
        return 0

    monkeypatch.setattr("kafka_gateway.commands.bridge.run", run)
    assert bytehoops.main(words[1:]) == 0
    assert seen


async def test_the_webhooks(kafka: KafkaCluster) -> None:
    (properties,) = blocks("properties")
    (curl,) = [words for words in COMMANDS if words[0] == "curl"]
    refused = b"HTTP/1.1 422 No\r\nContent-Length: 12\r\n\r\nno such user"
    async with RawSink(lambda got, number: refused if b"lost" in got.body else OK) as sink:
        lines = [line for line in properties.splitlines() if line]
        gateway: Any = GatewayProcess(
            *(line.replace("127.0.0.1:9000", f"127.0.0.1:{sink.port}") for line in lines), bootstrap=kafka.bootstrap
        )
        await asyncio.to_thread(gateway.__enter__)
        try:
            for state in ("paid", "lost", "sent"):
                here = [each.replace("http://127.0.0.1:8082", gateway.url).replace("paid", state) for each in curl]
                done = await asyncio.to_thread(subprocess.run, [*here, "-sS"], capture_output=True, check=True)
                assert done.stdout == b"success"
            await until(lambda: len(sink.got) == 3)
            assert sink.bodies == [b'{"state": "paid"}', b'{"state": "lost"}', b'{"state": "sent"}']
            first = sink.got[0]
            assert (first.method, first.target) == ("POST", "/orders")
            assert (first.all("content-type"), first.all("x-order-id")) == (["application/json"], ["17"])
            (letter,) = await asyncio.to_thread(stored, kafka.bootstrap, "hooks-dead", 1)
            assert (letter.key(), dict(letter.headers())["gw.dlq.error"]) == (b"17", b"no such user")
        finally:
            gateway.__exit__(None, None, None)


def test_the_metrics_are_named() -> None:
    from kafka_gateway.services.bridges.metrics import families
    from kafka_gateway.services.bridges.replies import BridgesReply

    for family in families(BridgesReply((), ()), ""):
        kind = family.name.removeprefix("bridge_producer_").removeprefix("bridge_consumer_")
        suffix = "_total" if family.kind == "counter" else ""
        assert f"_{kind}{suffix}`" in PAGE, family.name
