"""What librdkafka's consumers have fetched ahead of their readers, counted for the memory budget."""

from __future__ import annotations

import threading
from typing import Any

import confluent_kafka


class FetchedAhead:
    """The bytes of all consumers of a process. Usable from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.total = 0

    def change(self, by: int) -> None:
        with self._lock:
            self.total += by


class CountedConsumer(confluent_kafka.Consumer):
    """A consumer whose owner sets how much it may have fetched ahead. That counts until it is freed.

    librdkafka's own figure comes with its statistics only: a JSON text each time, 0.1 ms of a processor for every
    consumer.
    """

    def __init__(self, settings: dict[str, Any], ahead: FetchedAhead) -> None:
        self._all = ahead
        self._mine = 0
        super().__init__(settings)
        self.buffer_bytes = int(settings["queued.max.messages.kbytes"]) * 1024
        """What it fetches ahead at most, but for the answer that exceeds it."""
        self.fetch_bytes = int(settings["fetch.message.max.bytes"])
        """What one answer has of a partition, at most; more only if a single record is larger."""

    def note(self, size: int) -> None:
        """Sets how many bytes may have been fetched ahead. On the owner's thread."""
        self._all.change(size - self._mine)
        self._mine = size

    def __del__(self) -> None:
        self.note(0)
