"""docs/errors.md has every code, and errors tell the way out (observability.md §5)."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import kafka_gateway
import kafka_gateway.services
import kafka_gateway.transports
from kafka_gateway.assembly.app import App
from kafka_gateway.errors import ServiceError
from kafka_gateway.workers.failures import RelayedError
from tests.transports.conftest import gateway
from tests.transports.wire import Wire

PAGE = (Path(__file__).parents[2] / "docs" / "errors.md").read_text()
SECTIONS = {int(part[:5]): part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]}


def classes() -> list[type[ServiceError]]:
    """Every error that any module can raise."""
    for package, prefix in (
        (kafka_gateway, "kafka_gateway."),
        (kafka_gateway.services, "kafka_gateway.services."),
        (kafka_gateway.transports, "kafka_gateway.transports."),
    ):
        for module in pkgutil.walk_packages(package.__path__, prefix):
            if not module.name.startswith(("kafka_gateway.testing", "kafka_gateway.__main__")):
                importlib.import_module(module.name)

    def below(kind: type[ServiceError]) -> Iterator[type[ServiceError]]:
        yield kind
        for each in kind.__subclasses__():
            yield from below(each)

    return [each for each in below(ServiceError) if each.__module__.startswith("kafka_gateway.")]


def test_every_code_has_its_section_and_no_other() -> None:
    assert SECTIONS.keys() == {each.error_code for each in classes()}


def test_every_section_says_what_to_do() -> None:
    for code, text in SECTIONS.items():
        assert re.search(r"\*\*Do:?\*\*|Stop|stop its members", text) or "**Do" in text, code
        assert "**" in text


def test_what_can_be_sent_again_says_so() -> None:
    again = {each.error_code for each in classes() if each.retriable and each.error_code > 1000}
    assert {code for code in again if "Can be sent again" not in SECTIONS[code]} == set()


WITHOUT = {RelayedError: "has what the worker says that raised it"}
"""Errors whose class, and those made of it while a gateway runs, tells no way out, and why."""


def test_every_error_tells_a_way_out_of_one_sentence() -> None:
    """A class with a status or a code of its own does not inherit one, so none tells what fits another error."""
    for each in {each for each in classes() if not issubclass(each, tuple(WITHOUT))}:
        text = each.help
        assert text, f"{each.__qualname__} tells no way out"
        assert text[0].isupper() or text.startswith("…"), each
        assert text[-1] == ".", each
        assert len(text) < 200, each


@pytest.fixture
async def helpful() -> Any:
    async with gateway(**{"errors.help": True}) as app:
        yield app


async def ask(app: App, method: str, path: str, body: str = "", **headers: str) -> dict[str, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as client,
        client.request(
            method,
            app.addresses[0] + path,
            data=body.encode() or None,
            headers=named,
            skip_auto_headers=["Content-Type"],
        ) as reply,
    ):
        told: dict[str, Any] = await reply.json(content_type=None)
        assert told.get("request_id") == reply.headers["X-Request-Id"]
        return told


V2 = "application/vnd.kafka.v2+json"
JSON_V1 = "application/vnd.kafka.json.v1+json"
JSON_V2 = "application/vnd.kafka.json.v2+json"


async def test_the_errors_that_people_meet_tell_the_way_out(helpful: App) -> None:
    wrong = await ask(helpful, "POST", "/topics/t", "{}", Content_Type="text/plain")
    assert wrong["error_code"] == 415
    assert JSON_V2 in wrong["help"]
    wrong = await ask(helpful, "GET", "/v3/clusters", Accept=JSON_V2)
    assert wrong["help"] == "Accept one of these: application/json."
    wrong = await ask(helpful, "POST", "/topics/t", '{"nothing": 1}', Content_Type=JSON_V2)
    assert wrong["error_code"] == 422
    assert '{"records": [{"key": "k", "value"' in wrong["help"]
    wrong = await ask(helpful, "GET", "/consumers/g/instances/i/records", Accept=JSON_V2)
    assert wrong["error_code"] == 40403
    assert "consumer.instance.timeout.ms" in wrong["help"]
    made = '{"name": "i", "format": "binary"}'
    async with aiohttp.ClientSession() as client:
        url = helpful.addresses[0] + "/consumers/g"
        assert (await client.post(url, data=made, headers={"Content-Type": V2})).status == 200
    wrong = await ask(helpful, "GET", "/consumers/g/instances/i/records", Accept=JSON_V2)
    assert wrong["error_code"] == 40601
    assert "application/vnd.kafka.binary.v2+json" in wrong["help"]


async def test_errors_before_any_route_tell_the_way_out_too(helpful: App) -> None:
    """What the door, the heads' parser and the router refuse, and rules on names of topics."""
    for method, path, body, code, way in (
        ("GET", "/topics/a b", "", 40002, "Correct what the message names"),
        ("POST", "/consumers/g/instances/i/assignments", '{"partitions": []}', 40403, "Create it again"),
        ("POST", "/consumers/g", '{"auto.offset.reset": "never"}', 42204, "the setting that the message names"),
        ("PUT", "/admin/loggers/gateway", '{"level": "LOUD"}', 422, "Correct the place"),
    ):
        kind = JSON_V2 if path.startswith("/topics") else "application/json" if path.startswith("/admin") else V2
        wrong = await ask(helpful, method, path, body, Content_Type=kind)
        assert wrong["error_code"] == code, (path, wrong)
        assert way in wrong["help"], (path, wrong)
    host = b" HTTP/1.1\r\nHost: a"
    for head in (b"GET /topics/a%zz" + host, b"GET /a/../.." + host, b"GET / HTTP/1.1", b"GET / HTTP"):
        async with await Wire.open(helpful.addresses[0]) as wire:
            await wire.send(head + b"\r\n\r\n")
            reply = await wire.reply()
        told = json.loads(reply.body)
        assert told["error_code"] == 400, head
        assert told["request_id"] == reply.headers["x-request-id"]
        assert told["help"]


