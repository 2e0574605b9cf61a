"""Where the log lines of librdkafka's clients become lines of the gateway's log."""

from __future__ import annotations

import logging
import re
import threading
import time

_OF_CONNECTIONS = re.compile(
    r"Connect to \S+ failed: |Connection setup timed out |Failed to resolve |Disconnected|Send failed: "
    r"|Receive failed: |request\(s\) timed out|Timed out .* requests |ApiVersionRequest failed: |brokers are down"
)
"""Lines that say of a connection what "Kafka is away" says of all."""
_REASONS = re.compile(r"SSL|SASL|security\.protocol")
"""What may be the reason that Kafka seems to be away: a login or a certificate that is refused."""


class ClientLog:
    """Takes librdkafka's log lines (property ``logger``); lets a few in ten seconds through and counts the rest.

    A dead broker makes every consumer log; 500 of them once filled a disk. While all brokers are away, lines that tell
    no more than that have the level DEBUG, and are not counted; neither are those that came before that was known, if
    it is by the time when others are told of. Called on the threads that poll.
    """

    PERIOD_S = 10.0
    LINES = 5

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self.kafka_is_away = False
        """Whether the log has said that no broker answers. Set by `Presence`, on the event loop."""
        self._lock = threading.Lock()
        self._period_end = 0.0
        self._lines = 0
        self._suppressed = self._of_connections = 0
        """Lines that were left out since some were told of."""

    def log(self, level: int, message: str, *args: object) -> None:
        """As `logging.Logger.log`."""
        if self.kafka_is_away and _repeats_it(message % args):
            level = logging.DEBUG
            if not self._logger.isEnabledFor(level):
                return
        now = time.monotonic()
        with self._lock:
            suppressed = 0
            if now >= self._period_end:
                self._period_end, self._lines = now + self.PERIOD_S, 0
                suppressed = self._suppressed + (0 if self.kafka_is_away else self._of_connections)
                self._suppressed = self._of_connections = 0
            self._lines += 1
            if self._lines > self.LINES:
                if _repeats_it(message % args):
                    self._of_connections += 1
                else:
                    self._suppressed += 1
                return
        if suppressed:
            self._logger.warning("%d lines of librdkafka were left out", suppressed)
        self._logger.log(level, message, *args)


def _repeats_it(line: str) -> bool:
    return _OF_CONNECTIONS.search(line) is not None and _REASONS.search(line) is None
