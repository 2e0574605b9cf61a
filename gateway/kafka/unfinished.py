"""Records that were sent to somebody and are not done yet: how far each partition may be committed.

One tracker for all who send records and learn later what became of them: reads of an instance, streams whose clients
acknowledge, bridges, clients of ``/socket/out`` that commit by themselves. It knows offsets, not records, and belongs
to one thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from typing import Generic, TypeVar

Partition = tuple[str, int]
"""Topic and partition."""
Note = TypeVar("Note")


class _Line(Generic[Note]):
    __slots__ = ("done", "notes", "open", "position")

    def __init__(self) -> None:
        self.open: deque[int] = deque()
        """Offsets that are not done, or wait for one before them; rising."""
        self.done: set[int] = set()
        self.notes: deque[Note] = deque()
        """As many as ``open``."""
        self.position: int | None = None


class Unfinished(Generic[Note]):
    """Offsets in flight, by partition, each with a note of whoever sent it.

    Within a partition they are sent in rising order; gaps are nothing special. A partition that starts anew (another
    owner, a seek, a topic that was made again) is dropped first.
    """

    def __init__(self) -> None:
        self._lines: dict[Partition, _Line[Note]] = {}
        self._count = 0

    def __len__(self) -> int:
        """How many are not done; those included that only wait for one before them."""
        return self._count

    def __contains__(self, partition: Partition) -> bool:
        """Whether something of the partition is not done."""
        return self.count(partition) > 0

    def count(self, partition: Partition) -> int:
        line = self._lines.get(partition)
        return 0 if line is None else len(line.open)

    def sent(self, partition: Partition, offset: int, note: Note) -> None:
        """A record was sent, or a run of them that ends with this offset and is done as one."""
        line = self._lines.get(partition)
        if line is None:
            line = self._lines[partition] = _Line()
        line.open.append(offset)
        line.notes.append(note)
        self._count += 1

    def end(self, partition: Partition, offset: int) -> int | None:
        """The record is done, in whatever order. The position behind it and all before it, if that moves it."""
        line = self._lines.get(partition)
        if line is None or not line.open:
            return None
        line.done.add(offset)
        moved = False
        while line.open and line.open[0] in line.done:
            line.done.discard(line.open[0])
            self._shift(line)
            moved = True
        return line.position if moved else None

    def end_below(self, partition: Partition, position: int) -> int | None:
        """All below the position are done. What may be committed, if that moves it: never beyond what was sent."""
        line = self._lines.get(partition)
        if line is None or not line.open or line.open[0] >= position:
            return None
        while line.open and line.open[0] < position:
            line.done.discard(line.open[0])
            self._shift(line)
        return line.position

    def _shift(self, line: _Line[Note]) -> None:
        line.position = line.open.popleft() + 1
        line.notes.popleft()
        self._count -= 1

    def position(self, partition: Partition) -> int | None:
        """What may be committed: behind the last record before which all are done. None if there is none yet."""
        line = self._lines.get(partition)
        return None if line is None else line.position

    def first(self, partition: Partition) -> int | None:
        """The first offset that is not done."""
        line = self._lines.get(partition)
        return line.open[0] if line is not None and line.open else None

    def last(self, partition: Partition) -> int | None:
        """The offset that was sent last, if it is not done."""
        line = self._lines.get(partition)
        return line.open[-1] if line is not None and line.open else None

    def notes(self, partition: Partition) -> Iterator[tuple[int, Note]]:
        """Offsets that are not done, in order, and their notes."""
        line = self._lines.get(partition)
        return iter(()) if line is None else zip(line.open, line.notes, strict=True)

    @property
    def partitions(self) -> list[Partition]:
        """Partitions that something was sent of since they were dropped last."""
        return list(self._lines)

    def drop(self, partitions: Iterable[Partition]) -> None:
        """Forgets partitions; what ends of them from now on moves nothing."""
        for partition in partitions:
            line = self._lines.pop(partition, None)
            if line is not None:
                self._count -= len(line.open)

    def keep(self, partitions: Collection[Partition]) -> None:
        """Forgets all partitions but these."""
        self.drop([partition for partition in self._lines if partition not in partitions])
