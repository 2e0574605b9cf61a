"""What the command does in one of several processes of a gateway, with the part that the parent gives it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from kafka_gateway.commands.run import run
from kafka_gateway.config import Config, ConfigError, PropertiesText
from kafka_gateway.memory_budget import automatic_max_bytes
from kafka_gateway.workers.part import WorkerPart
from kafka_gateway.workers.texts import read_shared

if TYPE_CHECKING:
    from kafka_gateway.assembly.plugins import Plugins
    from kafka_gateway.logs.logs import Logs

log = logging.getLogger("gateway.workers")

_MEMORY = "memory.max.bytes"
_SERVER_ID = "kafka.ws.proxy.server.server-id"


class WorkerCommand:
    """What the command does differently in a worker: where it reads the configuration, and where it reports faults."""

    def __init__(self, part: WorkerPart, logs: Logs) -> None:
        self._part = part
        self._logs = logs

    def text(self) -> PropertiesText | None:
        """The properties file as the gateway was started with."""
        return read_shared(self._part.texts[0])

    def tell(self, problem: object) -> None:
        """Logs why the worker cannot start."""
        log.error("%s", problem)

    def run(self, plugins: Plugins, read: Callable[[PropertiesText | None], Config]) -> int:
        """Serves with the configuration that the other workers have; the exit code. Raises ConfigError."""
        part = self._part
        started, taken = (read_shared(number) for number in part.texts[:2])
        config = read(started)
        if taken != started:
            try:
                config = config.with_live_of(read(taken))
            except ConfigError as error:
                for fault in error.faults:
                    log.error("%s", fault)
                log.error("what was changed by SIGHUP is left out: send it again when this is mended")

        def read_again() -> Config:
            return of_worker(read(read_shared(part.texts[2])), part)

        return run(of_worker(config, part), plugins, read=read_again, part=part, logs=self._logs)


def of_worker(config: Config, part: WorkerPart) -> Config:
    """The configuration of this worker: the server id, which must differ in all processes, gets its number, and the
    memory is divided."""
    memory = config.integer(_MEMORY) or automatic_max_bytes()
    return config.with_values(
        {
            _SERVER_ID: f"{config.text(_SERVER_ID)}.{part.number}",
            _MEMORY: max(1, memory // part.workers),
        }
    )
