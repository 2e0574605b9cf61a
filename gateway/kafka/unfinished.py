"""Records that were sent to somebody and are not done yet: how far each partition may be committed.

One tracker for all who send records and learn later what became of them: reads of an instance, streams whose clients
acknowledge, bridges, clients of ``/socket/out`` that commit by themselves. It knows offsets, not records, and belongs
to one thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from typing import Generic, TypeVar

Place = tuple[str, int]
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
        self._lines: dict[Place, _Line[Note]] = {}
        self._count = 0

    def __len__(self) -> int:
        """How many are not done; those included that only wait for one before them."""
        return self._count

    def __contains__(self, place: Place) -> bool:
        """Whether something of the partition is not done."""
        return self.count(place) > 0

    def count(self, place: Place) -> int:
        line = self._lines.get(place)
        return 0 if line is None else len(line.open)

    def sent(self, place: Place, offset: int, note: Note) -> None:
        """A record was sent, or a run of them that ends with this offset and is done as one."""
        line = self._lines.get(place)
        if line is None:
            line = self._lines[place] = _Line()
        line.open.append(offset)
        line.notes.append(note)
        self._count += 1

    def end(self, place: Place, offset: int) -> int | None:
        """The record is done, in whatever order. The position behind it and all before it, if that moves it."""
        line = self._lines.get(place)
        if line is None or not line.open:
            return None
        line.done.add(offset)
        moved = False
        while line.open and line.open[0] in line.done:
            line.done.discard(line.open[0])
            self._shift(line)
            moved = True
        return line.position if moved else None

    def end_below(self, place: Place, position: int) -> int | None:
        """All below the position are done. What may be committed, if that moves it: never beyond what was sent."""
        line = self._lines.get(place)
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

    def position(self, place: Place) -> int | None:
        """What may be committed: behind the last record before which all are done. None if there is none yet."""
        line = self._lines.get(place)
        return None if line is None else line.position

    def first(self, place: Place) -> int | None:
        """The first offset that is not done."""
        line = self._lines.get(place)
        return line.open[0] if line is not None and line.open else None

    def last(self, place: Place) -> int | None:
        """The offset that was sent last, if it is not done."""
        line = self._lines.get(place)
        return line.open[-1] if line is not None and line.open else None

    def notes(self, place: Place) -> Iterator[tuple[int, Note]]:
        """Offsets that are not done, in order, and their notes."""
        line = self._lines.get(place)
        return iter(()) if line is None else zip(line.open, line.notes, strict=True)

    @property
    def places(self) -> list[Place]:
        """Partitions that something was sent of since they were dropped last."""
        return list(self._lines)

    def drop(self, places: Iterable[Place]) -> None:
        """Forgets partitions; what ends of them from now on moves nothing."""
        for place in places:
            line = self._lines.pop(place, None)
            if line is not None:
                self._count -= len(line.open)

    def keep(self, places: Collection[Place]) -> None:
        """Forgets all partitions but these."""
        self.drop([place for place in self._lines if place not in places])
