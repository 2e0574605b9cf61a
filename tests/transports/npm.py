"""Runs Node programs. Their packages come from `tests.cache.node_packages`."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any, Self

from tests.waiting import PATIENCE_S


class Driver:
    """A Node program that takes commands and tells events, both as JSON lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.seen: list[dict[str, Any]] = []
        """All events, oldest first."""

    @classmethod
    async def start(cls, script: Path, *arguments: str) -> Self:
        process = await asyncio.create_subprocess_exec(
            "node", str(script), *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=1 << 24
        )
        return cls(process)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    def do(self, what: str, **more: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, **more}).encode() + b"\n")

    async def next(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            line = await self._process.stdout.readline()
        if not line:
            raise EOFError(f"the client ended after {self.seen}")
        event: dict[str, Any] = json.loads(line)
        self.seen.append(event)
        return event

    async def until(self, name: str) -> dict[str, Any]:
        """The next event of that name; the others before it are in ``seen``."""
        while (event := await self.next())["event"] != name:
            pass
        return event

    def count(self, name: str) -> int:
        return sum(event["event"] == name for event in self.seen)
