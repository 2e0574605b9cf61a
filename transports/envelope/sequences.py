"""Requests that come in several messages: ``continue`` (atmosphere-binding.md §1.7).

A sequence belongs to one connection and one id. It is put together here and dispatched when it is complete. A client
can open many of them and finish none, so their number, their bytes and their idle time are bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from kafka_gateway.errors import PayloadTooLarge, TooManyRequests
from kafka_gateway.memory_budget import COUNT_FROM, Claim
from kafka_gateway.transports.envelope.codec import Envelope


class _Sequence:
    __slots__ = ("deadline", "first", "parts", "size_bytes")

    def __init__(self, first: Envelope, deadline: float) -> None:
        self.first: Envelope | None = first
        """None once the sequence was refused: the parts that still come are ignored."""
        self.parts: list[bytes] = []
        self.size_bytes = 0
        self.deadline = deadline

    def refuse(self) -> None:
        self.first = None
        self.parts.clear()
        self.size_bytes = 0


class Sequences:
    """The open sequences of one connection.

    Args:
        open_max: how many there may be.
        body_max: bytes of one body, and of all open ones together.
        idle_s: seconds after which a sequence without a further part is given up.
        claim: where their bytes count.
    """

    __slots__ = ("_body_max", "_claim", "_idle_s", "_open", "_open_max", "_size_bytes")

    def __init__(self, open_max: int, body_max: int, idle_s: float, claim: Claim) -> None:
        self._claim = claim
        self._open: dict[bytes, _Sequence] = {}
        self._open_max, self._body_max, self._idle_s = open_max, body_max, idle_s
        self._size_bytes = 0

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, id: bytes | None) -> bool:
        return id in self._open

    @property
    def deadline(self) -> float | None:
        """When the next sequence is given up, on the clock of ``now``; None if none is open."""
        return min((sequence.deadline for sequence in self._open.values()), default=None)

    def add(self, part: Envelope, now: float) -> Envelope | None:
        """The complete request that this message is or ends; None if more is to come, or if the part is ignored.

        Raises:
            PayloadTooLarge: with this part the body is too long; the parts that follow are ignored.
            TooManyRequests: too many sequences are open; the parts that follow are ignored, as far as those can be
                remembered.
        """
        sequence = self._open.get(part.id) if part.id is not None else None
        if sequence is None:
            if not part.more:
                if len(part.content) > self._body_max:
                    raise self._too_large()
                part.drop_blank()
                return part
            assert part.id is not None
            if len(self._open) >= 2 * self._open_max:
                raise self._too_many()
            sequence = self._open[part.id] = _Sequence(part, 0.0)
            if sum(each.first is not None for each in self._open.values()) > self._open_max:
                sequence.refuse()
                sequence.deadline = now + self._idle_s
                raise self._too_many()
        sequence.deadline = now + self._idle_s
        if sequence.first is not None:
            self._size_bytes += len(part.content)
            sequence.size_bytes += len(part.content)
            sequence.parts.append(part.content)
            if self._size_bytes > self._body_max:
                self._size_bytes -= sequence.size_bytes
                sequence.refuse()
                self._count()
                if not part.more:
                    del self._open[part.id]  # type: ignore[arg-type]
                raise self._too_large()
        if part.more:
            self._count()
            return None
        del self._open[part.id]  # type: ignore[arg-type]
        self._size_bytes -= sequence.size_bytes
        self._count()
        whole = sequence.first
        if whole is not None:
            whole.content = b"".join(sequence.parts)
        return whole

    def expired(self, now: float) -> Iterator[Envelope]:
        """Gives up the sequences whose time is over; the first messages of those that the client was not told of."""
        for id, sequence in [each for each in self._open.items() if each[1].deadline <= now]:
            del self._open[id]
            self._size_bytes -= sequence.size_bytes
            self._count()
            if sequence.first is not None:
                yield sequence.first

    def close(self) -> None:
        """Forgets all of them."""
        self._open.clear()
        self._size_bytes = 0
        self._count()

    def _count(self) -> None:
        if self._claim.held or self._size_bytes >= COUNT_FROM:
            self._claim.set_to(self._size_bytes)

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(
            f"The body, or all unfinished ones of this connection together, has more than {self._body_max} bytes "
            "(request.max.bytes)."
        )

    def _too_many(self) -> TooManyRequests:
        return TooManyRequests(f"More than {self._open_max} unfinished requests on this connection.")


class TimedSequences:
    """The open sequences of a connection: made with the first one, and given up when their time is over.

    Belongs to the event loop.
    """

    __slots__ = ("_give_up", "_loop", "_make", "_open", "_timer")

    def __init__(self, make: Callable[[], Sequences], give_up: Callable[[Envelope], None]) -> None:
        """``give_up`` gets the first part of a sequence whose next part has not come in time."""
        self._make = make
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        self._open: Sequences | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __bool__(self) -> bool:
        return self._open is not None

    def __contains__(self, id: bytes | None) -> bool:
        return self._open is not None and id in self._open

    def add(self, part: Envelope) -> Envelope | None:
        """As `Sequences.add`."""
        if self._open is None:
            self._open = self._make()
        whole = self._open.add(part, self._loop.time())
        if not self._open:
            self._open = None
        self._watch()
        return whole

    def _watch(self) -> None:
        if self._timer is None and self._open is not None and (at := self._open.deadline) is not None:
            self._timer = self._loop.call_at(at, self._drop)

    def _drop(self) -> None:
        self._timer = None
        if self._open is not None:
            # The timer may be early by less than the clock's resolution.
            for first in self._open.expired(self._loop.time() + 0.001):
                self._give_up(first)
            self._watch()

    def close(self) -> None:
        """Forgets all."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._open is not None:
            self._open.close()
