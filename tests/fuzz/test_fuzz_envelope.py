"""Runs the fuzzers of the envelope for a bounded time: atheris where some Python here has it, plain mutations always.

``KAFKA_GATEWAY_FUZZ_PYTHON`` names a Python with atheris and msgspec; ``KAFKA_GATEWAY_FUZZ_S`` the seconds.
"""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fuzz.envelope import CORPUS
from tests.fuzz.envelope_target import one_input, pack, unpack
from tests.fuzz.mutations import mutate

ROOT = Path(__file__).parents[2]
SECONDS = float(os.environ.get("KAFKA_GATEWAY_FUZZ_S", "5"))
SEEDS = [each.read_bytes() for each in sorted(CORPUS.iterdir())]


@pytest.mark.parametrize("seed", SEEDS, ids=[each.name for each in sorted(CORPUS.iterdir())])
def test_corpus(seed: bytes) -> None:
    one_input(seed)


@pytest.mark.timing
@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 4 + 60)
def test_mutations() -> None:
    """Every input within 10 ms (H2); the number of the seed is in the failure's locals."""
    number = random.randrange(2**32)
    rnd = random.Random(number)
    corpus = list(SEEDS)
    slowest = 0.0
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        messages = [mutate(each, corpus, rnd) for each in unpack(rnd.choice(corpus))]
        data = pack(*(each[:65535] for each in messages))
        started = time.thread_time()
        one_input(data)
        slowest = max(slowest, (time.thread_time() - started) / max(1, len(messages)))
        if rnd.random() < 0.02 and len(data) < 4000:
            corpus.append(data)
            del corpus[len(SEEDS) : -500]
    assert slowest < 0.05, f"a message of seed {number} took {slowest:.3f} s"  # five times H2: machines differ


def _python_with_atheris() -> str | None:
    named = os.environ.get("KAFKA_GATEWAY_FUZZ_PYTHON")
    if named:
        return shutil.which(named)
    return sys.executable if importlib.util.find_spec("atheris") else None


@pytest.mark.timeout(SECONDS * 4 + 60)
def test_coverage_guided(tmp_path: Path) -> None:
    python = _python_with_atheris()
    if python is None:
        pytest.skip("no atheris: it has wheels for CPython 3.12 and 3.13 only (see KAFKA_GATEWAY_FUZZ_PYTHON)")
    found = tmp_path / "found"
    found.mkdir()
    command = [python, "-m", "tests.fuzz.envelope", "--seconds", str(SECONDS), "--found", str(found)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # a finding is written into the current directory
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
