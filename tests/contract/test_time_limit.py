"""A test that hangs ends (tests/time_limit.py), whatever loop it runs on and wherever it hangs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFTEST = """
import asyncio
import uvloop

def pytest_asyncio_loop_factories(config, item):
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.Loop}
"""
TESTS = """
import asyncio, contextlib, threading, time
import pytest
import pytest_asyncio

async def never():
    await asyncio.Event().wait()

@pytest_asyncio.fixture
async def no_beginning():
    await never()
    yield

@pytest_asyncio.fixture
async def no_end():
    yield
    await never()

async def test_call():
    await never()

async def test_callback():
    asyncio.get_running_loop().call_soon(threading.Event().wait)
    await never()

async def test_setup(no_beginning):
    pass

async def test_teardown_after_a_failure(no_end):
    assert 1 > 2

def test_that_catches_it():
    with contextlib.suppress(BaseException):
        threading.Event().wait()

@pytest.mark.timeout(60)
async def test_that_ends():
    pass

fetched = []

def fetch():
    time.sleep(1.5)
    fetched.append("all")

@pytest.mark.fetches(what=fetch)
def test_that_fetches():
    assert fetched == ["all"]
"""
SETTINGS = """[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
timeout = 1
markers = fetches(what): called before the time begins
"""


@pytest.mark.timeout(180)  # an interpreter starts, and nine tests hang for a second each
def test_whatever_hangs_ends(tmp_path: Path) -> None:
    for name, text in {"conftest.py": CONFTEST, "test_it.py": TESTS, "pytest.ini": SETTINGS}.items():
        (tmp_path / name).write_text(text)
    plugins = ["-p", "tests.time_limit", "-p", "no:cacheprovider", "-p", "no:xdist"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", *plugins],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_ADDOPTS": "", "PYTHONPATH": str(ROOT), "COLUMNS": "300"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    ended = re.findall(r"^(?:FAILED|ERROR) test_it.py::(\S+) - tests.time_limit.TimeIsUp: Timeout", run.stdout, re.M)
    passed = re.findall(r"^PASSED test_it.py::(\S+)", run.stdout, re.M)
    hang = ["test_call", "test_callback", "test_setup", "test_teardown_after_a_failure"]
    both = [f"{name}[{loop}]" for name in hang for loop in ("asyncio", "uvloop")]
    assert sorted(ended) == sorted([*both, "test_that_catches_it"]), run.stdout + run.stderr
    assert passed == ["test_that_ends[asyncio]", "test_that_ends[uvloop]", "test_that_fetches"]
    # ... and tells where, through the generator of a fixture, too.
    assert re.search(r"^E +Task-\d+: setup .* > no_beginning .* > never .* > wait ", run.stdout, re.M)
