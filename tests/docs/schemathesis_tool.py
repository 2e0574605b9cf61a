"""Schemathesis with the versions of its libraries that it needs, which are not those of the other tests.

The folder is fetched once (tests/cache.py), and stands first on the import path of the child process.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from tests.cache import once, run_tool

FOLDER = Path(__file__).parent / "schemathesis"
REQUIREMENTS = FOLDER / "requirements.txt"


def install() -> Path:
    """The folder with the tool; UnavailableError if it cannot be fetched."""
    key = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:16]
    options = ["--quiet", "--disable-pip-version-check", "--no-deps"]

    def fill(folder: Path) -> None:
        run_tool(
            [sys.executable, "-m", "pip", "install", *options, "--target", str(folder), "-r", str(REQUIREMENTS)], folder
        )

    return once(f"schemathesis-{key}", fill)


def run(folder: Path, work: Path, document: str, *options: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """``schemathesis run DOCUMENT OPTIONS``; what it leaves behind is in ``work``."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "schemathesis.cli", "--config-file", str(FOLDER / "schemathesis.toml"), "run",
         document, *options],
        cwd=work,
        env={**os.environ, "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )  # fmt: skip
