"""Tells `bin/test` which tests failed, and which of them compare durations: those marked ``timing``, and those in which
a step held the event loop for too long. They may fail on a machine that was busy for a second.

Any other test that fails now and then has found a fault, of the gateway or of the test: `bin/test` tries a few of them
once more, and its last lines name those that passed only then.

With ``BIN_TEST_REPORT`` set to the path of a file, that file gets a line for each failed test: ``timing`` or
``other``, a tab, the test's node id. tests/conftest.py has these hooks by importing them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VARIABLE = "BIN_TEST_REPORT"

HELD = "the event loop was held for more than"
"""How tests/loop_watch.py says that all that went wrong in a test was the time that a step took."""

_failed: dict[str, str] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        kind = "timing" if "timing" in report.keywords or HELD in report.longreprtext else "other"
        # Its clean-up may fail after itself: what is worse counts.
        _failed[report.nodeid] = "other" if _failed.get(report.nodeid) == "other" else kind


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _failed[report.nodeid] = "other"


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = os.environ.get(VARIABLE)
    if path and not hasattr(session.config, "workerinput"):  # the workers' reports are told to the process that leads
        Path(path).write_text("".join(f"{kind}\t{nodeid}\n" for nodeid, kind in _failed.items()))
