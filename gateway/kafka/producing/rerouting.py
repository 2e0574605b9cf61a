"""Moving a topic from one sender to another, in order.

It happens when the limit of a topic has changed, and when Kafka refuses a batch that is too large although each of its
records may be small enough: a record is refused for its own size and never for its neighbours'. Until all reports of
the old sender have come, what is sent to the topic waits here; then the refused records are sent again, in their order,
and after them what has waited. A refused batch is not stored, so nothing is stored twice.

Kafka also refuses a whole batch for one faulty record: a time out of bounds, no key for a compacted topic. Its records
may be of many clients. Where Kafka shows what the topic demands, such a record never shares a batch (suspects.py).
Elsewhere they are sent again one by one, so that the faulty ones are refused alone; what has waited
follows when the answers are there.

A topic that was just made is not known to all brokers at once. librdkafka waits for that, but only for some time after
it has heard of the topic first (``topic.metadata.propagation.max.ms``): not where making it takes longer, nor where it
was deleted and made again. Such records are kept in the same way, until Kafka is found to have the topic and librdkafka
has asked for it again; what has waited follows when they are stored. They fail when Kafka says that there is no such
topic, or at the end of their time.

Order can be lost in two cases only: records behind a refused batch that were on their way already, in the moment in
which a limit was lowered and nobody knew; and a record that travels apart and is taken after all, since a demand was
dropped within the second behind the last look at it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

from kafka_gateway.kafka.producing.batch import Batch
from kafka_gateway.kafka.producing.sender import Sender
from kafka_gateway.kafka.producing.size_limits import SizeLimits
from kafka_gateway.records import RecordToSend

log = logging.getLogger("gateway.kafka.producer")

_AGAIN_S = 0.1
"""How long after its topic was not known a record is tried again."""

Held = tuple[Batch, Sequence[RecordToSend], int | None]


class _Move:
    def __init__(self, waiting: set[Batch]) -> None:
        self.waiting = waiting
        """The batches whose reports are still to come."""
        self.refused: list[Batch] = []
        self.held: list[Held] = []
        self.asking: asyncio.Task[None] | None = None
        self.taught = False
        """Whether a batch was too large, so that the limit is not what it was thought to be."""


class Rerouting:
    """Which sender each topic has, and the topics that change theirs. Belongs to the event loop."""

    def __init__(
        self,
        limits: SizeLimits,
        wide: Sender,
        make: Callable[[int], Sender],
        outstanding: Callable[[], Iterable[Batch]],
        finished: Callable[[Sequence[Batch]], None],
        found: Callable[[str], Awaitable[bool]],
        unheard_of_s: float,
    ) -> None:
        """
        Args:
            wide: the sender of topics of which nothing is known.
            make: a sender for batches of so many bytes.
            outstanding: all batches without a result, in the order of their sending.
            finished: takes batches that are complete without having been sent.
            found: whether Kafka has a topic, and librdkafka has asked for it anew.
            unheard_of_s: for how long a batch is tried whose topic librdkafka does not know.
        """
        self._limits = limits
        self._senders = {limits.largest: wide}
        self._make = make
        self._outstanding = outstanding
        self._finished = finished
        self._found = found
        self._unheard_of_s = unheard_of_s
        self.routes: dict[str, Sender] = {}
        """The senders of topics that do not have the wide one."""
        self.moves: dict[str, _Move] = {}
        self._settled = asyncio.Event()

    @property
    def alone(self) -> Sender:
        """Which sends each record in a batch of its own."""
        return self._sender(1)

    @property
    def senders(self) -> list[Sender]:
        return list(self._senders.values())

    def follow_limit(self, topic: str) -> None:
        """Gives the topic the sender that its limit asks for."""
        if topic not in self.moves and self._limits.batch_bytes(topic) != self._current(topic).batch_bytes:
            self._begin(topic).taught = True
            self._go_on(topic)

    def hold(self, batch: Batch, records: Sequence[RecordToSend], partition: int | None) -> None:
        """Keeps what is sent to a topic that is in ``moves``."""
        self.moves[batch.topic].held.append((batch, records, partition))

    def completed(self, batch: Batch) -> bool:
        """All reports of the batch have come; whether it has to be sent again, or is done with."""
        move = self.moves.get(batch.topic)
        again = bool(batch.refused) and self._has_a_chance(batch)
        too_large = again and any(each.too_large for each in batch.refused or ())
        if again and move is None:
            move = self._begin(batch.topic)
        if again and move is not None and batch in move.refused:
            return True
        if move is not None and too_large and not move.taught:
            move.taught = True
            self._limits.refused(batch.topic, batch.sender.batch_bytes)
            # What it takes is best learned from Kafka, at once: it may have been changed a moment ago.
            move.asking = asyncio.get_running_loop().create_task(self._ask(batch.topic))
        if move is not None and move.asking is None and any(each.unheard_of for each in batch.refused or ()):
            move.asking = asyncio.get_running_loop().create_task(self._look_for(batch.topic))
        if move is not None:
            move.waiting.discard(batch)
            if again:
                move.refused.append(batch)
            self._go_on(batch.topic)
        return again

    def dropped(self, batch: Batch) -> None:
        """No report of the batch will come."""
        move = self.moves.get(batch.topic)
        if move is not None:
            move.waiting.discard(batch)
            self._go_on(batch.topic)

    def kept(self) -> set[Batch]:
        """The batches that no sender has at present: they wait here."""
        moves = self.moves.values()
        return {each[0] for move in moves for each in move.held} | {each for move in moves for each in move.refused}

    async def settled(self) -> None:
        """Returns when no topic is on the move."""
        while self.moves:
            self._settled.clear()
            await self._settled.wait()

    def close(self) -> None:
        """Sends nothing more."""
        for move in self.moves.values():
            if move.asking is not None:
                move.asking.cancel()
        self.moves.clear()
        self._settled.set()

    def _has_a_chance(self, batch: Batch, gone: bool = False) -> bool:
        """Whether some of the refused records may have had neighbours, or their topic may still be found. The others
        fail: the fault is theirs, or the topic is ``gone``, or the time is up."""
        most = batch.sender.batch_bytes
        late = gone or asyncio.get_running_loop().time() - batch.sent_at > self._unheard_of_s
        refused, batch.refused = batch.refused or [], []
        for each in refused:
            small = not each.too_large or len(each.record.value() or b"") + len(each.record.key() or b"") < most
            if not late if each.unheard_of else most > 1 and small:
                batch.refused.append(each)
            else:
                batch.rows[each.place] = each.error
                name = "UNKNOWN_TOPIC_OR_PART" if each.unheard_of else "INVALID_RECORD"
                batch.note("MSG_SIZE_TOO_LARGE" if each.too_large else name)
        return bool(batch.refused)

    def _current(self, topic: str) -> Sender:
        return self.routes.get(topic, self._senders[self._limits.largest])

    def _begin(self, topic: str) -> _Move:
        move = self.moves[topic] = _Move({batch for batch in self._outstanding() if batch.topic == topic})
        return move

    async def _ask(self, topic: str) -> None:
        await self._limits.ask(topic)
        move = self.moves.get(topic)
        if move is not None:
            move.asking = None
            self._go_on(topic)

    async def _look_for(self, topic: str) -> None:
        await asyncio.sleep(_AGAIN_S)
        try:
            found = await self._found(topic)
        except Exception:
            log.exception("looking for topic %s failed; its records fail, too", topic)
            found = False
        move = self.moves.get(topic)
        if move is None:
            return
        move.asking = None
        failed: list[Batch] = []
        if not found:
            refused, move.refused = move.refused, []
            for batch in refused:
                if self._has_a_chance(batch, gone=True):
                    move.refused.append(batch)
                else:
                    batch.restart(0)
                    failed.append(batch)
        self._go_on(topic)
        self._finished(failed)

    def _go_on(self, topic: str) -> None:
        """Ends the move, if nothing is to be waited for any more."""
        move = self.moves[topic]
        if move.waiting or move.asking is not None:
            return
        if any(each.unheard_of for batch in move.refused for each in batch.refused or ()):
            self._send_before_the_rest(move, self._current(topic))
            return
        if any(not each.too_large for batch in move.refused for each in batch.refused or ()):
            self._send_before_the_rest(move, self.alone)
            return
        del self.moves[topic]
        sender = self._sender(self._limits.batch_bytes(topic))
        if sender.batch_bytes == self._limits.largest:
            self.routes.pop(topic, None)
        else:
            self.routes[topic] = sender
        complete = [each for each in self._in_order(move.refused) if sender.send_again(each)]
        for batch, records, partition in move.held:
            batch.sender = sender
            if sender.send(batch, records, partition):
                complete.append(batch)
        if not self.moves:
            self._settled.set()
        if complete:
            self._finished(complete)

    def _send_before_the_rest(self, move: _Move, sender: Sender) -> None:
        """Sends the refused records again: faulty ones each in its own batch, by the sender that has such batches. The
        move goes on when their reports are there."""
        refused, move.refused = self._in_order(move.refused), []
        move.waiting.update(refused)
        complete = [each for each in refused if sender.send_again(each)]
        if complete:
            self._finished(complete)

    def _in_order(self, batches: list[Batch]) -> list[Batch]:
        """As they were sent first."""
        if len(batches) < 2:
            return batches
        order = {batch: place for place, batch in enumerate(self._outstanding())}
        return sorted(batches, key=lambda each: order.get(each, 0))

    def _sender(self, batch_bytes: int) -> Sender:
        sender = self._senders.get(batch_bytes)
        if sender is None:
            sender = self._senders[batch_bytes] = self._make(batch_bytes)
        return sender
