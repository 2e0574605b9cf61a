"""Which tests `--dist loadfile` gives to one worker: those of a file, and those of all files that share something dear.

tests/conftest.py has this hook by importing it.
"""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling, Scheduling

TOGETHER = frozenset({"credentials"})
"""Folders whose files ask for a server of their kind, which would be started for each of them."""


class ByFileOrFolder(LoadFileScheduling):
    """As `LoadFileScheduling`, and a folder of `TOGETHER` counts as one file."""

    def _split_scope(self, nodeid: str) -> str:
        file = PurePosixPath(super()._split_scope(nodeid))
        return str(file.parent if file.parent.name in TOGETHER else file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    return ByFileOrFolder(config, log) if config.getvalue("dist") == "loadfile" else None
