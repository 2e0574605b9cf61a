"""A client that openapi-python-client makes from ``/openapi.json`` produces and reads, with types of its own."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.gateway_process import GatewayProcess


def vendor_types(document: dict[str, Any]) -> set[str]:
    """All media types of Kafka's own, which the generator has to be told are JSON."""
    found: set[str] = set()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            found.update(key for key in node if isinstance(key, str) and key.startswith("application/vnd.kafka"))
            for each in node.values():
                walk(each)
        elif isinstance(node, list):
            for each in node:
                walk(each)

    walk(document["paths"])
    walk(document["components"]["responses"])
    return found


@pytest.fixture
def gateway() -> Iterator[GatewayProcess]:
    with GatewayProcess("embedded.topics=orders", "access.log.enable=false") as running:
        yield running


@pytest.fixture
def client(gateway: GatewayProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The package, made anew."""
    with urllib.request.urlopen(f"{gateway.url}/openapi.json") as reply:
        document = json.load(reply)
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    overrides = "".join(f"  {each}: application/json\n" for each in sorted(vendor_types(document)))
    (tmp_path / "config.yaml").write_text(f"content_type_overrides:\n{overrides}post_hooks: []\n")
    command = [sys.executable, "-P", "-m", "openapi_python_client", "generate", "--path", "openapi.json"]
    command += ["--output-path", "generated_gateway_client", "--meta", "none", "--config", "config.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout, done.stdout  # everything could be understood
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("generated_gateway_client")


@pytest.mark.slow
def test_it_produces_and_reads(gateway: GatewayProcess, client: ModuleType) -> None:
    name = client.__name__
    models: Any = importlib.import_module(f"{name}.models")

    def api(module: str) -> Any:
        return importlib.import_module(f"{name}.api.{module}").sync_detailed

    accept = {"Accept": "application/vnd.kafka.json.v2+json, application/vnd.kafka.v2+json"}
    only_json = {"Accept": "application/vnd.kafka.json.v2+json"}
    with (
        client.Client(gateway.url, headers=accept) as session,
        client.Client(gateway.url, headers=only_json) as reader,
    ):
        records = models.JsonV2Records.from_dict({"records": [{"value": {"amount": 1}}, {"value": {"amount": 2}}]})
        stored = api("records.v2_produce_to_topic")("orders", client=session, body=records)
        assert stored.status_code == 200, stored.content
        assert [each.error_code for each in stored.parsed.offsets] == [None, None]
        assert {each.offset for each in stored.parsed.offsets} <= {0, 1}

        wanted = models.InstanceRequest.from_dict({"name": "one", "format": "json", "auto.offset.reset": "earliest"})
        made = api("consumers_v_2.v2_consumers_create")("billing", client=session, body=wanted)
        assert made.parsed.instance_id == "one", made.content
        topics = models.SubscriptionRequest.from_dict({"topics": ["orders"]})
        assert (
            api("consumers_v_2.v2_consumers_subscribe")("billing", "one", client=session, body=topics).status_code
            == 204
        )
        amounts: list[int] = []
        while len(amounts) < 2:  # the first reads may come back empty
            read = api("consumers_v_2.v2_consumers_consume")("billing", "one", client=reader)
            assert read.status_code == 200, read.content
            amounts += [each.value["amount"] for each in read.parsed]
        assert sorted(amounts) == [1, 2]
        assert api("consumers_v_2.v2_consumers_delete")("billing", "one", client=session).status_code == 204
        refused = api("consumers_v_2.v2_consumers_consume")("billing", "one", client=session)
        assert (refused.status_code, refused.parsed.error_code) == (404, 40403)
