"""The HAProxy snippet of docs/production.md, as HAProxy reads it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs.test_nginx import snippet


def test_haproxy_takes_it(tmp_path: Path) -> None:
    if (haproxy := shutil.which("haproxy")) is None:
        pytest.skip("no haproxy in PATH")
    (tmp_path / "haproxy.cfg").write_text(snippet("haproxy"))
    done = subprocess.run([haproxy, "-c", "-f", tmp_path / "haproxy.cfg"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
