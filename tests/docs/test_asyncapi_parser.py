"""``/asyncapi.json`` before the reference parser, which Node runs."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import aiohttp
import pytest

from tests.cache import find_program, node_packages
from tests.transports.conftest import gateway

FOLDER = Path(__file__).parent / "asyncapi"


def _fetch() -> None:
    node_packages(FOLDER)


@pytest.mark.slow
@pytest.mark.fetches(what=_fetch)
async def test_the_document_is_valid() -> None:
    node_packages(FOLDER)
    async with (
        gateway(transport_websocket_enable=True) as app,
        aiohttp.ClientSession() as client,
        client.get(f"{app.addresses[0]}/asyncapi.json") as response,
    ):
        document = await response.read()
    command = [find_program("node"), str(FOLDER / "check.mjs")]
    done = await asyncio.to_thread(subprocess.run, command, input=document, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    assert done.stdout.startswith(b"3.0.0 8 channels"), done.stdout
