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
from typing import Final

from kafka_gateway.door.accepting import AcceptingServer, Refused

log = logging.getLogger("gateway.host")

_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_V1_MAX: Final = 107
"""Bytes of a line of version 1, its end included."""
_V2_MAX: Final = 4096
"""Bytes behind the 16 of the head: addresses, and what else a proxy tells."""
_TELL_EVERY: Final = 1000


async def read_head(connection: socket.socket) -> tuple[str, int] | None:
    """Address and port of the client, as the proxy says; None if it speaks for itself (a health check).

    Raises ValueError for other bytes, ConnectionError for a connection that ends.
    """
    begin = await _exactly(connection, len(_SIGNATURE))
    return await (_version_2(connection) if begin == _SIGNATURE else _version_1(connection, begin))


async def _version_2(connection: socket.socket) -> tuple[str, int] | None:
    kind, family, size = struct.unpack("!BBH", await _exactly(connection, 4))
    if kind >> 4 != 2 or kind & 15 > 1:
        raise ValueError("neither version 1 nor 2")
    if size > _V2_MAX:
        raise ValueError(f"more than {_V2_MAX} bytes")
    body = await _exactly(connection, size)
    if kind & 15 == 0:
        return None
    length = {1: 4, 2: 16}.get(family >> 4)
    if length is None:  # AF_UNSPEC, AF_UNIX: no address
        return None
    if size < 2 * length + 4:
        raise ValueError("addresses are missing")
    port = int.from_bytes(body[2 * length : 2 * length + 2], "big")
    return str(ipaddress.ip_address(body[:length])), port


async def _version_1(connection: socket.socket, begin: bytes) -> tuple[str, int] | None:
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
        return None
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6") or not (words[4].isdigit() and words[5].isdigit()):
        raise ValueError("a malformed line")
    address = ipaddress.ip_address(words[2])  # ValueError
    if address.version != (4 if words[1] == "TCP4" else 6) or int(words[4]) > 65535:
        raise ValueError("a malformed line")
    return str(address), int(words[4])


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
        serve_client: makes the protocol of a connection whose client is this one.
        refused: see `Refused`; it gets the client's address, or the proxy's where that speaks for itself.
        most: connections whose first bytes are awaited at the same time.
    """

    def __init__(
        self,
        listening: list[socket.socket],
        context: ssl.SSLContext | None,
        trusts: Callable[[str], bool],
        serve_client: Callable[[tuple[str, int] | None], asyncio.Protocol],
        refused: Refused,
        wait_s: float,
        most: int = 1000,
    ) -> None:
        self._trusts, self._serve_client = trusts, serve_client
        self._room = asyncio.Semaphore(most)
        self._refused_count = 0
        super().__init__(listening, context, lambda: serve_client(None), refused, wait_s)

    async def _wait_for_room(self) -> None:
        await self._room.acquire()

    def _leave_room(self) -> None:
        self._room.release()

    async def _begin(self, connection: socket.socket, peer: str) -> None:
        read = False
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not self._trusts(peer):
                self._close(peer, "not one of forwarded.trust")
                return
            async with asyncio.timeout(self._wait_s):
                client = await read_head(connection)
            read = True
        except TimeoutError:
            self._close(peer, "it sends nothing")
        except ValueError as error:
            self._close(peer, str(error))
        except ConnectionError:
            pass
        finally:
            self._room.release()  # a client that is slow with TLS delays no other
            if not read:
                connection.close()
        if read:
            whose = client[0] if client is not None else peer
            await self._hand_on(connection, whose, lambda: self._serve_client(client))

    def _close(self, peer: str, why: str) -> None:
        """The log is told of the first and then seldom, or it could be flooded."""
        if not self._refused_count % _TELL_EVERY:
            log.warning("closed a connection of %s: %s (PROXY protocol)", peer, why)
        self._refused_count += 1
