"""`bin/test` tries again what compares durations, names what passes then, and lets nothing else pass."""

from __future__ import annotations

import os
import re
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


ONCE = """
import pathlib, pytest

@pytest.mark.timing
def test_late_once():
    tried = pathlib.Path("tried")
    tried.write_text(tried.read_text() + "x" if tried.exists() else "x")
    assert len(tried.read_text()) == 2
"""
OTHER = """
def test_wrong():
    raise ValueError
"""


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("tests", "tried", "ended"), [(ONCE, "xx", "0 test_it.py::test_late_once"), (ONCE + OTHER, "x", "1 ")]
)
def test_only_what_watches_a_clock_is_tried_again(tmp_path: Path, tests: str, tried: str, ended: str) -> None:
    (tmp_path / "test_it.py").write_text(tests)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = timing\n")
    found = re.search(r"^report=.*?^run\(\) \{.*?^\}$", (ROOT / "bin" / "test").read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    script = f'{found[0]}\nstatus=0\nrun "timing or not timing" || status=$?\necho "$status ${{second[*]-}}"'
    options = "-q -p tests.second_try -p no:cacheprovider -n 0"
    variables = {**os.environ, "PYTEST_ADDOPTS": options, "PYTHONPATH": str(ROOT), "python": sys.executable}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        timeout=170,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == ended, done.stdout
    assert (tmp_path / "tried").read_text() == tried
