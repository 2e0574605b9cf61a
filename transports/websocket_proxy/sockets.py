"""The two conversations of Kafka WebSocket Proxy's protocol, after their handshake (websocket-proxy.md §2, §3).

Both do as much as they can in one turn of the loop: the frames that arrived together become one batch for Kafka, the
results that came together leave in one write, and so do the records of one poll.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

from kafka_gateway.core import Gateway
from kafka_gateway.errors import CloseReason, ProofEnded, ServiceError
from kafka_gateway.limits import Meter
from kafka_gateway.memory_budget import COUNT_FROM, Claim
from kafka_gateway.records import RecordBatch, RecordsEncoder
from kafka_gateway.services.websocket_proxy.even_rate import EvenRate
from kafka_gateway.services.websocket_proxy.ports import MessageId, RecordFollower, RecordSender, StoredRecord
from kafka_gateway.transports.websocket.closing import close_code
from kafka_gateway.transports.websocket.outgoing_frames import ALL_GONE
from kafka_gateway.transports.websocket.socket import Socket
from kafka_gateway.transports.websocket_proxy.avro_messages import WrongBranch, read_avro_commit
from kafka_gateway.transports.websocket_proxy.messages import ProduceMessage, Undecodable, read_commit

log = logging.getLogger("gateway.websocket_proxy")

IN_FLIGHT_MAX = 10_000
"""Records of one socket that Kafka has not confirmed (§2.2); then the socket is not read."""
IN_FLIGHT_BYTES_MAX = 16 * 1024 * 1024
"""The same in bytes of their messages."""
CLOSE_S = 60.0
"""How long a socket that closes waits for the results of what it was sent (§2.9)."""
_QUIET_S = 3.0
"""A pong is sent when nothing else was for this long (§1.9)."""
_BUSY_S = 0.05
"""How long a socket that waits for requests.max waits before it looks again."""
_LOOK_AGAIN_S = 0.01
_IMMEDIATE = frozenset({1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})
"""Close codes after which no results are sent any more."""


def keep_alive(socket: Socket) -> None:
    """Sends pongs on a quiet socket, so that the client, and proxies between, see that the connection lives."""

    def look() -> None:
        quiet_s = socket.quiet_s
        if quiet_s < _QUIET_S - 0.05:
            pong.due -= quiet_s
        elif not socket.congested:
            socket.pong()

    pong = socket.every(_QUIET_S, look)


def failed(error: ServiceError, proof_ended: int = 1008) -> CloseReason:
    """How a socket ends with this error. ``proof_ended``: the close code for a proof that is no longer valid."""
    if isinstance(error, ProofEnded):
        return CloseReason(proof_ended, error.message)
    return CloseReason(close_code(error, 1011), error.message)


class Messages(NamedTuple):
    """How the messages of a produce socket are read, and their results written."""

    decode: Callable[[bytes], ProduceMessage]
    """Raises Undecodable, WrongBranch."""
    result: Callable[[StoredRecord, bytes | None], bytes]
    """A frame."""
    binary: bool


class ProduceConversation:
    """Frames in, results out, both in the same order."""

    def __init__(
        self,
        socket: Socket,
        sender: RecordSender,
        messages: Messages,
        claim: Claim,
        gateway: Gateway,
        meter: Meter | None,
    ) -> None:
        """
        Args:
            claim: counts the bytes that Kafka has not confirmed in the memory budget.
            gateway: counts records under way as work (requests.max).
            meter: the rate limit that all clients share.
        """
        self._gateway, self._meter = gateway, meter
        self._socket = socket
        self._sender = sender
        self._messages = messages
        self._decode = messages.decode
        self._ignored = messages.binary
        """Whether texts are, or else binary messages."""
        self._loop = asyncio.get_running_loop()
        self._rate = EvenRate(sender.rate, self._loop.time()) if sender.rate else None
        self._frames: deque[bytes] = deque()
        """Received and not decoded yet."""
        self._planned = False
        self._timer: asyncio.TimerHandle | None = None
        self._sent: deque[tuple[asyncio.Future[list[StoredRecord | ServiceError]], list[bytes | None], int]] = deque()
        """In the order of sending: the results to come, the ids to be echoed, the size of the messages."""
        self._in_flight = 0
        self._in_flight_bytes = 0
        self._claim = claim
        self._end: CloseReason | None = None
        """Set when nothing is read any more: the close that follows the last result."""
        self._settled: asyncio.Event | None = None

    def take(self, payload: bytes, text: bool) -> None:
        """Takes a message. On a JSON socket binary messages are ignored, on an Avro socket texts, and empty texts on
        both (§1.9, §2.5)."""
        if text is self._ignored or (text and not payload) or self._end is not None:
            return
        self._frames.append(payload)
        if not self._planned:
            self._planned = True
            self._loop.call_soon(self._work)

    def _work(self) -> None:
        self._planned = False
        if self._end is not None:
            return
        frames = self._frames
        most = IN_FLIGHT_MAX - self._in_flight if self._in_flight_bytes < IN_FLIGHT_BYTES_MAX else 0
        if self._rate is not None:
            most = min(most, self._rate.available(self._loop.time()))
        if self._meter is not None:
            most = min(most, self._meter.available())
        count = min(most, len(frames))
        busy = bool(count) and self._gateway.is_full
        if busy:
            count = 0
        if count and self._rate is not None:
            self._rate.spend(count)
        if count and self._meter is not None:
            self._meter.spend(count)
        if count == len(frames):
            taken = list(frames)
            frames.clear()
        else:
            taken = [frames.popleft() for _ in range(count)]
        if count and not self._produce(taken):
            frames.clear()
            self._end_if_settled()
        elif frames:
            self._socket.hold()
            if self._timer is None and self._in_flight < IN_FLIGHT_MAX:
                wait_s = self._rate.wait_s() if self._rate is not None else 0.0
                if self._meter is not None:
                    wait_s = max(wait_s, self._meter.wait_s())
                if busy:
                    wait_s = max(wait_s, _BUSY_S)
                if wait_s or self._rate is not None or self._meter is not None:
                    self._timer = self._loop.call_later(wait_s, self._ring)
        elif self._in_flight >= IN_FLIGHT_MAX or self._in_flight_bytes >= IN_FLIGHT_BYTES_MAX:
            self._socket.hold()
        else:
            self._socket.release()
            self._tell_settled()

    def _ring(self) -> None:
        self._timer = None
        self._work()

    def _produce(self, frames: list[bytes]) -> bool:
        """Sends the records of these messages. False if one of them ends the socket; those before it were sent."""
        messages: list[ProduceMessage] = []
        wrong: CloseReason | None = None
        try:
            messages.extend(map(self._decode, frames))  # those before one that raises stay
        except Undecodable as error:
            log.info("a produce socket is closed: its message is %s", error)
            self._end = CloseReason(1000, f"undecodable message: {error}")
        except WrongBranch as error:
            log.info("a produce socket is closed: its message has %s", error)
            self._end = wrong = CloseReason(1011, str(error))
        size = sum(map(len, frames[: len(messages)]))
        if self._sender.one_by_one:
            for message, frame in zip(messages, frames, strict=False):
                self._send([message], len(frame))
        elif messages:
            self._send(messages, size)
        if wrong is not None:  # at once: results that are still to come are lost (§1.9)
            self._sent.clear()
            self._socket.close(wrong)
            self._tell_settled()
        return self._end is None

    def _send(self, messages: list[ProduceMessage], size: int) -> None:
        self._in_flight += len(messages)
        self._in_flight_bytes += size
        self._count()
        self._gateway.begin_work()
        results = self._sender.send(messages)
        results.add_done_callback(self._end_work)
        self._sent.append((results, [each.message_id for each in messages], size))
        results.add_done_callback(self._answer)

    def _end_work(self, _: object) -> None:
        self._gateway.end_work()

    def _answer(self, _: object) -> None:
        """Sends all results whose turn has come: they go in the order of the messages, across partitions (§2.2)."""
        result, sent = self._messages.result, self._sent
        frames: list[bytes] = []
        failure: ServiceError | None = None
        while sent and sent[0][0].done() and failure is None:
            results, ids, size = sent.popleft()
            self._in_flight -= len(ids)
            self._in_flight_bytes -= size
            if results.cancelled() or isinstance(error := results.exception(), Exception):
                failure = error if isinstance(error, ServiceError) else ServiceError()
                break
            rows = results.result()
            count = _stored_first(rows)
            frames.extend(map(result, cast(list[StoredRecord], rows[:count]), ids))
            if count < len(rows):
                failure = cast(ServiceError, rows[count])
        self._count()
        if frames:
            self._socket.send_frames(b"".join(frames))
            self._sender.answered(len(frames))
        if failure is not None:
            # The client is not told what becomes of the records after this one: the close says it (§1.9).
            log.info("a produce socket is closed: %s", failure.message)
            self._sent.clear()
            self._frames.clear()
            self._end = failed(failure)
            self._socket.close(self._end)
            self._tell_settled()
        elif self._end is not None:
            self._end_if_settled()
        elif self._frames:
            self._work()
        else:
            if self._in_flight < IN_FLIGHT_MAX // 2 and self._in_flight_bytes < IN_FLIGHT_BYTES_MAX // 2:
                self._socket.release()
            self._tell_settled()

    def _end_if_settled(self) -> None:
        if self._end is not None and not self._sent:
            self._socket.close(self._end)
            self._tell_settled()

    def _tell_settled(self) -> None:
        if self._settled is not None and not self._sent and not self._frames:
            self._settled.set()

    async def before_close(self, reason: CloseReason) -> None:
        """Waits for the results of what was received; not if the close is for an error, but for a broken frame."""
        is_immediate = reason.code in _IMMEDIATE or reason.code >= 3000
        if (is_immediate and not self._socket.broken_by_client) or (not self._sent and not self._frames):
            return
        self._settled = asyncio.Event()
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._settled.wait()
        except TimeoutError:
            log.warning("a produce socket is closed without %d results: Kafka did not confirm them", self._in_flight)

    def _count(self) -> None:
        if self._claim.held or self._in_flight_bytes >= COUNT_FROM:
            self._claim.set_to(self._in_flight_bytes)

    def stop(self) -> None:
        """Gives everything back: the socket has ended."""
        self._claim.release()
        if self._end is None:
            self._end = CloseReason(1006, "")
        if self._timer is not None:
            self._timer.cancel()
        self._frames.clear()


def _stored_first(rows: Sequence[StoredRecord | ServiceError]) -> int:
    """How many there are before the first that is an error."""
    if any(issubclass(kind, ServiceError) for kind in set(map(type, rows))):  # not row by row: there is hardly ever one
        return next(number for number, row in enumerate(rows) if isinstance(row, ServiceError))
    return len(rows)


class ConsumeConversation:
    """Records out, commits in."""

    def __init__(
        self,
        socket: Socket,
        follower: RecordFollower,
        encoder: RecordsEncoder,
        auto_commit: bool,
        avro: bool,
        meter: Meter | None,
        proof_ended: int = 1008,
    ) -> None:
        """``meter``: the rate limit for commits, which all clients share. Commits wait for it; none is dropped.

        ``proof_ended``: see `failed`.
        """
        self._proof_ended = proof_ended
        self._socket = socket
        self._follower = follower
        self._meter = meter
        self._commits: deque[MessageId] = deque()
        """Received, and waiting for the rate limit; nothing is read meanwhile."""
        self._commit_timer: asyncio.TimerHandle | None = None
        self._encoder = encoder
        self._auto_commit = auto_commit
        self._avro = avro
        self._loop = asyncio.get_running_loop()
        self._leaving: deque[tuple[int, RecordBatch]] = deque()
        """Batches that have not left this process yet, each with its place in the socket's output."""
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    def take(self, payload: bytes, text: bool) -> None:
        """Takes a commit. With automatic commits all messages are dropped (§1.6)."""
        if self._auto_commit or text is self._avro:
            return
        try:
            place = read_avro_commit(payload) if self._avro else read_commit(payload)
        except Undecodable as error:  # in JSON it would be ignored (§3.6)
            log.info("a consume socket is closed: its commit is %s", error)
            self._socket.close(CloseReason(1011, f"undecodable commit: {error}"))
            return
        if place is None:
            return
        if self._meter is None:
            self._follower.commit(place)
            return
        self._commits.append(place)
        if self._commit_timer is None:
            self._commit(self._meter)

    def _commit(self, meter: Meter) -> None:
        """Hands on as many commits as the rate limit allows now."""
        self._commit_timer = None
        commits = self._commits
        count = min(len(commits), meter.available())
        meter.spend(count)
        for _ in range(count):
            self._follower.commit(commits.popleft())
        if commits:
            self._socket.hold()
            self._commit_timer = self._loop.call_later(meter.wait_s(), self._commit, meter)
        else:
            self._socket.release()

    def records(self, batch: RecordBatch) -> bool:
        mark = self._socket.send_frames(batch.payloads.get(self._encoder) or batch.encode(self._encoder))
        if mark == ALL_GONE and not self._leaving:
            return True
        if self._auto_commit:
            self._leaving.append((mark, batch))
            self._confirm()
        if self._socket.congested:
            self._follower.pause()
            self._socket.on_room(self._go_on)
        return False

    def failed(self, error: ServiceError) -> None:
        log.warning("a consume socket is closed: %s", error.message)
        self._socket.close(failed(error, self._proof_ended))

    def _go_on(self) -> None:
        if not self._stopped:
            self._confirm()
            self._follower.resume()

    def _confirm(self) -> None:
        leaving = self._leaving
        while leaving and self._socket.gone(leaving[0][0]):
            self._follower.written(leaving.popleft()[1])
        if leaving and self._timer is None:
            self._timer = self._loop.call_later(_LOOK_AGAIN_S, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        if not self._stopped:
            self._confirm()

    def stop(self) -> None:
        """Commits what was received and stops the timers: the socket has ended."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._commit_timer is not None:
            self._commit_timer.cancel()
        for place in self._commits:  # they were read, and the client counts on them
            self._follower.commit(place)
        self._commits.clear()
