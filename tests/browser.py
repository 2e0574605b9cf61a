"""Chromium, as the tests of pages start it."""

from __future__ import annotations

import shutil

import pytest

from tests.cache import find_program

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(autouse=True)
def need_chromium() -> None:
    """Skips the tests of the file that imports it where there is no Chromium; in CI they fail."""
    find_program("chromium")
