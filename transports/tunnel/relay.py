"""One tunnel at work: requests go to the broker as they are, replies to the client with addresses that it can reach.

Only the first bytes of most frames are looked at. A long reply goes on in fragments of one WebSocket message, as it
comes. Replies that may carry addresses are held until they are whole, but not long Fetch replies. Replies are matched
with requests in order, which is Kafka's order on a connection (bridges.md C-9 to C-12).
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import struct
from collections import deque
from typing import Any

from kafka_gateway.errors import CloseReason
from kafka_gateway.memory_budget import COUNT_FROM, MemoryBudget, MemoryShare
from kafka_gateway.transports.tunnel import apis, own_listings, own_topics, rewriting
from kafka_gateway.transports.tunnel.advertised_addresses import AdvertisedAddresses
from kafka_gateway.transports.tunnel.broker import BrokerConnection
from kafka_gateway.transports.tunnel.counts import Counts
from kafka_gateway.transports.tunnel.fetch_response_scanner import FetchResponseScanner, without_hint
from kafka_gateway.transports.tunnel.inflight_memory import InflightMemory
from kafka_gateway.transports.tunnel.routes import Routes
from kafka_gateway.transports.tunnel.sasl import RawSasl
from kafka_gateway.transports.websocket.socket import Socket
from kafka_gateway.wire.frames import Cursor, WireError

log = logging.getLogger("gateway.tunnel")

TEXT = CloseReason(1003, "text message, Kafka frames are binary")
NO_FRAME = CloseReason(1007, "not one whole Kafka frame")
DENIED = CloseReason(1008, "this API is not relayed")
OWN = CloseReason(1008, "the gateway keeps its own state there")
REPLY_TOO_LARGE = CloseReason(1009, "reply over the limit")
NO_MATCH = CloseReason(1011, "reply out of order")
NOT_REWRITTEN = CloseReason(1011, "reply with addresses that cannot be rewritten")
SHED = CloseReason(1013, "memory is short and this request does not come to an end")
UPSTREAM_CLOSED = CloseReason(1000, "broker closed the connection")
UPSTREAM_LOST = CloseReason(1014, "broker closed the connection with requests open")

_REQUEST = struct.Struct(">ihhih")
"""Size, API key, API version, correlation id, length of the client id: every request begins so, flexible or not."""
_REPLY = struct.Struct(">ii")
_SIZE = struct.Struct(">i")
_DEEP = 10_000
"""With so many open requests no more are read until half of them are answered."""
_BROKER, _OPEN, _SASL, _DRAIN = 1, 2, 4, 8
"""Why nothing is read from the client: bits, for there may be several reasons at a time."""
_STREAM_FROM = 256 * 1024
"""A Fetch reply that is longer is not held to be rewritten."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rules:
    """What all tunnels of a gateway have in common."""

    denied: frozenset[int]
    hide_unknown: bool
    caps: dict[int, int]
    request_max: int
    response_max: int
    hides_own: bool = False
    """Whether clients are the gateway's own user to Kafka, who may change what the gateway keeps there for itself."""


Open = tuple[int, int, int, bool]
"""A request whose reply is to come: correlation id, API key, version, and whether the reply must be looked into."""


