"""The PROXY protocol, versions 1 and 2 (proxy-protocol.txt of HAProxy): a proxy first sends the client's address.

It comes before TLS, so such a listener accepts its connections itself, reads exactly those bytes, and then serves the
connection like any other.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import ssl
import struct
from collections.abc import Callable
from functools import partial
from typing import Final

from kafka_gateway.client_time import ClientTime
from kafka_gateway.door.accepting import AcceptingServer, Refused
from kafka_gateway.door.beginnings import Beginnings
from kafka_gateway.door.client_address import address_in
from kafka_gateway.door.listening import Accepted

log = logging.getLogger("gateway.host")

_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_V1_MAX: Final = 107
"""Bytes of a line of version 1, its end included."""
_V2_MAX: Final = 4096
"""Bytes behind the 16 of the head: addresses, and what else a proxy tells."""


async def read_head(connection: socket.socket) -> str:
    """The client's address, as the proxy says; "" if it speaks for itself (a health check) or names no address.

    Raises ValueError for other bytes, ConnectionError for a connection that ends. Nothing of the bytes is in the
    messages, so they are few.
    """
    begin = await _exactly(connection, len(_SIGNATURE))
    return await (_version_2(connection) if begin == _SIGNATURE else _version_1(connection, begin))


async def _version_2(connection: socket.socket) -> str:
    kind, family, size = struct.unpack("!BBH", await _exactly(connection, 4))
    if kind >> 4 != 2 or kind & 15 > 1:
        raise ValueError("neither version 1 nor 2")
    if size > _V2_MAX:
        raise ValueError(f"more than {_V2_MAX} bytes")
    body = await _exactly(connection, size)
    if kind & 15 == 0:
        return ""
    length = {1: 4, 2: 16}.get(family >> 4)
    if length is None:  # AF_UNSPEC, AF_UNIX: no address
        return ""
    if size < 2 * length + 4:
        raise ValueError("addresses are missing")
    return str(address_in(str(ipaddress.ip_address(body[:length]))))


async def _version_1(connection: socket.socket, begin: bytes) -> str:
    if not begin.startswith(b"PROXY "):
        raise ValueError("no PROXY protocol")
    line = bytearray(begin)
    while not line.endswith(b"\n"):
        if len(line) >= _V1_MAX:
            raise ValueError("a line without an end")
        line += await _exactly(connection, 1)
    words = line.decode("ascii", "replace").removesuffix("\r\n").split(" ")
    if not line.endswith(b"\r\n"):
        raise ValueError("a line without an end")
    if words[1] == "UNKNOWN":
        return ""
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6") or not (words[4].isdigit() and words[5].isdigit()):
        raise ValueError("a malformed line")
    address = address_in(words[2])
    if address is None or (":" in words[2]) != (words[1] == "TCP6") or int(words[4]) > 65535:
        raise ValueError("a malformed line")
    return str(address)


async def _exactly(connection: socket.socket, count: int) -> bytes:
    """Never a byte more: what follows is the client's."""
    loop, found = asyncio.get_running_loop(), b""
    while len(found) < count:
        part = await loop.sock_recv(connection, count - len(found))
        if not part:
            raise ConnectionResetError("the proxy left")
        found += part
    return found


class ProxyServer(AcceptingServer):
    """Accepts the connections of proxies, in place of asyncio's server.

    Args:
        trusts: whether the address of a connection is a proxy's that is believed; others are closed.
        serve_client: makes the protocol of a connection whose client has this address.
        no_proxy: is told the address of who has not kept the protocol, or is not trusted, and the reason, one of a few.
        refused: see `Refused`; it gets the client's address, or the proxy's where that speaks for itself.
    """

    def __init__(
        self,
        listening: list[socket.socket],
        context: ssl.SSLContext | None,
        trusts: Callable[[str], bool],
        serve_client: Callable[[str], asyncio.Protocol],
        no_proxy: Callable[[str, str], None],
        refused: Refused,
        wait_s: float,
        beginnings: Beginnings,
    ) -> None:
        self._trusts, self._serve_client, self._no_proxy = trusts, serve_client, no_proxy
        super().__init__(listening, context, partial(serve_client, ""), refused, wait_s, beginnings)

    async def _begin(self, accepted: Accepted, peer: str) -> None:
        try:
            accepted.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not self._trusts(peer):
                self._no_proxy(peer, "not one of forwarded.trust")
                return
            async with ClientTime(self._wait_s):
                client = await read_head(accepted.connection) or peer
        except TimeoutError:
            self._no_proxy(peer, "it sends nothing, or not all")
        except ValueError as error:
            self._no_proxy(peer, str(error))
        except ConnectionError:
            log.debug("%s left before it had said whose connection it is", peer)
        else:
            await self._hand_on(accepted, client, partial(self._serve_client, client))
