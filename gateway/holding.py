"""Requests that wait until another process can be asked, and how much of them may (cluster.md §3)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kafka_gateway.errors import InstanceUnavailable

if TYPE_CHECKING:
    from kafka_gateway.core import Gateway


class Holding:
    """Of one gateway (``Gateway.state``). Belongs to the event loop."""

    def __init__(self, gateway: Gateway) -> None:
        self._max_bytes = gateway.config.integer("cluster.hold.max.bytes")
        self._claim = gateway.memory.claim()
        self.size_bytes = 0
        """Of the bodies of those that wait."""

    @classmethod
    def of(cls, gateway: Gateway) -> Holding:
        """That of this gateway."""
        found = gateway.state.get(cls)
        if found is None:
            found = gateway.state[cls] = cls(gateway)
        assert isinstance(found, cls)
        return found

    @contextlib.contextmanager
    def body(self, body: object) -> Iterator[None]:
        """A context in which a request with this body waits. InstanceUnavailable, at once, if all bodies together would
        be more than ``cluster.hold.max.bytes``."""
        size = len(body) if isinstance(body, bytes) else 0
        if size and self.size_bytes + size > self._max_bytes:
            raise InstanceUnavailable()
        self._add(size)
        try:
            yield
        finally:
            self._add(-size)

    def _add(self, size: int) -> None:
        self.size_bytes += size
        self._claim.set_to(self.size_bytes)
