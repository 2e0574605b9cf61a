"""Records of the two internal topics, to bytes and back (cluster.md §4). No I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Literal

from kafka_gateway import jsonio
from kafka_gateway.definitions import VERSION, Definition, Deletion, SlotKey
from kafka_gateway.slots import SEPARATOR, hash_of

_EPOCH_DIGITS: Final = 18


class UnknownRecord(ValueError):
    """A record of another program, or of a version that this one does not know."""


def record_key(key: SlotKey) -> bytes:
    """The key of an instance's records."""
    return f"{key.group}{SEPARATOR}{key.name}".encode()


def slot_key(key: bytes) -> SlotKey:
    """The instance whose records have this key. UnknownRecord."""
    try:
        group, name = key.decode().split(SEPARATOR)
    except ValueError:
        raise UnknownRecord(f"the key {key[:80]!r}") from None
    return SlotKey(group, name)


def headers_of(deletion: Deletion) -> list[tuple[str, bytes]]:
    """The headers of its record, and of one that repairs it."""
    headers = [("uid", deletion.uid.encode())]
    if deletion.epoch:
        headers += [("epoch", str(deletion.epoch).encode()), ("by", deletion.by.encode())]
    return headers


def read_deletion(headers: Mapping[str, str]) -> Deletion:
    """What `headers_of` wrote; nothing of an epoch that is none."""
    uid, epoch = headers.get("uid", ""), headers.get("epoch", "")
    if not (epoch.isascii() and epoch.isdecimal() and len(epoch) <= _EPOCH_DIGITS):
        return Deletion(uid)
    return Deletion(uid, int(epoch), headers.get("by", ""))


def hash_of_key(key: SlotKey) -> int:
    """The hash of the key; the slot is its remainder by the number of slots, as with Java's producer."""
    return hash_of(f"{key.group}{SEPARATOR}{key.name}")


_decode_definition: Final = jsonio.Decoder(Definition).decode


def read_definition(key: bytes, value: bytes) -> Definition:
    """UnknownRecord."""
    try:
        found = _decode_definition(value)
    except ValueError as error:
        raise UnknownRecord(str(error)) from None
    if found.v > VERSION:
        raise UnknownRecord(f"version {found.v}")
    if SlotKey(found.group, found.name) != slot_key(key):
        raise UnknownRecord("a definition under the key of another one")
    return found


# --- processes --------------------------------------------------------------------------------------------------------

State = Literal["serving", "draining", "gone"]


class Claim(jsonio.Struct, frozen=True, omit_defaults=True):
    """The claim of a process: its addresses, its slots, its state, and whom it does not reach (cluster.md §4.4)."""

    v: int
    boot: str
    peers: tuple[str, ...] = ()
    slots: str = ""
    state: State = "serving"
    since: int = 0
    """When the process began, milliseconds since 1970; 0: one of before, which does not say so."""
    unreached: tuple[str, ...] = ()
    """Processes that it does not reach."""

    def numbers(self) -> frozenset[int]:
        """The slots. UnknownRecord."""
        return read_slots(self.slots)


_decode_claim: Final = jsonio.Decoder(Claim).decode
_SLOT_MAX: Final = 100_000


def read_claim(value: bytes) -> Claim:
    """UnknownRecord."""
    try:
        found = _decode_claim(value)
    except ValueError as error:
        raise UnknownRecord(str(error)) from None
    if found.v > VERSION:
        raise UnknownRecord(f"version {found.v}")
    found.numbers()
    return found


class Count(jsonio.Struct, frozen=True):
    """How many slots there are, whatever partitions the topic has got since."""

    v: int
    count: int


_decode_count: Final = jsonio.Decoder(Count).decode


def write_count(count: int) -> bytes:
    """The value of the record that says it."""
    return jsonio.encode(Count(VERSION, count))


def read_count(value: bytes) -> int:
    """What `write_count` wrote; 0 for anything else."""
    try:
        found = _decode_count(value)
    except ValueError:
        return 0
    return found.count if found.v <= VERSION and 0 < found.count <= _SLOT_MAX else 0


def write_slots(slots: Collection[int]) -> str:
    """``0-3,17`` for 0, 1, 2, 3 and 17."""
    runs: list[list[int]] = []
    for slot in sorted(slots):
        if runs and slot == runs[-1][1] + 1:
            runs[-1][1] = slot
        else:
            runs.append([slot, slot])
    return ",".join(f"{first}-{last}" if last > first else f"{first}" for first, last in runs)


def read_slots(text: str) -> frozenset[int]:
    """What `write_slots` wrote. UnknownRecord."""
    found: set[int] = set()
    for run in text.split(",") if text else ():
        first, dash, last = run.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UnknownRecord(f"slots {text[:80]!r}")
        numbers = range(int(first), int(last or first) + 1)
        if not numbers or numbers[-1] >= _SLOT_MAX:
            raise UnknownRecord(f"slots {text[:80]!r}")
        found.update(numbers)
    return frozenset(found)
