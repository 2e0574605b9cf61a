"""Several processes of one node of a cluster: how they, and others, reach each of them (cluster.md §2, §3)."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.cluster.ports import PeerLost, Process
from kafka_gateway.messages import Reply, Request
from kafka_gateway.relays import Relays
from kafka_gateway.workers.peers import ClusterPeers, open_peers
from tests.logged import logged
from tests.transports.authority import Authority
from tests.workers.test_peers import CONNECT, app, asked, certificate, secret, stub

__all__ = ["app", "secret", "stub"]


@contextlib.asynccontextmanager
async def worker(app: App, id: str, values: dict[str, Any], directory: Path | str = "") -> AsyncIterator[ClusterPeers]:
    config = app.gateway.config.with_values(CONNECT | values)
    async with open_peers(config, app.gateway, Process("c", id, f"boot of {id}"), str(directory)) as peers:
        yield peers


def ports() -> int:
    """The first of three free ones in a row."""
    while True:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError, OverflowError):
            port = int(stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1])
            for further in (1, 2):
                stack.enter_context(socket.create_server(("127.0.0.1", port + further)))
            return port


async def test_workers_of_a_node_meet_before_anything_is_claimed(
    app: App, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In the directory of their parent, where nobody has named one: no other node finds them there."""
    app.gateway.questions["who"] = lambda parameters: [parameters["asks"], "told"]
    directory = tmp_path / "own"
    async with worker(app, "gw-1/0", {}, directory) as one, worker(app, "gw-1/1", {}, directory) as other:
        assert other.addresses == ("unix:c/gw-1/1.sock",)
        for caller, called in ((one, "gw-1/1"), (other, "gw-1/0")):
            assert (await caller.call(called, asked("GET /stub/echo"))).status == 200
            assert await caller.question(called, "who", {"asks": called}) == [called, "told"]
        with pytest.raises(PeerLost):
            await one.question("gw-2/1", "who", {})
    assert list(directory.iterdir()) == []
    assert not logged(caplog, logging.WARNING)


@pytest.mark.parametrize("scheme", ["tcp", "tls"])
async def test_each_worker_has_a_port_and_proofs_go_over_tls_alone(
    app: App, tmp_path: Path, secret: Path, scheme: str
) -> None:
    port = ports()
    values: dict[str, Any] = {"cluster.peer.listener": f"{scheme}://127.0.0.1:{port}"}
    values |= {"cluster.peer.secret.file": secret} if scheme == "tcp" else certificate(Authority(tmp_path))
    asking = values | {"cluster.peer.listener": f"{scheme}://127.0.0.1:{port + 2}"}
    relayed: list[Request] = []

    async def handler(request: Request) -> Reply:
        relayed.append(request)
        return Reply(200, "", b"")

    Relays.of(app.gateway).handlers["h"] = handler
    async with (
        worker(app, "gw-1/0", values) as one,
        worker(app, "gw-1/1", values) as other,
        worker(app, "gw-2/0", asking) as caller,
    ):
        assert [*one.addresses, *other.addresses] == [f"{scheme}://127.0.0.1:{port + number}" for number in (0, 1)]
        for id, called in (("gw-1/0", one), ("gw-1/1", other)):
            called.know("gw-2/0", "", caller.addresses)
            caller.know(id, "", called.addresses)
            assert (await caller.call(id, asked("GET /stub/echo"))).status == 200
        assert caller.carries_proofs is (scheme == "tls")
        request = asked("GET /")
        request.session.proof = {"authorization": "Basic secret"}
        if scheme == "tls":
            assert (await caller.call("gw-1/1", request, "h")).status == 200
            assert [each.session.proof for each in relayed] == [request.session.proof]
        else:
            with pytest.raises(PeerLost):
                await caller.call("gw-1/1", request, "h")
            assert relayed == []
