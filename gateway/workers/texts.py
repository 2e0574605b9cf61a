"""A properties file in memory, which processes that inherit it read by its number instead of by its name.

What stands on the disk may change between the start of one worker and the next; all workers of a gateway have to read
the same.
"""

from __future__ import annotations

import os
import tempfile
from typing import Final

from kafka_gateway import jsonio
from kafka_gateway.config import PropertiesText

_READ: Final = jsonio.Decoder(PropertiesText | None).decode
_PIECE: Final = 1 << 16


class SharedText:
    """Belongs to the parent. ``number`` is that of the open file, which its children may inherit.

    OSError: there is no memory for it.
    """

    def __init__(self, text: PropertiesText | None) -> None:
        if hasattr(os, "memfd_create"):
            self.number = os.memfd_create("kafka-gateway-properties")
        else:  # not Linux: a file without a name
            with tempfile.TemporaryFile() as file:
                self.number = os.dup(file.fileno())
        self.write(text)

    def write(self, text: PropertiesText | None) -> None:
        """Replaces what stands there. Nobody may be reading meanwhile."""
        data = jsonio.encode(text)
        os.ftruncate(self.number, 0)
        written = 0
        while written < len(data):
            written += os.pwrite(self.number, data[written:], written)

    def close(self) -> None:
        """Gives it back; children that have inherited it keep theirs."""
        os.close(self.number)


def read_shared(number: int) -> PropertiesText | None:
    """What the parent has written. None: the gateway has no properties file."""
    data = bytearray()
    while piece := os.pread(number, _PIECE, len(data)):
        data += piece
    return _READ(bytes(data))
