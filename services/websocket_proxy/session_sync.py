"""Keeps the sessions of sockets in their topic, together with all other gateways (websocket-proxy.md §4).

`services.websocket_proxy.session_table` decides. This module writes its decisions, in order for each session, and reads
what the other gateways write. A socket's place counts when Kafka has confirmed it. What cannot be written at once, such
as a removal while Kafka is away, is tried until it can.

A gateway that died leaves its sockets in the topic. Each gateway is a member of a consumer group of its own, so Kafka
knows which ones live. If the group of one was found without a member twice in a row, the others give its places back.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import weakref
from collections.abc import Iterable

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.ports.compacted_logs import CompactedLog, CompactedTopic
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.services.websocket_proxy.session import Kind, ProxySession, decode, encode
from kafka_gateway.services.websocket_proxy.session_table import SessionTable
from kafka_gateway.services.websocket_proxy.sessions import SessionsUnavailable

log = logging.getLogger("gateway.session")

HANDLER_S = 10.0
"""How long a registration may take (§4.3)."""
_LEAVE_S = 3.0
_CORRECTIONS_MANY = 20
"""So many corrections of one session within `_CORRECTIONS_FORGOTTEN_S` are no accident."""
_CORRECTIONS_FORGOTTEN_S = 30.0
_CORRECTED_MAX = 1000
_GROUP = "ws-proxy-session-consumer-"
"""With the server's id appended, the client id and group id with which a gateway reads the topic (§4.4)."""