async def test_what_is_not_there_has_another_way_out_than_a_path_that_is_not(helpful: App, topic: str) -> None:
    async with aiohttp.ClientSession() as client:
        url, body = helpful.addresses[0], '{"records": [{"value": 1}]}'
        assert (await client.post(f"{url}/topics/{topic}", data=body, headers={"Content-Type": JSON_V2})).status == 200
        reply = await client.get(url + "/v3/clusters")
        cluster = "/v3/clusters/" + (await reply.json())["data"][0]["cluster_id"]
    for path, way in (
        ("/v3/clusters/nope", "GET /v3/clusters tells"),
        (f"{cluster}/topics/{topic}/configs/nope", "GET …/configs"),
        (f"{cluster}/brokers/99", "/brokers lists"),
        (f"{cluster}/topics/{topic}/partitions/99", "/partitions lists"),
        (f"{cluster}/topics/{topic}/partitions/0/replicas/99", "The path is right"),
        (f"{cluster}/nope", "/openapi.json"),
        ("/bridges/none", "/openapi.json"),
    ):
        wrong = await ask(helpful, "GET", path)
        assert wrong["error_code"] == 404, path
        assert way in wrong["help"], path
    wrong = await ask(helpful, "GET", f"/topics/{topic}/partitions/0/messages?offset=-5", Accept=JSON_V1)
    assert wrong["error_code"] == 50002
    assert "no such offset" in wrong["help"]


async def test_a_record_of_another_format_says_how_to_get_on(helpful: App, topic: str) -> None:
    async with aiohttp.ClientSession() as client:
        url = helpful.addresses[0]
        body, headers = '{"records": [{"value": "/w=="}]}', {"Content-Type": "application/vnd.kafka.binary.v2+json"}
        assert (await client.post(f"{url}/topics/{topic}", data=body, headers=headers)).status == 200
        made = '{"name": "i", "format": "json", "auto.offset.reset": "earliest"}'
        assert (await client.post(url + "/consumers/g2", data=made, headers={"Content-Type": V2})).status == 200
        assigned = f'{{"partitions": [{",".join(f"""{{"topic": "{topic}", "partition": {n}}}""" for n in range(4))}]}}'
        reply = await client.post(
            url + "/consumers/g2/instances/i/assignments", data=assigned, headers={"Content-Type": V2}
        )
        assert reply.status == 204
    wrong = await ask(helpful, "GET", "/consumers/g2/instances/i/records?timeout=5000", Accept=JSON_V2)
    assert wrong["error_code"] == 40801
    assert "binary" in wrong["help"]


async def test_without_help_there_are_two_members(topic: str) -> None:
    async with gateway() as app, aiohttp.ClientSession() as client:
        reply = await client.get(f"{app.addresses[0]}/topics/{topic}")
        assert sorted(await reply.json(content_type=None)) == ["error_code", "message"]
