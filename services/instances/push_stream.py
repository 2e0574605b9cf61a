"""The stream of a subscription: one consumer instance's records, pushed as they come (atmosphere-binding.md §2).

Nothing is read ahead. ``Gateway.deliver`` asks for a payload when the one before has been written, and only then are
more records taken from Kafka: that is the whole flow control (§2.5), and the reason why a slow client costs the memory
of one batch and nobody else's time. It is the proof of delivery, too: being asked confirms the batch before, anything
else that ends the stream puts it back, for the next subscription or read.

While it waits for records, those that come may be sent at once (`push_with`), if the client can tell that it has them:
to wake a task for each push, and again for its proof, costs as much as all the rest. One batch is out at a time all the
same.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Callable, Sequence

from kafka_gateway.dialect import Dialect
from kafka_gateway.errors import InstanceNotFound, NotSubscribed, ServiceError, UndecodableRecord
from kafka_gateway.kafka.ports.consuming import ReadLimits, TakenBatch
from kafka_gateway.records import ConsumedRecord, RecordsEncoder
from kafka_gateway.services.common.rows import left_out
from kafka_gateway.services.instances.instance import ConsumerInstance
from kafka_gateway.stream import Payload, PushAtOnce

log = logging.getLogger("gateway.consumers")

GRACE_S = 0.25
"""How long an ended stream may take to learn whether its last payload was written; then the records are put back."""
_WAIT_S = 10.0
"""How long one read waits for a record; the next one sees what the instance reads by then."""
_RETRY_S, _RETRY_MAX_S = 1.0, 60.0
"""The pause after a failed read doubles with each further one (kafka-rest-http.md §8.2 no. 4: 1000 ms, 2 s, 4 s …)."""


class PushStream:
    """The records of one instance as payloads. The first may be an empty list, as an acknowledgement (§2.3 no. 1).

    It belongs to the event loop, and one task iterates over it. It keeps its instance from expiring until it ends.
    """

    def __init__(
        self,
        instance: ConsumerInstance,
        limits: ReadLimits,
        encoder: RecordsEncoder,
        dialect: Dialect,
        translate: Callable[[ServiceError], ServiceError] = lambda error: error,
    ) -> None:
        """``limits`` are those of the first read; pushes wait longer. ``translate`` says how clients know an error."""
        self._instance = instance
        self._first = limits
        self._later = ReadLimits(limits.max_bytes, _WAIT_S, -1, limits.inclusive, kind="push")
        self._encoder = push_encoder(encoder)
        self._dialect = dialect
        self._translate = translate
        self._greeted = False
        self._retry_s = 0.0
        self._reader: asyncio.Task[object] | None = None
        """Who waits for records."""
        self._interrupted = False
        """Whether the reader was cancelled by the end of this stream, and by nothing else."""
        self._taken: TakenBatch | None = None
        """Its payloads are being written."""
        self._push: PushAtOnce | None = None
        self._was_pushed = False
        """Whether `_taken` was sent with that."""
        self._payloads: deque[Payload] = deque()
        self._ended = False
        self._failure: ServiceError | None = None
        self._settled: asyncio.Event | None = None
        """Somebody waits until no records are out."""
        instance.running += 1

    # --- what deliver calls -----------------------------------------------------------------------------------------

    def __aiter__(self) -> PushStream:
        return self

    async def __anext__(self) -> Payload:
        """The next payload. A read that fails yields one with its status, and reading goes on if it can (§2.4).

        Raises:
            ServiceError: it cannot go on: there is nothing to read from any more.
        """
        if self._payloads and not self._ended:
            return self._payloads.popleft()
        if not self._payloads and not self._was_pushed:
            self._settle(True)
        while not self._ended:
            greeted, self._greeted = self._greeted, True
            try:
                taken = await self._take(self._later if greeted else self._first)
            except InstanceNotFound:
                break  # deleted or expired: its subscriptions end silently (§2.5)
            except NotSubscribed:
                if self._instance.reads_from == "pattern":
                    continue  # its last topic is gone while it was read; others may come
                await self._end_behind_push()
                raise
            except ServiceError as error:
                self._retry_s = min(max(_RETRY_S, self._retry_s * 2), _RETRY_MAX_S)
                return self._error(error)
            if taken is None:
                break
            self._retry_s = 0.0
            if len(taken.batch) or not greeted:
                return self._open(taken)
            taken.confirm()
        await self._end_behind_push()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise self._translate(failure)
        raise StopAsyncIteration

    async def _end_behind_push(self) -> None:
        """Ends it when it is known whether a batch that was pushed has come: whoever iterates closes it then, and a
        batch that is out is put back."""
        self.end()
        if self._was_pushed:
            await self.settled()

    def push_with(self, push: PushAtOnce) -> None:
        self._push = push

    async def aclose(self) -> None:
        """Ends it; what was not written is the first that the next subscription or read gets."""
        self.end()
        self._settle(False)

    def lose(self) -> None:
        """Its client is with a process that is gone or out of reach: as `aclose`, and what was being written may have
        come all the same."""
        self.end()
        self._settle(None)

    # --- what the instance calls ------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        return self._ended

    def end(self, grace_s: float = GRACE_S) -> None:
        """No further payload. One that is being written may still become known as delivered, for ``grace_s``."""
        if self._ended:
            return
        self._ended = True
        if self._reader is not None and self._reader is not asyncio.current_task():
            self._interrupted = True
            self._reader.cancel()
        if self._taken is not None:
            asyncio.get_running_loop().call_later(grace_s, self._settle, None)
        self._instance.release()  # the clock of its expiry starts (§2.5)

    def fail(self, error: ServiceError, grace_s: float = GRACE_S) -> None:
        """Ends it for a reason that is not its own: whoever iterates gets the error. ``grace_s`` is that of `end`."""
        if not self._ended:
            self._failure = error
            self.end(grace_s)

    async def settled(self) -> None:
        """Returns when it is known of every record whether it was delivered: soon, for a stream that has ended."""
        while self._taken is not None:
            if self._settled is None:
                self._settled = asyncio.Event()
            await self._settled.wait()

    # --- reading ----------------------------------------------------------------------------------------------------

    async def _take(self, limits: ReadLimits) -> TakenBatch | None:
        """The next records; None if the stream has been ended meanwhile. Cancelling it loses none."""
        reader = self._reader = asyncio.current_task()
        try:
            taken = await self._read(limits)
        except asyncio.CancelledError:
            # Taken back as asyncio.timeout() does: end() ends the reading, and not its task. A task for each reading
            # would make a push cost a third more.
            if self._interrupted and reader is not None and not reader.uncancel():
                return None
            raise
        finally:
            self._reader, self._interrupted = None, False
        if self._ended:
            taken.put_back()
            return None
        return taken

    async def _read(self, limits: ReadLimits) -> TakenBatch:
        if self._retry_s:
            await asyncio.sleep(self._retry_s)
        if self._instance.reads_from == "nothing":
            raise NotSubscribed()
        at_once = self._push_at_once if self._push is not None and limits is self._later else None
        return await self._instance.take(limits, self._encoder, at_once)

    def _push_at_once(self, taken: TakenBatch) -> bool:
        """Sends a batch that has come while the reader waits; the reader goes on waiting."""
        if self._ended or self._taken is not None or self._push is None:
            return False
        payload = taken.batch.payloads[self._encoder]
        if isinstance(payload, _Pieces) or not self._push(payload, self._delivered):
            return False
        self._taken, self._was_pushed = taken, True
        return True

    def _delivered(self) -> None:
        """The client has what was pushed."""
        if self._was_pushed:
            self._settle(True)

    def _open(self, taken: TakenBatch) -> Payload:
        """The first payload of the batch, which is out from now on."""
        self._taken = taken
        payload = taken.batch.encode(self._encoder)
        if not isinstance(payload, _Pieces):
            return Payload(payload)
        for piece in payload.pieces:
            self._payloads.append(Payload(piece) if isinstance(piece, bytes) else self._error(piece))
        return self._payloads.popleft()

    def _error(self, error: ServiceError) -> Payload:
        error = self._translate(error)
        return Payload(self._dialect.error(error), status=error.status)

    def _settle(self, confirmed: bool | None) -> None:
        """None: whether it was delivered is not known."""
        taken, self._taken = self._taken, None
        self._was_pushed = False
        self._payloads.clear()
        if self._settled is not None:
            self._settled.set()
            self._settled = None
        if taken is not None:
            taken.settle(confirmed)  # the next batch may be pushed in it


# --- records that the format cannot express --------------------------------------------------------------------------


class _Pieces(bytes):
    """What stands for a batch of which some records cannot be shown: payloads and errors, in the order of records."""

    pieces: Sequence[bytes | UndecodableRecord]


@functools.lru_cache(64)
def push_encoder(encoder: RecordsEncoder) -> RecordsEncoder:
    """The encoder, for pushes: a subscription, unlike a read, does not stop at a bad record (kafka-rest-http.md §8.2).

    It says so and goes on behind it. Payloads without such a record are the very bytes of ``encoder``. It is the same
    one for all pushes of a format, so that a batch is encoded once.
    """

    def encode(records: Sequence[ConsumedRecord]) -> bytes:
        try:
            return encoder(records)
        except UndecodableRecord:
            pass
        pieces: list[bytes | UndecodableRecord] = []
        good: list[ConsumedRecord] = []
        for record in records:
            try:
                encoder([record])
            except UndecodableRecord as error:
                if good:
                    pieces.append(encoder(good))
                    good = []
                pieces.append(left_out(error))
            else:
                good.append(record)
        if good:
            pieces.append(encoder(good))
        payload = _Pieces()
        payload.pieces = pieces
        return payload

    return encode
