"""``python -m kafka_gateway`` is the command ``kafka-gateway``."""

import signal
import sys


def start() -> int:
    """Runs the command; the exit code. A gateway that starts is not killed by a signal that it takes later."""
    first = sys.argv[1] if len(sys.argv) > 1 else "-"
    if first.startswith("-") or not first.replace("-", "").isalpha():  # no `tunnel`, which ends with its terminal
        for name in ("SIGHUP", "SIGUSR1", "SIGUSR2"):
            if number := getattr(signal, name, None):
                signal.signal(number, signal.SIG_IGN)  # until `commands.run` has its handlers
    from kafka_gateway.commands.main import main

    return main()


if __name__ == "__main__":
    sys.exit(start())
