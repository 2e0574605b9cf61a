"""The whole program as a child process, for tests that need the real thing: its signals, its memory, its exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.processes import OutputProcess
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[1]
NO_OTHERS = {"KAFKA_GATEWAY_PLUGINS_INSTALLED": "false", "KAFKA_GATEWAY_ERRORS_HELP": "false"}
"""For the environment of tests: a plugin that is installed on this machine does not change what they find, and errors
have the members of the contract alone."""


class GatewayProcess(OutputProcess):
    """``python -m kafka_gateway port=0 KEY=VALUE …``; ready when the block is entered, gone when it is left."""

    def __init__(
        self,
        *properties: str,
        bootstrap: str = "",
        environment: dict[str, str] | None = None,
        own_port: bool = True,
        start_s: float = PATIENCE_S,
        begin: Sequence[str] = (),
    ) -> None:
        """``own_port`` False: the properties say where it listens. ``start_s``: longest wait for it to serve; several
        workers share the cores. ``begin``: what its command line begins with, a program that becomes it."""
        kafka = [f"bootstrap.servers={bootstrap}"] if bootstrap else []
        port = ["port=0"] if own_port else []
        super().__init__(
            [*begin, sys.executable, "-P", "-m", "kafka_gateway", *port, *kafka, *properties],
            {**NO_OTHERS, "PYTHONPATH": str(ROOT), **(environment or {})},
        )
        self._start_s = start_s
        self.url = ""

    def started(self) -> None:
        self.url = self.wait_for(r"Listening on (http://[^\s,]+)", self._start_s)[1]
        self.wait_for(r"Server started", self._start_s)
