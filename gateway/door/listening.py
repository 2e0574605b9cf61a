"""Sockets that listen: TCP on one or both versions of IP, and Unix sockets, of which a dead gateway may leave some."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import stat
from collections.abc import Callable

from kafka_gateway.settings.listeners import Listener


async def open_tcp(
    loop: asyncio.AbstractEventLoop,
    server: Callable[[], asyncio.BaseProtocol],
    listener: Listener,
    context: ssl.SSLContext | None,
) -> asyncio.Server:
    if listener.host == "::":  # IPv6 and IPv4 on one socket, where the system allows it
        both = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        both.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        try:
            both.bind(("::", listener.port))
        except OSError:
            both.close()
            raise
        return await loop.create_server(server, sock=both, ssl=context, backlog=1024)
    return await loop.create_server(server, listener.host, listener.port, ssl=context, backlog=1024, reuse_address=True)


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
            probe.settimeout(1.0)  # one that is too busy to take connections is alive
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
            except OSError:
                pass
            finally:
                probe.close()


def listen_tcp(listener: Listener) -> list[socket.socket]:
    """The listening sockets of an address, for who accepts by itself."""
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    address = (listener.host, listener.port)
    return [socket.create_server(address, family=family, backlog=1024, dualstack_ipv6=listener.host == "::")]
