"""``/openapi.json``, ``/asyncapi.json`` and ``/docs``: valid, complete, and for whom the start page is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import aiohttp
import bcrypt
import pytest
from openapi_spec_validator import validate

from kafka_gateway.assembly.built_in import BUILT_IN
from kafka_gateway.hookspecs import hookimpl
from kafka_gateway.messages import Call, Response
from kafka_gateway.router import Route
from tests.gateway_process import ROOT
from tests.transports.conftest import gateway

EVERYTHING = {
    "push.pull.enable": True,
    "console.enabled": "true",
    "bridge.producer.hooks.path": "/hooks",
    "bridge.producer.hooks.topic": "orders",
    "tunnel.enable": True,
}


async def fetch(url: str, **headers: str) -> tuple[int, Any, Any]:
    async with aiohttp.ClientSession() as client, client.get(url, headers=headers) as response:
        body = await response.read()
        return response.status, response.headers, json.loads(body) if response.content_type.endswith("json") else body


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    methods = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
    return {
        (method.upper(), path): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in methods
    }


async def test_the_document_is_valid_and_has_every_route() -> None:
    async with gateway(**EVERYTHING) as app:
        status, headers, document = await fetch(f"{app.addresses[0]}/openapi.json")
        assert (status, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
        validate(document)
        found = operations(document)
        for route in app.gateway.offered():
            if route.area in ("", "websocket-proxy"):
                template = re.sub(r":int\}", "}", route.template)
                shape = re.sub(r"\{[^}]*\}", "{}", template)
                assert any(
                    method == route.method and re.sub(r"\{[^}]*\}", "{}", path.rstrip("/") or "/") == shape
                    for method, path in found
                ), route
        names = [operation["operationId"] for operation in found.values()]
        assert len(set(names)) == len(names)


async def test_every_route_of_ours_is_described() -> None:
    async with gateway(**EVERYTHING) as app:
        nameless = [route for route in app.gateway.offered() if route.owner in BUILT_IN and route.description is None]
        assert [f"{route.method} {route.template} ({route.name})" for route in nameless] == []


class Tickets:
    @staticmethod
    @hookimpl
    def gateway_routes() -> list[Route]:
        async def ticket(call: Call) -> Response:
            """One ticket.

            More about it.
            """
            return Response({})

        return [Route("GET", "/tickets/{number:int}", ticket, permission="open")]


async def test_a_route_of_a_plugin_is_there_with_what_can_be_seen_of_it() -> None:
    async with gateway(Tickets) as app:
        document = (await fetch(f"{app.addresses[0]}/openapi.json"))[2]
        validate(document)
        operation = document["paths"]["/tickets/{number}"]["get"]
        assert operation["summary"] == "One ticket."
        assert operation["parameters"][0]["schema"]["type"] == "integer"
        assert {"200", "404", "500", "503"} <= operation["responses"].keys()


async def test_what_is_switched_off_is_not_there() -> None:
    async with gateway(**{"api.endpoints.blocklist": "api.v2.brokers.*,api.v1.brokers.*"}) as app:
        document = (await fetch(f"{app.addresses[0]}/openapi.json"))[2]
        assert "/brokers" not in document["paths"]
        assert "/topics" in document["paths"]


async def test_what_is_for_operators_names_their_listeners() -> None:
    own = "http://127.0.0.1:0"
    async with gateway() as app:
        paths = (await fetch(f"{app.addresses[0]}/openapi.json"))[2]["paths"]
        assert "servers" not in paths["/metrics"]
    async with gateway(**{"admin.listeners": own}) as app:
        paths = (await fetch(f"{app.addresses[0]}/openapi.json"))[2]["paths"]
        assert paths["/metrics"]["servers"] == paths["/health/ready"]["servers"] == [{"url": own}]
        assert "servers" not in paths["/topics"]


async def test_paths_that_are_configured_are_those_of_the_document() -> None:
    async with gateway(**{"tunnel.enable": True, "tunnel.path": "/native"}) as app:
        paths = (await fetch(f"{app.addresses[0]}/openapi.json"))[2]["paths"]
        assert {path for path, each in paths.items() if each.get("get", {}).get("tags") == ["Tunnel"]} == {
            "/native",
            "/native/brokers",
        }
        assert (await fetch(f"{app.addresses[0]}/native/brokers"))[0] == 200


async def test_examples_fit_their_schemas_and_are_taken() -> None:
    async with gateway(**{"push.pull.enable": True}) as app:
        document = (await fetch(f"{app.addresses[0]}/openapi.json"))[2]
        content = document["paths"]["/topics/{topic}"]["post"]["requestBody"]["content"]
        async with aiohttp.ClientSession() as client:
            for kind in ("application/vnd.kafka.json.v2+json", "application/vnd.kafka.binary.v2+json"):
                body, headers = json.dumps(content[kind]["example"]), {"Content-Type": kind}
                async with client.post(f"{app.addresses[0]}/topics/orders", data=body, headers=headers) as response:
                    assert response.status == 200, await response.text()
            makes = document["paths"]["/consumers/{group}"]["post"]["requestBody"]["content"]
            for kind, group in (("application/vnd.kafka.v1+json", "of-v1"), ("application/vnd.kafka.v2+json", "of-v2")):
                body, headers = json.dumps(makes[kind]["example"]), {"Content-Type": kind}
                async with client.post(f"{app.addresses[0]}/consumers/{group}", data=body, headers=headers) as response:
                    assert response.status == 200, await response.text()
            push = document["paths"]["/flasfka/v1/{topic}/"]["post"]["requestBody"]["content"]["application/json"]
            url = f"{app.addresses[0]}/flasfka/v1/orders/"
            async with client.post(url, json=push["example"], allow_redirects=False) as response:
                assert response.status == 204, await response.text()


async def test_channels_of_all_that_streams() -> None:
    async with gateway(transport_websocket_enable=True) as app:
        document = (await fetch(f"{app.addresses[0]}/asyncapi.json"))[2]
        addresses = {each["address"] for each in document["channels"].values()}
        assert addresses == {
            "/",
            "/socket/in",
            "/socket/out",
            "/topics/{topics}/stream",
            "/consumers/{group}/instances/{instance}/records",
            "/ws/consumers/{group}/instances/{instance}/records",
            "/ws/consumers/{group}/instances/{instance}/topics/{topic}",
        }


async def test_the_page_is_small_and_asks_nobody_else() -> None:
    async with gateway() as app:
        size = 0
        for path in ("/docs", "/docs/docs.js", "/docs/docs.css"):
            status, headers, body = await fetch(app.addresses[0] + path)
            assert status == 200
            assert "default-src 'none'" in headers["Content-Security-Policy"]
            assert "unsafe" not in headers["Content-Security-Policy"]
            assert not re.search(rb"https?://(?!127\.0\.0\.1)[a-z]", body), path
            size += len(body)
            assert (await fetch(app.addresses[0] + path, **{"If-None-Match": headers["ETag"]}))[0] == 304
        assert size <= 300_000
        start = (await fetch(f"{app.addresses[0]}/", Accept="text/html"))[2].decode()
        assert 'href="docs"' in start
        for accept in ("text/html;q=0, */*", "application/json, text/html;q=0.5", "text/html;q=x", "*/*"):
            assert b"<html" not in str((await fetch(f"{app.addresses[0]}/", Accept=accept))[2]).encode(), accept


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/asyncapi.json"])
async def test_whoever_must_prove_who_they_are_must_here_too(path: str, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("alice:" + bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode() + "\n")
    settings = {"authentication.method": "BASIC", "authentication.basic.file": users}
    async with gateway(**settings) as app:
        assert (await fetch(app.addresses[0] + path))[0] == 401
        proof = aiohttp.encode_basic_auth("alice", "secret")
        status, _, body = await fetch(app.addresses[0] + path, Authorization=proof)
        assert status == 200
        if path == "/openapi.json":
            assert body["security"] == [{"basic": []}]
            assert "401" in body["paths"]["/topics"]["get"]["responses"]


def test_the_page_sets_no_html() -> None:
    text = (ROOT / "transports/docs/static/docs.js").read_text()
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert word not in text
