"""One of several processes of a gateway: the same command as its parent's, with the part that the parent gives it."""

from __future__ import annotations

import signal
import sys

from kafka_gateway.config import Config
from kafka_gateway.memory_budget import automatic_max_bytes
from kafka_gateway.workers.part import WorkerPart, read_part

START = "from kafka_gateway.commands.worker import start; start()"
"""What the interpreter of a worker runs. bin/stop knows a gateway by ``-m kafka_gateway``: its parent only."""

_MEMORY = "memory.max.bytes"
_SERVER_ID = "kafka.ws.proxy.server.server-id"


def start() -> None:
    """Serves as the first argument says, a `WorkerPart`; the rest are those of the parent. Ends the process."""
    for name in ("SIGHUP", "SIGUSR1", "SIGUSR2"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)  # until `commands.run` has its handlers
    from kafka_gateway.commands.main import main

    sys.exit(main(sys.argv[2:], read_part(sys.argv[1])))


def of_worker(config: Config, part: WorkerPart) -> Config:
    """The configuration of this worker: what has to be unlike in all processes gets its number, and what is there
    once for all is shared out."""
    memory = config.integer(_MEMORY) or automatic_max_bytes()
    return config.with_values(
        {
            _SERVER_ID: f"{config.text(_SERVER_ID)}.{part.number}",
            _MEMORY: max(1, memory // part.workers),
        }
    )
