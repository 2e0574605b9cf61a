"""The Autobahn test suite, which runs on CPython 2.7 alone: found, installed once, and run.

``KAFKA_GATEWAY_PYTHON2`` names its Python where that is neither ``python2.7`` in PATH nor one of pyenv's.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.kafka_cluster import cache_dir

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
PROBE = "import sys, pip; sys.exit(sys.version_info[:2] != (2, 7))"
# pip leaves it to the directory's .pth files that zope.interface is found.
PROGRAM = "import site, sys; site.addsitedir(sys.argv.pop(1)); from autobahntestsuite import wstest; wstest.run()"
INSTALL_S = 300
AGENT = "gateway"


class SuiteUnavailableError(Exception):
    """The suite cannot run on this machine; the text says why."""


def find_python() -> str:
    """A CPython 2.7 with pip."""
    for candidate in _candidates():
        probe = subprocess.run([candidate, "-c", PROBE], capture_output=True, check=False)
        if probe.returncode == 0:
            return candidate
    raise SuiteUnavailableError("the Autobahn test suite needs CPython 2.7 with pip: none in PATH or from pyenv")


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
    target = cache_dir() / f"autobahn-{key}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            _install(python, target)
    return target


def _install(python: str, target: Path) -> None:
    work = target.with_suffix(".new")
    shutil.rmtree(work, ignore_errors=True)
    # Settings meant for another environment must not lead pip out of this one.
    elsewhere = {
        "PIP_USER",
        "PIP_TARGET",
        "PIP_PREFIX",
        "PIP_ROOT",
        "PIP_REQUIRE_VIRTUALENV",
        "PYTHONHOME",
        "PYTHONPATH",
    }
    settings = {key: value for key, value in os.environ.items() if key not in elsewhere and key[:6] != "PYTHON"}
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    try:
        done = subprocess.run(
            [*pip, "-r", str(REQUIREMENTS)],
            capture_output=True,
            text=True,
            env=settings,
            check=False,
            timeout=INSTALL_S,
        )
    except subprocess.TimeoutExpired:
        raise SuiteUnavailableError(f"pip did not install the Autobahn test suite within {INSTALL_S} s") from None
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [f"exit {done.returncode}"]
        raise SuiteUnavailableError(f"pip could not install the Autobahn test suite: {errors[0][:200]}")
    work.rename(target)  # only a complete directory gets the name


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
