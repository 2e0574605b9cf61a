"""What the documents say is true: examples run, every key and route is named."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from kafka_gateway.assembly.plugins import Plugins
from tests.gateway_process import ROOT, GatewayProcess

BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def commands(page: Path, word: str) -> list[list[str]]:
    """The shell commands of the page's examples that begin with this word, a list of arguments each."""
    text = "\n".join(BLOCK.findall(page.read_text())).replace("\\\n", " ")
    found = re.split(r"^(?=\S)", text, flags=re.MULTILINE)  # what is indented belongs to the line before
    return [shlex.split(each, comments=True) for each in found if each.startswith(word)]


@pytest.mark.slow
def test_the_first_produce_and_consume_of_the_readme() -> None:
    examples = commands(ROOT / "README.md", "curl")
    assert len(examples) == 6
    with GatewayProcess() as gateway:

        def run(arguments: list[str]) -> str:
            here = [each.replace("http://127.0.0.1:8082", gateway.url) for each in arguments]
            done = subprocess.run([*here, "-sS", "--fail-with-body"], capture_output=True, text=True, check=False)
            assert done.returncode == 0, (here, done.stdout, done.stderr)
            return done.stdout

        produce, create, subscribe, read, delete, stream = examples
        assert '"error_code":null' in run(produce)
        assert '"instance_id":"one"' in run(create)
        run(subscribe)
        records = run(read)
        while records == "[]":  # as the page says: the first reads may come back empty
            records = run(read)
        assert '"amount":' in records
        run(delete)
        shown = run([each + "&until=end" if "/stream?" in each else each for each in stream])
        amounts = [line["value"]["amount"] for line in map(json.loads, shown.splitlines()) if "value" in line]
        assert sorted(amounts) == [1, 2]


@pytest.mark.slow
def test_from_v3_produce_to_reading() -> None:
    (script,) = BLOCK.findall((ROOT / "docs" / "rest.md").read_text())
    before, accept, read = script.rpartition("curl -H 'Accept")
    with GatewayProcess() as gateway:

        def run(text: str) -> str:
            here = text.replace("http://127.0.0.1:8082", gateway.url).replace("curl ", "curl -sS --fail-with-body ")
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", here], capture_output=True, text=True, check=False)
            assert done.returncode == 0, (here, done.stdout, done.stderr)
            return done.stdout

        assert '"error_code":200' in run(before)
        records: list[dict[str, object]] = []
        while not records:  # the first reads may come back empty
            records = json.loads(run(accept + read))
        (shown,) = records
        assert shown["value"] == {"amount": 1}
        assert shown["timestamp"] == 1763699200123
        assert shown["headers"] == [{"name": "trace", "value": "YWJj"}]


FOREGROUND = re.compile(
    r"(\w+=\S+ )*(bin/start(?! -daemon)|flasfka-serve|bytehoops \w+|kafka-gateway(?! init)(?!.* --(check|may)\b)) ?"
)
"""Commands that do not come back to the shell before they are stopped."""


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_no_example_waits_for_what_does_not_end(page: Path) -> None:
    for block in BLOCK.findall(page.read_text()):
        lines = [line for line in block.replace("\\\n", " ").splitlines() if line and line[0] not in " #"]
        assert not [line for line in lines[:-1] if FOREGROUND.match(line) and not line.endswith("&")], block


def test_every_key_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    assert [key.name for key in Plugins(installed=False).config_keys() if key.name not in text] == []


def test_every_rest_route_is_in_the_page() -> None:
    text = (ROOT / "docs" / "rest.md").read_text()
    for word in ("/subscription", "/assignments", "/positions/beginning", "/offsets", "/records", "/messages"):
        assert word in text
