"""The hash slot of a key, by Kafka's own hash.

cluster.md §4.2 makes the slot of an instance the partition that Java's default partitioner would choose for the same
key, so that any tool can find it. Nothing here does I/O, and every process comes to the same answer by itself.
"""

from __future__ import annotations

from typing import Final

SEPARATOR: Final = "\0"
"""Between the parts of a key; no group and no name can have it."""

_SEED: Final = 0x9747B28C
_M: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Kafka's variant of MurmurHash2 (``org.apache.kafka.common.utils.Utils.murmur2``), as an unsigned number."""
    length = len(data)
    h = (_SEED ^ length) & _MASK
    whole = length & ~3
    for place in range(0, whole, 4):
        k = int.from_bytes(data[place : place + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if whole < length:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def hash_of(key: str) -> int:
    """The hash of which `slot_of` takes the remainder. Text that is no UTF-8 (lone surrogates) has one, too."""
    return murmur2(key.encode("utf-8", "surrogatepass")) & 0x7FFFFFFF


def slot_of(key: str, slots: int) -> int:
    """The slot, 0 … ``slots`` - 1, of a key."""
    return hash_of(key) % slots
