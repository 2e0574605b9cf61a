"""The directory of the sockets between workers, looked at before anything is served."""

from __future__ import annotations

from pathlib import Path

import pytest

from kafka_gateway.commands.main import main
from tests.gateway_process import NO_OTHERS


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NO_OTHERS.items():
        monkeypatch.setenv(name, value)


def check(path: Path, *more: str, workers: int = 2) -> int:
    return main(["--check", f"workers={workers}", f"cluster.peer.dir={path}", *more])


def test_one_that_cannot_be_had_is_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "open").mkdir(mode=0o755)
    for path, reason in ((tmp_path / "file" / "in", "Not a directory"), (tmp_path / "open", "chmod 700")):
        assert check(path) == 2
        told = capsys.readouterr().out
        assert "FAIL argument: cluster.peer.dir" in told
        assert str(path) in told
        assert reason in told
        assert check(path, workers=1) == 0  # nobody needs it
        assert check(path, "cluster.enable=true", workers=1) == 2
        capsys.readouterr()


def test_a_look_leaves_nothing_behind(tmp_path: Path) -> None:
    assert check(tmp_path / "run" / "workers") == 0
    assert list(tmp_path.iterdir()) == []
    own = tmp_path / "own"
    own.mkdir(mode=0o700)
    assert check(own) == 0
    assert list(own.iterdir()) == []