class Relay:
    """Belongs to the event loop. ``advertise`` None leaves addresses as they are."""

    def __init__(
        self,
        broker: BrokerConnection,
        rules: Rules,
        advertise: AdvertisedAddresses | None,
        routes: Routes,
        memory: MemoryShare,
        counts: Counts,
    ) -> None:
        self._broker = broker
        self._rules = rules
        self._advertise = advertise
        self._routes = routes
        self._memory = memory
        self._counts = counts
        self._socket: Socket | None = None
        self._open: deque[Open] = deque()
        self._holds = 0
        self._raw: RawSasl | None = None
        self._handshake = ""
        """Mechanism of a SaslHandshake v0 that is not answered yet."""
        self._head = b""
        """The first bytes of a reply, too few to know its length."""
        self._left = 0
        """Bytes still to come of a reply that goes on piece by piece."""
        self._walk: FetchResponseScanner | None = None
        """Looks for the end of the records in that reply, if it is a Fetch reply."""
        self._parts: list[bytes] = []
        """What has come of a reply that is held until it is whole, or the held end of a Fetch reply."""
        self._missing = 0
        self._accounted = 0
        self._entry: Open | None = None
        self._waiting = False
        """Whether it waits for memory."""
        self._inflight: InflightMemory | None = None
        self._on_its_way = 0
        """Bytes of memory for requests that the broker has not read."""
        self._ended = False
        self.reason: CloseReason | None = None
        """Why the tunnel was closed from this side."""
        self._draining: asyncio.TimerHandle | None = None

    def watch_frames(self, budget: MemoryBudget, connection: Any, parser: Any, queue: Any) -> InflightMemory:
        """Counts what arrives of this tunnel's client, before aiohttp's parser; for `Socket.accept`."""
        self._inflight = InflightMemory(
            connection, parser, queue, budget, self._memory, self._rules.request_max + 4, lambda: self.end(SHED)
        )
        return self._inflight

    def attach(self, socket: Socket) -> None:
        """Begins: the client's messages come to ``take``, replies leave through ``socket``."""
        self._socket = socket
        self._broker.attach(self)

    # --- client to broker -------------------------------------------------------------------------------------------

    def take(self, message: bytes, text: bool) -> None:
        """One message of the client."""
        if self._ended:
            return
        if text:
            self.end(TEXT)
            return
        length = len(message)
        if self._raw is not None and self._take_token(message):
            return
        if length < _REQUEST.size:
            self.end(NO_FRAME)
            return
        size, key, version, correlation_id, id_length = _REQUEST.unpack_from(message)
        if size != length - 4 or not -1 <= id_length <= length - _REQUEST.size:
            self.end(NO_FRAME)
            return
        if key in self._rules.denied or (self._rules.hide_unknown and key not in apis.KNOWN):
            log.warning("a request of API %d was refused", key)
            self.end(DENIED)
            return
        answered = True
        try:
            if self._rules.hides_own and not own_topics.may_pass(
                key, version, message, _REQUEST.size + max(0, id_length)
            ):
                log.warning(
                    "a request of API %d, version %d, was refused: it may be about the gateway's own", key, version
                )
                self.end(OWN)
                return
            if key == apis.PRODUCE:
                answered = _acks(message, version, id_length) != 0
        except WireError:
            self.end(NO_FRAME)
            return
        if key == apis.SASL_HANDSHAKE and version == 0:
            self._handshake = _mechanism(message, id_length)
            self._hold(_SASL)
        if answered:
            self._open.append((correlation_id, key, version, self._looks_into(key, version)))
            if len(self._open) >= _DEEP:
                self._hold(_OPEN)
        self._forward(message)

    def _forward(self, message: bytes) -> None:
        self._counts.requests += 1
        self._counts.request_bytes += len(message)
        self._broker.transport.write(message)
        if len(message) >= COUNT_FROM and self._inflight is not None:
            self._on_its_way += self._inflight.done_with(len(message))
            asyncio.get_running_loop().call_soon(self._settle)  # the write is done, or known to wait, by then

    def _settle(self) -> None:
        """Gives the memory of long requests back when the broker has read them."""
        if self._on_its_way and not self._holds & _BROKER:
            size, self._on_its_way = self._on_its_way, 0
            self._memory.give_back(size)

    def _looks_into(self, key: int, version: int) -> bool:
        if key == apis.API_VERSIONS or (key == apis.SASL_HANDSHAKE and version == 0):
            return True
        if self._rules.hides_own and own_listings.lists(key):
            return True
        return self._advertise is not None and (
            apis.carries_addresses(key, version) or version > apis.CAPS.get(key, version)
        )

    def _take_token(self, message: bytes) -> bool:
        """A message while the client logs in without Kafka's headers; False if it is a request again (C-24)."""
        assert self._raw is not None
        if len(message) < 4 or _SIZE.unpack_from(message)[0] != len(message) - 4:
            self.end(NO_FRAME)
            return True
        if self._raw.is_request(message):
            self._raw = None
            return False
        if self._raw.lockstep:
            # Else a request right behind the last token would pass unchecked, though its API may be denied.
            self._hold(_SASL)
        self._forward(message)
        return True

    # --- broker to client -------------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Bytes of the broker, cut anywhere."""
        if self._ended:
            return
        socket = self._socket
        assert socket is not None
        at, end = 0, len(data)
        if self._left:
            at = min(self._left, end)
            self._left -= at
            if self._walk is None:
                socket.send_part(data if at == end else memoryview(data)[:at], first=False, last=not self._left)
            else:
                self._pass_on(socket, data, 0, 0, at)
            if not self._left:
                self._counts.replies += 1
                self._check_drained()
        elif self._missing:
            at = min(self._missing, end)
            self._missing -= at
            self._parts.append(data if at == end else data[:at])
            if not self._missing:
                self._whole()
        elif self._head:
            data, self._head = self._head + data, b""
            end = len(data)
        while at < end and not self._ended:
            at = self._reply(socket, data, at, end)
        self._counts.reply_bytes += end
        socket.flush()
        if socket.congested and not self._ended:
            self._broker.pause()
            socket.on_room(self._room)

    def _reply(self, socket: Socket, data: bytes, at: int, end: int) -> int:
        """Handles the reply that begins at ``at``, as much of it as there is. Returns where the next one begins."""
        there = end - at
        if there < 4:
            self._head = data[at:]
            return end
        size: int = _SIZE.unpack_from(data, at)[0]
        if size > self._rules.response_max:
            self.end(REPLY_TOO_LARGE)
            return end
        if size < (4 if self._raw is None else 0):
            self.end(NO_MATCH)
            return end
        total = size + 4
        entry: Open | None = None
        if self._raw is None:
            if there < 8:
                self._head = data[at:]
                return end
            _, correlation_id = _REPLY.unpack_from(data, at)
            if self._open and self._open[0][0] == correlation_id:
                entry = self._open.popleft()
                if self._holds & _OPEN and len(self._open) <= _DEEP // 2:
                    self._release(_OPEN)
            elif any(other[0] == correlation_id for other in self._open):
                log.error("a broker answered out of order")
                self.end(NO_MATCH)
                return end
            # Else nobody asked: some brokers answer acks=0 (C-11).
        if self._raw is not None or (entry is not None and entry[3]):
            if entry is not None and entry[1] == apis.FETCH and total > there and total > _STREAM_FROM:
                if entry[2] > apis.CAPS[apis.FETCH]:
                    self.end(NOT_REWRITTEN)
                    return end
                self._walk = FetchResponseScanner(size - 4)
                self._left = total - there
                self._pass_on(socket, data, at, at + 8, end)
                return end
            return self._hold_reply(entry, data, at, there, total)
        if there >= total:
            # A copy of the little there is costs less than a view of it.
            socket.send(data if total == end else data[at : at + total], True)
            self._counts.replies += 1
            self._check_drained()
            return at + total
        socket.send_part(memoryview(data)[at:] if at else data, first=True, last=False)
        self._left = total - there
        return end

    def _pass_on(self, socket: Socket, data: bytes, begin: int, at: int, end: int) -> None:
        """A piece of a long Fetch reply: all but its last few bytes goes on at once."""
        assert self._walk is not None
        first = begin != at
        try:
            stop = self._walk.pass_on(data, at, end)
            if stop > begin:
                socket.send_part(memoryview(data)[begin:stop], first=first, last=False)
            if stop < end:
                self._parts.append(data[stop:end])
            if not self._left:
                tail, self._parts, self._walk = b"".join(self._parts), [], None
                socket.send_part(without_hint(tail), first=False, last=True)
        except WireError as error:
            log.error("a reply to Fetch cannot be looked through: %s", error)
            self.end(NOT_REWRITTEN)

    def _hold_reply(self, entry: Open | None, data: bytes, at: int, there: int, total: int) -> int:
        self._entry = entry
        if there >= total:
            self._parts = [data[at : at + total]]
            self._whole()
            return at + total
        self._parts = [data[at:]]
        self._missing = total - there
        if total >= COUNT_FROM:
            self._accounted = total
            if not self._memory.take(total, self._granted):
                self._waiting = True
                self._broker.pause()
        return at + there

    def _whole(self) -> None:
        """A reply that was held is whole: rewrites it and sends it on."""
        reply = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        entry, self._entry = self._entry, None
        try:
            reply = self._changed(entry, reply)
        except WireError as error:
            log.error("a reply (API %s) cannot be rewritten: %s", entry[1:3] if entry else "none", error)
            self.end(NOT_REWRITTEN)
            return
        finally:
            self._give_back()
        assert self._socket is not None
        self._socket.send(reply, True)
        self._counts.replies += 1
        self._check_drained()

    def _changed(self, entry: Open | None, reply: bytes) -> bytes:
        if entry is None:
            assert self._raw is not None
            self._release(_SASL)
            if self._raw.is_over(reply):
                self._raw = None
            return reply
        _, key, version, _ = entry
        rules = self._rules
        if key == apis.API_VERSIONS:
            return rewriting.api_versions(version, reply, rules.denied, rules.hide_unknown, rules.caps)
        if key == apis.SASL_HANDSHAKE:
            if len(reply) < 10:
                raise WireError("reply without an error code")
            if reply[8:10] == b"\0\0":
                self._raw = RawSasl(self._handshake)
            self._release(_SASL)
            return reply
        changed = reply
        if self._advertise is not None:
            changed = rewriting.rewrite(key, version, reply, self._address, self._unlearned)
            if changed is not reply:
                self._counts.rewritten += 1
        if rules.hides_own and own_listings.lists(key):
            changed = own_listings.without_own(key, version, changed)
        return changed

    def _address(self, node: int, host: str, port: int) -> tuple[bytes, int]:
        self._routes.learn(node, host, port)
        return self._unlearned(node, host, port)

    def _unlearned(self, node: int, host: str, port: int) -> tuple[bytes, int]:
        assert self._advertise is not None
        return self._advertise.address(node)

    # --- holding back -----------------------------------------------------------------------------------------------

    def congested(self, behind: bool) -> None:
        """The broker reads slower than the client sends, or has caught up."""
        if behind:
            self._hold(_BROKER)
        else:
            self._release(_BROKER)
            self._settle()

    def _hold(self, why: int) -> None:
        self._holds |= why
        if self._socket is not None:
            self._socket.hold()

    def _release(self, why: int) -> None:
        self._holds &= ~why
        if not self._holds and self._socket is not None:
            self._socket.release()

    def _room(self) -> None:
        if self._ended:
            return
        assert self._socket is not None
        if self._socket.congested:
            self._socket.on_room(self._room)
        elif not self._waiting:
            self._broker.resume()

    def _granted(self) -> None:
        self._waiting = False
        if not self._missing:
            self._give_back()
        self._room()

    def _give_back(self) -> None:
        if self._waiting and self._ended:
            self._waiting, self._accounted = False, 0
            self._memory.forget(self._granted)
        if self._accounted and not self._waiting:
            size, self._accounted = self._accounted, 0
            self._memory.give_back(size)

    # --- the end ----------------------------------------------------------------------------------------------------

    def lost(self, error: Exception | None) -> None:
        """The broker closed the connection, or it broke."""
        clean = error is None and not (self._open or self._left or self._missing or self._head)
        self.end(UPSTREAM_CLOSED if clean else UPSTREAM_LOST)

    def drain(self, reason: CloseReason, timeout_s: float) -> None:
        """Takes no more requests and ends when those at work are answered, after ``timeout_s`` at the latest (C-17)."""
        if self._ended or self._draining is not None:
            return
        self._hold(_DRAIN)
        loop = asyncio.get_running_loop()
        self._draining = loop.call_later(timeout_s if self._busy() else 0, self.end, reason)

    def _busy(self) -> bool:
        return bool(self._open or self._left or self._missing)

    def _check_drained(self) -> None:
        if self._draining is not None and not self._busy():
            self._draining.cancel()
            self.end(CloseReason(1001, "gateway is shutting down"))

    def end(self, reason: CloseReason) -> None:
        """Closes both sides; the first reason counts."""
        if not self._ended and self._socket is not None:
            self.reason = reason
            self._socket.close(reason)
        self._ended = True
        self._broker.close()

    def close(self) -> None:
        """Gives everything back: the client has left, or was told that the tunnel ends."""
        self._ended = True
        if self._draining is not None:
            self._draining.cancel()
        self._parts = []
        self._give_back()
        self._holds = 0
        self._settle()
        if self._inflight is not None:
            self._inflight.close()
        self._broker.close()


def _acks(message: bytes, version: int, id_length: int) -> int:
    """``acks`` of a Produce request (C-12)."""
    cursor = Cursor(message, _REQUEST.size + max(0, id_length))
    if version >= 9:
        cursor.skip_tags()
        cursor.skip_compact()
    elif version >= 3:
        cursor.skip_string()
    return cursor.int16()


def _mechanism(message: bytes, id_length: int) -> str:
    cursor = Cursor(message, _REQUEST.size + max(0, id_length))
    try:
        return cursor.bytes_of(cursor.int16()).decode("ascii", "replace").upper()
    except WireError:
        return ""
