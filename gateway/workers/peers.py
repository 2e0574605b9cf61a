"""The other processes of a cluster, of this node and of others: a connection to each that is called, and answers to
those that call (`kafka_gateway.cluster.ports.Peers`; cluster.md §9).

Whoever connects has proved by the end of the greeting that it is of the same cluster: by the directory of its Unix
socket, by a certificate of the cluster's authority, by the secret, or by both of these. Until then it is a stranger: it
may send 1 KiB in all, has ``cluster.peer.connect.timeout.ms``, and is one of few from its address.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from kafka_gateway.cluster.ports import PeerLost, Process, Reach
from kafka_gateway.config import Config
from kafka_gateway.core import Gateway
from kafka_gateway.door.listening import Accepted, bind_unix
from kafka_gateway.errors import HeadTooLarge, InstanceUnavailable
from kafka_gateway.forwarding import Sent
from kafka_gateway.messages import Reply, Request
from kafka_gateway.state_log import StateLog
from kafka_gateway.workers.addresses import unix_name, usable
from kafka_gateway.workers.answering import Answering
from kafka_gateway.workers.certificate_names import names_host
from kafka_gateway.workers.frames import FrameError
from kafka_gateway.workers.greeting import Greeting
from kafka_gateway.workers.link import Link
from kafka_gateway.workers.peer import LOOK_S, Peer, Ways, reason_of
from kafka_gateway.workers.peer_directory import PEER_DIR, socket_path, trouble_with
from kafka_gateway.workers.peer_settings import PeerSettings, PeerTls
from kafka_gateway.workers.siblings import terms_of
from kafka_gateway.workers.wire import LinkLost, Wire, no_fault, tell_cut_off, told_address

log = logging.getLogger("gateway.workers")

_STRANGERS_MAX: Final = 32
"""Connections from one address that have not proved yet who they are."""
_AGAIN_S: Final = 0.1
_AGAIN_MOST_S: Final = 5.0
_EACH_S: Final = 0.05
"""Between looks at two processes: with hundreds of them it takes longer to have looked at all."""


@contextlib.asynccontextmanager
async def open_peers(
    config: Config, gateway: Gateway, process: Process, directory: str = ""
) -> AsyncIterator[ClusterPeers]:
    """Listens for the other processes, and answers them, while the block runs. ``directory``: of the Unix sockets
    between the processes of this node, where it has several; else ``cluster.peer.dir``.

    At its end it asks nobody anything more and tells those that ask that it stops; what it is at work on for them is
    finished, within ``shutdown.graceful.ms``. ConfigError; OSError: an address cannot be had.
    """
    peers = ClusterPeers(config, gateway, process, directory)
    try:
        await peers.listen()
        yield peers
    finally:
        await peers.close(config.seconds("shutdown.graceful.ms"))


class ClusterPeers:
    """Belongs to the event loop."""

    def __init__(self, config: Config, gateway: Gateway, process: Process, directory: str) -> None:
        self._gateway = gateway
        self._me = process
        self._settings = PeerSettings.of(config)
        self._directory = directory or config.text(PEER_DIR)
        self._is_shared = bool(config.text(PEER_DIR))
        """Whether other nodes may have the directory, too."""
        self._node, _, number = process.id.rpartition("/")
        self._number = int(number)
        self._terms = replace(terms_of(config, gateway), drops=True)
        self._connect_s = config.seconds("cluster.peer.connect.timeout.ms")
        self._states = StateLog(log)
        self._ways = Ways(process, self._settings, self._directory, self._terms, self._connect_s, self._states)
        self._known: dict[str, Peer] = {}
        self._watching: asyncio.Task[None] | None = None
        self._answering: set[Answering] = set()
        self._strangers: Counter[str] = Counter()
        self._links: set[Link] = set()
        """All that are open, those to processes that stop too."""
        self._listening: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._addresses: list[str] = []
        self._one_over = asyncio.Event()
        self._paths: list[Path] = []

    @property
    def addresses(self) -> Sequence[str]:
        return tuple(self._addresses)

    def know(self, process: str, boot: str, addresses: Sequence[str]) -> None:
        known = self._known.get(process)
        if known is None:
            known = self._known[process] = Peer(process, (), self._ways, self._links)
        known.told(boot, tuple(addresses))

    def forget(self, process: str) -> None:
        known = self._known.pop(process, None)
        if known is not None:
            known.close()

    def watch(self) -> None:
        if self._watching is None:
            self._watching = self._spawn(self._watch())

    def look(self, process: str) -> None:
        if (known := self._known.get(process)) is not None:
            known.watch()

    async def _watch(self) -> None:
        """Looks after every process that is known, and after this one's certificate, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)  # first, too: the others are about to read what this process has told
            for known in list(self._known.values()):
                known.watch()
                await asyncio.sleep(_EACH_S)
            if self._settings.tls is not None:
                self._settings.tls.look_at_end(self._states)

    def reach(self, process: str) -> Reach | None:
        if process == self._me.id:
            return Reach(True, 0.0, "")
        known = self._known.get(process)
        if known is None:
            return None
        return known.reach_told(max((each.heard_at for each in self._answering if each.other == process), default=0.0))

    # --- asking -----------------------------------------------------------------------------------------------------

    @property
    def carries_proofs(self) -> bool:
        listener = self._settings.listener
        return listener is None or listener.scheme != "tcp"

    async def call(self, process: str, request: Request, relay: str = "") -> Reply:
        known = self._find(process)
        link = await self._link(process, known)
        if relay and known.in_clear:
            raise PeerLost(process, sent=False)
        try:
            return await link.ask(request, relay)
        except LinkLost as lost:
            raise PeerLost(process, sent=lost.sent) from None
        except InstanceUnavailable:  # its connection has cluster.peer.max.requests, for too long
            raise PeerLost(process, sent=False) from None
        except FrameError as error:
            raise HeadTooLarge(f"The request cannot be sent to another process: {error}.") from None

    def begin(self, process: str, request: Request, sent: Sent) -> bool:
        known = self._known.get(process)
        return known is not None and (link := known.link) is not None and link.begin(request, sent)

    def end_reads(self) -> None:
        for link in self._links:
            link.end_reads()

    async def question(self, process: str, name: str, parameters: Mapping[str, Any]) -> list[Any]:
        link = await self._link(process, self._find(process))
        try:
            return await link.question(name, parameters)
        except LinkLost as lost:
            raise PeerLost(process, sent=lost.sent) from None
        except InstanceUnavailable:
            raise PeerLost(process, sent=False) from None

    @staticmethod
    async def _link(process: str, known: Peer) -> Link:
        try:
            return await known.reach()
        except LinkLost:
            raise PeerLost(process, sent=False) from None

    def _find(self, process: str) -> Peer:
        """PeerLost: nobody has told of it."""
        known = self._known.get(process)
        if known is None:
            if process.rpartition("/")[0] != self._node:
                raise PeerLost(process, sent=False)
            # It may not have claimed anything yet, and may have nothing to claim.
            self.know(process, "", (f"unix:{unix_name(self._me.cluster, process)}",))
            known = self._known[process]
        return known

    # --- answering --------------------------------------------------------------------------------------------------

    async def listen(self) -> None:
        """Opens the addresses of this process. OSError."""
        if self._directory:
            self._listen_unix()
        settings = self._settings
        if settings.listener is not None and settings.advertised is not None:
            address = settings.listener.of_worker(self._number)
            try:
                found = await asyncio.get_running_loop().getaddrinfo(
                    address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
                )
                for family, _, _, _, name in dict.fromkeys(found):
                    listening = socket.create_server(
                        name[:2], family=family, backlog=128, dualstack_ipv6=address.host == "::"
                    )
                    self._accept_from(listening, settings.secret, settings.tls if address.scheme == "tls" else None)
            except OSError as error:
                raise OSError(f"cluster.peer.listener: cannot listen on {address}: {reason_of(error)}") from None
            self._addresses.append(str(settings.advertised.of_worker(self._number)))

    def _listen_unix(self) -> None:
        name = unix_name(self._me.cluster, self._me.id)
        try:
            path = socket_path(self._directory, name)
        except ValueError as error:
            raise OSError(f"{PEER_DIR}: {error}") from None
        if trouble := trouble_with(self._directory):
            raise OSError(f"{PEER_DIR}: {trouble}")
        for folder in (path.parent.parent, path.parent):
            folder.mkdir(mode=0o700, exist_ok=True)
        try:
            listening = bind_unix(str(path))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise OSError(f"{PEER_DIR}: cannot listen on {path}: {reason_of(error)}") from None
            raise OSError(
                f"cluster.node.id {self._node} is in use (socket {path}): stop the gateway that has it, or give this"
                " one another name"
            ) from None
        listening.listen(128)
        self._paths.append(path)
        self._accept_from(listening, b"", None)
        self._addresses.append(f"unix:{name}")

    def _accept_from(self, listening: socket.socket, secret: bytes, tls: PeerTls | None) -> None:
        listening.setblocking(False)
        self._listening.append(listening)
        self._spawn(self._accept(listening, secret, tls))

    async def _accept(self, listening: socket.socket, secret: bytes, tls: PeerTls | None) -> None:
        loop, pause_s = asyncio.get_running_loop(), _AGAIN_S
        while True:
            try:
                connection, name = await loop.sock_accept(listening)
            except OSError as error:  # too many open files, say
                text, reason = "no process of the cluster can be let in: %s", reason_of(error)
                self._states.trouble(listening, reason, logging.ERROR, text, reason)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _AGAIN_MOST_S)
                continue
            pause_s = _AGAIN_S
            self._states.well(listening, text="processes of the cluster are let in again")
            host = str(name[0]) if isinstance(name, tuple) else ""
            if host and self._strangers[host] >= _STRANGERS_MAX:
                reason = f"{_STRANGERS_MAX} connections from there have not proved yet who they are"
                tell_cut_off(self._states, (host, ""), told_address(name), reason)
                connection.close()
                continue
            self._strangers[host] += 1
            accepted = Accepted(connection)
            accepted.follow(self._spawn(self._admit(accepted, name, host, secret, tls)))

    async def _admit(self, accepted: Accepted, name: object, host: str, secret: bytes, tls: PeerTls | None) -> None:
        """Meets whoever has connected, within ``cluster.peer.connect.timeout.ms``."""
        where = told_address(name) if host else "a socket of this machine"
        judge = no_fault if tls is None else self._judge_certificate
        greeting = Greeting(self._me, False, secret)
        wire = Answering(greeting, self._gateway, self._over, self._terms.requests_max, judge, self._states)
        self._answering.add(wire)
        trouble = ""
        try:
            context = tls.of_server() if tls is not None else None
            async with asyncio.timeout(self._connect_s):
                await asyncio.get_running_loop().connect_accepted_socket(lambda: wire, accepted.take(), ssl=context)
                await asyncio.shield(wire.ready)
        except LinkLost:
            trouble = "it went before it proved who it is"
        except TimeoutError:
            trouble = f"it did not prove who it is within {self._connect_s:g} s"
        except OSError as error:
            trouble = f"no TLS: {reason_of(error)}"
        finally:
            self._strangers[host] -= 1
            if not self._strangers[host]:
                del self._strangers[host]
            if wire.other:
                self._let_in(wire, host)
            else:
                if trouble := wire.trouble or trouble:
                    tell_cut_off(self._states, (host, wire.claimed), where, trouble)
                if wire.address:
                    wire.close()
                else:
                    self._over(wire)  # it has never been connected

    def _let_in(self, wire: Answering, host: str) -> None:
        subjects = (host, ""), (host, wire.other), (Answering, wire.other)
        self._states.well(*subjects, text="process %s is let in again, at %s", values=(wire.other, wire.address))
        if (known := self._known.get(wire.other)) is not None:
            known.wake()

    def _judge_certificate(self, wire: Wire) -> str:
        """The certificate has to be one of the hosts of which the process has told that it listens there."""
        known = self._known.get(wire.claimed)
        hosts = (
            [each.host for each in usable(known.addresses, True) if each.scheme == "tls"] if known is not None else []
        )
        if not hosts:
            return f"process {wire.claimed!r} has not told that it listens at a tls:// address"
        if any(names_host(wire.certificate, host) for host in hosts):
            return ""
        return f"its certificate is not one of {', '.join(hosts)}, where process {wire.claimed!r} listens"

    def _over(self, answering: Answering) -> None:
        self._answering.discard(answering)
        if (known := self._known.get(answering.other)) is not None:
            known.heard(answering.heard_at)
        self._one_over.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("connections between processes: a task failed", exc_info=error)

    # --- the end ----------------------------------------------------------------------------------------------------

    async def close(self, grace_s: float) -> None:
        """Ends all connections, those of others when what they asked is answered, after ``grace_s`` at the latest."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listening in self._listening:
            listening.close()
        for path in self._paths:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # another process of the node is there
                path.parent.rmdir()
                if not self._is_shared:
                    path.parent.parent.rmdir()
        for process in list(self._known):
            self.forget(process)
        for link in list(self._links):
            link.close()
        for answering in list(self._answering):
            answering.end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._all_over()
        for answering in list(self._answering):
            answering.close()
        await self._all_over()

    async def _all_over(self) -> None:
        while self._answering:
            self._one_over.clear()
            await self._one_over.wait()
