"""The script ``bytehoops``. Signals that come while the rest is imported do not kill it."""

from __future__ import annotations

import sys

from kafka_gateway import early_signals

TYPE_CHECKING = False  # importing typing takes longer than all else here
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; the exit code, as `kafka_gateway.commands.bridge` tells."""
    if arguments is None:
        early_signals.keep()
    from kafka_gateway.commands.bridge import run_bridge

    return run_bridge(sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    sys.exit(main())
