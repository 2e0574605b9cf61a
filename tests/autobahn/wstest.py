"""The Autobahn test suite, which runs on CPython 2.7 alone: found, installed once, and run.

``KAFKA_GATEWAY_PYTHON2`` names its Python where that is neither ``python2.7`` in PATH nor one of pyenv's.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.cache import UnavailableError, once, run_tool

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
PROBE = "import sys, pip; sys.exit(sys.version_info[:2] != (2, 7))"
# pip leaves it to the directory's .pth files that zope.interface is found.
PROGRAM = "import site, sys; site.addsitedir(sys.argv.pop(1)); from autobahntestsuite import wstest; wstest.run()"
AGENT = "gateway"


class NoPythonError(UnavailableError):
    """No CPython 2.7 on this machine."""


def find_python() -> str:
    """A CPython 2.7 with pip."""
    for candidate in _candidates():
        probe = subprocess.run([candidate, "-c", PROBE], capture_output=True, check=False)
        if probe.returncode == 0:
            return candidate
    raise NoPythonError("the Autobahn test suite needs CPython 2.7 with pip: none in PATH or from pyenv")


def _candidates() -> Iterator[str]:
    for name in (os.environ.get("KAFKA_GATEWAY_PYTHON2"), "python2.7"):
        if name and (found := shutil.which(name)):
            yield found
    roots = {os.environ.get("PYENV_ROOT"), os.path.expanduser("~/.pyenv")}
    for root in sorted(root for root in roots if root):
        yield from map(str, sorted(Path(root).glob("versions/2.7*/bin/python2.7"), reverse=True))


def install(python: str) -> Path:
    """The directory with the suite, for the import path. The first call on a machine fills it, others wait for it."""
    key = hashlib.sha256(REQUIREMENTS.read_bytes() + os.path.realpath(python).encode()).hexdigest()[:16]
    options = ["--quiet", "--disable-pip-version-check", "--no-deps"]

    def fill(folder: Path) -> None:
        pip = [python, "-m", "pip", "install", *options, "--target", str(folder), "-r", str(REQUIREMENTS)]
        run_tool(pip, folder)

    return once(f"autobahn-{key}", fill)


def fetch() -> None:
    """Fetches the suite, if there is a Python for it."""
    install(find_python())


async def run(python: str, suite: Path, url: str, cases: Sequence[str], work: Path) -> dict[str, Any]:
    """What the suite says of the server at ``url``, by the number of the case."""
    spec = {
        "outdir": str(work / "reports"),
        "servers": [{"agent": AGENT, "url": url, "options": {"version": 18}}],
        "cases": list(cases),
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    (work / "spec.json").write_text(json.dumps(spec))
    with (work / "output.txt").open("w") as output:
        process = await asyncio.create_subprocess_exec(
            *(python, "-c", PROGRAM, str(suite), "-m", "fuzzingclient", "-s", str(work / "spec.json")),
            stdout=output,
            stderr=output,
            cwd=work,
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        )
        try:
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    index = work / "reports" / "index.json"
    assert index.exists(), (work / "output.txt").read_text()[-2000:]
    report: dict[str, Any] = json.loads(index.read_text())[AGENT]
    return report
