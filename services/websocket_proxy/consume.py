"""What stands behind ``/socket/out``: a member of a group, and the commits of its client (websocket-proxy.md §3)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from kafka_gateway.errors import BadRequest, ServiceError
from kafka_gateway.kafka.ports.consuming import ConsumerSettings
from kafka_gateway.kafka.ports.kafka import Kafka
from kafka_gateway.kafka.ports.members import Member
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from kafka_gateway.messages import Call, Response
from kafka_gateway.records import RecordBatch
from kafka_gateway.services.websocket_proxy.commit_stack import CommitStack
from kafka_gateway.services.websocket_proxy.even_rate import EvenRate
from kafka_gateway.services.websocket_proxy.ports import FollowerRequest, MessageId, RecordListener
from kafka_gateway.services.websocket_proxy.sessions import ConsumerSocket, Lease, ProxySettings, SocketSessions
from kafka_gateway.services.websocket_proxy.topics import log_in, partitions_of

log = logging.getLogger("gateway.consumer")

AUTO_COMMIT_S = 0.05
"""How often automatic commits go out at most (§3.5)."""
_MOST_RECORDS = 500
"""Records that a socket is given at once where nobody wishes otherwise."""


class ConsumeSockets:
    """Makes a follower of every request for ``/socket/out``."""

    def __init__(self, kafka: Kafka, settings: ProxySettings, sessions: SocketSessions) -> None:
        self._kafka = kafka
        self._settings = settings
        self._sessions = sessions

    async def open(self, call: Call) -> Response:
        wanted = call.body
        if not isinstance(wanted, FollowerRequest):
            raise BadRequest("Expected WebSocket Upgrade request")
        call.require("read", "topic", wanted.topic)
        call.require("read", "group", wanted.group_id)
        partitions = await partitions_of(self._kafka, wanted.topic, self._settings.hidden_topics)
        lease = await self._sessions.open_consumer(
            ConsumerSocket(wanted.client_id, wanted.group_id, wanted.topic, partitions)
        )
        try:
            kafka = await log_in(self._kafka, call.session, wanted.topic)
            follower = Follower(wanted, lease, self._settings)
            follower.member = await kafka.member(
                ConsumerSettings(
                    wanted.group_id,
                    wanted.client_id,
                    auto_offset_reset=wanted.offset_reset,
                    auto_commit=wanted.auto_commit,
                    isolation_level=wanted.isolation_level,
                    kind="socket",
                ),
                wanted.topic,
                follower,
                wanted.encoder,
                most_records=follower.at_once(wanted.batch_size if wanted.batch_size > 0 else lease.batch_size),
                commit_interval_s=AUTO_COMMIT_S if wanted.auto_commit else 0.0,
            )
        except BaseException:
            lease.close(0)
            raise
        return Response(follower)


class Follower:
    """One socket's records. Belongs to the event loop."""

    member: Member

    def __init__(self, wanted: FollowerRequest, lease: Lease, settings: ProxySettings) -> None:
        self._lease = lease
        self._counters = lease.counters
        self._listener: RecordListener | None = None
        """None before `start`, and after the end."""
        self._paused = False
        self._ended = False
        self._loop = asyncio.get_running_loop()
        self._stack = None if wanted.auto_commit else CommitStack(settings.max_stack_size)
        self._stack_full = False
        """Whether sending waits for commits of the client."""
        self._settings = settings
        rates = [rate for rate in (lease.rate, wanted.rate) if rate > 0]
        self._rate = EvenRate(min(rates), self._loop.time()) if rates else None
        self._is_plain = self._stack is None and self._rate is None
        """Whether nothing is to be done with records but to hand them on."""
        self._timer: asyncio.TimerHandle | None = None
        self._commit_timer: asyncio.TimerHandle | None = None

    def at_once(self, wished: int) -> int:
        """How many records may come at once where ``wished`` are wanted (0: nobody has a wish)."""
        most = wished or _MOST_RECORDS
        return most if self._stack is None else min(most, max(1, self._settings.max_stack_size))

    # --- what the transport calls -------------------------------------------------------------------------------------

    def start(self, listener: RecordListener) -> None:
        self._listener = listener
        if self._stack is not None and self._settings.auto_commit_enabled:
            self._commit_timer = self._loop.call_later(self._settings.auto_commit_interval_s, self._commit_old)
        self._allow()

    def pause(self) -> None:
        self._paused = True
        self.member.pause()

    def resume(self) -> None:
        self._paused = False
        self._allow()

    def written(self, batch: RecordBatch) -> None:
        if self._stack is None and not self._ended:
            self.member.commit_batch(batch)

    def commit(self, place: MessageId) -> None:
        stack = self._stack
        if stack is None or self._ended:
            return
        self._counters.answers += 1
        if stack.take(place):
            self.member.commit([PartitionOffset(place.topic, place.partition, place.offset + 1)])
            self._stack_shrank(stack)

    def end(self, code: int) -> None:
        if self._ended:
            return
        self._ended = True
        self._listener = None
        for timer in (self._timer, self._commit_timer):
            if timer is not None:
                timer.cancel()
        self.member.close()
        self._lease.close(code)

    async def aclose(self) -> None:
        self.end(1006)

    def fail(self, error: ServiceError) -> None:
        """Ends it for a reason that is not its own; its socket says why."""
        self.failed(error)

    # --- what the member calls ----------------------------------------------------------------------------------------

    def records(self, batch: RecordBatch) -> bool:
        listener = self._listener
        if listener is None:
            return False
        self._counters.records += batch.count
        if self._is_plain:
            return listener.records(batch)
        if self._stack is not None:
            self._stack.add(batch.records, self._loop.time())
            self._counters.uncommitted = len(self._stack)
            if self._stack.full:
                self._stack_full = True
                self.member.pause()
        left = listener.records(batch)
        if self._rate is not None:
            self._rate.spend(len(batch))
            self._allow()
        return left and self._stack is None

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        if self._stack is not None:
            self._stack.drop(partitions)
            self._stack_shrank(self._stack)

    def failed(self, error: ServiceError) -> None:
        if self._listener is not None:
            self._listener.failed(error)

    # --- the rate -----------------------------------------------------------------------------------------------------

    def _allow(self) -> None:
        """Lets as many records come as the rate has permits for, and looks again when there is another."""
        if self._paused or self._ended or self._stack_full:
            return
        if self._rate is None:
            self.member.resume()
            return
        permits = self._rate.available(self._loop.time())
        if permits:
            self.member.resume(permits)
        elif self._timer is None:
            self._timer = self._loop.call_later(self._rate.wait_s(), self._allow_again)

    def _allow_again(self) -> None:
        self._timer = None
        self._allow()

    def _stack_shrank(self, stack: CommitStack) -> None:
        self._counters.uncommitted = len(stack)
        # Not with every single commit: to pause and to go on costs a member more than a record.
        if self._stack_full and stack.half_empty:
            self._stack_full = False
            self._allow()

    def _commit_old(self) -> None:
        """Commits what the client has had for long (``commit-handler.auto-commit-enabled``, §3.6)."""
        settings = self._settings
        self._commit_timer = self._loop.call_later(settings.auto_commit_interval_s, self._commit_old)
        if self._stack is None:
            return
        old = self._stack.take_older(self._loop.time() - settings.auto_commit_max_age_s)
        if old:
            self._stack_shrank(self._stack)
            self.member.commit([PartitionOffset(one.topic, one.partition, one.offset + 1) for one in old])
