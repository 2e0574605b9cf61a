"""The script ``kafka-gateway``. Signals that come while the rest is imported do not kill it."""

from __future__ import annotations

import sys

from kafka_gateway import early_signals

TYPE_CHECKING = False  # importing typing takes longer than all else here
if TYPE_CHECKING:
    from collections.abc import Sequence

    from kafka_gateway.commands.worker import WorkerProcess

_OF_A_TERMINAL = ("tunnel", "tunnel-proxy", "init")
"""Words of commands that are no gateway, and end with their terminal."""


def main(arguments: Sequence[str] | None = None, worker: WorkerProcess | None = None) -> int:
    """Runs the command; the exit code. ``worker``: this process is one of several of a gateway."""
    if arguments is None and (not sys.argv[1:] or sys.argv[1] not in _OF_A_TERMINAL):
        early_signals.keep()
    from kafka_gateway.commands.command import run_command

    return run_command(sys.argv[1:] if arguments is None else list(arguments), worker)


def websocket_proxy() -> int:
    """The command ``kafka-websocket-proxy``, as Kafka WebSocket Shim calls its own."""
    return main(["tunnel", *sys.argv[1:]])
