"""H1: the framing of ``transports.frames`` under the Autobahn test suite, compression included (RFC 6455, RFC 7692).

An optional tool: it needs CPython 2.7 and a package index once, and is skipped without them.
"""

from __future__ import annotations

import asyncio
import fnmatch
from pathlib import Path

import pytest
import uvloop

from tests.autobahn import wstest
from tests.autobahn.echo import PATH, EchoPlugin
from tests.transports.conftest import gateway

CASES = ("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*", "12.*", "13.*")
EXCLUDED: dict[str, str] = {}
NON_STRICT: dict[str, str] = {}
INFORMATIONAL: dict[str, str] = {}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(wstest.INSTALL_S + 400)]


def test_autobahn(tmp_path: Path) -> None:
    try:
        python = wstest.find_python()
        suite = wstest.install(python)
    except wstest.SuiteUnavailableError as error:
        pytest.skip(str(error))

    async def conformance() -> dict[str, dict[str, str]]:
        async with gateway(EchoPlugin()) as app:
            url = app.addresses[0].replace("http:", "ws:") + PATH
            return await wstest.run(python, suite, url, CASES, list(EXCLUDED), tmp_path)

    report = uvloop.run(conformance())
    import json
    Path("/tmp/w/wsb/autobahn.json").write_text(json.dumps(report))
