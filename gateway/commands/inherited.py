"""What the workers get from their parent: the directory of their sockets, the listening sockets, the embedded Kafka."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from kafka_gateway.config import Config, Fault
from kafka_gateway.door.listening import bind_shared, bind_unix
from kafka_gateway.workers.addresses import unix_name
from kafka_gateway.workers.part import count_of, peer_address
from kafka_gateway.workers.peer_directory import PEER_DIR, socket_path, trouble_with

if TYPE_CHECKING:
    from kafka_gateway.kafka.clients.embedded import EmbeddedKafka

log = logging.getLogger("gateway.workers")


def peer_directory(config: Config, stack: contextlib.ExitStack) -> str:
    """The directory for the sockets between workers, open to this user alone. A temporary one is removed at the end.

    Raises OSError, with a message for the operator, if it cannot be made or used.
    """
    path = config.text(PEER_DIR)
    if not path:
        made = tempfile.mkdtemp(prefix="kafka-gateway-")  # short: paths of sockets may have 107 bytes
        stack.callback(shutil.rmtree, made, ignore_errors=True)
        return made
    is_there = os.path.isdir(path)
    if trouble := trouble_with(path):
        raise OSError(f"{PEER_DIR}: {trouble}")
    if not is_there:
        log.info("%s: %s was made, of mode 0700", PEER_DIR, path)
    return path


def peer_directory_faults(config: Config) -> list[Fault]:
    """What is wrong with ``cluster.peer.dir``: one of the checks of ``kafka-gateway --check``. Directories that the
    check had to make are removed again."""
    path = config.text(PEER_DIR)
    if not path or (config.integer("workers") == 1 and not config.flag("cluster.enable")):
        return []
    try:
        socket_path(path, _longest_name(config))
    except ValueError as error:
        return [Fault(config.place(PEER_DIR), PEER_DIR, str(error))]
    missing = [each for each in (Path(path), *Path(path).parents) if not each.exists()]
    trouble = trouble_with(path)
    for each in missing:
        with contextlib.suppress(OSError):  # it could not be made, or somebody uses it now
            each.rmdir()
    return [Fault(config.place(PEER_DIR), PEER_DIR, trouble)] if trouble else []


def _longest_name(config: Config) -> str:
    """Of the sockets in that directory."""
    last = str(count_of(config) - 1)
    if not config.flag("cluster.enable"):
        return peer_address("", int(last))
    return unix_name(config.text("cluster.id"), f"{config.text('cluster.node.id') or socket.gethostname()}/{last}")


def bind_listeners(config: Config, count: int, stack: contextlib.ExitStack) -> list[list[list[socket.socket]]]:
    """For each listener, the sockets of each worker. A Unix socket is one for all of them."""
    found = []
    for listener in config.listeners():
        try:
            if listener.scheme == "unix":
                one = stack.enter_context(bind_unix(listener.path))
                one.listen(1024)
                stack.callback(_remove, listener.path)
                found.append([[one] for _ in range(count)])
            else:
                found.append(bind_shared(listener, count))
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise OSError(f"cannot listen on {listener}: {reason}") from None
    return found


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def open_embedded(config: Config, stack: contextlib.ExitStack) -> EmbeddedKafka | None:
    """The embedded Kafka, one for all workers; None with ``bootstrap.servers``."""
    if config.items("bootstrap.servers"):
        return None
    from kafka_gateway.kafka.clients.embedded import EmbeddedKafka

    embedded = EmbeddedKafka(config.items("embedded.topics"))
    stack.callback(embedded.close)
    return embedded
