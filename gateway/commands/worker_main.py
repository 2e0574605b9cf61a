"""Where one of several processes of a gateway begins: with the same command as its parent, as a worker."""

from __future__ import annotations

import sys

from kafka_gateway.commands.main import main
from kafka_gateway.commands.run import open_logs
from kafka_gateway.commands.worker import WorkerCommand
from kafka_gateway.workers.part import read_part


def start() -> None:
    """Serves as the first argument says, a `WorkerPart`; the rest are those of the parent. Ends the process."""
    part = read_part(sys.argv[1])
    # From here on, and not only when it serves: why a worker cannot start stands in the log.
    logs = open_logs(part.log_format, part.log_file, part.number)
    if logs is None:
        sys.exit(1)
    sys.exit(main(sys.argv[2:], WorkerCommand(part, logs)))
