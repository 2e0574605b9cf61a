"""`bin/test` reads from this file which tests failed, and which of them compare durations."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.second_try import HELD, VARIABLE

ROOT = Path(__file__).parents[2]
TESTS = f"""
import pytest

@pytest.mark.timing
def test_late():
    assert 2 < 1

@pytest.mark.timing
def test_in_time():
    pass

def test_wrong():
    raise ValueError

def test_held():
    pytest.fail("{HELD} 50 ms")

@pytest.fixture
def unclean():
    yield
    raise ValueError

@pytest.mark.timing
@pytest.mark.parametrize("case", ["a b"])
def test_late_and_unclean(unclean, case):
    assert 2 < 1
"""


@pytest.mark.timeout(180)  # three interpreters start, each with the whole of pytest: a busy machine takes its time
@pytest.mark.parametrize("processes", ["0", "2"])
def test_what_failed_is_told_with_its_kind(tmp_path: Path, processes: str) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = timing\n")
    failed = tmp_path / "failed"
    options = ["-q", "-p", "tests.second_try", "-p", "no:cacheprovider", "-n", processes]
    variables = {**os.environ, "PYTEST_ADDOPTS": "", VARIABLE: str(failed), "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        timeout=170,
        check=False,
    )
    assert sorted(failed.read_text().splitlines()) == [
        "other\ttest_it.py::test_wrong",
        "timing\ttest_it.py::test_held",
        "timing\ttest_it.py::test_late",
        "timing\ttest_it.py::test_late_and_unclean[a b]",
    ]
