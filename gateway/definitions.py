"""What lasts of a consumer instance where several nodes serve as one (cluster.md §4.2): its definition.

Services see the store of definitions through `Definitions`. Where there is one node, there is no store.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kafka_gateway import jsonio

if TYPE_CHECKING:
    from kafka_gateway.kafka.ports.topics import TopicPartition

VERSION = 1
"""Of the records. One of a newer version is skipped."""


class Anchor(jsonio.Struct, frozen=True, omit_defaults=True):
    """The offset from which a partition goes on while the group has not committed anything newer (cluster.md §4.3)."""

    at: int
    committed: int | None = None
    """What the group had committed then; None: nothing. The anchor counts as long as that has not changed."""


class Subscribed(jsonio.Struct, frozen=True, omit_defaults=True):
    """What an instance reads: one of the three, as its client asked for it."""

    topics: tuple[str, ...] = ()
    pattern: str = ""
    partitions: tuple[tuple[str, int], ...] = ()


class Definition(jsonio.Struct, frozen=True, omit_defaults=True):
    """The durable description of an instance. Nothing of it is secret: readers of the topic see it."""

    v: int
    uid: str
    """Of its creation: 16 random bytes in base64url."""
    group: str
    name: str
    api: int
    """1 or 2."""
    format: str
    """The embedded format, by its name."""
    principal: str
    """Who made it, as ``kind:name``."""
    by: str
    """Who wrote this: `Definitions.writer` of its process."""
    kafka: str = ""
    """The name by which Kafka knows that client; "": that of the gateway."""
    options: dict[str, str] = {}  # noqa: RUF012 (msgspec gives each its own)
    """As the client gave them at its creation."""
    subscription: Subscribed | None = None
    anchors: dict[str, dict[str, Anchor]] = {}  # noqa: RUF012
    """By topic and number of the partition."""
    handed: bool = False
    """Written at a planned hand-over: the anchors are where its client is."""
    epoch: int = 0
    """How often it has been opened, its creation included; 0: written by a version that does not count. Whoever opens
    it again writes the next one before its client gets anything."""

    def anchor(self, topic: str, partition: int) -> Anchor | None:
        """The anchor of the partition, if there is one."""
        return self.anchors.get(topic, {}).get(str(partition))


class SlotKey(NamedTuple):
    """What decides in which slot something is (cluster.md §4.2): a group, and a name in it.

    Of a consumer instance, whatever its generation, its name, and its definition is stored under this key; of pulls by
    group, the topic.
    """

    group: str
    name: str


def new_uid() -> str:
    """A new `Definition.uid`."""
    return base64.urlsafe_b64encode(os.urandom(16)).rstrip(b"=").decode()


def start_of(anchor: Anchor | None, committed: int | None) -> int | None:
    """Where a partition goes on: at the anchor while it counts, else at the committed offset; None: neither says."""
    if anchor is not None and anchor.committed == committed:
        return anchor.at
    return committed


class Deletion(NamedTuple):
    """What a deletion says, in the headers of its record. Whoever deletes an instance takes it, as one does that opens
    it: so a deletion has the epoch and the name that an opening would have had in its place."""

    uid: str
    epoch: int = 0
    """0: written by a version that does not count."""
    by: str = ""


def opened_by(writer: str, definition: Definition, epoch: int) -> Definition:
    """The same, as that one opens it: from now on nobody believes that the anchors say where its client is."""
    return jsonio.replace(definition, by=writer, handed=False, epoch=epoch)


def is_outdated(written: Definition | Deletion, live: Definition) -> bool:
    """Whether the one who wrote the definition, or the deletion, had lost the instance to the one who wrote the
    ``live`` definition of the same ``uid``: that one has opened it since. Of two that open it at the same time the
    first in the log has it, and of one that opens and one that deletes it as well."""
    if written.epoch and live.epoch:
        return written.epoch < live.epoch or (written.epoch == live.epoch and written.by != live.by)
    return isinstance(written, Definition) and written.handed and written.by != live.by


def goes_on(kept: Definition | None, found: Definition | None) -> bool:
    """Whether an instance that was kept without its slot may go on: nobody has written anything since that counts.

    Whoever opens an instance again, or hands one over, writes its definition with a name of its own (``by``). A
    change of ours that was not stored does not count. So the definition must be the very same.
    """
    return kept is not None and kept == found


def anchors_of(
    positions: Mapping[TopicPartition, int], committed: Mapping[TopicPartition, int]
) -> dict[str, dict[str, Anchor]]:
    """Anchors for these positions, but for those that the committed offsets give already."""
    found: dict[str, dict[str, Anchor]] = {}
    for partition, at in sorted(positions.items()):
        stored = committed.get(partition)
        if stored != at:
            found.setdefault(partition.topic, {})[str(partition.partition)] = Anchor(at, stored)
    return found


class Definitions(Protocol):
    """The definitions in the slots that this process holds. Belongs to the event loop."""

    @property
    def writer(self) -> str:
        """This process since it was started, for `Definition.by`. One that is started again under the same name is
        another writer: what the one before has sent may be stored behind what it writes itself."""

    @property
    def trouble(self) -> str:
        """Why no slot is served here, or will be soon; "" where all is well."""

    def member_id(self, uid: str) -> str:
        """Kafka's ``group.instance.id`` of that instance's consumer, whichever process has it."""

    def check_here(self, key: SlotKey) -> None:
        """Elsewhere if its slot is not served here, or not at this moment."""

    def find(self, key: SlotKey) -> Definition | None:
        """The live definition, if its slot is served here or just being handed over."""

    def idle(self, seconds: float) -> Iterable[Definition]:
        """Those that `find` has, in slots that have been served here for longer than that, used or not."""

    async def create(self, definition: Definition) -> None:
        """Writes a new one; returns when it has been read back and is valid.

        InstanceExists: another one was first. InstanceUnavailable: that is not known within 5 s. Elsewhere.
        """

    async def open(self, definition: Definition) -> Definition:
        """Writes that it is opened here; returns how, when that has been read back and counts.

        InstanceUnavailable: it does not, or that is not known within 5 s. Elsewhere.
        """

    async def change(self, definition: Definition) -> None:
        """Writes it in the place of the live one of the same ``uid``; returns when Kafka has stored it.

        InstanceUnavailable: it has not. Elsewhere: it has, but its slot has gone meanwhile, and for the next holder it
        may have come too late. Several are stored in the order of the calls.
        """

    async def delete(self, definition: Definition) -> None:
        """Ends it; returns when that has been read back and counts. From the call on `find` has it no more.

        InstanceUnavailable: it does not count, since another process has opened the instance before it was stored, or
        that is not known within 5 s. Elsewhere: its slot has gone; that it may be ended then is known to whoever gets
        the request next.
        """


class Holder(Protocol):
    """A service that has consumers for definitions: it is told when slots come and go. Belongs to the event loop."""

    async def hand_over(self, keys: Collection[SlotKey]) -> None:
        """Other processes will have these: ends requests for them, and writes their positions. `drop` follows."""

    def drop(self, keys: Collection[SlotKey]) -> None:
        """Other processes have these, or have changed them: closes what is live or kept, and writes nothing."""

    def suspend(self, keys: Collection[SlotKey]) -> None:
        """The coordinator was not heard for too long, so others may have these: serves nothing of them, but keeps what
        is live."""

    def resume(self, keys: Collection[SlotKey]) -> None:
        """These are here again, and `Definitions.find` says what the log has of them: goes on with what was kept and is
        still what the log says (`goes_on`), and closes what is not."""
