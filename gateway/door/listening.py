"""Sockets that listen: TCP on one or both versions of IP, and Unix sockets, whose files a killed gateway leaves; and
connections that have come to one, until somebody takes them over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Callable

from kafka_gateway.settings.listeners import Listener


async def open_tcp(
    loop: asyncio.AbstractEventLoop,
    server: Callable[[], asyncio.BaseProtocol],
    listener: Listener,
) -> asyncio.Server:
    """Listens without TLS."""
    if listener.host == "::":  # IPv6 and IPv4 on one socket, where the system allows it
        both = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        both.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        try:
            both.bind(("::", listener.port))
        except OSError:
            both.close()
            raise
        return await loop.create_server(server, sock=both, backlog=1024)
    return await loop.create_server(server, listener.host, listener.port, backlog=1024, reuse_address=True)


def bind_unix(path: str) -> socket.socket:
    """asyncio would take the path from a gateway that is using it. Who may connect is up to umask and the directory."""
    _remove_stale(path)
    bound = socket.socket(socket.AF_UNIX)
    try:
        bound.bind(path)
    except OSError:
        bound.close()
        raise
    return bound


def _remove_stale(path: str) -> None:
    """Removes a socket that a gateway which died left behind; anything else stays, and the bind fails."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            probe = socket.socket(socket.AF_UNIX)
            probe.settimeout(1.0)  # its gateway lives, and is too busy to accept
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
            except OSError:
                pass
            finally:
                probe.close()


def bind_shared(listener: Listener, count: int) -> list[list[socket.socket]]:
    """For each of ``count`` processes the sockets of a TCP listener. The kernel spreads connections over those that
    listen, and what waits at one of them stays there for whoever listens on it next.

    OSError: the address cannot be had. That is tried without SO_REUSEPORT first: with it two gateways would share the
    clients of one address, and neither would notice.
    """
    if listener.host == "::":
        addresses = [(socket.AF_INET6, "::")]
    else:
        found = socket.getaddrinfo(listener.host, listener.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        addresses = list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))
    port = listener.port
    bound: list[list[socket.socket]] = [[] for _ in range(count)]
    try:
        for family, host in addresses:
            with _bound(family, host, port) as probe:
                port = probe.getsockname()[1]
            for sockets in bound:
                sockets.append(_bound(family, host, port, shared=True))
    except OSError:
        for each in (each for sockets in bound for each in sockets):
            each.close()
        raise
    return bound


def bind_again(old: socket.socket) -> socket.socket:
    """A socket of the same address that does not listen yet, so that the kernel gives it nothing until it does.

    OSError: the address cannot be had. ``old`` is one of `bind_shared`, and may be open.
    """
    host, port = old.getsockname()[:2]
    return _bound(old.family, host, port, shared=True, listens=False)


def _bound(family: int, host: str, port: int, shared: bool = False, listens: bool = True) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
        made.bind((host, port))
        if shared and listens:
            made.listen(1024)
    except OSError:
        made.close()
        raise
    return made


class Accepted:
    """A connection that a task is to take over. It is closed if that ends without having done so, also if it is
    cancelled before its first step, in which no ``finally`` runs."""

    __slots__ = ("_is_taken", "connection")

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._is_taken = False

    def follow(self, task: asyncio.Task[None]) -> None:
        """``task`` is the one that takes it over."""
        task.add_done_callback(self._task_over)

    def take(self) -> socket.socket:
        """The connection; from here on it is the caller's, or asyncio's, which closes it."""
        self._is_taken = True
        return self.connection

    def _task_over(self, _: asyncio.Task[None]) -> None:
        if not self._is_taken:
            self.connection.close()


def listen_tcp(listener: Listener) -> list[socket.socket]:
    """The listening sockets of an address, for callers that accept connections themselves."""
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    address = (listener.host, listener.port)
    return [socket.create_server(address, family=family, backlog=1024, dualstack_ipv6=listener.host == "::")]