class SessionSync:
    """Belongs to the event loop. ``start`` may be called more than once; ``aclose`` gives all own places back."""

    def __init__(self, kafka: Kafka, server: str, topic: CompactedTopic) -> None:
        self.table = SessionTable(server)
        self._kafka = kafka
        self._topic = topic
        self._log: CompactedLog | None = None
        self._starting: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._read = asyncio.Event()
        """Set while everything in the topic has been read."""
        self._dirty: set[str] = set()
        self._flushing: dict[str, asyncio.Task[None]] = {}
        self._corrected: dict[str, tuple[int, float]] = {}
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    # --- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins to read the topic, in the background."""
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._open(), name="open-session-topic")

    async def _open(self) -> None:
        self._log = await self._kafka.compacted_log(self._topic, _GROUP + self.table.server, self)
        if self._topic.presence_s and not self._kafka.embedded:
            self._sweeping = asyncio.get_running_loop().create_task(self._sweep(), name="find-dead-gateways")

    async def aclose(self) -> None:
        """Publishes every session without this gateway's sockets, if Kafka takes it in time, and stops reading."""
        if self._starting is None:
            return
        await asyncio.gather(self._starting, return_exceptions=True)
        if self._sweeping is not None:
            self._sweeping.cancel()
        for session_id in self.table.leave():
            self._mark(session_id)
        if self._flushing:
            await asyncio.wait(list(self._flushing.values()), timeout=_LEAVE_S)
        if self._dirty:
            log.warning("%d sessions could not be published without this gateway's sockets", len(self._dirty))
        for task in list(self._flushing.values()):
            task.cancel()
        if self._log is not None:
            await self._log.close()

    # --- places -------------------------------------------------------------------------------------------------------

    async def add(self, kind: Kind, session_id: str, instance_id: str, limit: int) -> None:
        """Registers a socket and returns when Kafka has the record. Raises SessionsUnavailable or what the table
        raises; then nothing stays registered. So too when cancelled.
        """
        self.start()
        try:
            async with asyncio.timeout(HANDLER_S):
                await self._read.wait()
                async with self._lock(session_id):
                    await self._add(kind, session_id, instance_id, limit)
        except TimeoutError:
            trouble = self._log.trouble if self._log is not None else ""
            raise SessionsUnavailable(f"The session topic did not answer in time. {trouble}".strip()) from None

    async def _add(self, kind: Kind, session_id: str, instance_id: str, limit: int) -> None:
        known = self.table.sessions.get(session_id)
        session = self.table.add(kind, session_id, instance_id, limit)
        if session == known:  # a twin: the place is taken already
            return
        try:
            await self._write(session_id, [session] if known else [ProxySession(kind, session_id, limit), session])
        except BaseException as error:
            self.remove(session_id, instance_id)
            if isinstance(error, ServiceError):
                raise SessionsUnavailable(f"The session topic cannot be written: {error.message}") from error
            raise

    def remove(self, session_id: str, instance_id: str) -> None:
        """Gives a socket's place back: at once for this gateway, soon for the others."""
        if self.table.remove(session_id, instance_id):
            self._mark(session_id)

    def set_limit(self, kind: Kind, session_id: str, limit: int) -> None:
        """Changes the limit of a session; sockets that are open stay."""
        if self.table.set_limit(session_id, kind, limit):
            self._mark(session_id)

    # --- writing ------------------------------------------------------------------------------------------------------

    def _lock(self, session_id: str) -> asyncio.Lock:
        return self._locks.setdefault(session_id, asyncio.Lock())

    async def _write(self, session_id: str, sessions: list[ProxySession]) -> None:
        if self._log is None:
            raise SessionsUnavailable()
        offset: int | None = None
        key = session_id.encode()
        self.table.begin_write(session_id)
        try:
            offset = await self._log.write([(key, encode(session)) for session in sessions])
        finally:
            self._judge(session_id, self.table.end_write(session_id, offset))

    def _mark(self, session_id: str, delay_s: float = 0.0) -> None:
        """Has the session written soon."""
        self._dirty.add(session_id)
        if session_id not in self._flushing:
            task = asyncio.get_running_loop().create_task(self._flush(session_id, delay_s), name="publish-session")
            self._flushing[session_id] = task
            task.add_done_callback(lambda _: self._flushing.pop(session_id, None))

    async def _flush(self, session_id: str, delay_s: float) -> None:
        failures = 0
        await self._read.wait()
        while session_id in self._dirty:
            await asyncio.sleep(delay_s)
            async with self._lock(session_id):
                session = self.table.sessions.get(session_id)
                if session_id not in self._dirty or session is None:
                    break
                self._dirty.discard(session_id)
                try:
                    async with asyncio.timeout(HANDLER_S):
                        await self._write(session_id, [session])
                    failures, delay_s = 0, _some_time()
                except (ServiceError, TimeoutError) as error:
                    self._dirty.add(session_id)
                    failures += 1
                    delay_s = min(5.0, 0.2 * 2**failures) * random.uniform(0.5, 1.0)
                    log.debug("session not written: %s", error)
        self._dirty.discard(session_id)

    def _judge(self, session_id: str, wrong: bool | None) -> None:
        """Has the session written again if the record that was read is wrong (`SessionTable.read`)."""
        if wrong is False:
            self._dirty.discard(session_id)
        if not wrong:
            return
        self._mark(session_id, self._patience(session_id) if self._read.is_set() else _some_time())

    def _patience(self, session_id: str) -> float:
        """How long to wait with a correction: ever longer if there are many, since another gateway may ignore them."""
        now = time.monotonic()
        if len(self._corrected) > _CORRECTED_MAX:
            self._corrected = {
                each: known for each, known in self._corrected.items() if now - known[1] < _CORRECTIONS_FORGOTTEN_S
            }
        count, since = self._corrected.get(session_id, (0, now))
        count, since = (count + 1, since) if now - since < _CORRECTIONS_FORGOTTEN_S else (1, now)
        self._corrected[session_id] = (count, since)
        if count == _CORRECTIONS_MANY:
            log.warning(
                "gateways contradict each other about a session: is server-id %s in use twice?", self.table.server
            )
        return min(5.0, _some_time() * 2.0 ** max(0, min(count, 60) - _CORRECTIONS_MANY // 2))

    # --- reading (LogListener) ----------------------------------------------------------------------------------------

    def record(self, key: bytes, value: bytes | None, offset: int) -> None:
        session_id = key.decode("utf-8", "replace")
        session: ProxySession | None = None
        if value is not None:
            try:
                session = decode(value)
            except ValueError as error:
                log.warning("record %d of %s is no session: %s", offset, self._topic.name, error)
                return
            if session.id != session_id:
                log.warning("record %d of %s has the key of another session", offset, self._topic.name)
                return
        self._judge(session_id, self.table.read(session_id, session, offset))

    def caught_up(self) -> None:
        self._read.set()

    def restarted(self) -> None:
        self._read.clear()
        for session_id in self.table.restarted():
            self._mark(session_id)

    # --- dead gateways ------------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        suspected: set[str] = set()
        while True:
            await _pause(max(1.0, self._topic.presence_s / 3))
            try:
                dead = await self._dead(self.table.servers())
            except ServiceError as error:
                log.debug("cannot tell which gateways live: %s", error.message)
                dead = set()
            gone, suspected = dead & suspected, dead - suspected
            if gone:
                log.warning("taking back the places of gateways that are no more: %s", ", ".join(sorted(gone)))
                for session_id in self.table.drop_servers(gone):
                    self._mark(session_id, _some_time())

    async def _dead(self, servers: Iterable[str]) -> set[str]:
        names = sorted(servers)
        groups = await self._kafka.admin.describe_groups([_GROUP + name for name in names])
        return {
            name
            for name, group in zip(names, groups, strict=True)
            if not group.members and group.state in ("EMPTY", "DEAD")
        }


async def _pause(seconds: float) -> None:
    await asyncio.sleep(seconds)


def _some_time() -> float:
    """A short random time: two gateways that correct each other must not do it in step."""
    return random.uniform(0.02, 0.3)
