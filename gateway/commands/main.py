"""The scripts ``kafka-gateway`` and ``kafka-websocket-proxy``. Signals that come while the rest is imported do not
kill them."""

from __future__ import annotations

import signal
import sys

from kafka_gateway import early_signals

TYPE_CHECKING = False  # importing typing takes longer than all else here
if TYPE_CHECKING:
    from collections.abc import Sequence

    from kafka_gateway.commands.worker import WorkerCommand

_TUNNEL = (signal.SIGTERM,)
_KEPT: dict[str, tuple[signal.Signals, ...]] = {"tunnel": _TUNNEL, "tunnel-proxy": _TUNNEL, "init": ()}
"""The signals that are held back for commands that serve no gateway: they end with their terminal."""


def main(arguments: Sequence[str] | None = None, worker: WorkerCommand | None = None) -> int:
    """Runs the command; the exit code. ``worker``: this process is one of several of a gateway."""
    if arguments is None:
        early_signals.keep(_KEPT.get("".join(sys.argv[1:2]), early_signals.KEPT))
    from kafka_gateway.commands.command import run_command
    from kafka_gateway.commands.output import OutputFailed, flush_output

    try:
        try:
            return run_command(sys.argv[1:] if arguments is None else list(arguments), worker)
        finally:
            flush_output()
    except OutputFailed as error:
        print(f"kafka-gateway: {error}", file=sys.stderr)
        return 1


def websocket_proxy() -> int:
    """The command ``kafka-websocket-proxy``, as Kafka WebSocket Shim calls its own."""
    early_signals.keep(_TUNNEL)
    return main(["tunnel", *sys.argv[1:]])
