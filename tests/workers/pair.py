"""Two workers of a gateway in this process: sockets between them are real, and each has a port of its own."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

from kafka_gateway.assembly.app import App, Worker, serve
from kafka_gateway.assembly.plugins import Plugins
from kafka_gateway.config import load
from kafka_gateway.workers.part import Parent, States, WorkerPart, peer_address

WORKERS = 2


class NoParent:
    """In the place of the parent: both have started, and may end whenever they want."""

    def __init__(self) -> None:
        self.states: States = [(True, 0)] * WORKERS

    async def all_drained(self, timeout_s: float) -> None:
        """At once."""


@contextlib.asynccontextmanager
async def two_workers(
    folder: Path, bootstrap: str, *plugins: tuple[object, ...], **settings: Any
) -> AsyncIterator[list[App]]:
    """Both, on the same Kafka. ``plugins`` are for each one's extra plugins, in turn."""
    apps = []
    async with contextlib.AsyncExitStack() as stack:
        peers = []
        for number in range(WORKERS):
            peer = stack.enter_context(socket.socket(socket.AF_UNIX))
            peer.bind(peer_address(str(folder), number))
            peer.listen()
            peers.append(peer)
        for number, peer in enumerate(peers):
            found = Plugins(extra=plugins[number] if plugins else (), installed=False)
            values = {"port": 0, "access.log.enable": False, "embedded.enable": True, "workers": WORKERS, **settings}
            config = load(found.config_keys()).with_values(values)
            client = socket.create_server(("127.0.0.1", 0))
            part = WorkerPart(
                number,
                WORKERS,
                str(folder),
                -1,
                peer.dup().detach(),
                [[client.detach()]],
                (-1, -1, -1),
                "text",
                "",
                bootstrap,
                1.0,
            )
            worker = Worker(part, cast(Parent, NoParent()))
            apps.append(await stack.enter_async_context(serve(config, found, worker)))
        yield apps
